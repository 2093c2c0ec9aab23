package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"ionet/driver"
	"ionet/driver/tap"
	"ionet/driver/wire"
	"ionet/host"
	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/socket"
)

func ionetAddr(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// ionetOn is a stack on a driver. Its addresses are good at once.
func ionetOn(d driver.Driver, o driver.Options, addrs ...netip.Addr) (*host.Stack, *netif.Interface, error) {
	h, err := host.New(host.Config{})
	if err != nil {
		return nil, nil, err
	}
	sysctl(h, "net.inet6.ip6.dad_count", 0)
	ifp, err := h.Attach(d, o)
	for _, a := range addrs {
		if err == nil {
			err = h.Engine().AddAddr(ifp, stack.AddrSpec{Addr: a, Bits: versionOf(a).bits})
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, h.Close())
	}
	return h, ifp, nil
}

// ionetMemory is two stacks on a segment in memory. Their TIME_WAIT lasts
// wait, and none ends before.
func ionetMemory(super bool, wait time.Duration, clients ...netip.Addr) *network {
	seg := wire.NewSegment()
	if !super {
		seg.Without = ^netif.Caps(0)
	}
	station := func(addrs ...netip.Addr) (*host.Stack, *netif.Interface) {
		h, ifp, err := ionetOn(seg.Attach(netif.MAC{}, 0), driver.Options{Lan: 0}, addrs...)
		must(err)
		sysctl(h, "net.inet.tcp.msl", int(wait/time.Second)) // half of wait, in half seconds
		sysctl(h, "net.inet.tcp.maxtimewait", 1<<24)
		sysctl(h, "kern.maxsockets", 1<<24)
		return h, ifp
	}
	c, cif := station(clients...)
	s, sif := station(servers()...)
	at := func(v *version) string { return ionetAddr(v.server, streamPort) }
	return &network{
		name: "ionet",
		dial: func(from netip.Addr) (net.Conn, error) {
			return c.DialFrom("tcp", ionetAddr(from, 0), at(versionOf(from)))
		},
		listen: func(v *version) (net.Listener, error) { return s.Listen("tcp", at(v)) },
		frames: func() uint64 { return cif.Stats.OutPackets.Load() + sif.Stats.OutPackets.Load() },
		close:  func() error { return errors.Join(c.Close(), s.Close()) },
	}
}

func sysctl(h *host.Stack, name string, value int) {
	_, err := h.Engine().Env.MIB.Set(name, strconv.Itoa(value))
	must(err)
}

// ionetTap is a stack on driver/tap, the server.
func ionetTap(offload bool) (*host.Stack, error) {
	o := driver.Options{Lan: 0, MAC: stackMAC, Args: []driver.Arg{{Name: "name", Value: tapName}}}
	if !offload {
		o.Args = append(o.Args, driver.Arg{Name: "offload", Value: "off"})
	}
	d, err := tap.Open(o)
	if err != nil {
		return nil, err
	}
	h, _, err := ionetOn(d, o, servers()...)
	return h, err
}

// tcpTapIonet serves streams on a stack's TAP.
func tcpTapIonet(args []string) error {
	h, err := ionetTap(args[0] == "offload")
	if err != nil {
		return err
	}
	defer profile("tcp-tap-ionet-" + strconv.Itoa(os.Getpid()))()
	return serveStreams(func(v *version, port uint16) (net.Listener, error) {
		return h.Listen("tcp", ionetAddr(v.server, port))
	})
}

// idleIonet opens connections between two stacks on a segment in memory.
func idleIonet(args []string) error {
	return measureIdle(args, func(v *version) idle {
		seg := wire.NewSegment()
		clients := v.clients()
		station := func(addrs ...netip.Addr) *host.Stack {
			h, _, err := ionetOn(seg.Attach(netif.MAC{}, 0), driver.Options{Lan: 0}, addrs...)
			must(err)
			sysctl(h, "kern.maxsockets", 1<<24)
			return h
		}
		a, b := station(clients...), station(v.server)
		at := func(ip netip.Addr, port uint16) socket.Addr { return socket.Addr{IP: ip, Port: port} }
		open := func(h *host.Stack, f func(w *netif.Work, so *socket.Socket) error) (e ionetEnd, err error) {
			e.h = h
			h.Call(func(w *netif.Work) {
				if e.so, err = h.Engine().Socket(w, v.family(), socket.Stream, 0, socket.Cred{Super: true}); err == nil {
					err = f(w, e.so)
				}
			})
			return e, err
		}
		l, err := open(b, func(w *netif.Work, so *socket.Socket) error {
			return errors.Join(so.Bind(w, at(v.server, streamPort)), so.Listen(w, 128))
		})
		must(err)
		var from, to []ionetEnd
		return idle{
			open: func(i int) error {
				c, err := open(a, func(w *netif.Work, so *socket.Socket) error {
					if err := so.Bind(w, at(clients[i%len(clients)], 0)); err != nil {
						return err
					}
					return so.Connect(w, at(v.server, streamPort))
				})
				if err != nil && err != syscall.EINPROGRESS {
					return err
				}
				if err := c.until(socket.Writable); err != nil {
					return err
				}
				if err := l.until(socket.Readable); err != nil {
					return err
				}
				s := ionetEnd{h: b}
				b.Call(func(w *netif.Work) { s.so, err = l.so.Accept(w) })
				from, to = append(from, c), append(to, s)
				return err
			},
			// One after the other: the other end of a connection has the same number.
			echo: func(i int) error { return errors.Join(from[i].pass(to[i]), to[i].pass(from[i])) },
		}
	})
}

// ionetEnd is a socket of the engine's, without what host adds for calls that
// wait.
type ionetEnd struct {
	h  *host.Stack
	so *socket.Socket
}

// until waits for readiness.
func (e ionetEnd) until(ev socket.Events) error {
	ready := make(chan struct{}, 1)
	e.so.SetUpcall(func(*netif.Work) {
		select {
		case ready <- struct{}{}:
		default:
		}
	})
	defer e.so.SetUpcall(nil)
	patience := time.NewTimer(streamPatience)
	defer patience.Stop()
	for e.so.Poll()&ev == 0 {
		select {
		case <-ready:
		case <-patience.C:
			return os.ErrDeadlineExceeded
		}
	}
	return e.so.PendingError(false)
}

// pass sends an octet to the other end and waits for it.
func (e ionetEnd) pass(to ionetEnd) (err error) {
	e.h.Call(func(w *netif.Work) { _, err = e.so.Send(w, &socket.Msg{Data: []byte{1}}) })
	if err != nil {
		return err
	}
	if err := to.until(socket.Readable); err != nil {
		return err
	}
	m := socket.Msg{Data: make([]byte, 2)}
	to.h.Call(func(w *netif.Work) { err = to.so.Recv(w, &m) })
	if err == nil && len(m.Data) != 1 {
		err = fmt.Errorf("%d octets instead of one", len(m.Data))
	}
	return err
}
