// Package stacktest is one stack on a bench: frames go in, and what comes out
// is compared as text, so that tests read as dialogues.
package stacktest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// The stations of the bench: the stack's en0 and en1, and their neighbours.
var (
	Me    = netif.MAC{2, 0, 0, 0, 0, 1}
	Me1   = netif.MAC{2, 0, 0, 0, 1, 1}
	Peer  = netif.MAC{2, 0, 0, 0, 0, 2}
	Peer1 = netif.MAC{2, 0, 0, 0, 1, 2}
)

// Rig is a stack with en0, 10.0.0.1/24, whose frames are kept for Expect. At
// the end of the test its sockets are closed, its timers run out, and its
// books have to balance.
type Rig struct {
	testing.TB
	*stack.Stack
	If *netif.Interface
	// Delay is how long the far end of [Rig.Dial] takes to answer.
	Delay time.Duration

	now   int64
	seed  uint32
	work  *netif.Work
	out   [][]byte
	socks []*Socket
}

type driver struct{ r *Rig }

func (d *driver) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	for _, b := range burst {
		b.CompleteCsum()
		f := slices.Clone(b.Bytes())
		b.Free()
		if six {
			f = to4(f)
		}
		if f != nil {
			d.r.out = append(d.r.out, f)
		}
	}
}

// New makes a rig that has finished announcing its address.
func New(t testing.TB, opts ...func(*stack.Config)) *Rig {
	t.Helper()
	r := Bare(t, opts...)
	r.If = r.AddIf("en0", Me, "10.0.0.1/24")
	r.Pass(10 * time.Second)
	r.out = nil
	return r
}

// Dual is an option of New and Bare: the stack has IPv6 too, but its addresses
// are given by hand until [Rig.Autoconf].
func Dual(c *stack.Config) { c.V4Only = false }

// Bare makes a rig without an Ethernet interface.
func Bare(t testing.TB, opts ...func(*stack.Config)) *Rig {
	t.Helper()
	r := &Rig{TB: t, now: int64(time.Second), seed: 1}
	c := stack.Config{V4Only: !six, Now: func() int64 { return r.now }, Rand32: func() uint32 {
		r.seed = r.seed*1664525 + 1013904223
		return r.seed ^ r.seed>>15
	}}
	for _, o := range opts {
		o(&c)
	}
	s, err := stack.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Stack, r.work = s, s.Env.NewWork()
	if six {
		s.Ether.ResolveWith(true, OnBench{})
	}
	if !c.V4Only {
		r.Sysctl("net.inet6.ip6.auto_linklocal", "0")
		r.Sysctl("net.inet6.ip6.accept_rtadv", "0")
	}
	t.Cleanup(r.settle)
	return r
}

// Autoconf has en0 come up as it does out of the box: with a link-local address,
// and looking for routers.
func (r *Rig) Autoconf() {
	r.Helper()
	r.Sysctl("net.inet6.ip6.auto_linklocal", "1")
	r.Sysctl("net.inet6.ip6.accept_rtadv", "1")
	for _, f := range [][2]uint32{{0, netif.FlagUp}, {netif.FlagUp, 0}} {
		if err := r.SetFlags(r.If, f[0], f[1]); err != nil {
			r.Fatal(err)
		}
	}
}

// AddIf adds an interface; addr "" for none.
func (r *Rig) AddIf(name string, mac netif.MAC, addr string) *netif.Interface {
	r.Helper()
	ifp := netif.New(netif.Config{Name: name, MTU: PathMTU(1500), MAC: mac, Driver: &driver{r},
		Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning})
	if err := r.AddInterface(ifp); err != nil {
		r.Fatal(err)
	}
	if addr != "" {
		r.Addr(ifp, addr)
	}
	return ifp
}

// Addr gives ifp an address such as "10.0.0.1/24".
func (r *Rig) Addr(ifp *netif.Interface, addr string) {
	r.Helper()
	p := netip.MustParsePrefix(addr)
	a := stack.AddrSpec{Addr: Real(p.Addr()), Bits: p.Bits()}
	if a.Addr != p.Addr() {
		a.Bits += 96
	}
	if err := r.AddAddr(ifp, a); err != nil {
		r.Fatal(err)
	}
}

func (r *Rig) settle() {
	for _, s := range r.socks {
		s.Close()
	}
	if r.Auto != nil { // asks for routers for ever
		r.Auto.Close()
	}
	r.Pass(26 * time.Hour) // as long as a neighbour that nobody uses is kept
	if n := r.Env.Pool.Bufs(); n != 0 {
		r.Errorf("%d buffers were not given back", n)
	}
	if n := r.Env.Wheel.Armed(); n != 0 {
		r.Errorf("%d timers are still armed", n)
	}
	if n, m := r.Sockets(), r.SocketMemory(); n != 0 || m != 0 {
		r.Errorf("%d sockets and %d octets in them are still counted", n, m)
	}
}

// Now is the rig's clock in nanoseconds.
func (r *Rig) Now() int64 { return r.now }

