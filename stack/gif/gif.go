// Package gif is tunnels: gif(4), the generic one between two addresses (RFC
// 4213, RFC 2003, RFC 2473: either version of IP in either), and stf(4), 6to4,
// whose far ends are read off the addresses of packets (RFC 3056, RFC 3964).
//
// The walk down:
//
//	1 Interface.Output     may the packet go into the tunnel?            output.go, stf.go
//	2 tunnel.encap         as a turn: path MTU, ECN, outer header        output.go, ecn.go
//	3 Net.Output           the outer packet, as any other of this host
//
// The walk up:
//
//	1 Upper.Input          outer addresses, ingress filter, inner packet input.go, stf.go
//	2 Interface.Input      as a turn: captures, counters
//	3 Net.Input            the inner packet, as received by the interface
package gif

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

// The MTU of a new tunnel is what IPv6 asks of every link; a larger one is the
// administrator's choice (RFC 4213 §3.2).
const (
	MTU    = packet.MinMTU6
	MinMTU = packet.MinMTU6
	MaxMTU = 8192 // KAME's GIF_MTU_MAX
)

var (
	nodeTTL  = mib.Int("net.inet.ip.gifttl", 30, "Time to live of the IPv4 headers of gif and stf tunnels.", mib.Range(1, 255))
	nodeHlim = mib.Int("net.inet6.ip6.gifhlim", 30, "Hop limit of the IPv6 headers of gif tunnels.", mib.Range(1, 255))
	nodeNest = mib.Int("net.link.gif.max_nesting", 1, "Tunnels that a packet may be put into, one inside the other, before it leaves.", mib.Range(1, 8))
)

// Net is a version of IP: above a tunnel, and below it (inet, inet6).
type Net interface {
	// Input takes over packets that a tunnel has brought.
	Input(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf)
	// Output sends a packet of ours; the window begins at the inner header.
	Output(w *netif.Work, pkt *packet.Buf, f *socket.Flow) error
	// PathMTU is the largest packet that the way of a flow takes whole;
	// PathMTUs says whether path MTUs are learnt.
	PathMTU(f *socket.Flow) (int, error)
	PathMTUs() bool
	// Local is the address of ours that ip is, or nil.
	Local(ip netip.Addr) *netif.Addr
	IsBroadcast(ip netip.Addr) bool
	// TooBig answers a packet, L3 marked, that a tunnel takes only up to mtu.
	TooBig(w *netif.Work, pkt *packet.Buf, mtu int)
}

// Gif is one stack's tunnels.
type Gif struct {
	env    *netif.Env
	routes *route.Table
	nets   [2]Net // IPv4, IPv6
	// unreachable answers an inner packet whose tunnel leads nowhere.
	unreachable [2]func(w *netif.Work, pkt *packet.Buf)
	// ParamProblem answers an inner packet of IPv6, L3 marked, whose octet at is the
	// trouble; set at assembly.
	ParamProblem func(w *netif.Work, pkt *packet.Buf, at int)

	mu  sync.Mutex // one change at a time
	all map[*netif.Interface]*tunnel
	tab atomic.Pointer[table]
}

// ends are the outer addresses of a tunnel, link-scoped ones with their
// interface inside.
type ends struct{ src, dst netip.Addr }

// table is what input asks. It is immutable and replaced with every change.
type table struct {
	byEnds map[ends]*tunnel
	stf    *tunnel // nil: there is none
}

// tunnel is an interface of ours.
type tunnel struct {
	g   *Gif
	ifp *netif.Interface
	to  atomic.Pointer[ends] // nil: none yet, or stf

	// Methods as turns: made once, since a method's value is an allocation.
	encapTurn, decapTurn func(*netif.Work, *packet.Buf)

	mu   sync.Mutex // a leaf
	idle []*way
}

// way is what one sender needs at a time: the outer flow with its route, and
// room for what a super-packet is cut into.
type way struct {
	flow    socket.Flow
	ext     socket.Ext6 // what flow.Ext is while an outer header has a limit
	options [8]byte
	segs    []*packet.Buf
}

// maxIdle bounds the ways that a tunnel keeps.
const maxIdle = 8

// New makes the room.
func New(env *netif.Env, routes *route.Table) *Gif {
	g := &Gif{env: env, routes: routes, all: map[*netif.Interface]*tunnel{}}
	g.tab.Store(&table{})
	return g
}

// Over introduces a version of IP, at assembly; unreachable answers a packet of
// that version, L3 marked, which cannot arrive.
func (g *Gif) Over(v6 bool, n Net, unreachable func(w *netif.Work, pkt *packet.Buf)) {
	g.nets[side(v6)], g.unreachable[side(v6)] = n, unreachable
}

