package ipfilter

import (
	"sync"
	"sync/atomic"

	"ionet/stack/netif"
)

// ifName is an interface's name as states have it; 0: none. An interface that has come
// back has the one that it had.
type ifName uint16

// lateName is shared by all names that there was no number for.
const lateName ifName = 1<<16 - 1

// ifNames numbers names of interfaces. Readers find theirs by index and take no lock.
type ifNames struct {
	byIndex atomic.Pointer[[]named]

	mu     sync.Mutex
	byName map[string]ifName
	names  []string // by number, from 1
}

type named struct {
	ifp *netif.Interface
	n   ifName
}

func (t *ifNames) init() {
	t.byName = map[string]ifName{}
	t.byIndex.Store(&[]named{})
}

// of is the name of an interface.
func (t *ifNames) of(ifp *netif.Interface) ifName {
	if all := *t.byIndex.Load(); int(ifp.Index) < len(all) && all[ifp.Index].ifp == ifp {
		return all[ifp.Index].n
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.byIndex.Load()
	all := make([]named, max(len(old), int(ifp.Index)+1))
	copy(all, old)
	n := t.number(ifp.Name)
	all[ifp.Index] = named{ifp, n}
	t.byIndex.Store(&all)
	return n
}

// called is the number of a name.
func (t *ifNames) called(name string) ifName {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.number(name)
}

// number is called with the lock.
func (t *ifNames) number(name string) ifName {
	n, ok := t.byName[name]
	if !ok {
		if len(t.names)+1 >= int(lateName) {
			return lateName
		}
		t.names = append(t.names, name)
		n = ifName(len(t.names))
		t.byName[name] = n
	}
	return n
}

// name is what a number stands for; "": nothing, or none of its own.
func (t *ifNames) name(n ifName) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n == 0 || int(n) > len(t.names) {
		return ""
	}
	return t.names[n-1]
}

// ways are four names, by way: forward in, forward out, back in, back out. They are
// filled in as packets come.
type ways struct{ atomic.Uint64 }

func (w *ways) at(way int) ifName { return ifName(w.Load() >> (16 * way)) }

// bind has a way be that of an interface; false: it is another's.
func (w *ways) bind(way int, n ifName) bool {
	for {
		all := w.Load()
		if was := ifName(all >> (16 * way)); was != 0 {
			return was == n
		}
		if w.CompareAndSwap(all, all|uint64(n)<<(16*way)) {
			return true
		}
	}
}
