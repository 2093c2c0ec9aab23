package sim

import (
	"fmt"
	"net/netip"
	"strings"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

// Socket is a socket of a node.
type Socket struct {
	*socket.Socket
	node *Node
}

// Addr reads "10.0.0.1:7", "10.0.0.1", "[2001:db8::1]:7", ":7" or "".
func Addr(s string) (a socket.Addr) {
	if strings.HasPrefix(s, "[") {
		ap := netip.MustParseAddrPort(s)
		return socket.Addr{IP: ap.Addr(), Port: ap.Port()}
	}
	host, port, found := strings.Cut(s, ":")
	if host != "" {
		a.IP = netip.MustParseAddr(host)
	}
	if found {
		if _, err := fmt.Sscan(port, &a.Port); err != nil {
			panic(fmt.Sprintf("sim: address %q: %v", s, err))
		}
	}
	return a
}

// Call makes one call into the stack.
func (nd *Node) Call(f func(w *netif.Work) error) error {
	w := nd.Env.Begin(nd.net.now)
	defer w.End()
	return f(w)
}

// Socket makes a socket of any kind, with the superuser's rights.
func (nd *Node) Socket(typ, proto int) *Socket {
	s := &Socket{node: nd}
	family := socket.AFInet
	if nd.IPv6 {
		family = socket.AFInet6
	}
	err := nd.Call(func(w *netif.Work) (err error) {
		s.Socket, err = nd.Stack.Socket(w, family, typ, proto, socket.Cred{Super: true})
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("sim: %s: socket: %v", nd.Name, err))
	}
	nd.socks = append(nd.socks, s)
	return s
}

// UDP makes a datagram socket bound to local; "": not bound.
func (nd *Node) UDP(local string) *Socket {
	s := nd.Socket(socket.Dgram, 0)
	if local != "" {
		if err := s.Bind(local); err != nil {
			panic(fmt.Sprintf("sim: %s: bind %s: %v", nd.Name, local, err))
		}
	}
	return s
}

// Echo makes an echo socket: it sends echo requests and receives the replies.
func (nd *Node) Echo() *Socket { return nd.Socket(socket.Dgram, packet.ProtoICMP) }

// Bind gives the socket a local address.
func (s *Socket) Bind(local string) error {
	return s.node.Call(func(w *netif.Work) error { return s.Socket.Bind(w, Addr(local)) })
}

// Connect gives the socket a peer.
func (s *Socket) Connect(peer string) error {
	return s.node.Call(func(w *netif.Work) error { return s.Socket.Connect(w, Addr(peer)) })
}

// Set sets an option.
func (s *Socket) Set(level, name int, value []byte) error {
	return s.node.Call(func(w *netif.Work) error { return s.SetOption(w, level, name, value) })
}

// Flag sets an option of the socket level that is on or off, or a number.
func (s *Socket) Flag(name, value int) {
	if err := s.Set(socket.LevelSocket, name, socket.Value32(value)); err != nil {
		panic(fmt.Sprintf("sim: %s: option %#x: %v", s.node.Name, name, err))
	}
}

// SendTo sends a datagram; to is "" for the peer.
func (s *Socket) SendTo(to string, b []byte) error {
	return s.node.Call(func(w *netif.Work) error {
		_, err := s.Socket.Send(w, &socket.Msg{Addr: Addr(to), Data: b})
		return err
	})
}

// Ping sends an echo request from an echo socket.
func (s *Socket) Ping(to string, seq uint16, data []byte) error {
	m := make([]byte, packet.ICMPLen+len(data))
	m[0], m[6], m[7] = packet.ICMPEcho, byte(seq>>8), byte(seq)
	copy(m[packet.ICMPLen:], data)
	return s.SendTo(to, m)
}

// Recv takes the next datagram; false: there is none.
func (s *Socket) Recv() (m socket.Msg, ok bool) {
	m.Data = make([]byte, 65536)
	return m, s.node.Call(func(w *netif.Work) error { return s.Socket.Recv(w, &m) }) == nil
}

// Close closes the socket.
func (s *Socket) Close() {
	_ = s.node.Call(func(w *netif.Work) error { s.Socket.Close(w); return nil })
}

// Route adds a route to dst ("default" or a prefix) through gateway.
func (nd *Node) Route(dst, gateway string) {
	via := netip.MustParseAddr(gateway)
	p := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	switch {
	case dst != "default":
		p = netip.MustParsePrefix(dst)
	case via.Is6():
		p = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	err := nd.Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{
		Dst: p, Gateway: via, Flags: route.FlagUp | route.FlagGateway | route.FlagStatic,
	}}})[0]
	if err != nil {
		panic(fmt.Sprintf("sim: %s: route %s via %s: %v", nd.Name, dst, gateway, err))
	}
}

// TCP makes a stream socket.
func (nd *Node) TCP() *Socket { return nd.Socket(socket.Stream, 0) }

// Listen makes a stream socket that listens on local.
func (nd *Node) Listen(local string, backlog int) *Socket {
	s := nd.TCP()
	err := s.Bind(local)
	if err == nil {
		err = nd.Call(func(w *netif.Work) error { return s.Socket.Listen(w, backlog) })
	}
	if err != nil {
		panic(fmt.Sprintf("sim: %s: listen %s: %v", nd.Name, local, err))
	}
	return s
}

// Accept takes a connection; nil: there is none.
func (s *Socket) Accept() *Socket {
	var n *socket.Socket
	err := s.node.Call(func(w *netif.Work) (err error) { n, err = s.Socket.Accept(w); return err })
	if err != nil {
		return nil
	}
	a := &Socket{Socket: n, node: s.node}
	s.node.socks = append(s.node.socks, a)
	return a
}

// Write sends what the socket takes of b and answers how much that was.
func (s *Socket) Write(b []byte) (n int, err error) {
	err = s.node.Call(func(w *netif.Work) (err error) {
		n, err = s.Socket.Send(w, &socket.Msg{Data: b})
		return err
	})
	return n, err
}

// Read takes what there is, up to len(b); 0 without an error is the end.
func (s *Socket) Read(b []byte) (int, error) {
	m := socket.Msg{Data: b}
	err := s.node.Call(func(w *netif.Work) error { return s.Socket.Recv(w, &m) })
	if err != nil {
		return 0, err
	}
	return m.Size, nil
}

// Shutdown ends sending.
func (s *Socket) Shutdown() error {
	return s.node.Call(func(w *netif.Work) error { return s.Socket.Shutdown(w, false, true) })
}

// Abort resets the connection.
func (s *Socket) Abort() {
	_ = s.node.Call(func(w *netif.Work) error { s.Socket.Abort(w); return nil })
}
