package arp

import (
	"net/netip"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Input is ether.Handler for EtherType 0x0806: the merge and the answer of
// RFC 826, with the conflict rules of RFC 5227 §2.4 first.
func (a *ARP) Input(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
	for _, p := range burst {
		a.input(w, ifp, p)
	}
}

func (a *ARP) input(w *netif.Work, ifp *netif.Interface, p *packet.Buf) {
	h, ok := packet.CheckARP(p.Bytes())
	if !ok || ifp.Flags()&netif.FlagNoARP != 0 {
		w.Drop(p, cntBad)
		return
	}
	smac, sip, tip := netif.MAC(h.SenderMAC()), h.SenderIP(), h.TargetIP()
	if smac.IsMulticast() || smac == (netif.MAC{}) || sip.IsMulticast() || sip == broadcast {
		w.Drop(p, cntBad)
		return
	}
	switch h.Op() {
	case packet.ARPRequest:
		w.Count(cntRequestsIn)
	case packet.ARPReply:
		w.Count(cntRepliesIn)
	default:
		w.Drop(p, cntBad)
		return
	}
	if smac == ifp.MAC() { // our own, come back
		consume(w, p, cntNotTarget)
		return
	}
	if a.conflict(w, ifp, smac, sip, tip, h.Op()) {
		w.Drop(p, cntConflict)
		return
	}
	target := ours(ifp, tip)
	if sip != unspecified {
		if e := a.find(ifp, sip); e != nil {
			a.learn(w, e, smac)
		} else if target != nil && onLink(ifp, sip) {
			if e := a.make(w, ifp, sip); e != nil {
				a.learn(w, e, smac)
			}
		}
	}
	if h.Op() != packet.ARPRequest {
		consume(w, p, cntDone)
		return
	}
	answer := ifp.MAC()
	if target == nil { // a published entry is answered for, with its own address
		e := a.find(ifp, tip)
		if e == nil {
			consume(w, p, cntNotTarget)
			return
		}
		v := e.v.Load()
		if v.flags&Published == 0 || v.mac == smac {
			consume(w, p, cntNotTarget)
			return
		}
		answer = v.mac
	}
	w.Count(cntRepliesOut)
	a.send(w, ifp, smac, packet.ARPReply, answer, tip, smac, sip)
	consume(w, p, cntDone)
}

// consume ends a packet that has served its purpose, or was of none here:
// that is no drop.
func consume(w *netif.Work, p *packet.Buf, as mib.Counter) {
	w.Count(as)
	p.Free()
}

var (
	unspecified = netip.IPv4Unspecified()
	broadcast   = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

func ours(ifp *netif.Interface, ip netip.Addr) *netif.Addr {
	for _, a := range ifp.Addrs() {
		if a.Addr == ip && !a.Tentative && !a.Duplicated {
			return a
		}
	}
	return nil
}

func onLink(ifp *netif.Interface, ip netip.Addr) bool {
	for _, a := range ifp.Addrs() {
		if a.Addr.Is4() && a.Prefix().Contains(ip) {
			return true
		}
	}
	return false
}
