package tcp

import (
	"encoding/binary"
	"math/bits"

	"ionet/stack/socket"
)

// sipHash is SipHash-2-4 of m (Aumasson and Bernstein, 2012): a keyed hash that
// strangers cannot foretell, fast for short input.
func sipHash(key [2]uint64, m []byte) uint64 {
	v0, v1 := key[0]^0x736f6d6570736575, key[1]^0x646f72616e646f6d
	v2, v3 := key[0]^0x6c7967656e657261, key[1]^0x7465646279746573
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	last := uint64(len(m)) << 56
	for ; len(m) >= 8; m = m[8:] {
		x := binary.LittleEndian.Uint64(m)
		v3 ^= x
		round()
		round()
		v0 ^= x
	}
	for i, c := range m {
		last |= uint64(c) << (8 * i)
	}
	v3 ^= last
	round()
	round()
	v0 ^= last
	v2 ^= 0xff
	round()
	round()
	round()
	round()
	return v0 ^ v1 ^ v2 ^ v3
}

// hash is the keyed hash of a connection's ends and a word that says what for.
func (t *TCP) hash(local, foreign socket.Addr, what uint64) uint64 {
	var b [44]byte
	l, f := local.IP.As16(), foreign.IP.As16()
	copy(b[:], l[:])
	copy(b[16:], f[:])
	binary.BigEndian.PutUint16(b[32:], local.Port)
	binary.BigEndian.PutUint16(b[34:], foreign.Port)
	binary.BigEndian.PutUint64(b[36:], what)
	return sipHash(t.key, b[:])
}

// What the hash is for.
const (
	hashISN = iota
	hashTimestamp
	hashFastOpen
	hashFlowLabel
	hashCookie // and above: a counter of minutes is added
)

// isn is an initial sequence number: a clock of 4 µs, which old duplicates are
// told by, plus a secret of the connection (RFC 6528 §3). One that takes over the ends of a connection in TIME_WAIT, last, if that is
// not nil, begins beyond where that ended (RFC 9293 §3.10.7.4, RFC 6191 §2):
// whoever sends fast is ahead of the clock.
func (t *TCP) isn(local, foreign socket.Addr, now int64, last *timeWait) seq {
	q := seq(t.hash(local, foreign, hashISN)) + seq(now/4000)
	if last != nil && q.leq(last.sndNxt) {
		q = last.sndNxt + isnStep
	}
	return q
}

// isnStep is how far beyond the old connection the next one then begins: half a
// second of the clock (TCP_ISSINCR in BSD).
const isnStep = 125 * 1024

// tsOffset is where a connection's timestamps begin: the same for each between
// two ends, so that they grow from one to the next (RFC 6191, RFC 7323 §5.4).
func (t *TCP) tsOffset(local, foreign socket.Addr) uint32 {
	return uint32(t.hash(local, foreign, hashTimestamp))
}

// clock32 is the timestamp clock: milliseconds.
func clock32(now int64) uint32 { return uint32(now / millisecond) }

// now32 is the connection's timestamp.
func (c *conn) now32(now int64) uint32 { return clock32(now) + c.tsOffset }
