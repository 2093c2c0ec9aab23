// Package packet is the stack's packet buffer, its pool, the header views and
// the Internet checksum.
//
// A [Buf] has exactly one owner. Passing it on passes ownership; the last
// owner calls [Buf.Free]. The pool's books ([Pool.InUse]) balance when no
// packet is on its way.
package packet

import "sync/atomic"

// CsumState says what is known about a packet's transport checksum.
type CsumState uint8

const (
	// CsumNone: the checksum field, if the protocol has one, is as found on
	// the wire and nobody has checked it.
	CsumNone CsumState = iota
	// CsumPartial: the field holds the folded pseudo-header sum only; whoever
	// lets the packet leave the machine without the offload completes it over
	// [CsumStart, Len) into CsumStart+CsumOffset.
	CsumPartial
	// CsumVerified: the checksum has been found right (or the packet never
	// left this machine).
	CsumVerified
)

// GSOType says how a super-packet is cut.
type GSOType uint8

const (
	GSONone GSOType = iota
	GSOTCPv4
	GSOTCPv6
	GSOUDPv4 // UDP datagrams of GSOSize payload octets, USO
	GSOUDPv6
)

// Link-level delivery flags of a received packet.
const (
	FlagBroadcast uint8 = 1 << iota // link-level broadcast
	FlagMulticast                   // link-level multicast
	FlagLoop                        // sent by this stack to itself
	FlagPromisc                     // received only because of promiscuous mode
	FlagCame                        // Buf.Came is filled in: later packets of that flow may take the fast path
	FlagInjected                    // sent by a filter: its rules are not asked about it
	FlagSecured                     // protected as its policy asks for, or sent without one: no policy is asked again
	FlagAsk                         // nobody has asked yet whether it came as a policy wants: its socket may have one
)

// Headroom is what a fresh buffer leaves in front of the data for headers:
// Ethernet with a VLAN tag (18), IPv6 with room for options (40+40), or
// IPv4 with options (60), TCP with options (60), and an encapsulation.
const Headroom = 192

// MaxPacket is the largest packet the stack carries (an IPv4 or IPv6
// datagram of 65,535 octets and its link header).
const MaxPacket = 65535 + 64

// Buf is one packet. The data window is store[off:end]; everything before off
// is headroom. L3 and L4 are offsets into the store like off itself, so they
// stay true while headers in front of them come and go.
type Buf struct {
	store    []byte
	off, end int

	Next *Buf // intrusive link for the owner's queues

	Time  int64  // arrival, nanoseconds of the stack's clock
	RcvIf uint32 // index of the interface it came in by; 0: locally made

	l3, l4     int32
	csumStart  int32
	CsumOffset uint16
	GSOSize    uint16
	GSO        GSOType
	Csum       CsumState
	Flags      uint8
	Nest       uint8 // tunnels that the packet is in by now
	class      uint8
	free       bool
	pool       *Pool

	Came Flow // with FlagCame: what the header was when the packet came
	Sec  any  // what protected a packet on its way to us (ipsec's); nil: nothing did

	root *Buf  // whose storage this is, or nil: its own
	lent int32 // notLent, lentOut or orphaned; atomic
}

// States of a buffer that lends its storage ([Buf.Share]).
const (
	notLent  = iota
	lentOut  // to one other
	orphaned // and freed meanwhile: the other one frees it
	lentAway // the other one is another pool's by now ([Pool.Adopt])
	orphanedAway
)

// Share answers a second buffer over the same storage: the first n octets of b
// with the headroom in front of them, to be sent while b is kept to be sent
// again. The octets must not be written by anybody from now on; the headroom
// is the new one's until it is freed, and so b cannot be shared twice at a
// time: nil.
func (b *Buf) Share(n int) *Buf {
	if b.root != nil || !atomic.CompareAndSwapInt32(&b.lent, notLent, lentOut) {
		return nil
	}
	s := b.pool.shell()
	s.store, s.root = b.store, b
	s.off, s.end = b.off, b.off+n
	return s
}

// Shared reports that the octets in the window are another's too and must not
// be written.
func (b *Buf) Shared() bool { return b.root != nil }

// Bytes is the data window. It is the packet's own memory.
func (b *Buf) Bytes() []byte { return b.store[b.off:b.end] }

// Len is the number of octets in the data window.
func (b *Buf) Len() int { return b.end - b.off }

// Cap is the size of the storage: what the packet is charged for (law 4).
func (b *Buf) Cap() int { return len(b.store) }

// Headroom is the number of octets free in front of the data.
func (b *Buf) Headroom() int { return b.off }

// Tailroom is the number of octets free behind the data.
func (b *Buf) Tailroom() int { return len(b.store) - b.end }

// Prepend opens n octets in front of the data and returns them. The caller
// makes sure of the headroom.
func (b *Buf) Prepend(n int) []byte {
	b.off -= n
	return b.store[b.off : b.off+n : b.off+n]
}

// Append opens n octets behind the data and returns them. The caller makes
// sure of the tailroom.
func (b *Buf) Append(n int) []byte {
	b.end += n
	return b.store[b.end-n : b.end : b.end]
}

// TrimFront drops n octets from the front, which become headroom.
func (b *Buf) TrimFront(n int) { b.off += n }

// TrimTo cuts the data to its first n octets.
func (b *Buf) TrimTo(n int) { b.end = b.off + n }

// Reserve empties the buffer and leaves n octets of headroom.
func (b *Buf) Reserve(n int) { b.off, b.end = n, n }

// Storage is the whole storage, for a driver that reads into it; SetWindow
// says afterwards where the packet lies.
func (b *Buf) Storage() []byte { return b.store }

// SetWindow makes store[off:end] the data.
func (b *Buf) SetWindow(off, end int) { b.off, b.end = off, end }

