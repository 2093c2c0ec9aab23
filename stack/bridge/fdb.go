package bridge

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ionet/stack/callout"
	"ionet/stack/cmap"
	"ionet/stack/netif"
)

// What a new bridge's table takes and keeps (NetBSD's BRIDGE_RTABLE_*).
const (
	defaultMax     = 100
	defaultTimeout = 1200 * time.Second

	MaxStations = 1 << 20
	MaxTimeout  = 1 << 24 * time.Second
)

// fdb is the table of stations: behind which member each one is. It is read without a
// lock. Bound: max; what is new is then not learnt. Stations that were not heard for the
// timeout do not count, and are forgotten.
type fdb struct {
	env     *netif.Env
	key     uint64
	m       cmap.Map[*station]
	max     atomic.Int64
	timeout atomic.Int64 // nanoseconds; 0: for ever
	haste   atomic.Int64 // the timeout while the topology changes; 0: it does not

	mu    sync.Mutex // writers
	sweep callout.Timer[*netif.Work]
	armed bool
}

// station is one entry.
type station struct {
	mac    netif.MAC
	static bool
	at     atomic.Pointer[member]
	heard  atomic.Int64
}

// heardStep spares the packet path a write for every frame.
const heardStep = int64(time.Second)

func (t *fdb) init(env *netif.Env) {
	t.env = env
	t.key = uint64(env.Rand32())<<32 | uint64(env.Rand32()) | 1
	t.m.Init()
	t.max.Store(defaultMax)
	t.timeout.Store(int64(defaultTimeout))
	t.sweep.Fn = t.age
}

// hash spreads addresses, which others choose, by a random key (splitmix64).
func (t *fdb) hash(m netif.MAC) uint64 {
	x := uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])
	x = (x ^ t.key) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27 ^ t.key>>32) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (t *fdb) get(m netif.MAC) *station {
	for b, i := t.m.Bucket(t.hash(m)), 0; i < b.Len(); i++ {
		if _, s := b.At(i); s.mac == m {
			return s
		}
	}
	return nil
}

// alive reports whether a station still counts.
func (t *fdb) alive(s *station, now int64) bool {
	d := t.keeps()
	return s.static || d == 0 || now-s.heard.Load() < d
}

// keeps is how long a station is kept that is not heard.
func (t *fdb) keeps() int64 {
	d, haste := t.timeout.Load(), t.haste.Load()
	if haste != 0 && (d == 0 || haste < d) {
		return haste
	}
	return d
}

// hasten has stations forgotten sooner; 0: no more.
func (t *fdb) hasten(now int64, d time.Duration) {
	if t.haste.Swap(int64(d)) == int64(d) || d == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m.Len() > 0 {
		t.ageAt(now + heardStep)
	}
}

// find is the member that a station is behind, or nil.
func (t *fdb) find(m netif.MAC, now int64) *member {
	if s := t.get(m); s != nil && t.alive(s, now) {
		return s.at.Load()
	}
	return nil
}

// learn notes that a station is behind a member.
func (t *fdb) learn(w *netif.Work, m netif.MAC, at *member) {
	s := t.get(m)
	if s == nil {
		t.add(w, m, at)
		return
	}
	if s.static {
		return
	}
	if s.at.Load() != at {
		s.at.Store(at)
	}
	if w.Now-s.heard.Load() >= heardStep {
		s.heard.Store(w.Now)
	}
}

func (t *fdb) add(w *netif.Work, m netif.MAC, at *member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case at.gone.Load() || t.get(m) != nil:
		return
	case int64(t.m.Len()) >= t.max.Load():
		w.Count(cntFull)
		return
	}
	s := &station{mac: m}
	s.at.Store(at)
	s.heard.Store(w.Now)
	t.m.Add(t.hash(m), s)
	if d := t.keeps(); d != 0 && !t.armed {
		t.ageAt(w.Now + d)
	}
}

// ageAt is when age is to come; 0: not at all. mu is held.
func (t *fdb) ageAt(at int64) {
	if t.armed = at != 0; t.armed {
		t.env.Wheel.Reset(&t.sweep, at)
	} else {
		t.env.Wheel.Stop(&t.sweep)
	}
}

// age forgets the stations that do not count any more, and comes back when the next one
// may not.
func (t *fdb) age(w *netif.Work) {
	t.forget(func(s *station) bool { return !t.alive(s, w.Now) })
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.keeps()
	next := int64(0)
	t.m.All(func(s *station) bool {
		if at := s.heard.Load() + d; !s.static && (next == 0 || at < next) {
			next = at
		}
		return true
	})
	if next != 0 && d != 0 {
		t.ageAt(max(next, w.Now+heardStep))
	} else {
		t.ageAt(0)
	}
}

