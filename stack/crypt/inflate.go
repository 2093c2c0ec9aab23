package crypt

import "math/bits"

// inflater expands RFC 1951 from one piece of memory into another. The library's
// is a stream: it copies through a window of 32 KiB, allocates tables for each
// block, and does not tell a payload that ends too early from one that is whole
// when what it has become is asked for at once. fuzz_test.go holds the two equal.
type inflater struct {
	in  []byte
	at  int    // of in, taken into acc
	acc uint64 // bits to come, the next one lowest
	n   uint   // how many

	lit, dist huffman
	lengths   [maxLit + maxDist]uint8
}

const (
	maxLit    = 286 // RFC 1951 §3.2.7: codes of literals and lengths
	maxDist   = 30
	longest   = 15 // bits of a code
	fastBits  = 8
	endSymbol = 256
)

// huffman decodes one code (RFC 1951 §3.2.2).
type huffman struct {
	fast    [1 << fastBits]uint16 // by the next bits: symbol<<4 | length; 0: longer, or none
	count   [longest + 1]uint16   // codes of each length
	symbols [288]uint16           // in the order of their codes
}

// set takes the lengths of the symbols' codes. They must be complete, or a single
// code of one bit, or none at all.
func (h *huffman) set(lengths []uint8) bool {
	clear(h.fast[:])
	clear(h.count[:])
	for _, l := range lengths {
		h.count[l]++
	}
	used := len(lengths) - int(h.count[0])
	h.count[0] = 0
	var next, place [longest + 2]int // first code, and first place in symbols, of each length
	for l := 1; l <= longest; l++ {
		next[l+1] = (next[l] + int(h.count[l])) << 1
		place[l+1] = place[l] + int(h.count[l])
		if next[l]+int(h.count[l]) > 1<<l {
			return false
		}
	}
	if next[longest+1] != 1<<(longest+1) && (used > 1 || used == 1 && h.count[1] == 0) {
		return false
	}
	for s, l := range lengths {
		if l == 0 {
			continue
		}
		h.symbols[place[l]] = uint16(s)
		place[l]++
		if l <= fastBits {
			code := int(bits.Reverse16(uint16(next[l])) >> (16 - l))
			for ; code < len(h.fast); code += 1 << l {
				h.fast[code] = uint16(s)<<4 | uint16(l)
			}
		}
		next[l]++
	}
	return true
}

// fixedLit and fixedDist are RFC 1951 §3.2.6.
var fixedLit, fixedDist = fixedCodes()

func fixedCodes() (lit, dist *huffman) {
	var l [288]uint8
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	var d [32]uint8
	for i := range d {
		d[i] = 5
	}
	lit, dist = new(huffman), new(huffman)
	lit.set(l[:])
	dist.set(d[:])
	return lit, dist
}

// fill takes octets in while there is room for them.
func (f *inflater) fill() {
	for f.n <= 56 && f.at < len(f.in) {
		f.acc |= uint64(f.in[f.at]) << f.n
		f.at++
		f.n += 8
	}
}

// bits are the next n, at most 16.
func (f *inflater) bits(n uint) (int, bool) {
	if f.n < n {
		f.fill()
	}
	if f.n < n {
		return 0, false
	}
	v := int(f.acc & (1<<n - 1))
	f.acc >>= n
	f.n -= n
	return v, true
}

// symbol is the next one of a code, -1 if there is none.
func (f *inflater) symbol(h *huffman) int {
	if f.n < longest {
		f.fill()
	}
	if e := h.fast[f.acc&(1<<fastBits-1)]; e != 0 {
		l := uint(e & 15)
		if l > f.n {
			return -1
		}
		f.acc >>= l
		f.n -= l
		return int(e >> 4)
	}
	code, first, place := 0, 0, 0
	for l := uint(1); l <= min(longest, f.n); l++ {
		code = code<<1 | int(f.acc>>(l-1)&1)
		count := int(h.count[l])
		first <<= 1
		if code-first < count {
			f.acc >>= l
			f.n -= l
			return int(h.symbols[place+code-first])
		}
		place += count
		first += count
	}
	return -1
}

