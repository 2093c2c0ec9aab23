package tcp

import (
	"sync/atomic"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// counter is an atomic number.
type counter struct{ n atomic.Int64 }

func (c *counter) add(n int64) { c.n.Add(n) }
func (c *counter) get() int64  { return c.n.Load() }

// cookieJar makes and checks SYN cookies (RFC 4987 §3.6): the entry is put into
// our initial sequence number, 24 bits of keyed hash, 5 of time and 3 of
// segment size, and what does not fit there into our timestamp, which the peer
// sends back: six bits of it for window scale, SACK and ECN.
type cookieJar struct {
	last atomic.Int64 // when one was made
}

// cookieLife is how long a cookie is good, and the unit of its clock.
const cookieLife = 64 * second

// cookieMSS are the segment sizes that a cookie can say.
var cookieMSS = [8]uint16{216, 536, 1024, 1220, 1360, 1440, 1460, 8960}

// Bits of the timestamp that carry options.
const (
	tsScale = 0x0f // 15: none
	tsSACK  = 0x10
	tsECN   = 0x20
	tsBits  = 0x3f
)

func (j *cookieJar) hash(t *TCP, local, foreign socket.Addr, irs seq, tick uint64) uint32 {
	return uint32(t.hash(local, foreign, hashCookie+tick<<34+uint64(irs)<<2)) & 0xffffff
}

// seal makes e's initial sequence number a cookie, and takes back what it has
// no room for.
func (j *cookieJar) seal(t *TCP, e *handshake, now int64) {
	j.last.Store(now)
	if e.flags&fTimestamps == 0 {
		e.flags &^= fSACK | fECN
		e.sndScale, e.rcvScale = 0, noScale
	}
	e.sealed = true
	tick := uint64(now / cookieLife)
	m := 0
	for m+1 < len(cookieMSS) && cookieMSS[m+1] <= max(e.mss, cookieMSS[0]) {
		m++
	}
	e.iss = seq(uint32(tick&31)<<27 | uint32(m)<<24 | j.hash(t, e.local, e.foreign, e.irs, tick))
}

// stamp puts e's options into a timestamp that is not later than ts.
func (j *cookieJar) stamp(e *handshake, ts uint32) uint32 {
	bits := uint32(tsScale)
	if e.rcvScale != noScale {
		bits = uint32(e.sndScale)
	}
	if e.flags&fSACK != 0 {
		bits |= tsSACK
	}
	if e.flags&fECN != 0 {
		bits |= tsECN
	}
	v := ts&^tsBits | bits
	if int32(v-ts) > 0 {
		v -= tsBits + 1
	}
	return v
}

// used reports whether cookies were given out so lately that one may come.
func (j *cookieJar) used(now int64) bool {
	l := j.last.Load()
	return l != 0 && now-l < 2*cookieLife
}

// open answers the handshake that a segment's acknowledgement is the cookie of.
// Without timestamps there are neither scaling nor SACK.
func (j *cookieJar) open(t *TCP, lis *conn, s *segment, local, foreign socket.Addr, now int64) (handshake, bool) {
	if !j.used(now) || s.is(packet.TCPSyn|packet.TCPRst) {
		return handshake{}, false
	}
	v, irs := uint32(s.ack-1), s.seq-1
	tick := uint64(now / cookieLife)
	if uint32(tick&31) != v>>27 {
		if tick--; uint32(tick&31) != v>>27 {
			return handshake{}, false
		}
	}
	if j.hash(t, local, foreign, irs, tick) != v&0xffffff {
		return handshake{}, false
	}
	e := handshake{local: local, foreign: foreign, lis: lis, iss: s.ack - 1, irs: irs, mss: cookieMSS[v>>24&7],
		rcvScale: noScale, tsOffset: t.tsOffset(local, foreign), ifindex: lis.So.BoundIf()}
	e.offer, e.userMSS = lis.offers()
	if s.opt.HasTimestamp {
		flags, scale := t.wishes()
		bits := s.opt.TSEcr
		e.flags = fTimestamps & flags
		e.tsRecent = s.opt.TSVal
		if bits&tsSACK != 0 {
			e.flags |= fSACK
		}
		if bits&tsECN != 0 {
			e.flags |= fECN
		}
		if k := bits & tsScale; k != tsScale && scale != noScale {
			e.sndScale, e.rcvScale = uint8(k), scale
		}
	}
	e.mtu = t.mtuTo(nil, local, foreign, e.ifindex)
	return e, true
}

// early reports whether s may be of a connection that one of our cookies stands
// for, but from further on in the stream: a link has reordered, or lost what was
// before. Its peer begins again where the cookie does, unless it is reset.
func (j *cookieJar) early(s *segment, now int64) bool {
	age := uint32(now/cookieLife)&31 - uint32(s.ack-1)>>27
	return j.used(now) && s.is(packet.TCPAck) && !s.is(packet.TCPSyn|packet.TCPRst) && age&31 <= 1
}

var _ netif.Flusher = (*conn)(nil)
