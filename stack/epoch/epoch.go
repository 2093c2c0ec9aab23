// Package epoch lets writers of left-right tables know when no reader can
// still see the side they are about to change. A reader announces itself once
// a burst, not once a look-up.
package epoch

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Domain is the set of readers that one writer waits for.
type Domain struct {
	now     atomic.Uint64
	mu      sync.Mutex
	readers atomic.Pointer[[]*Reader]
}

// Reader is one reading goroutine's slot. Enter and Exit come in pairs and do
// not nest.
type Reader struct {
	d  *Domain
	at atomic.Uint64 // 0: not reading; else the epoch it entered in
	_  [48]byte      // one slot, one cache line
}

// Join makes a slot for a reader. Slots are few and reused by their owner;
// they leave with Leave.
func (d *Domain) Join() *Reader {
	r := &Reader{d: d}
	d.edit(func(rs []*Reader) []*Reader { return append(rs, r) })
	return r
}

// Leave gives the slot up.
func (r *Reader) Leave() {
	r.d.edit(func(rs []*Reader) []*Reader {
		for i := range rs {
			if rs[i] == r {
				return append(rs[:i], rs[i+1:]...)
			}
		}
		return rs
	})
}

func (d *Domain) edit(f func([]*Reader) []*Reader) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var rs []*Reader
	if p := d.readers.Load(); p != nil {
		rs = append(rs, *p...)
	}
	rs = f(rs)
	d.readers.Store(&rs)
}

// Enter says that the reader may hold what it finds from now on.
func (r *Reader) Enter() { r.at.Store(r.d.now.Load() + 1) }

// Exit says that it holds nothing any more.
func (r *Reader) Exit() { r.at.Store(0) }

// Wait returns when every reader that entered before the call has exited. The
// caller has published the new side before, and is no reader itself.
func (d *Domain) Wait() {
	e := d.now.Add(1) + 1
	p := d.readers.Load()
	if p == nil {
		return
	}
	for _, r := range *p {
		for {
			at := r.at.Load()
			if at == 0 || at >= e {
				break
			}
			runtime.Gosched()
		}
	}
}
