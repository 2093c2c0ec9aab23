package socket

// Cmsg is one object of ancillary data: what a sender wishes for one packet,
// or what a receiver has asked to be told of one (RFC 3542 §4, §6 to §11). The
// length of Data is the object's own, without header and padding; numbers in it
// are 32 bits and little-endian, as in options.
type Cmsg struct {
	Level, Type int
	Data        []byte
}

// Ext6 are the extension headers that a sender wishes for its packets
// (RFC 3542 §7 to §9), each whole and a multiple of 8 octets long; what stands
// in its Next Header is not looked at. nil: none. It is immutable: a change
// replaces it.
type Ext6 struct {
	HopByHop []byte
	RouteDst []byte // destination options for every node that Routing names; only with it
	Routing  []byte
	Dst      []byte // destination options for the destination
}

// Len is how long they are in a packet.
func (e *Ext6) Len() int {
	if e == nil {
		return 0
	}
	n := len(e.HopByHop) + len(e.Routing) + len(e.Dst)
	if len(e.Routing) > 0 {
		n += len(e.RouteDst)
	}
	return n
}