// forget takes out the stations that which accepts.
func (t *fdb) forget(which func(*station) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*station
	t.m.All(func(s *station) bool {
		if which(s) {
			out = append(out, s)
		}
		return true
	})
	for _, s := range out {
		t.m.Remove(t.hash(s.mac), s)
	}
	if t.m.Len() == 0 {
		t.ageAt(0)
	}
}

// Station is a line of a bridge's table.
type Station struct {
	MAC    netif.MAC
	Member *netif.Interface
	Expire int64 // seconds until it is forgotten; 0: never
	Static bool
}

// Stations are a bridge's table, by address. EINVAL.
func (r *Bridges) Stations(ifp *netif.Interface) ([]Station, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.find(ifp)
	if err != nil {
		return nil, err
	}
	now, d := r.env.Now(), b.fdb.keeps()
	out := []Station{}
	b.fdb.m.All(func(s *station) bool {
		if !b.fdb.alive(s, now) {
			return true
		}
		e := Station{MAC: s.mac, Member: s.at.Load().ifp, Static: s.static}
		if !s.static && d != 0 {
			e.Expire = (s.heard.Load() + d - now + int64(time.Second) - 1) / int64(time.Second)
		}
		out = append(out, e)
		return true
	})
	slices.SortFunc(out, func(a, b Station) int { return cmp.Compare(a.MAC.String(), b.MAC.String()) })
	return out, nil
}

// SetStation says for ever behind which member a station is. Errors: EINVAL (a group, no
// bridge), ENOENT (no member), ENOSPC (the table is full).
func (r *Bridges) SetStation(ifp, in *netif.Interface, mac netif.MAC) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.place(ifp, in)
	if err != nil {
		return err
	}
	if mac.IsMulticast() || mac == (netif.MAC{}) {
		return fmt.Errorf("%v is the address of no station: %w", mac, syscall.EINVAL)
	}
	t := &m.b.fdb
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.get(mac); old != nil {
		t.m.Remove(t.hash(mac), old)
	}
	if int64(t.m.Len()) >= t.max.Load() {
		return fmt.Errorf("the table of %s has its %d stations (maxaddr): %w", ifp.Name, t.max.Load(), syscall.ENOSPC)
	}
	s := &station{mac: mac, static: true}
	s.at.Store(m)
	t.m.Add(t.hash(mac), s)
	return nil
}

// DeleteStation forgets a station. EINVAL, ENOENT.
func (r *Bridges) DeleteStation(ifp *netif.Interface, mac netif.MAC) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.find(ifp)
	if err != nil {
		return err
	}
	if b.fdb.get(mac) == nil {
		return fmt.Errorf("%s knows no station %v: %w", ifp.Name, mac, syscall.ENOENT)
	}
	b.fdb.forget(func(s *station) bool { return s.mac == mac })
	return nil
}

// Flush forgets the stations that were learnt; all: the others too. EINVAL.
func (r *Bridges) Flush(ifp *netif.Interface, all bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.find(ifp)
	if err == nil {
		b.fdb.forget(func(s *station) bool { return all || !s.static })
	}
	return err
}

// SetTable says how many stations a bridge's table takes, and how long it keeps one that
// is not heard; 0: for ever. What is more than n is forgotten. EINVAL.
func (r *Bridges) SetTable(ifp *netif.Interface, n int64, timeout time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.find(ifp)
	switch {
	case err != nil:
		return err
	case n < 1 || n > MaxStations:
		return fmt.Errorf("maxaddr %d: a table takes 1 to %d stations: %w", n, MaxStations, syscall.EINVAL)
	case timeout < 0 || timeout > MaxTimeout:
		return fmt.Errorf("timeout %v: a station is kept for 0 to %v: %w", timeout, MaxTimeout, syscall.EINVAL)
	}
	t := &b.fdb
	t.max.Store(n)
	t.timeout.Store(int64(timeout))
	left := n
	t.forget(func(s *station) bool {
		if !s.static {
			left--
		}
		return !s.static && left < 0
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	if timeout != 0 && t.m.Len() > 0 {
		t.ageAt(r.env.Now() + heardStep)
	} else {
		t.ageAt(0)
	}
	return nil
}

// Table is what SetTable has said. EINVAL.
func (r *Bridges) Table(ifp *netif.Interface) (n int64, timeout time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.find(ifp)
	if err != nil {
		return 0, 0, err
	}
	return b.fdb.max.Load(), time.Duration(b.fdb.timeout.Load()), nil
}
