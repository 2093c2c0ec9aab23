// Package nc is the command nc: a TCP or UDP connection of the stack at the
// end of a pipe.
package nc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"ionet/protocol"
	"ionet/tool/services"
)

// Network is where nc's connections come from. Addresses are numeric.
type Network interface {
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
	// Dial connects from local, "" any.
	Dial(ctx context.Context, network, local, addr string) (net.Conn, error)
	Listen(network, addr string) (net.Listener, error)
	ListenPacket(network, addr string) (net.PacketConn, error)
}

// IO is the world around nc.
type IO struct {
	In    io.Reader
	Out   io.Writer
	Err   io.Writer       // what -v says
	Names *services.Table // of ports
}

// probe is how long a UDP port may take to say that it is closed.
const probe = time.Second

// session is one run.
type session struct {
	ctx context.Context
	n   Network
	o   *Options
	io  IO
	in  *input
}

// Run does what o asks for. It may leave a Read of w.In behind that waits.
func Run(ctx context.Context, n Network, o *Options, w IO) error {
	s := &session{ctx: ctx, n: n, o: o, io: w}
	if !o.NoInput && !o.Scan && !(o.UDP && o.Keep) {
		s.in = newInput(w.In, o.UDP)
		defer s.in.close()
	}
	switch {
	case o.Listen && o.UDP:
		return s.listenPacket()
	case o.Listen:
		return s.listen()
	}
	return s.connect()
}

// say is a line of -v.
func (s *session) say(format string, a ...any) {
	if s.o.Verbose {
		fmt.Fprintf(s.io.Err, format+"\n", a...)
	}
}

// addresses are those of the host, in the order to try them.
func (s *session) addresses() ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(s.o.Host); err == nil {
		if !s.o.allows(ip) {
			return nil, fmt.Errorf("%s is no address of IPv%s", s.o.Host, s.o.Family)
		}
		return []netip.Addr{ip}, nil
	}
	if s.o.Numeric {
		return nil, fmt.Errorf("%s is no numeric address, and -n looks up no names", s.o.Host)
	}
	ips, err := s.n.LookupHost(s.ctx, s.o.Host)
	if err != nil {
		return nil, err
	}
	ips = slices.DeleteFunc(ips, func(ip netip.Addr) bool { return !s.o.allows(ip) })
	switch {
	case len(ips) > 0:
	case s.o.Family != "":
		return nil, fmt.Errorf("%s has no address of IPv%s", s.o.Host, s.o.Family)
	default:
		return nil, fmt.Errorf("%s has no address", s.o.Host)
	}
	return ips, nil
}

// portName is a port as it is shown: with its name, unless -n.
func (s *session) portName(port int) string {
	name := ""
	if !s.o.Numeric {
		name = s.io.Names.Name(port, s.o.network())
	}
	if name == "" {
		name = "*"
	}
	return fmt.Sprintf("[%s/%s]", s.o.network(), name)
}

// connect goes through the ports. It fails when none is open; a failure of
// one among several is left to -v.
func (s *session) connect() error {
	ips, err := s.addresses()
	if err != nil {
		return err
	}
	open := false
	for port := s.o.First; port <= s.o.Last; port++ {
		if port > s.o.First && s.o.Interval > 0 {
			if err := s.pause(s.o.Interval); err != nil {
				return err
			}
		}
		c, err := s.dial(ips, port)
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		if err != nil {
			if s.o.First == s.o.Last {
				return err
			}
			s.say("nc: %v", err)
			continue
		}
		open = true
		if s.o.Verbose || s.o.Scan {
			fmt.Fprintf(s.io.Err, "Connection to %s %d port %s succeeded!\n", s.o.Host, port, s.portName(port))
		}
		if s.o.Scan {
			c.Close()
			continue
		}
		err = s.shuttle(c)
		c.Close()
		if err != nil {
			return err
		}
	}
	if !open {
		return fmt.Errorf("no port from %d to %d of %s is open", s.o.First, s.o.Last, s.o.Host)
	}
	return nil
}

// dial connects to the first of the addresses that answers on port.
func (s *session) dial(ips []netip.Addr, port int) (c net.Conn, err error) {
	local := ""
	if s.o.Source != "" || s.o.Port != 0 {
		local = net.JoinHostPort(s.o.Source, strconv.Itoa(s.o.Port))
	}
	for _, ip := range ips {
		to := netip.AddrPortFrom(ip, uint16(port)).String()
		c, err = s.dialOne(local, to)
		if err == nil && s.o.Scan && s.o.UDP {
			if err = s.probe(c); err != nil {
				c.Close()
			}
		}
		if err == nil {
			return c, nil
		}
		if s.ctx.Err() != nil {
			break
		}
		err = fmt.Errorf("connect to %s port %d (%s): %w", s.o.Host, port, s.o.network(), reason(err))
	}
	return nil, err
}

