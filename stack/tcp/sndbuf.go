package tcp

import (
	"ionet/stack/packet"
)

// sendQueue is what the user has sent and the peer has not acknowledged, a list
// of buffers. Owner: the connection. Bound: hiwat octets; full: send(2) takes
// no more. A buffer is filled to a whole number of segments, so that it can
// leave as a super-packet without being copied: see [conn.roomBehind].
type sendQueue struct {
	head, tail *packet.Buf
	len        int // octets
	hiwat      int
	charge     int
	base       seq         // sequence number of the first octet
	atOff      int32       // of at's first octet, from base
	at         *packet.Buf // the buffer that the last packet began in; the next one is behind it
}

// maxSuper is the most payload that one super-packet carries.
const maxSuper = 65535 - 60 - packet.TCPMaxLen

// space is the room for more.
func (q *sendQueue) space() int { return q.hiwat - q.len }

// link appends a buffer that has been filled.
func (q *sendQueue) link(c *conn, b *packet.Buf) {
	if q.tail == nil {
		q.head = b
	} else {
		q.tail.Next = b
	}
	q.tail = b
	q.len += b.Len()
	q.charge += b.Cap()
	c.So.Charge(b.Cap())
}

// drop forgets all.
func (q *sendQueue) drop(c *conn) {
	c.So.Charge(-q.charge)
	for b := q.head; b != nil; {
		next := b.Next
		b.Next = nil
		b.Free()
		b = next
	}
	q.head, q.tail, q.at = nil, nil, nil
	q.base += seq(q.len)
	q.len, q.charge, q.atOff = 0, 0, 0
}

// ack forgets the first n octets.
func (q *sendQueue) ack(c *conn, n int) {
	q.len -= n
	q.base += seq(n)
	q.atOff -= int32(n)
	freed := 0
	for n > 0 {
		b := q.head
		if n < b.Len() {
			b.TrimFront(n)
			if b == q.at {
				q.atOff += int32(n)
			}
			break
		}
		n -= b.Len()
		if q.head = b.Next; q.head == nil {
			q.tail = nil
		}
		if b == q.at {
			q.at = nil
		}
		freed += b.Cap()
		b.Next = nil
		b.Free()
	}
	if freed > 0 {
		q.charge -= freed
		c.So.Charge(-freed)
	}
}

// find answers the buffer that holds octet off, and its place in it.
func (q *sendQueue) find(off int) (*packet.Buf, int) {
	b, at := q.head, 0
	if q.at != nil && int(q.atOff) <= off {
		b, at = q.at, int(q.atOff)
	}
	for off-at >= b.Len() {
		at += b.Len()
		b = b.Next
	}
	q.at, q.atOff = b, int32(at)
	return b, off - at
}

// toEnd is how many octets lie between off, which is not the front of a buffer,
// and that buffer's end; 0: it is a front.
func (q *sendQueue) toEnd(off int) int {
	if off >= q.len {
		return 0
	}
	b, at := q.find(off)
	if at == 0 {
		return 0
	}
	return b.Len() - at
}

// copyOut copies n octets from off on.
func (q *sendQueue) copyOut(dst []byte, off int) {
	b, at := q.find(off)
	for len(dst) > 0 {
		k := copy(dst, b.Bytes()[at:])
		dst, at, b = dst[k:], 0, b.Next
	}
}
