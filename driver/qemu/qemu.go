// Package qemu is a plug for a virtual machine: the socket framing of QEMU's
// "-netdev stream" and "-netdev dgram", which passt(1) speaks too.
//
//	io-net -dqemu listen=/run/vm.sock …
//	qemu-system-x86_64 -netdev stream,id=n0,addr.type=unix,addr.path=/run/vm.sock …
//
//	passt --socket /run/passt.sock
//	io-net -dqemu connect=/run/passt.sock …
//
// A stream that ends is a loss of carrier: where we listen the next caller may
// come, where we connect it is tried again.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	defaultMTU = 1500
	maxMTU     = 65480 // with its link header still a UDP datagram

	// The time between two attempts to connect doubles from the first to the
	// last.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
	dialTime   = 2 * time.Second
)

// Open makes the device. Option listen=ADDRESS waits for a peer, connect=ADDRESS
// goes to one; an address is a path or host:port, on loopback when the host is
// left out. type=dgram takes both: where we are, and where the peer is.
func Open(o driver.Options) (driver.Driver, error) {
	d, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("driver qemu: %w", err)
	}
	return d, nil
}

func open(o driver.Options) (driver.Driver, error) {
	if err := o.Unknown("qemu", "listen", "connect", "type"); err != nil {
		return nil, err
	}
	if o.MAC == (netif.MAC{}) {
		o.MAC = driver.StableMAC(o.Seed, max(o.Lan, 0), 0)
	}
	if o.MTU == 0 {
		o.MTU = defaultMTU
	}
	kind, given := o.Get("type")
	if given && kind != "stream" && kind != "dgram" {
		return nil, fmt.Errorf("type=%s: want stream or dgram", kind)
	}
	dgram := kind == "dgram"
	var addrs [2]*address
	for i, name := range []string{"listen", "connect"} {
		if v, ok := o.Get(name); ok {
			a, err := parseAddress(name, v, dgram)
			if err != nil {
				return nil, err
			}
			addrs[i] = &a
		}
	}
	listen, connect := addrs[0], addrs[1]
	if dgram {
		if listen == nil || connect == nil {
			return nil, errors.New("type=dgram takes both listen=ADDRESS, where we are, and connect=ADDRESS, where the peer is")
		}
		return openDgram(o, *listen, *connect)
	}
	switch {
	case listen != nil && connect == nil:
		return openListen(o, *listen)
	case connect != nil && listen == nil:
		return openConnect(o, *connect)
	}
	return nil, errors.New("give either listen=ADDRESS or connect=ADDRESS, a path or host:port")
}

// Stream is a device on a stream socket.
type Stream struct {
	opt  driver.Options
	addr address
	ln   net.Listener // nil: we connect

	session atomic.Pointer[session]
	cancel  context.CancelFunc
	ctx     context.Context

	mu      sync.Mutex
	first   net.Conn // made by Open, for Run
	lastErr error
}

func newStream(o driver.Options, a address) *Stream {
	s := &Stream{opt: o, addr: a}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func openListen(o driver.Options, a address) (driver.Driver, error) {
	s := newStream(o, a)
	ln, err := net.Listen(a.network, a.text)
	if errors.Is(err, unix.EADDRINUSE) && a.unix() {
		if c, dialErr := net.Dial(a.network, a.text); dialErr == nil {
			c.Close()
		} else if errors.Is(dialErr, unix.ECONNREFUSED) { // whoever listened has died
			_ = os.Remove(a.text)
			ln, err = net.Listen(a.network, a.text)
		}
	}
	if err != nil {
		return nil, err
	}
	s.ln = ln
	return s, nil
}

// openConnect tries once, so that a peer that is there is connected when Open
// is done; one that is not yet there may come.
func openConnect(o driver.Options, a address) (driver.Driver, error) {
	s := newStream(o, a)
	s.first, s.lastErr = s.dial()
	return s, nil
}

func (s *Stream) dial() (net.Conn, error) {
	d := net.Dialer{Timeout: dialTime}
	return d.DialContext(s.ctx, s.addr.network, s.addr.text)
}

// Info tells the state of the connection.
func (s *Stream) Info() driver.Info {
	i := driver.Info{Family: "en", Description: "QEMU stream socket", MAC: s.opt.MAC, MTU: s.opt.MTU, MaxMTU: maxMTU, Caps: netif.CapVLANMTU}
	name := "Connects To"
	if s.ln != nil {
		name = "Listens On"
	}
	i.Details = append(i.Details, driver.Detail{Name: name, Value: s.addr.text})
	s.mu.Lock()
	defer s.mu.Unlock()
	state := "none"
	if s.first != nil || s.session.Load() != nil {
		state = "established"
	}
	i.Details = append(i.Details, driver.Detail{Name: "Connection", Value: state})
	if s.lastErr != nil {
		i.Details = append(i.Details, driver.Detail{Name: "Last Connection Error", Value: s.lastErr.Error()})
	}
	return i
}

// Transmit sends a burst to the peer; without one it is dropped.
func (s *Stream) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	drops := len(burst)
	if e := s.session.Load(); e != nil {
		drops = e.send(burst)
	}
	if drops > 0 && ifp != nil {
		ifp.Stats.OutDrops.Add(uint64(drops))
	}
	packet.FreeBurst(burst)
}

// Run keeps a connection until Close.
func (s *Stream) Run(sink driver.Sink) error {
	sink.LinkState(false)
	wait := firstRetry
	for s.ctx.Err() == nil {
		conn, err := s.connection()
		if err == nil {
			wait = firstRetry
			err = s.serve(sink, conn)
		}
		if s.ctx.Err() != nil {
			return nil
		}
		s.note(err)
		s.verbose(sink, "qemu: no connection", err)
		if s.ln != nil && conn != nil { // the next caller may be there already
			continue
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, lastRetry)
	}
	return nil
}

func (s *Stream) connection() (net.Conn, error) {
	s.mu.Lock()
	first := s.first
	s.first = nil
	s.mu.Unlock()
	switch {
	case first != nil:
		return first, nil
	case s.ln != nil:
		return s.ln.Accept()
	}
	return s.dial()
}

// serve runs one connection to its end.
func (s *Stream) serve(sink driver.Sink, conn net.Conn) error {
	e, err := newSession(conn)
	if err != nil {
		conn.Close()
		return err
	}
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	s.note(nil)
	s.session.Store(e)
	sink.LinkState(true)
	s.verbose(sink, "qemu: connected", nil)
	err = e.run(sink)
	s.session.Store(nil)
	sink.LinkState(false)
	return err
}

func (s *Stream) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastErr = err
}

func (s *Stream) verbose(sink driver.Sink, msg string, err error) {
	switch {
	case s.opt.Verbose == 0:
	case err != nil:
		sink.Verbose(msg, "address", s.addr, "err", err)
	default:
		sink.Verbose(msg, "address", s.addr)
	}
}

// Close ends the connection, and the listening with its file.
func (s *Stream) Close() error {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first != nil {
		s.first.Close()
		s.first = nil
	}
	if s.ln != nil {
		if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
	}
	return nil
}