func (s *session) dialOne(local, to string) (net.Conn, error) {
	ctx := s.ctx
	if s.o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.o.Timeout, fmt.Errorf("no answer within %v", s.o.Timeout))
		defer cancel()
	}
	c, err := s.n.Dial(ctx, s.o.dialled(), local, to)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return c, err
}

// probe sends an octet, and fails when the host says that nobody is there.
func (s *session) probe(c net.Conn) error {
	limit := probe
	if s.o.Timeout > 0 {
		limit = s.o.Timeout
	}
	defer context.AfterFunc(s.ctx, func() { c.Close() })()
	if _, err := c.Write([]byte("X")); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	var b [1]byte
	if _, err := c.Read(b[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// pause waits, unless the command is ended.
func (s *session) pause(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// localAddr is the address to listen on.
func (s *session) localAddr() (string, error) {
	host := s.o.Host
	if host != "" {
		ips, err := s.addresses()
		if err != nil {
			return "", err
		}
		host = ips[0].String()
	}
	return net.JoinHostPort(host, strconv.Itoa(s.o.First)), nil
}

// listen serves one TCP connection, or with -k one after the other.
func (s *session) listen() error {
	addr, err := s.localAddr()
	if err != nil {
		return err
	}
	l, err := s.n.Listen(s.o.dialled(), addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, reason(err))
	}
	defer l.Close()
	defer context.AfterFunc(s.ctx, func() { l.Close() })()
	host, port := split(l.Addr())
	s.say("Listening on %s %s", host, port)
	for {
		c, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil {
				return context.Cause(s.ctx)
			}
			return fmt.Errorf("accept: %w", reason(err))
		}
		if !s.o.Keep {
			l.Close() // nobody else waits in vain
		}
		host, port := split(c.RemoteAddr())
		s.say("Connection received on %s %s", host, port)
		err = s.shuttle(c)
		c.Close()
		switch {
		case !s.o.Keep || s.ctx.Err() != nil:
			return err
		case err != nil: // one client's misfortune is not the next one's
			fmt.Fprintf(s.io.Err, "nc: %s port %s: %v\n", host, port, err)
		}
	}
}

// listenPacket talks to the first who sends a datagram, or with -k hears all.
func (s *session) listenPacket() error {
	addr, err := s.localAddr()
	if err != nil {
		return err
	}
	pc, err := s.n.ListenPacket(s.o.dialled(), addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, reason(err))
	}
	defer pc.Close()
	defer context.AfterFunc(s.ctx, func() { pc.Close() })()
	host, port := split(pc.LocalAddr())
	s.say("Bound on %s %s", host, port)
	b := make([]byte, maxDatagram)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			if s.ctx.Err() != nil {
				return context.Cause(s.ctx)
			}
			return fmt.Errorf("receive: %w", reason(err))
		}
		host, port := split(from)
		s.say("Connection received on %s %s", host, port)
		if !s.o.Keep {
			return s.shuttle(&peerConn{PacketConn: pc, peer: from, first: b[:n], begun: true})
		}
		if _, err := s.io.Out.Write(b[:n]); err != nil {
			return err
		}
	}
}

// peerConn is the part of a packet socket that talks to one peer.
type peerConn struct {
	net.PacketConn
	peer  net.Addr
	first []byte // the datagram that began it
	begun bool   // first is still to be read
}

func (c *peerConn) Read(p []byte) (int, error) {
	if c.begun {
		c.begun = false
		return copy(p, c.first), nil
	}
	for {
		n, from, err := c.ReadFrom(p)
		if err != nil || from.String() == c.peer.String() {
			return n, err
		}
	}
}

func (c *peerConn) Write(p []byte) (int, error) { return c.WriteTo(p, c.peer) }
func (c *peerConn) RemoteAddr() net.Addr        { return c.peer }

// split parts an address for print.
func split(a net.Addr) (host, port string) {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), "?"
	}
	return host, port
}

// reason is what is left of err when what the sentence says already, the
// operation and the addresses, is taken off; a number in BSD's words.
func reason(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return &protocol.Error{Errno: errno}
	}
	return err
}
