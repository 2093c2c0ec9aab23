package netif

import "sync/atomic"

// Neighbour is what the fast path knows of a neighbour: its link address for as
// long as packets need no more than that, and how often it was used. It belongs
// to the resolver, which is asked as soon as it is unset.
type Neighbour struct {
	If  *Interface
	mac atomic.Uint64 // neighbourSet and the address
	Use atomic.Uint64
}

const neighbourSet = 1 << 48

// Set says that packets may go to m.
func (n *Neighbour) Set(m MAC) {
	n.mac.Store(neighbourSet | uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5]))
}

// Unset says that the resolver is to be asked.
func (n *Neighbour) Unset() { n.mac.Store(0) }

// MAC is the link address; false: the resolver is to be asked.
func (n *Neighbour) MAC() (m MAC, ok bool) {
	x := n.mac.Load()
	return MAC{byte(x >> 40), byte(x >> 32), byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)}, x != 0
}
