package netif

import "ionet/stack/packet"

// Stacked is the lower side of an interface that stands on others: a VLAN, a bridge.
type Stacked interface {
	// TransmitOn takes over a burst of frames and puts them on w for the
	// interfaces below ([Work.TransmitDirect]). The slice is the caller's again
	// afterwards.
	TransmitOn(w *Work, ifp *Interface, burst []*packet.Buf)
	Filter
}

// Intake takes received frames before the interface itself looks at them.
type Intake interface {
	// Take takes over those of a burst of whole frames that are its own. It
	// answers the others, in their order, at the front of burst.
	Take(w *Work, ifp *Interface, burst []*packet.Buf) (rest []*packet.Buf)
}

// Member is an interface's place in a bridge.
type Member interface {
	Intake
	// Out takes over a burst of frames that the stack sends by a member, and puts
	// them on w for those members that lead to whom they are for
	// ([Work.TransmitDirect]). The slice is the caller's again afterwards.
	Out(w *Work, ifp *Interface, burst []*packet.Buf)
}

// Above is what stands on an Ethernet interface. It is immutable.
type Above struct {
	Bridge Member // nil: it is in none
	VLANs  Intake // nil: none
}

// Above is what stands on the interface; nil, as for most: nothing.
func (ifp *Interface) Above() *Above { return ifp.above.Load() }

// EditAbove replaces what stands on the interface by what f makes of a copy of it.
func (ifp *Interface) EditAbove(f func(*Above)) {
	ifp.mu.Lock()
	defer ifp.mu.Unlock()
	var a Above
	if old := ifp.above.Load(); old != nil {
		a = *old
	}
	if f(&a); a == (Above{}) {
		ifp.above.Store(nil)
		return
	}
	ifp.above.Store(&a)
}

// Ether reports whether the interface has stations with Ethernet's addresses on
// its link: an Ethernet, or a VLAN of one.
func (ifp *Interface) Ether() bool { return ifp.Type == TypeEther || ifp.Type == TypeL2VLAN }
