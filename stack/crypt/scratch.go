package crypt

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"hash"
	"math/bits"
	"runtime"
	"sync/atomic"
)

// digest is a hash whose state can be set to one that was written down.
type digest interface {
	hash.Hash
	encoding.BinaryUnmarshaler
}

// kind is a hash function.
type kind uint8

const (
	kindMD5 kind = iota
	kindSHA1
	kindSHA256
	kindSHA384
	kindSHA512
	kinds
)

func (k kind) make() digest {
	switch k {
	case kindMD5:
		return md5.New().(digest)
	case kindSHA1:
		return sha1.New().(digest)
	case kindSHA256:
		return sha256.New().(digest)
	case kindSHA384:
		return sha512.New384().(digest)
	}
	return sha512.New().(digest)
}

// scratch is what one call needs beside the keys.
type scratch struct {
	digests [kinds]digest
	sum     [sha512.Size]byte
	block   [16]byte
	long    []byte // of the longest packet yet that did not fit elsewhere
}

// digest of the kind, in any state.
func (s *scratch) digest(k kind) digest {
	if s.digests[k] == nil {
		s.digests[k] = k.make()
	}
	return s.digests[k]
}

// room is n octets of scratch memory.
func (s *scratch) room(n int) []byte {
	if cap(s.long) < n {
		s.long = make([]byte, n, 1<<bits.Len(uint(n)))
	}
	return s.long[:n]
}

// spares are scratch states that nobody uses at present. A call takes one, and
// puts it back; which place it looks at first depends on its stack, so that a
// goroutine finds what it has left in its processor's cache. Who finds none makes
// one: there are as many as calls have ever run at once. They belong to
// no stack, and hold nothing of a packet's or a key's when they are put back.
type spares[T any] struct {
	places []place[T]
	shift  int
}

type place[T any] struct {
	s atomic.Pointer[T]
	_ [56]byte // a cache line for each
}

var spare = newSpares[scratch]()

func newSpares[T any]() *spares[T] {
	b := bits.Len(uint(4*runtime.GOMAXPROCS(0) - 1))
	return &spares[T]{places: make([]place[T], 1<<b), shift: 64 - b}
}

// take is a state that nobody uses, and the place to put it back to.
func (p *spares[T]) take() (*T, int) {
	// The stack's address in units of the smallest stack, spread by Knuth's multiplier.
	first := int(uint64(here()>>11) * 0x9e3779b97f4a7c15 >> p.shift)
	for i := range p.places {
		at := &p.places[first^i]
		if s := at.s.Load(); s != nil && at.s.CompareAndSwap(s, nil) {
			return s, first
		}
	}
	return new(T), first
}

// put gives s back, to the place that this goroutine looks at first, or the next
// one that is empty.
func (p *spares[T]) put(s *T, first int) {
	for i := range p.places {
		at := &p.places[first^i]
		if at.s.Load() == nil && at.s.CompareAndSwap(nil, s) {
			return
		}
	}
}