// Pass lets virtual time pass.
func (r *Rig) Pass(d time.Duration) {
	end := r.now + int64(d)
	for at, ok := r.Next(); ok && at <= end; at, ok = r.Next() {
		r.now = max(r.now, at)
		r.Advance(r.now)
	}
	r.now = end
}

// Send has en0 receive frames, one burst.
func (r *Rig) Send(frames ...[]byte) { r.SendOn(r.If, frames...) }

// SendOn has ifp receive frames.
func (r *Rig) SendOn(ifp *netif.Interface, frames ...[]byte) {
	var out [][]byte
	for _, f := range frames {
		if six {
			if f = to6(f); f == nil {
				continue
			}
		}
		out = append(out, f)
	}
	r.wire(ifp, out)
}

// SendWire has en0 receive frames that nobody translates (see [Wire]).
func (r *Rig) SendWire(frames ...[]byte) { r.wire(r.If, frames) }

func (r *Rig) wire(ifp *netif.Interface, frames [][]byte) {
	var burst []*packet.Buf
	for _, f := range frames {
		b := r.Env.Pool.Get(max(len(f), 1600))
		if b == nil {
			continue
		}
		copy(b.Append(len(f)), f)
		burst = append(burst, b)
	}
	r.Input(r.work, r.now, ifp, burst)
}