func side(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// net is the version of IP of an address, or nil.
func (g *Gif) net(ip netip.Addr) Net { return g.nets[side(!ip.Is4())] }

// Create makes an interface gifN, ipsecN, whose packets policies are to protect, or stfN, which is not in the stack's table yet.
// EINVAL: no such kind; EBUSY: there is an stf already, and a host needs no
// second (KAME).
func (g *Gif) Create(name string) (*netif.Interface, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := &tunnel{g: g}
	t.encapTurn, t.decapTurn = t.encap, t.decap
	c := netif.Config{Name: name, MTU: MTU}
	switch kind, _ := netif.Unit(name); kind {
	case "gif", "ipsec":
		c.Type, c.Flags = netif.TypeGIF, netif.FlagPointToPoint|netif.FlagMulticast
	case "stf":
		if other := g.tab.Load().stf; other != nil {
			return nil, fmt.Errorf("%s is there already, and one is enough: %w", other.ifp.Name, syscall.EBUSY)
		}
		c.Type = netif.TypeSTF
	default:
		return nil, fmt.Errorf("%s is no name of a tunnel: %w", name, syscall.EINVAL)
	}
	t.ifp = netif.New(c)
	t.ifp.Input, t.ifp.Output = g.receive, t.output
	if c.Type == netif.TypeSTF {
		t.ifp.Output, t.encapTurn = t.output6to4, t.encap6to4
	}
	g.all[t.ifp] = t
	g.publish()
	return t.ifp, nil
}

// Destroy forgets a tunnel that has been taken out of the stack.
func (g *Gif) Destroy(ifp *netif.Interface) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.all[ifp]; t != nil {
		t.to.Store(nil)
		delete(g.all, ifp)
		g.publish()
	}
}

// publish makes the table anew. mu is held.
func (g *Gif) publish() {
	n := &table{byEnds: map[ends]*tunnel{}}
	// map order: no two tunnels have the same ends, and there is one stf.
	for _, t := range g.all {
		if e := t.to.Load(); e != nil {
			n.byEnds[*e] = t
		}
		if t.ifp.Type == netif.TypeSTF {
			n.stf = t
		}
	}
	g.tab.Store(n)
}

// Set says between which addresses of the same version a gif leads: src, which
// is or will be ours, and dst. Errors: EINVAL, EAFNOSUPPORT, EADDRNOTAVAIL
// (another tunnel has these ends).
func (g *Gif) Set(ifp *netif.Interface, src, dst netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.all[ifp]
	switch {
	case t == nil || ifp.Type != netif.TypeGIF:
		return fmt.Errorf("%s is no gif and leads to no address: %w", ifp.Name, syscall.EINVAL)
	case src.Is4() != dst.Is4():
		return fmt.Errorf("a tunnel's ends %v and %v are of one version of IP: %w", src, dst, syscall.EINVAL)
	case g.net(src) == nil:
		return syscall.EAFNOSUPPORT
	case !possible(src) || !possible(dst) || src == dst || g.net(dst).IsBroadcast(dst):
		return fmt.Errorf("a tunnel cannot lead from %v to %v: %w", src, dst, syscall.EINVAL)
	}
	e := ends{src, dst}
	if o := g.tab.Load().byEnds[e]; o != nil && o != t {
		return fmt.Errorf("%s leads from %v to %v already: %w", o.ifp.Name, src, dst, syscall.EADDRNOTAVAIL)
	}
	t.to.Store(&e)
	g.publish()
	return nil
}

// possible reports an address that one host can have on a wire.
func possible(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && !ip.IsLoopback() && !ip.Is4In6()
}

// Clear takes a gif's addresses away. EADDRNOTAVAIL: it has none.
func (g *Gif) Clear(ifp *netif.Interface) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.all[ifp]
	if t == nil || t.to.Load() == nil {
		return syscall.EADDRNOTAVAIL
	}
	t.to.Store(nil)
	g.publish()
	return nil
}

// Ends are the addresses between which a gif leads; not valid: none.
func (g *Gif) Ends(ifp *netif.Interface) (src, dst netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.all[ifp]; t != nil {
		if e := t.to.Load(); e != nil {
			return e.src, e.dst
		}
	}
	return netip.Addr{}, netip.Addr{}
}

// take answers a way that nobody else has; give brings it back.
func (t *tunnel) take() *way {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		y := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return y
	}
	return &way{}
}

func (t *tunnel) give(y *way) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) < maxIdle {
		t.idle = append(t.idle, y)
	}
}
