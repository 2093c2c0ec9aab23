// Package cmap is a hash table for the packet path: look-ups take no lock and
// see immutable buckets; writers, who are few, copy the bucket they change.
package cmap

import (
	"sync"
	"sync/atomic"
)

// Map maps K to any number of V; V's own Match decides which. The zero Map is
// not ready: see [Map.Init].
type Map[V comparable] struct {
	mu    sync.Mutex
	n     atomic.Int64
	slots atomic.Pointer[[]slot[V]]
}

type slot[V comparable] struct {
	p atomic.Pointer[[]entry[V]]
}

type entry[V comparable] struct {
	hash uint64
	v    V
}

// Init makes the map ready with a small table; it grows with its content.
func (m *Map[V]) Init() {
	s := make([]slot[V], 64)
	m.slots.Store(&s)
}

// Len is the number of values.
func (m *Map[V]) Len() int { return int(m.n.Load()) }

// Find answers the first value under hash that match accepts.
func (m *Map[V]) Find(hash uint64, match func(V) bool) (v V, ok bool) {
	s := *m.slots.Load()
	p := s[hash&uint64(len(s)-1)].p.Load()
	if p == nil {
		return v, false
	}
	for i := range *p {
		if e := &(*p)[i]; e.hash == hash && match(e.v) {
			return e.v, true
		}
	}
	return v, false
}

// Bucket is what may lie under hash, to walk without a closure: values whose
// hash differs are among it.
func (m *Map[V]) Bucket(hash uint64) Bucket[V] {
	s := *m.slots.Load()
	if p := s[hash&uint64(len(s)-1)].p.Load(); p != nil {
		return Bucket[V]{*p}
	}
	return Bucket[V]{}
}

// Bucket is an immutable run of values.
type Bucket[V comparable] struct{ e []entry[V] }

// Len is the number of values in the bucket.
func (b Bucket[V]) Len() int { return len(b.e) }

// At is the i-th value and its hash.
func (b Bucket[V]) At(i int) (uint64, V) { return b.e[i].hash, b.e[i].v }

// Add puts v under hash. The order under one hash is the order of adding.
func (m *Map[V]) Add(hash uint64, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(hash, v)
}

// AddUnless adds v unless match accepts a value already under hash, which it
// then answers.
func (m *Map[V]) AddUnless(hash uint64, v V, match func(V) bool) (old V, found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, found = m.Find(hash, match); !found {
		m.add(hash, v)
	}
	return old, found
}

func (m *Map[V]) add(hash uint64, v V) {
	s := *m.slots.Load()
	if int(m.n.Add(1)) > 2*len(s) {
		s = m.grow(s)
	}
	sl := &s[hash&uint64(len(s)-1)]
	var es []entry[V]
	if p := sl.p.Load(); p != nil {
		es = append(make([]entry[V], 0, len(*p)+1), *p...)
	}
	es = append(es, entry[V]{hash, v})
	sl.p.Store(&es)
}

func (m *Map[V]) grow(old []slot[V]) []slot[V] {
	s := make([]slot[V], 4*len(old))
	mask := uint64(len(s) - 1)
	lists := make([][]entry[V], len(s))
	for i := range old {
		if p := old[i].p.Load(); p != nil {
			for _, e := range *p {
				lists[e.hash&mask] = append(lists[e.hash&mask], e)
			}
		}
	}
	for i := range lists {
		if lists[i] != nil { // a pointer into lists would keep all of it
			es := append(make([]entry[V], 0, len(lists[i])), lists[i]...)
			s[i].p.Store(&es)
		}
	}
	m.slots.Store(&s)
	return s
}

// Remove takes v, added under hash, out and reports whether it was there.
func (m *Map[V]) Remove(hash uint64, v V) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := *m.slots.Load()
	sl := &s[hash&uint64(len(s)-1)]
	p := sl.p.Load()
	if p == nil {
		return false
	}
	for i := range *p {
		if (*p)[i].hash == hash && (*p)[i].v == v {
			m.n.Add(-1)
			if len(*p) == 1 {
				sl.p.Store(nil)
				return true
			}
			es := append(make([]entry[V], 0, len(*p)-1), (*p)[:i]...)
			es = append(es, (*p)[i+1:]...)
			sl.p.Store(&es)
			return true
		}
	}
	return false
}

// All calls f for every value, in no meaning order but the same for the same
// history, until it answers false.
func (m *Map[V]) All(f func(V) bool) { m.From(0, f) }

// From is All behind the first skip values, which are passed over by buckets: in a map
// that does not change, pages of it are all of it.
func (m *Map[V]) From(skip int, f func(V) bool) {
	s := *m.slots.Load()
	for i := range s {
		p := s[i].p.Load()
		if p == nil {
			continue
		}
		if skip >= len(*p) {
			skip -= len(*p)
			continue
		}
		for _, e := range (*p)[skip:] {
			if !f(e.v) {
				return
			}
		}
		skip = 0
	}
}
