package pfil

import (
	"sync/atomic"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Security protects packets (RFC 4301), as inet and inet6 see it.
type Security interface {
	// Generation changes with what Policy answers for a flow.
	Generation() uint64
	// Idle reports that there is nothing to protect and nothing to open.
	Idle() bool
	// Policy answers the policy that a complete packet which is to leave, window at its IP
	// header, is subject to; nil: it leaves as it is. own is the policy of its socket, or nil.
	Policy(w *netif.Work, pkt *packet.Buf, own any) any
	// Protect takes over a packet, does as the policy says, and answers what is to go on in its place,
	// by the same route: the packet, or what a super-packet was cut into, which is given back by Done;
	// neither: it was sent, waits, or was dropped for err. mtu is what the route takes.
	Protect(w *netif.Work, pkt *packet.Buf, policy any, mtu int) (on *packet.Buf, cut []*packet.Buf, err error)
	// Done gives cut back, whose packets have gone.
	Done(cut []*packet.Buf)
	// Admit reports whether a packet, L3 marked, which has come through [packet.Buf.Sec], may be delivered, or forwarded.
	// One that may not is only looked at.
	Admit(w *netif.Work, pkt *packet.Buf, forward bool) bool
	// AdmitBy is Admit for a packet for us, by a socket's own policy.
	AdmitBy(w *netif.Work, pkt *packet.Buf, own any) bool
	// Own says that a socket has a policy of its own, and Owned whether one ever had.
	Own()
	Owned() bool
	// Guard answers what the fast path asks about the packets that follow pkt: one that came from elsewhere and was admitted, L3
	// marked, and leaves as policy, which is Policy's answer, says. nil: there is nothing to ask; ok false: each of them is to be
	// looked at.
	Guard(w *netif.Work, pkt *packet.Buf, policy any) (g Guard, ok bool)
	// Input takes over a packet of ESP, AH or IPComp for us, or of ESP in UDP, window at its transport header, L3 marked.
	Input(w *netif.Work, pkt *packet.Buf, proto uint8)
	// Encapsulated reports whether a datagram, window at its UDP header, is ESP in UDP.
	Encapsulated(pkt *packet.Buf) bool
}

// Guard is asked about each packet of a flow. It is right in the generation it was made in.
type Guard interface {
	// Admits reports whether what came through sec ([packet.Buf.Sec]) may be forwarded as the flow's first packet was.
	Admits(w *netif.Work, sec any) bool
	// Policy is what Protect is to be asked with; nil: packets leave as they are.
	Policy() any
}

// SecurityHook is where one hangs.
type SecurityHook struct{ p atomic.Pointer[Security] }

// Load is what protects packets, or nil.
func (h *SecurityHook) Load() Security {
	if p := h.p.Load(); p != nil {
		return *p
	}
	return nil
}

// Set hangs s there, or with nil nothing.
func (h *SecurityHook) Set(s Security) {
	if s == nil {
		h.p.Store(nil)
		return
	}
	h.p.Store(&s)
}
