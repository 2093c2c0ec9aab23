// Package proxy is ionet proxy: ways from ports of the host into the stack, and
// from ports of the stack to the host.
package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Network is one of the two sides: the stack, or the host. An address may
// have a name, which is looked up there.
type Network interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	Listen(network, addr string) (net.Listener, error)
	ListenPacket(network, addr string) (net.PacketConn, error)
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
}

// headWait is how long a client may take to say what it wants. It varies in
// tests only.
var headWait = 10 * time.Second

const (
	// dialWait is how long a connection may take to come about.
	dialWait = time.Minute
	// breath is the pause of a listener that has no descriptors left.
	breath = 100 * time.Millisecond
)

// never takes a deadline away.
var never time.Time

// server is a proxy at work.
type server struct {
	stack, host Network
	log         *slog.Logger
	ctx         context.Context
	slots       chan struct{} // one a connection
	running     sync.WaitGroup
	web         *handover
}

// Run serves until ctx ends, and then answers nil; or until a listener fails.
// Everything that it opened is closed again.
func Run(ctx context.Context, stack, host Network, o *Options, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &server{stack: stack, host: host, log: log, ctx: ctx, slots: make(chan struct{}, o.Max)}
	defer s.running.Wait()
	defer cancel(nil)
	type entrance struct {
		l     net.Listener
		serve func(*conn) error
	}
	var entrances []entrance
	open := func(n Network, addr string, serve func(*conn) error, log *slog.Logger) error {
		l, err := n.Listen("tcp", addr)
		if err != nil {
			return err
		}
		s.closing(func() { l.Close() })
		log.Info("listening", "address", l.Addr().String())
		entrances = append(entrances, entrance{l, serve})
		return nil
	}
	if o.Listen != "" {
		if err := open(host, o.Listen, s.serveClient, log.With("serves", "SOCKS5, HTTP")); err != nil {
			return fmt.Errorf("--listen %s: %w%s", o.Listen, bare(err), advice(err))
		}
		s.web = newHandover(ctx)
		web := s.newHTTP()
		s.closing(func() { web.Close() })
		s.running.Go(func() { _ = web.Serve(s.web) })
	}
	for _, f := range o.Forwards {
		via, here, there := "-L", host, stack
		if f.Reverse {
			via, here, there = "-R", stack, host
		}
		serve := func(c *conn) error { return s.forward(via, c, there, f.To) }
		if err := open(here, f.Bind, serve, log.With("via", via, "to", f.To)); err != nil {
			return fmt.Errorf("%v: %w", f, bare(err))
		}
	}
	for _, e := range entrances {
		s.running.Go(func() {
			if err := s.accept(e.l, e.serve); err != nil && ctx.Err() == nil {
				cancel(&failure{fmt.Errorf("%s no longer listens: %w", e.l.Addr(), bare(err))})
			}
		})
	}
	<-ctx.Done()
	if f, ok := errors.AsType[*failure](context.Cause(ctx)); ok {
		return f.error
	}
	return nil
}

// failure ends a proxy otherwise than its user would.
type failure struct{ error }

// advice is what to do about a port that is taken.
func advice(err error) string {
	if errors.Is(err, syscall.EADDRINUSE) {
		return "; --listen takes another port, or none"
	}
	return ""
}

