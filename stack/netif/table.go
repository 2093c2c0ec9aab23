package netif

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Table is a stack's interfaces, by name and by index. Readers do not wait.
type Table struct {
	mu    sync.Mutex
	last  uint32
	byIdx atomic.Pointer[[]*Interface] // index 0 and removed ones are nil
	all   atomic.Pointer[[]*Interface] // the same without the holes
}

func (t *Table) publish(byIdx []*Interface) {
	all := make([]*Interface, 0, len(byIdx))
	for _, ifp := range byIdx {
		if ifp != nil {
			all = append(all, ifp)
		}
	}
	t.all.Store(&all)
	t.byIdx.Store(&byIdx)
}

// Add gives ifp the next index. Indices are not used again. EEXIST: the name
// is taken.
func (t *Table) Add(ifp *Interface) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ByName(ifp.Name) != nil {
		return syscall.EEXIST
	}
	t.last++
	ifp.Index = t.last
	s := make([]*Interface, t.last+1)
	if p := t.byIdx.Load(); p != nil {
		copy(s, *p)
	}
	s[t.last] = ifp
	t.publish(s)
	return nil
}

// Remove takes ifp out; it stays valid for those who still hold it.
func (t *Table) Remove(ifp *Interface) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ifp.gone.Store(true)
	s := append([]*Interface(nil), *t.byIdx.Load()...)
	s[ifp.Index] = nil
	t.publish(s)
}

// ByIndex finds an interface, or answers nil.
func (t *Table) ByIndex(i uint32) *Interface {
	if p := t.byIdx.Load(); p != nil && i < uint32(len(*p)) {
		return (*p)[i]
	}
	return nil
}

// ByName finds an interface, or answers nil.
func (t *Table) ByName(name string) *Interface {
	for _, ifp := range t.All() {
		if ifp.Name == name {
			return ifp
		}
	}
	return nil
}

// All are the interfaces in order of index. Do not change the slice.
func (t *Table) All() []*Interface {
	if p := t.all.Load(); p != nil {
		return *p
	}
	return nil
}

// FreeName is the first unused name of a driver family, such as "en1".
func (t *Table) FreeName(family string) string {
	for i := 0; ; i++ {
		name := family + strconv.Itoa(i)
		if t.ByName(name) == nil {
			return name
		}
	}
}

// Unit splits "en12" into "en" and 12; -1 when there is no number.
func Unit(name string) (family string, unit int) {
	family = strings.TrimRight(name, "0123456789")
	unit = -1
	for _, c := range name[len(family):] {
		unit = max(unit, 0)*10 + int(c-'0')
	}
	return family, unit
}
