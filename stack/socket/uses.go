package socket

import "ionet/stack/packet"

// LocalUses counts who has a local end. Whoever has it is not counted by
// address but by a keyed hash of it: two that meet there make a bind fail
// that need not, once in a great many.
type LocalUses struct {
	key   uint64
	ports [2]map[uint16]int32 // IPv4, IPv6
	ends  map[uint64]int32
}

// Init makes it ready; key is a secret random value.
func (u *LocalUses) Init(key uint64) {
	u.key, u.ports, u.ends = key, [2]map[uint16]int32{{}, {}}, map[uint64]int32{}
}

func (u *LocalUses) hash(a Addr) uint64 {
	hi, lo := packet.Words(a.IP)
	return mix(mix(mix(u.key, hi), lo), uint64(a.Port))
}

func (u *LocalUses) of(v Versions) map[uint16]int32 { return u.ports[v/V6] }

// Add counts n more of a local end with an address.
func (u *LocalUses) Add(a Addr, n int32) {
	ports := u.of(VersionOf(a.IP))
	if ports[a.Port] += n; ports[a.Port] == 0 {
		delete(ports, a.Port)
	}
	h := u.hash(a)
	if u.ends[h] += n; u.ends[h] == 0 {
		delete(u.ends, h)
	}
}

// Has reports whether somebody has a local end; without address, its port in
// one of these IP versions.
func (u *LocalUses) Has(a Addr, v Versions) bool {
	if !a.IP.IsValid() {
		return v&V4 != 0 && u.of(V4)[a.Port] != 0 || v&V6 != 0 && u.of(V6)[a.Port] != 0
	}
	return u.of(VersionOf(a.IP))[a.Port] != 0 && u.ends[u.hash(a)] > 0
}