// bare is err without the operation and addresses that its sentence has.
func bare(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// closing has f called when the proxy ends.
func (s *server) closing(f func()) {
	s.running.Add(1)
	context.AfterFunc(s.ctx, func() {
		defer s.running.Done()
		f()
	})
}

// accept serves the connections of a listener, each in a slot: with none left
// one waits here, and the next ones in the listener's queue.
func (s *server) accept(l net.Listener, serve func(*conn) error) error {
	for {
		raw, err := l.Accept()
		if err != nil {
			if !temporary(err) {
				return err
			}
			s.log.Warn("failed", "address", l.Addr().String(), "error", err.Error())
			select {
			case <-time.After(breath):
			case <-s.ctx.Done():
				return nil
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			raw.Close()
			return nil
		}
		s.running.Add(1)
		stop := context.AfterFunc(s.ctx, func() { raw.Close() })
		c := newConn(raw, func() {
			stop()
			<-s.slots
			s.running.Done()
		})
		go func() {
			if err := serve(c); err != nil && s.ctx.Err() == nil {
				s.log.Warn("failed", "from", c.RemoteAddr().String(), "error", err.Error())
			}
		}()
	}
}

// temporary errors are those of one connection, or of the moment.
func temporary(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED,
		syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EMSGSIZE, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// conn is a client's connection; its first octet can be looked at.
type conn struct {
	net.Conn
	r     *bufio.Reader
	once  sync.Once
	ended func()
}

// newConn has ended called when the connection is closed.
func newConn(c net.Conn, ended func()) *conn {
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 512), ended: ended}
}

func (c *conn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.ended)
	return err
}

// CloseWrite shuts down sending, or closes what knows no half.
func (c *conn) CloseWrite() error {
	if hc, ok := c.Conn.(halfCloser); ok {
		return hc.CloseWrite()
	}
	return c.Close()
}

// SetLinger is [net.TCPConn.SetLinger] where there is such a thing.
func (c *conn) SetLinger(sec int) error {
	if l, ok := c.Conn.(lingerer); ok {
		return l.SetLinger(sec)
	}
	return nil
}

// serveClient tells SOCKS5 from HTTP by the first octet.
func (s *server) serveClient(c *conn) error {
	_ = c.SetReadDeadline(time.Now().Add(headWait))
	first, err := c.r.Peek(1)
	if err != nil {
		c.Close()
		s.log.Debug("failed", "from", c.RemoteAddr().String(), "error", "it said nothing: "+err.Error())
		return nil
	}
	switch b := first[0]; {
	case b == socksVersion:
		defer c.Close()
		return s.serveSOCKS(c)
	case b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z': // a method
		if !s.web.give(c) {
			c.Close()
		}
		return nil
	case b == 4:
		c.Close()
		return errors.New("the client speaks SOCKS4; SOCKS5 and HTTP are served")
	case b == 0x16:
		c.Close()
		return errors.New("the client speaks TLS to the proxy itself; the proxy's own URI begins with http:// or socks5h://")
	default:
		c.Close()
		return fmt.Errorf("the client speaks neither SOCKS5 nor HTTP: it began with %#02x", b)
	}
}

// forward leads a connection to one place on the other side.
func (s *server) forward(via string, c *conn, n Network, to string) error {
	defer c.Close()
	up, err := s.dial(n, to)
	if err != nil {
		abort(c) // as if the place itself had refused
		return err
	}
	defer up.Close()
	return s.relay(via, c, up, to)
}

// dial connects within dialWait.
func (s *server) dial(n Network, to string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dialWait)
	defer cancel()
	return n.DialContext(ctx, "tcp", to)
}

// relay is [splice], and says so. A connection that one end broke off has not
// failed here.
func (s *server) relay(via string, c, up net.Conn, to string) error {
	stop := context.AfterFunc(s.ctx, func() { up.Close() })
	defer stop()
	log := s.log.With("via", via, "from", c.RemoteAddr().String(), "to", to)
	log.Debug("connected")
	there, back, err := splice(c, up)
	if err != nil && s.ctx.Err() == nil {
		log.Debug("broken off", "sent", there, "received", back, "error", err.Error())
	} else {
		log.Debug("closed", "sent", there, "received", back)
	}
	return nil
}

// handover is a listener whose connections somebody else has accepted.
type handover struct {
	ctx   context.Context
	conns chan net.Conn
}

func newHandover(ctx context.Context) *handover { return &handover{ctx, make(chan net.Conn)} }

// give hands c over; false: too late.
func (h *handover) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.ctx.Done():
		return false
	}
}

// Accept is [net.Listener]'s.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.ctx.Done():
		return nil, http.ErrServerClosed
	}
}

// Close does nothing: the end of the proxy closes it.
func (h *handover) Close() error { return nil }

// Addr is of no interest to anybody.
func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }
