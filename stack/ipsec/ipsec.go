// Package ipsec protects packets (RFC 4301): ESP (4303), AH (4302) and IPComp
// (3173), after policies and with security associations that PF_KEY brings (2367,
// with KAME's extensions). The numbers of its types are PF_KEY's.
//
// The walk of a packet that leaves ([IPsec.Policy], [IPsec.Protect]):
//
//	1 policy     the socket's own, or the first of the SPD that its ends match    spd.go, flow.go
//	2 bundle     an SA for each of its requests; none: acquired, the packet waits  sad.go, acquire.go
//	3 size       is there room for what will be added? else the sender is told     out.go
//	4 transform  from the inside out: IPComp, ESP, AH; a tunnel's outer header     out.go, ah.go, comp.go, tunnel.go
//	5 on         a transport's packet goes on where it was, a tunnel's is routed   Net.Emit
//
// The walk of one that comes ([IPsec.Input]), from the protocol switch of inet and inet6:
//
//	1 find       the SA, by SPI and destination                                    sad.go
//	2 replay     may its number still come?                                        replay.go
//	3 open       check value, decryption; then the number is taken                 in.go, ah.go, comp.go
//	4 strip      a transport's packet as it was, a tunnel's inner one; what it has
//	             come through is noted in it ([packet.Buf.Sec])                    in.go, tunnel.go
//	5 again      through inet or inet6, as a turn                                  Net.Again
//	6 policy     before it is delivered or forwarded: did it come through what its
//	             policy asks for ([IPsec.Admit])?                                  spd.go
//
// Crypto runs outside of every lock. An SA's own lock is held to look at the replay
// window, and to take a number.
package ipsec

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Net is a version of IP, for the packets of it (inet, inet6).
type Net interface {
	// Emit sends a complete packet, window at its IP header, by the route to its destination, cut if need be into what mtu and
	// the interface take; no policy is asked about it. An identification of 0 is filled in.
	Emit(w *netif.Work, pkt *packet.Buf, f *socket.Flow, mtu int) error
	// PathMTU finds the route of a flow.
	PathMTU(f *socket.Flow) (int, error)
	// Again delivers a packet for us that was protected, window at its IP header, and Unwrapped takes in one that was
	// in a tunnel: as from enc if that is up, else as from where the tunnel's packet came.
	Again(w *netif.Work, pkt *packet.Buf)
	Unwrapped(w *netif.Work, pkt *packet.Buf, enc *netif.Interface)
	// TooBig answers a packet, L3 marked, that goes up to mtu only.
	TooBig(w *netif.Work, pkt *packet.Buf, mtu int)
	// Local is the address of ours that ip is, or nil.
	Local(ip netip.Addr) *netif.Addr
}

// Modes of an SA or request.
const (
	ModeAny       = 0
	ModeTransport = 1
	ModeTunnel    = 2
	ModeBEET      = 3
)

// Directions of a policy.
const (
	In      = 1
	Out     = 2
	Forward = 3
)

// IPsec is one stack's.
type IPsec struct {
	env  *netif.Env
	nets [2]Net // IPv4, IPv6
	enc  atomic.Pointer[netif.Interface]
	spd  spd
	sad  sad
	wait acquiring

	flows atomic.Pointer[flowTable]
	weak  sync.Map    // names of algorithms that were warned about
	owned atomic.Bool // sockets have policies of their own
	ports encapPorts

	// Turns, made once: IPv4, IPv6.
	turns, unwrapped [2]func(*netif.Work, *packet.Buf)

	mu     sync.Mutex
	listen []func(Event)
}

var (
	nodeDefPolicy  = mib.Int("net.inet.ipsec.def_policy", 1, "What becomes of a packet that no policy is about: 0 it is dropped, 1 it goes as it is.", mib.Range(0, 1))
	nodeDefPolicy6 = mib.Int("net.inet6.ipsec6.def_policy", 1, "What becomes of an IPv6 packet that no policy is about: 0 it is dropped, 1 it goes as it is.", mib.Range(0, 1))
)

// New makes the room.
func New(env *netif.Env) *IPsec {
	x := &IPsec{env: env}
	x.spd.init(x)
	x.sad.init(x)
	x.wait.init(x)
	x.flows.Store(newFlowTable(env))
	for _, n := range answers {
		env.MIB.OnChange(n, func(_, _ int64) error { x.spd.gen.Add(1); return nil })
	}
	for v := range x.turns {
		x.turns[v] = func(w *netif.Work, p *packet.Buf) { x.nets[v].Again(w, p) }
		x.unwrapped[v] = func(w *netif.Work, p *packet.Buf) { x.nets[v].Unwrapped(w, p, x.enc.Load()) }
	}
	return x
}

// Over introduces a version of IP, at assembly.
func (x *IPsec) Over(v6 bool, n Net) { x.nets[side(v6)] = n }

// SetEnc makes ifp the interface that packets out of tunnels are shown by while it is up; nil: none.
func (x *IPsec) SetEnc(ifp *netif.Interface) { x.enc.Store(ifp) }

// Enc is that interface, or nil.
func (x *IPsec) Enc() *netif.Interface { return x.enc.Load() }