// Expect compares what was sent since the last time, one line a frame.
func (r *Rig) Expect(want ...string) {
	r.Helper()
	var got []string
	for _, f := range r.Sent() {
		got = append(got, Describe(f))
	}
	if !slices.Equal(got, want) {
		r.Fatalf("sent:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// Sent takes the frames that were sent since the last time.
func (r *Rig) Sent() [][]byte {
	out := r.out
	r.out = nil
	return out
}

// Meet teaches the stack its neighbour on en0.
func (r *Rig) Meet(ip string) {
	if six { // it knows them all
		r.out = nil
		return
	}
	r.Send(ARP(packet.ARPRequest, Peer, ip, r.If.Addrs()[0].Addr.String()))
	r.out = nil
}

// Sysctl sets a node; over IPv6 the node of that name there, if there is one.
func (r *Rig) Sysctl(name, value string) {
	r.Helper()
	if last, ok := strings.CutPrefix(name, "net.inet.ip."); ok && six && mib.Lookup("net.inet6.ip6."+last) != nil {
		name = "net.inet6.ip6." + last
	}
	if _, err := r.Env.MIB.Set(name, value); err != nil {
		r.Fatal(err)
	}
}

// Counts fails unless f moves the counter by one.
func (r *Rig) Counts(proto, name string, f func()) {
	r.Helper()
	before := Counter(r.Stack, proto, name)
	f()
	if d := Counter(r.Stack, proto, name) - before; d != 1 {
		r.Errorf("counter %s %q moved by %d, want 1", proto, name, d)
	}
}

// Counter is the value of a stack's counter declared as proto and name.
func Counter(s *stack.Stack, proto, name string) uint64 {
	for i, c := range mib.Counters() {
		if c.Proto == proto && c.Name == name {
			return s.Env.MIB.Count(mib.Counter(i))
		}
	}
	panic(fmt.Sprintf("stacktest: no counter %q of %s", name, proto))
}

// ARP is an ARP frame: requests are broadcast, replies go to the stack.
func ARP(op uint16, smac netif.MAC, sip, tip string) []byte {
	b := make([]byte, packet.EtherLen+packet.ARPLen)
	dst := netif.BroadcastMAC
	if op == packet.ARPReply {
		dst = Me
	}
	packet.PutEther(b, dst, smac, packet.EtherARP)
	packet.PutARP(b[packet.EtherLen:], op, smac, netip.MustParseAddr(sip), [6]byte{}, netip.MustParseAddr(tip))
	return b
}

// IP is an IPv4 packet to be framed.
type IP struct {
	Src, Dst string
	Proto    uint8
	TTL      uint8 // 0: 64
	TOS      uint8
	ID, Frag uint16
	Options  []byte
	Data     []byte
}

// Frame is the packet in a frame from Peer to whom its destination concerns.
func (p IP) Frame() []byte { return p.FrameTo(Me, Peer) }

// FrameTo is Frame to a station of one's choice, if it is for one host.
func (p IP) FrameTo(to, from netif.MAC) []byte {
	src, dst := netip.MustParseAddr(p.Src), netip.MustParseAddr(p.Dst)
	n := packet.IPv4Len + len(p.Options)
	b := make([]byte, packet.EtherLen+n+len(p.Data))
	switch {
	case dst.IsMulticast():
		to = netif.GroupMAC(dst)
	case strings.HasSuffix(p.Dst, ".255"):
		to = netif.BroadcastMAC
	}
	packet.PutEther(b, to, from, packet.EtherIPv4)
	if p.TTL == 0 {
		p.TTL = 64
	}
	h := packet.PutIPv4(b[packet.EtherLen:], p.TOS, n+len(p.Data), p.ID, p.Frag, p.TTL, p.Proto, src, dst, p.Options)
	copy(h[n:], p.Data)
	h.SetChecksum()
	return b
}

// UDP is a datagram in a frame.
func UDP(src, dst string, sport, dport uint16, data string) []byte {
	return IP{Src: src, Dst: dst, Proto: packet.ProtoUDP, ID: 7, Data: Datagram(src, dst, sport, dport, data)}.Frame()
}

// Datagram is a UDP header with a right checksum, and data.
func Datagram(src, dst string, sport, dport uint16, data string) []byte {
	b := make([]byte, packet.UDPLen+len(data))
	packet.PutUDP(b, sport, dport, len(b), 0)
	copy(b[packet.UDPLen:], data)
	s := ^packet.Fold(packet.Sum(packet.PseudoSum(netip.MustParseAddr(src), netip.MustParseAddr(dst), packet.ProtoUDP, len(b)), b))
	if s == 0 {
		s = 0xffff
	}
	b[6], b[7] = byte(s>>8), byte(s)
	return b
}

// ICMP is a message: type, code, the second word, data.
func ICMP(typ, code uint8, rest uint32, data []byte) []byte {
	m := packet.ICMP(make([]byte, packet.ICMPLen+len(data)))
	m.SetType(typ, code)
	m.SetRest(rest)
	copy(m.Payload(), data)
	m.SetChecksum()
	return m
}

// Echo is an echo request in a frame: id 1, seq 2.
func Echo(src, dst string, data string) []byte {
	return IP{Src: src, Dst: dst, Proto: packet.ProtoICMP, Data: ICMP(packet.ICMPEcho, 0, 1<<16|2, []byte(data))}.Frame()
}

// Socket is a socket of the rig.
type Socket struct {
	*socket.Socket
	r *Rig
}

// Do makes one call into the stack.
func (r *Rig) Do(f func(w *netif.Work) error) error {
	w := r.Env.Begin(r.now)
	defer w.End()
	return f(w)
}

// Socket makes a socket of the superuser's.
func (r *Rig) Socket(typ, proto int) *Socket {
	r.Helper()
	s, err := r.SocketAs(typ, proto, socket.Cred{Super: true})
	if err != nil {
		r.Fatal(err)
	}
	return s
}

// SocketAs makes a socket of somebody's.
func (r *Rig) SocketAs(typ, proto int, cred socket.Cred) (*Socket, error) {
	s := &Socket{r: r}
	err := r.Do(func(w *netif.Work) (err error) {
		s.Socket, err = r.Stack.Socket(w, Family(), typ, proto, cred)
		return err
	})
	if err == nil {
		r.socks = append(r.socks, s)
	}
	return s, err
}

// UDP makes a datagram socket bound to local ("" for not).
func (r *Rig) UDP(local string) *Socket {
	r.Helper()
	s := r.Socket(socket.Dgram, 0)
	if local != "" {
		if err := s.Bind(local); err != nil {
			r.Fatal(err)
		}
	}
	return s
}

// Family is that of the rig's sockets.
func Family() int {
	if six {
		return socket.AFInet6
	}
	return socket.AFInet
}

// Addr reads "10.0.0.1:7", "10.0.0.1", ":7" or "": what is meant by it.
func Addr(s string) socket.Addr {
	a := said(s)
	a.IP = Real(a.IP)
	return a
}

func said(s string) (a socket.Addr) {
	host, port, found := strings.Cut(s, ":")
	if host != "" {
		a.IP = netip.MustParseAddr(host)
	}
	if found {
		if _, err := fmt.Sscan(port, &a.Port); err != nil {
			panic(err)
		}
	}
	return a
}

// Bind, Connect, SendTo, Set and Close are the calls of their names.
func (s *Socket) Bind(local string) error {
	return s.r.Do(func(w *netif.Work) error { return s.Socket.Bind(w, Addr(local)) })
}

func (s *Socket) Connect(peer string) error {
	return s.r.Do(func(w *netif.Work) error { return s.Socket.Connect(w, Addr(peer)) })
}

func (s *Socket) SendTo(to, data string) error {
	return s.r.Do(func(w *netif.Work) error {
		_, err := s.Send(w, &socket.Msg{Addr: Addr(to), Data: []byte(data)})
		return err
	})
}

func (s *Socket) Set(level, name int, value []byte) error {
	return s.r.Do(func(w *netif.Work) error { return s.SetOption(w, level, name, value) })
}

func (s *Socket) Close() {
	_ = s.r.Do(func(w *netif.Work) error { s.Socket.Close(w); return nil })
}

// Flag sets an option of the socket level to a number.
func (s *Socket) Flag(name, value int) {
	s.r.Helper()
	if err := s.Set(socket.LevelSocket, name, socket.Value32(value)); err != nil {
		s.r.Fatal(err)
	}
}

// Get is the next datagram as "source: data", or what Recv says.
func (s *Socket) Get() string {
	m := socket.Msg{Data: make([]byte, 65536)}
	if err := s.r.Do(func(w *netif.Work) error { return s.Recv(w, &m) }); err != nil {
		return err.Error()
	}
	from := Said(m.Addr.IP).String()
	if m.Addr.Port != 0 {
		from += fmt.Sprint(":", m.Addr.Port)
	}
	return from + ": " + string(m.Data)
}
