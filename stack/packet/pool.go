package packet

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// The storage classes: a small datagram or an acknowledgement, an Ethernet
// frame, a jumbo frame, a super-packet; each with Headroom.
var classSize = [...]int{512, 2048, 12 * 1024, MaxPacket + Headroom + 1}

const nclass = len(classSize)

// shellClass is of buffers that have no storage of their own.
const shellClass = uint8(nclass)

// maxShells bounds the idle ones.
const maxShells = 4096

// keepFree bounds the octets a pool keeps in idle buffers of one class.
const keepFree = 16 << 20

// Pool hands out buffers and keeps the books: what is out, and what was
// refused because the budget was spent. It is safe for concurrent use.
type Pool struct {
	limit   atomic.Int64
	inUse   atomic.Int64             // octets of storage handed out
	bufs    [nclass + 1]atomic.Int64 // the last: shared ones
	denied  atomic.Uint64
	nocache atomic.Bool
	class   [nclass + 1]freelist
}

type freelist struct {
	mu   sync.Mutex
	free []*Buf
	_    [40]byte // keep the lists of two classes off one cache line
}

// NewPool makes a pool that hands out at most limit octets of storage.
func NewPool(limit int64) *Pool {
	p := &Pool{}
	p.limit.Store(limit)
	return p
}

// SetLimit changes the budget; what is out stays out.
func (p *Pool) SetLimit(octets int64) { p.limit.Store(octets) }

// Limit is the budget in octets.
func (p *Pool) Limit() int64 { return p.limit.Load() }

// SetCaching turns the keeping of idle buffers on or off (io-net's cache=0).
func (p *Pool) SetCaching(on bool) { p.nocache.Store(!on) }

// InUse is the storage handed out, in octets.
func (p *Pool) InUse() int64 { return p.inUse.Load() }

// Bufs is the number of buffers handed out.
func (p *Pool) Bufs() (n int64) {
	for i := range p.bufs {
		n += p.bufs[i].Load()
	}
	return n
}

// Denied counts the requests refused for want of budget.
func (p *Pool) Denied() uint64 { return p.denied.Load() }

func classOf(n int) int {
	for c, size := range classSize {
		if n+Headroom <= size {
			return c
		}
	}
	return -1
}

// Room is the most data that a buffer of [Pool.Get](n) holds: packets of one
// Room can come from one [Pool.GetBurst]. It is 0 when n is more than any packet.
func Room(n int) int {
	if c := classOf(n); c >= 0 {
		return classSize[c] - Headroom
	}
	return 0
}

// Get answers an empty buffer with Headroom in front and room for n octets
// of data, or nil when the budget is spent or n is more than any packet.
func (p *Pool) Get(n int) *Buf {
	c := classOf(n)
	if c < 0 || !p.charge(c, 1) {
		p.denied.Add(1)
		return nil
	}
	l := &p.class[c]
	l.mu.Lock()
	if k := len(l.free); k > 0 {
		b := l.free[k-1]
		l.free = l.free[:k-1]
		l.mu.Unlock()
		b.reset()
		return b
	}
	l.mu.Unlock()
	return p.fresh(c)
}

func (p *Pool) charge(c, n int) bool {
	size := int64(classSize[c] * n)
	if p.inUse.Add(size) > p.limit.Load() {
		p.inUse.Add(-size)
		return false
	}
	p.bufs[c].Add(int64(n))
	return true
}

func (p *Pool) fresh(c int) *Buf {
	b := &Buf{store: make([]byte, classSize[c]), class: uint8(c), pool: p}
	b.off, b.end = Headroom, Headroom
	return b
}

// reset makes b as fresh. It sets field by field: a composite literal is built
// elsewhere and copied, which every packet would pay twice.
func (b *Buf) reset() {
	b.off, b.end, b.Next, b.Time, b.RcvIf = Headroom, Headroom, nil, 0, 0
	b.l3, b.l4, b.csumStart, b.CsumOffset, b.GSOSize = 0, 0, 0, 0, 0
	b.GSO, b.Csum, b.Flags, b.Nest, b.free, b.Sec = 0, 0, 0, 0, false, nil
}

// shell is a buffer without storage.
func (p *Pool) shell() *Buf {
	p.bufs[shellClass].Add(1)
	l := &p.class[shellClass]
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := len(l.free); k > 0 {
		b := l.free[k-1]
		l.free = l.free[:k-1]
		b.reset()
		return b
	}
	return &Buf{class: shellClass, pool: p}
}

