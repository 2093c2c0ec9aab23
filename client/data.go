package client

import (
	"context"
	"syscall"

	"ionet/protocol"
)

// What is here is for programs that deal in descriptors themselves, such as
// onstack. Everybody else has [Stack.Dial] and [Stack.Listen].

// ID is the number by which the stack knows the socket.
func (k *Socket) ID() uint32 { return k.id }

// ConnectData connects a stream socket whose data goes through a pair of local
// stream sockets that the caller has made: data is the end for the stack, which
// gets a copy; the first filler octets in it are no data. When ctx ends first
// the attempt goes on, and a later call waits for it.
func (k *Socket) ConnectData(ctx context.Context, to protocol.Addr, data int, filler int) (peer, local protocol.Addr, err error) {
	b := protocol.AppendConnect(nil, protocol.ConnectRequest{To: to, Data: true, Filler: uint32(filler)})
	r := k.s.roundTripWith(ctx.Done(), func() error { return context.Cause(ctx) }, protocol.TypeConnect, k.id, b, data)
	r.drop()
	if r.err != nil {
		return peer, local, k.closed(r.err)
	}
	return protocol.ParseConnected(r.payload)
}

// AcceptData waits for a connection and answers the descriptor that carries its
// data, which is the caller's to close.
func (k *Socket) AcceptData() (c *Socket, data int, peer, local protocol.Addr, err error) {
	r := k.s.roundTrip(k.read.wait(), k.read.why, protocol.TypeAccept, k.id, nil)
	if r.err != nil {
		r.drop()
		return nil, 0, peer, local, k.closed(r.err)
	}
	a, err := protocol.ParseAccepted(r.payload)
	c = k.child(a.ID)
	if err == nil && r.fd == 0 {
		err = &protocol.Error{Errno: syscall.EMFILE, Text: "the stack sent no descriptor with the connection: this program has none left (ulimit -n)"}
	}
	if err != nil {
		r.drop()
		_ = c.Close()
		return nil, 0, peer, local, err
	}
	return c, r.fd, a.Peer, a.Local, nil
}

// Ended waits for streams of this client that have ended without a Close: all
// have closed the descriptor, or the connection has failed. The stack remembers
// endings from the first call on.
func (s *Stack) Ended() ([]protocol.Ended, error) {
	b, err := s.do(protocol.TypeEnded, 0, nil)
	if err != nil {
		return nil, err
	}
	return protocol.ParseEnded(b)
}