func side(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

func (x *IPsec) net(ip netip.Addr) Net { return x.nets[side(!ip.Is4())] }

// Generation is [pfil.Security].
func (x *IPsec) Generation() uint64 { return x.spd.gen.Load() }

// Idle is [pfil.Security].
func (x *IPsec) Idle() bool {
	return x.spd.n.Load() == 0 && !x.owned.Load() && x.sad.byID.Len() == 0 && x.env.MIB.On(nodeDefPolicy) && x.env.MIB.On(nodeDefPolicy6)
}

// EventKind says what happened.
type EventKind uint8

const (
	// SAExpired: Hard or not, of SA.
	SAExpired EventKind = iota + 1
	// Acquire: an SA is missing.
	Acquire
	// PolicyExpired: of Policy.
	PolicyExpired
)

// Event is what key sockets are told of without being asked.
type Event struct {
	Kind    EventKind
	Hard    bool
	SA      *SA
	Wanted  Wanted
	Policy  *Policy
	Session uint32 // of Acquire: its sequence number
}

// Subscribe has f called, from anywhere, with what happens. f must not wait.
func (x *IPsec) Subscribe(f func(Event)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.listen = append(x.listen, f)
}

func (x *IPsec) tell(e Event) {
	x.mu.Lock()
	all := x.listen
	x.mu.Unlock()
	for _, f := range all {
		f(e)
	}
}

// encapPorts are our UDP ports at which ESP may come (RFC 3948), with how many SAs have each.
type encapPorts struct {
	mu  sync.Mutex
	n   map[uint16]int
	set atomic.Pointer[[1024]uint64] // a bit each; nil: none
}

func (e *encapPorts) add(s *SA)    { e.change(s, 1) }
func (e *encapPorts) remove(s *SA) { e.change(s, -1) }

func (e *encapPorts) change(s *SA, by int) {
	if s.NATT.Type == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n == nil {
		e.n = map[uint16]int{}
	}
	if e.n[s.NATT.Dport] += by; e.n[s.NATT.Dport] <= 0 {
		delete(e.n, s.NATT.Dport)
	}
	if len(e.n) == 0 {
		e.set.Store(nil)
		return
	}
	var set [1024]uint64
	for p := range e.n { // map order: bits of a set
		set[p>>6] |= 1 << (p & 63)
	}
	e.set.Store(&set)
}

func (e *encapPorts) has(port uint16) bool {
	set := e.set.Load()
	return set != nil && set[port>>6]>>(port&63)&1 != 0
}

// addrOf is an address from its words.
func addrOf(a [2]uint64, v6 bool) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], a[0])
	binary.BigEndian.PutUint64(b[8:], a[1])
	if !v6 {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

// later sends packets that have waited, windows at their IP headers, as if their senders did so now. It must not
// be called inside a Work.
func (x *IPsec) later(all []waiting) {
	if len(all) == 0 {
		return
	}
	w := x.env.Begin(x.env.Now())
	defer w.End()
	for _, q := range all {
		pkt := q.pkt
		net := x.nets[side(pkt.Bytes()[0]>>4 == 6)]
		p := x.Policy(w, pkt, q.own)
		if p == nil {
			_ = x.send(w, net, pkt)
			continue
		}
		mtu, f := packet.MaxPacket, flowOf(pkt)
		if _, err := net.PathMTU(&f); err == nil {
			mtu = f.Route.If.MTU()
		}
		on, cut, _ := x.Protect(w, pkt, p, mtu)
		if on != nil {
			_ = x.send(w, net, on)
		}
		for _, c := range cut {
			_ = x.send(w, net, c)
		}
	}
}

// send is Emit for a packet of ours that is in no tunnel.
func (x *IPsec) send(w *netif.Work, net Net, pkt *packet.Buf) error {
	pkt.Flags |= packet.FlagSecured
	f := flowOf(pkt)
	return net.Emit(w, pkt, &f, packet.MaxPacket)
}

// flowOf is where a packet goes, window at its IP header.
func flowOf(pkt *packet.Buf) socket.Flow {
	pkt.MarkL3(0)
	_, dst, v6 := ends(pkt)
	return socket.Flow{Dst: packet.Scoped(addrOf(dst, v6), pkt.RcvIf)}
}

// defaultLevel is the sysctl that says what level "default" is.
func defaultLevel(r *Request, v6 bool) *mib.Node {
	trans := r.Mode == ModeTransport
	all := &levels[side(v6)]
	switch {
	case r.Proto == packet.ProtoAH && trans:
		return all[2]
	case r.Proto == packet.ProtoAH:
		return all[3]
	case trans:
		return all[0]
	}
	return all[1]
}

// levels are, of each family: ESP in transport and in tunnel mode, AH likewise.
var levels = func() (all [2][4]*mib.Node) {
	for v, prefix := range []string{"net.inet.ipsec.", "net.inet6.ipsec6."} {
		for n, name := range []string{"esp_trans", "esp_net", "ah_trans", "ah_net"} {
			all[v][n] = mib.Int(prefix+name+"_deflev", 1, "What becomes of a packet whose SA is missing if its policy's level is default: 1 it goes without (use), 2 it does not (require).", mib.Range(1, 2))
		}
	}
	return all
}()