// Adopt takes over a shared buffer of another pool, which from now on is
// charged for the storage instead of that one as far as that has let go of it.
// false: b is not shared, or the budget is spent; b stays as it was.
func (p *Pool) Adopt(b *Buf) bool {
	root := b.root
	if root == nil {
		return false
	}
	size := int64(classSize[root.class])
	if p.inUse.Add(size) > p.limit.Load() {
		p.inUse.Add(-size)
		p.denied.Add(1)
		return false
	}
	b.pool.bufs[shellClass].Add(-1)
	p.bufs[shellClass].Add(1)
	b.pool = p
	if !atomic.CompareAndSwapInt32(&root.lent, lentOut, lentAway) { // its owner has freed it meanwhile
		root.pool.uncharge(int(root.class))
		atomic.StoreInt32(&root.lent, orphanedAway)
	}
	return true
}

// putShell gives a shared buffer back to where it was made, and the one it
// borrows from if that has been waiting for it.
func (p *Pool) putShell(b *Buf) {
	root := b.root
	home := root.pool
	b.root, b.store, b.pool = nil, nil, home
	p.bufs[shellClass].Add(-1)
	if !home.nocache.Load() {
		l := &home.class[shellClass]
		l.mu.Lock()
		if len(l.free) < maxShells {
			l.free = append(l.free, b)
		}
		l.mu.Unlock()
	}
	if atomic.CompareAndSwapInt32(&root.lent, lentOut, notLent) {
		return
	}
	c := int(root.class)
	switch {
	case atomic.CompareAndSwapInt32(&root.lent, lentAway, notLent):
		p.inUse.Add(-int64(classSize[c]))
	case atomic.CompareAndSwapInt32(&root.lent, orphanedAway, notLent):
		p.inUse.Add(-int64(classSize[c]))
		home.keep(c, root)
	default: // orphaned
		atomic.StoreInt32(&root.lent, notLent)
		home.putBack(root)
	}
}

func (p *Pool) put(b *Buf) {
	b.release()
	if b.class == shellClass {
		p.putShell(b)
		return
	}
	if atomic.CompareAndSwapInt32(&b.lent, lentOut, orphaned) {
		return // who borrowed it gives it back
	}
	if atomic.CompareAndSwapInt32(&b.lent, lentAway, orphanedAway) {
		p.uncharge(int(b.class))
		return
	}
	p.putBack(b)
}

func (p *Pool) putBack(b *Buf) {
	p.uncharge(int(b.class))
	p.keep(int(b.class), b)
}

func (p *Pool) uncharge(c int) {
	p.inUse.Add(-int64(classSize[c]))
	p.bufs[c].Add(-1)
}

func (b *Buf) release() {
	if b.free {
		panic(fmt.Sprintf("packet: buffer %p freed twice", b))
	}
	b.free, b.Next = true, nil
}

func (p *Pool) keep(c int, bs ...*Buf) {
	if p.nocache.Load() {
		return
	}
	l := &p.class[c]
	l.mu.Lock()
	if room := keepFree/classSize[c] - len(l.free); room < len(bs) {
		bs = bs[:max(room, 0)]
	}
	l.free = append(l.free, bs...)
	l.mu.Unlock()
}

// FreeBurst gives back every buffer of bs; runs of one pool and class cost
// one lock. nil entries are passed over.
func FreeBurst(bs []*Buf) {
	for i := 0; i < len(bs); {
		b := bs[i]
		if b == nil {
			i++
			continue
		}
		if b.class == shellClass || atomic.LoadInt32(&b.lent) != notLent {
			b.Free()
			i++
			continue
		}
		j := i
		for j < len(bs) && bs[j] != nil && bs[j].pool == b.pool && bs[j].class == b.class && atomic.LoadInt32(&bs[j].lent) == notLent {
			bs[j].release()
			j++
		}
		p, c := b.pool, int(b.class)
		p.inUse.Add(-int64(classSize[c] * (j - i)))
		p.bufs[c].Add(int64(i - j))
		p.keep(c, bs[i:j]...)
		i = j
	}
}

// GetBurst fills bs with buffers for n octets each under one lock and answers
// how many it could get before the budget was spent.
func (p *Pool) GetBurst(bs []*Buf, n int) int {
	c := classOf(n)
	if c < 0 {
		p.denied.Add(1)
		return 0
	}
	want := len(bs)
	for want > 0 && !p.charge(c, want) {
		want /= 2
	}
	if want < len(bs) {
		p.denied.Add(1)
	}
	l := &p.class[c]
	l.mu.Lock()
	k := min(want, len(l.free))
	copy(bs, l.free[len(l.free)-k:])
	l.free = l.free[:len(l.free)-k]
	l.mu.Unlock()
	for _, b := range bs[:k] {
		b.reset()
	}
	for i := k; i < want; i++ {
		bs[i] = p.fresh(c)
	}
	return want
}