// inflate says how many octets of dst src becomes, -1 if it is not in order,
// TooLong if dst is too short. What follows its last block is not looked at.
func (f *inflater) inflate(dst, src []byte) int {
	f.in, f.at, f.acc, f.n = src, 0, 0, 0
	defer func() { f.in = nil }()
	out := 0
	for {
		head, ok := f.bits(3)
		if !ok {
			return -1
		}
		switch head >> 1 {
		case 0:
			out = f.stored(dst, out)
		case 1:
			out = f.coded(dst, out, fixedLit, fixedDist)
		case 2:
			if !f.codes() {
				return -1
			}
			out = f.coded(dst, out, &f.lit, &f.dist)
		default:
			return -1
		}
		if out < 0 || head&1 == 1 {
			return out
		}
	}
}

// stored is RFC 1951 §3.2.4. It says how many octets of dst there are then.
func (f *inflater) stored(dst []byte, out int) int {
	f.at -= int(f.n / 8) // what was taken in and not used
	f.acc, f.n = 0, 0
	if len(f.in)-f.at < 4 {
		return -1
	}
	n := int(f.in[f.at]) | int(f.in[f.at+1])<<8
	if n^0xffff != int(f.in[f.at+2])|int(f.in[f.at+3])<<8 {
		return -1
	}
	f.at += 4
	if n > len(f.in)-f.at {
		return -1
	}
	if n > len(dst)-out {
		return TooLong
	}
	copy(dst[out:], f.in[f.at:f.at+n])
	f.at += n
	return out + n
}

// order is that of the lengths of the code for lengths (RFC 1951 §3.2.7).
var order = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// codes reads those of a block (RFC 1951 §3.2.7).
func (f *inflater) codes() bool {
	head, ok := f.bits(14)
	lits, dists, n := head&31+257, head>>5&31+1, head>>10+4
	if !ok || lits > maxLit || dists > maxDist {
		return false
	}
	var lengths [len(order)]uint8
	for _, o := range order[:n] {
		v, ok := f.bits(3)
		if !ok {
			return false
		}
		lengths[o] = uint8(v)
	}
	if !f.lit.set(lengths[:]) {
		return false
	}
	l := f.lengths[:lits+dists]
	for i := 0; i < len(l); {
		s := f.symbol(&f.lit)
		if s < 0 {
			return false
		}
		if s < 16 {
			l[i] = uint8(s)
			i++
			continue
		}
		what, extra, least := uint8(0), uint(2), 3
		switch s {
		case 16:
			if i == 0 {
				return false
			}
			what = l[i-1]
		case 17:
			extra = 3
		default:
			extra, least = 7, 11
		}
		more, ok := f.bits(extra)
		if !ok || least+more > len(l)-i {
			return false
		}
		for range least + more {
			l[i] = what
			i++
		}
	}
	return f.lit.set(l[:lits]) && f.dist.set(l[lits:])
}

// lengthBase and distBase, with so many bits to add, are the tables of RFC 1951 §3.2.5.
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits = [29]uint8{8: 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase   = [maxDist]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distBits   = [maxDist]uint8{4: 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// coded is RFC 1951 §3.2.3. It says how many octets of dst there are then.
func (f *inflater) coded(dst []byte, out int, lit, dist *huffman) int {
	for {
		s := f.symbol(lit)
		switch {
		case s < 0:
			return -1
		case s < endSymbol:
			if out == len(dst) {
				return TooLong
			}
			dst[out] = byte(s)
			out++
			continue
		case s == endSymbol:
			return out
		case s-endSymbol > len(lengthBase):
			return -1
		}
		s -= endSymbol + 1
		more, ok := f.bits(uint(lengthBits[s]))
		n := int(lengthBase[s]) + more
		d := f.symbol(dist)
		if !ok || d < 0 || d >= maxDist {
			return -1
		}
		more, ok = f.bits(uint(distBits[d]))
		back := int(distBase[d]) + more
		if !ok || back > out {
			return -1
		}
		if n > len(dst)-out {
			return TooLong
		}
		for from := out - back; n > 0; {
			c := copy(dst[out:out+n], dst[from:out])
			out, n = out+c, n-c
		}
	}
}