// MarkL3 notes that the network header begins n octets into the data.
func (b *Buf) MarkL3(n int) { b.l3 = int32(b.off + n) }

// MarkL4 notes that the transport header begins n octets into the data.
func (b *Buf) MarkL4(n int) { b.l4 = int32(b.off + n) }

// L3 is the packet from its network header on, wherever the window begins.
func (b *Buf) L3() []byte { return b.store[b.l3:b.end] }

// L4 is the packet from its transport header on, wherever the window begins.
func (b *Buf) L4() []byte { return b.store[b.l4:b.end] }

// RestoreL3 moves the front of the window back to the network header.
func (b *Buf) RestoreL3() { b.off = int(b.l3) }

// SetPartial marks the checksum as partial: to be summed from start octets
// into the data, stored offset octets after start.
func (b *Buf) SetPartial(start int, offset uint16) {
	b.Csum, b.csumStart, b.CsumOffset = CsumPartial, int32(b.off+start), offset
}

// CsumStart is where a partial checksum begins, relative to the data window.
func (b *Buf) CsumStart() int { return int(b.csumStart) - b.off }

// CompleteCsum finishes a partial checksum in place. UDP's zero becomes
// 0xffff (RFC 768) because a sum of zero means "none" there and equals
// 0xffff everywhere else.
func (b *Buf) CompleteCsum() {
	if b.Csum != CsumPartial {
		return
	}
	if int(b.csumStart)+int(b.CsumOffset)+2 > b.end { // a sender's lie: what it points at was cut off as padding
		b.Csum = CsumNone
		return
	}
	s := b.store[b.csumStart:b.end]
	c := ^Fold(Sum(0, s))
	if c == 0 {
		c = 0xffff
	}
	s[b.CsumOffset], s[b.CsumOffset+1] = byte(c>>8), byte(c)
	b.Csum = CsumVerified
}

// CloneL3 copies a packet with the headers in front of its window, which begins
// behind the L3 mark. nil: there is no memory.
func (b *Buf) CloneL3() *Buf {
	n := len(b.L3()) - b.Len()
	b.RestoreL3()
	c := b.Clone()
	b.TrimFront(n)
	if c != nil {
		c.TrimFront(n)
	}
	return c
}

// Pool is where the buffer came from and is freed to.
func (b *Buf) Pool() *Pool { return b.pool }

// Free gives the buffer back. Freeing twice is a bug of the caller and panics.
func (b *Buf) Free() { b.pool.put(b) }

// CopyMeta takes over what src knows about itself besides its octets:
// checksum state and segment size where the windows are alike.
func (b *Buf) CopyMeta(src *Buf) {
	d := int32(b.off - src.off)
	b.Time, b.RcvIf, b.Flags, b.Nest = src.Time, src.RcvIf, src.Flags&^FlagCame, src.Nest
	b.Csum, b.csumStart, b.CsumOffset = src.Csum, src.csumStart+d, src.CsumOffset
	b.GSO, b.GSOSize, b.Sec = src.GSO, src.GSOSize, src.Sec
	b.l3, b.l4 = src.l3+d, src.l4+d
}

// Clone copies the packet into a buffer of the same pool with room enough,
// or answers nil when the pool's budget is spent.
func (b *Buf) Clone() *Buf {
	c := b.pool.Get(b.Len())
	if c == nil {
		return nil
	}
	copy(c.Append(b.Len()), b.Bytes())
	c.CopyMeta(b)
	return c
}

// WithHeadroom answers the packet with room for n octets in front of it: b itself
// or, if need be, a copy, and then b is gone. nil: no memory, and b is left.
func (b *Buf) WithHeadroom(n int) *Buf {
	if b.off >= n {
		return b
	}
	c := b.pool.Get(n + b.Len())
	if c == nil {
		return nil
	}
	c.Reserve(max(n, Headroom))
	copy(c.Append(b.Len()), b.Bytes())
	c.CopyMeta(b)
	b.Free()
	return c
}

// WithRoom answers the packet as one that is nobody else's too, with room for head octets
// in front of it and tail octets behind: b itself or, if need be, a copy, and then b is
// gone. nil: no memory, and b is left.
func (b *Buf) WithRoom(head, tail int) *Buf {
	if !b.Shared() && b.off >= head && b.Tailroom() >= tail {
		return b
	}
	c := b.pool.Get(max(head-Headroom, 0) + b.Len() + tail)
	if c == nil {
		return nil
	}
	c.Reserve(max(head, Headroom))
	copy(c.Append(b.Len()), b.Bytes())
	c.CopyMeta(b)
	b.Free()
	return c
}

// ShrunkCap is the charge of what Shrink would leave, given memory for it.
func (b *Buf) ShrunkCap() int {
	if b.class == 0 || b.end-b.front()+Headroom > classSize[0] {
		return b.Cap()
	}
	return classSize[0]
}

// front is where the packet begins, its network header included.
func (b *Buf) front() int {
	if b.l3 != 0 && int(b.l3) < b.off {
		return int(b.l3)
	}
	return b.off
}

// Shrink moves a small packet out of a large buffer so that a queue is not
// charged for octets nobody sent (law 4). What lies between the L3 mark and
// the data comes along. It consumes b and answers the buffer to keep, which is
// b itself when there is nothing to win or no memory.
func (b *Buf) Shrink() *Buf {
	front := b.front()
	if b.class == 0 || b.end-front+Headroom > classSize[0] {
		return b
	}
	c := b.pool.Get(b.end - front)
	if c == nil {
		return b
	}
	copy(c.Append(b.end-front), b.store[front:b.end])
	c.off += b.off - front
	c.CopyMeta(b)
	b.Free()
	return c
}
