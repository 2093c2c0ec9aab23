package socket

// LocalUses counts who has a local end. Whoever has it is not counted by
// address but by a keyed hash of it: two that meet there make a bind fail
// that need not, once in a great many.
type LocalUses struct {
	key   uint64
	ports map[uint16]int32
	ends  map[uint64]int32
}

// Init makes it ready; key is a secret random value.
func (u *LocalUses) Init(key uint64) {
	u.key, u.ports, u.ends = key, map[uint16]int32{}, map[uint64]int32{}
}

func (u *LocalUses) hash(a Addr) uint64 {
	hi, lo := addrWords(a.IP)
	return mix(mix(mix(u.key, hi), lo), uint64(a.Port)<<32|uint64(a.Scope))
}

// Add counts n more of a local end with an address.
func (u *LocalUses) Add(a Addr, n int32) {
	if u.ports[a.Port] += n; u.ports[a.Port] == 0 {
		delete(u.ports, a.Port)
	}
	h := u.hash(a)
	if u.ends[h] += n; u.ends[h] == 0 {
		delete(u.ends, h)
	}
}

// Has reports whether somebody has a local end; without address, its port.
func (u *LocalUses) Has(a Addr) bool {
	if u.ports[a.Port] == 0 {
		return false
	}
	return !a.IP.IsValid() || u.ends[u.hash(a)] > 0
}
