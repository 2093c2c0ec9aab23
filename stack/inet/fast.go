package inet

import (
	"net/netip"

	"ionet/stack/ipflow"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
	"ionet/stack/route"
	"ionet/stack/socket"
)

var nodeMaxFlows = mib.Int("net.inet.ip.maxflows", 16384, "Flows that take the fast path at most, rounded up to a power of two; 0: every packet takes the slow one.", mib.Range(0, ipflow.MaxFlows))

// resizeFlows begins with no flows; without forwarding there is no table.
func (in *Inet) resizeFlows(forwarding bool, n int64) {
	if !forwarding {
		n = 0
	}
	in.flows.Resize(int(n), uint64(in.env.Rand32())<<32|uint64(in.env.Rand32()))
}

// ForgetFlows has every packet take the slow path first.
func (in *Inet) ForgetFlows() { in.flows.Forget() }

// flowGeneration is what a flow's decision was made from. f is the filter.
func (in *Inet) flowGeneration(f pfil.Filter) uint64 {
	gen := in.generation()
	if f != nil {
		gen += f.Generation()
	}
	if s := in.sec.Load(); s != nil {
		gen += s.Generation()
	}
	return gen
}

// note writes down for the fast path where forward has just decided to send p,
// in generation gen: rc and all that forward has asked hold for its whole flow.
// policy is what protects it, or nil.
func (in *Inet) note(w *netif.Work, p *packet.Buf, src netip.Addr, rc *socket.RouteCache, f pfil.Filter, policy any, gen uint64) {
	if p.Flags&packet.FlagCame == 0 || rc.Local || rc.Bcast || rc.If.Index == p.RcvIf && in.env.MIB.On(nodeRedirect) {
		return
	}
	from := in.env.Ifs.ByIndex(p.RcvIf)
	if from == nil || in.spoofed(from, src) { // as input has asked, but in this generation
		return
	}
	way := ipflow.Way{In: from, Out: rc.If, NextHop: rc.NextHop, MTU: rc.MTU, Filter: f, Gen: gen}
	if s := in.sec.Load(); s != nil && !s.Idle() {
		var ok bool
		if way.Guard, ok = s.Guard(w, p, policy); !ok || way.Guard != nil && f != nil { // the filter sees other packets than the flow's
			return
		}
	}
	way.Use, _ = rc.Use.(route.Handle)
	in.flows.Note(w, p, &way)
}

var nodeRPF = mib.Int("net.inet.ip.rpf", 0, "What becomes of a packet from elsewhere whose source is not routed back by the interface that it came by (RFC 3704): 0 it is not asked, 1 dropped, 2 dropped if no interface leads there.", mib.Range(0, 2))

// ReversePath is [route.Table]'s.
func (in *Inet) ReversePath(src netip.Addr, ifp *netif.Interface, strict bool) bool {
	return in.routes.ReversePath(src, ifp, strict)
}

// spoofed is net.inet.ip.rpf's answer.
func (in *Inet) spoofed(ifp *netif.Interface, src netip.Addr) bool {
	mode := in.env.MIB.Int(nodeRPF)
	return mode != 0 && ifp.Flags()&netif.FlagLoopback == 0 && src != unspecified && !in.ReversePath(src, ifp, mode == 1)
}
