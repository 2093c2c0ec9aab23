package crypt

import (
	"compress/flate"
	"errors"
	"fmt"
)

// Comp compresses and expands the payload of IPComp (RFC 3173). It may be used by
// many goroutines at once, and keeps nothing from one packet to the next (RFC 3173
// §2: each is compressed alone).
type Comp interface {
	// Compress puts src, compressed, into dst, which it does not overlap, and says
	// how many octets it has become: -1 if it does not fit.
	Compress(dst, src []byte) int
	// Decompress puts what src is the compressed form of into dst, which it does
	// not overlap, and says how many octets that is: -1 if src is not in order,
	// TooLong if it has become longer than dst.
	Decompress(dst, src []byte) int
}

// TooLong is Decompress's answer when there is no room.
const TooLong = -2

// NewComp is the algorithm of a number of PF_KEY (SADB_X_CALG_*).
func NewComp(calg uint8) (Comp, error) {
	switch calg {
	case CalgDeflate:
		return deflate{}, nil
	case CalgLZS:
		return nil, fmt.Errorf("ipcomp: lzs is not here; use deflate (%d)", CalgDeflate)
	}
	return nil, fmt.Errorf("ipcomp: compression algorithm %d is not known; known are %s", calg, names(calgs))
}

// deflate is RFC 2394: the octets of RFC 1951 without a header.
type deflate struct{}

// deflater is the library's compressor, which is large, and where it writes.
type deflater struct {
	w   *flate.Writer
	out bounded
}

var (
	deflaters = newSpares[deflater]()
	inflaters = newSpares[inflater]()
)

// bounded is an io.Writer with an end.
type bounded struct {
	b []byte
	n int
}

var errLong = errors.New("no room")

func (w *bounded) Write(b []byte) (int, error) {
	n := copy(w.b[w.n:], b)
	w.n += n
	if n < len(b) {
		return n, errLong
	}
	return n, nil
}

func (deflate) Compress(dst, src []byte) int {
	f, at := deflaters.take()
	f.out = bounded{b: dst}
	var err error
	if f.w == nil {
		f.w, err = flate.NewWriter(&f.out, flate.BestSpeed)
	} else {
		f.w.Reset(&f.out)
	}
	if err == nil {
		_, err = f.w.Write(src)
	}
	if err == nil {
		err = f.w.Close()
	}
	n := f.out.n
	f.out = bounded{}
	deflaters.put(f, at)
	if err != nil {
		return -1
	}
	return n
}

func (deflate) Decompress(dst, src []byte) int {
	f, at := inflaters.take()
	n := f.inflate(dst, src)
	inflaters.put(f, at)
	return n
}
