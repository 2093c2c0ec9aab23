package life

import (
	"ionet/client"
	"ionet/daemon/nd"
)

// Heard is what a daemon waits for, beside its timer and its signals.
type Heard struct {
	Packets <-chan nd.Packet
	Changed <-chan struct{} // the stack is not as it was: see [Watch]
	Failed  <-chan error    // one of the sockets has ended, and with it the daemon

	stop chan struct{}
}

// waiting is how many packets may wait for the daemon; then they wait in the
// stack's socket.
const waiting = 64

// Listen reads both sockets until they are closed.
func Listen(r *client.RouteSocket, conn nd.Conn) *Heard {
	packets, changed, failed := make(chan nd.Packet, waiting), make(chan struct{}, 1), make(chan error, 2)
	h := &Heard{Packets: packets, Changed: changed, Failed: failed, stop: make(chan struct{})}
	go func() {
		failed <- Watch(r, func() {
			select {
			case changed <- struct{}{}:
			default: // one is on its way
			}
		})
	}()
	go func() {
		for {
			p, err := conn.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case packets <- p:
			case <-h.stop:
				return
			}
		}
	}()
	return h
}

// Stop ends the hand-over of packets; the sockets are the caller's to close.
func (h *Heard) Stop() { close(h.stop) }
