// Package pfil is where filters hang in the packet path (pfil(9)): between
// inet or inet6 and what is behind it, for what comes in and for what goes out.
//
// A filter that is not loaded costs one look at a pointer. What it asks about a
// packet is found once for all of its parts ([Info]).
package pfil

import (
	"sync/atomic"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Filter is a packet filter. It is called for packets of both versions whose
// window begins at the IP header, L3 marked, header and length checked. The
// answer is the packet that goes on, whose addresses, ports and payload may have
// changed, with L3 marked and the window at it; nil: it went no further, and
// whoever took it has dropped, answered or sent it.
type Filter interface {
	// In looks at what ifp has received, before anybody asks whom it is for. It
	// has not been reassembled.
	In(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf) *packet.Buf
	// Out looks at what is to leave by ifp, for a neighbour that is chosen, before it is cut.
	Out(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf) *packet.Buf
	// Track answers who does for the packets of a flow that follow what In and
	// Out have just done for one of them, which came in by in and goes out by
	// out, and which is looked at as it leaves: so that they can take the fast
	// path. first is what its header was when it came. ok false: packets of
	// the flow are to be asked about one by one. A nil Tracker with ok: there is nothing to do.
	Track(w *netif.Work, in, out *netif.Interface, first *Flow, pkt *packet.Buf) (t Tracker, ok bool)
	// Generation changes with the rules: what Track has answered in another
	// generation is of no use.
	Generation() uint64
}

// Tracker is a filter's fast path for the packets of one flow in one direction.
type Tracker interface {
	// Track does what the hooks would do for pkt, L3 marked and L4 marked,
	// which is no fragment, has no options and is of that flow. false: the hooks
	// must be asked; pkt is as it was.
	Track(w *netif.Work, pkt *packet.Buf) bool
	// Passed counts packets, and their octets from the IP header on, that Track has let
	// through: once for those of a burst that follow each other.
	Passed(packets, octets uint64)
}

// Hook is a place for a filter, one a stack, read by every burst.
type Hook struct{ p atomic.Pointer[Filter] }

// Load is the filter, or nil.
func (h *Hook) Load() Filter {
	if p := h.p.Load(); p != nil {
		return *p
	}
	return nil
}

// Set hangs f there, or with nil nothing.
func (h *Hook) Set(f Filter) {
	if f == nil {
		h.p.Store(nil)
		return
	}
	h.p.Store(&f)
}
