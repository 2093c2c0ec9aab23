package ipfilter

import (
	"fmt"
	"net/netip"
	"testing"

	"ionet/ipl"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// rig is a filter between two interfaces, without a stack.
type rig struct {
	testing.TB
	*Filter
	env      *netif.Env
	w        *netif.Work
	now      int64
	en0, en1 *netif.Interface
	refused  []string
	injected [][]byte
	did      []string // what else was sent, in words
}

func (r *rig) Refuse(_ *netif.Work, pkt *packet.Buf, code uint8, asDest bool) {
	r.refused = append(r.refused, string(rune('0'+code)))
	if r.did = append(r.did, fmt.Sprint("unreach ", code)); asDest {
		r.did = append(r.did, "as its destination")
	}
}

func (r *rig) Inject(_ *netif.Work, pkt *packet.Buf, ifp *netif.Interface, to netip.Addr) {
	way := "by its route"
	if ifp != nil {
		way = "by " + ifp.Name
	}
	if to.IsValid() {
		way += " to " + to.String()
	}
	if b := pkt.Bytes(); b[9] == packet.ProtoTCP && b[packet.IPv4Len+13]&packet.TCPRst != 0 {
		way = "reset"
	}
	r.did = append(r.did, way)
	r.injected = append(r.injected, append([]byte(nil), pkt.Bytes()...))
	pkt.Free()
}

func (r *rig) ReversePath(src netip.Addr, ifp *netif.Interface, _ bool) bool {
	return src.Is4() && src.As4()[2] == 0 == (ifp == r.en0)
}

func newRig(t testing.TB) *rig {
	r := &rig{TB: t, now: second}
	seed := uint32(1)
	r.env = &netif.Env{Pool: packet.NewPool(64 << 20), MIB: mib.NewValues(), Now: func() int64 { return r.now },
		Rand32: func() uint32 { seed = seed*1664525 + 1013904223; return seed ^ seed>>15 }}
	r.env.Wheel.Init(r.now, nil)
	for _, p := range []**netif.Interface{&r.en0, &r.en1} {
		*p = netif.New(netif.Config{Name: map[bool]string{true: "en0", false: "en1"}[p == &r.en0], MTU: 1500, HdrLen: 14})
		if err := r.env.Ifs.Add(*p); err != nil {
			t.Fatal(err)
		}
	}
	r.Filter = New(r.env, Config{Nets: [2]Net{r, r}})
	r.w = r.env.NewWork()
	t.Cleanup(func() {
		r.Close()
		if n := r.env.Pool.Bufs(); n != 0 {
			t.Errorf("%d buffers were not given back", n)
		}
		if n := r.env.Wheel.Armed(); n != 0 {
			t.Errorf("%d timers are still armed", n)
		}
	})
	return r
}

// load puts rules into the active set, in place of those that are there.
func (r *rig) load(rules ...ipl.Rule) {
	r.Helper()
	ops := []Op{{Kind: Flush, In: true, Out: true, V4: true, V6: true}}
	for _, x := range rules {
		ops = append(ops, Op{Kind: Add, Rule: x})
	}
	if err := r.Edit(ops); err != nil {
		r.Fatal(err)
	}
}

// rule is one with nothing asked.
func aRule(a ipl.Action, out bool, f ...func(*ipl.Rule)) ipl.Rule {
	x := ipl.Rule{At: -1, Action: a, Out: out, Family: ipl.Inet, TOS: -1, TTL: -1, Proto: ipl.AnyProto, ICMPType: -1, ICMPTypeCode: -1, ICMPCode: -1, LogTag: -1}
	for _, g := range f {
		g(&x)
	}
	return x
}

func quick(x *ipl.Rule)     { x.Quick = true }
func keepState(x *ipl.Rule) { x.KeepState = &ipl.KeepState{} }
func tcp(x *ipl.Rule)       { x.Proto = packet.ProtoTCP }
func udp(x *ipl.Rule)       { x.Proto = packet.ProtoUDP }

func network(s string) ipl.Endpoint {
	p := netip.MustParsePrefix(s)
	m := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	mask, _ := netip.AddrFromSlice(m)
	return ipl.Endpoint{Kind: ipl.NetAddr, Addr: p.Addr(), Mask: mask}
}

// send asks the filter about a packet; false: it went no further.
func (r *rig) send(ifp *netif.Interface, out bool, b []byte) bool {
	p := r.env.Pool.Get(len(b))
	copy(p.Append(len(b)), b)
	p.MarkL3(0)
	p.RcvIf = ifp.Index
	r.w.Start(r.now)
	defer r.w.Finish()
	hook := r.In
	if out {
		hook = r.Out
	}
	if p = hook(r.w, ifp, p); p == nil {
		return false
	}
	p.Free()
	return true
}

// pass lets time go by.
func (r *rig) pass(seconds int) {
	end := r.now + int64(seconds)*second
	for at, ok := r.env.Wheel.Next(); ok && at <= end; at, ok = r.env.Wheel.Next() {
		r.now = max(r.now, at)
		r.w.Start(r.now)
		r.env.Wheel.Advance(r.now, r.w)
		r.w.Finish()
	}
	r.now = end
}

// ip is a packet of IPv4.
func ip4(src, dst string, proto uint8, body []byte) []byte {
	b := make([]byte, packet.IPv4Len+len(body))
	packet.PutIPv4(b, 0, len(b), 1, 0, 64, proto, netip.MustParseAddr(src), netip.MustParseAddr(dst), nil).SetChecksum()
	copy(b[packet.IPv4Len:], body)
	return b
}

func datagram(src, dst string, sport, dport uint16) []byte {
	b := make([]byte, packet.UDPLen+4)
	packet.PutUDP(b, sport, dport, len(b), 0)
	return ip4(src, dst, packet.ProtoUDP, b)
}

// seg is a segment of n octets of data.
func seg(src, dst string, sport, dport uint16, flags uint8, seq, ack uint32, window uint16, n int) []byte {
	b := make([]byte, packet.TCPLen+n)
	packet.PutTCP(b, sport, dport, seq, ack, packet.TCPLen, flags, window, 0, 0)
	return ip4(src, dst, packet.ProtoTCP, b)
}
