package ipl

import "net/netip"

// PoolKind is how a pool is held.
type PoolKind uint8

const (
	PoolTree     PoolKind = iota + 1 // table type = tree
	PoolHash                         // table type = hash
	PoolGroupMap                     // group-map: an address chooses a group of rules
)

// Pool is one table of ippool.conf. Names and numbers share one space.
type Pool struct {
	Line       int
	Kind       PoolKind
	Role       string // "ipf", "nat", "auth", "count", "all"
	Name       string
	Size, Seed int    // of a hash: hints
	Group      string // of a group-map: the group of entries that name none
	Out        bool   // of a group-map: its direction
	Entries    []PoolEntry
}

// PoolEntry is an address or a network of a pool; the longest that fits an
// address decides, and with Not it decides that the address is not in the pool.
type PoolEntry struct {
	Not    bool
	Prefix netip.Prefix
	Group  string
}

// Split is the pool in pieces of at most n entries, at least one piece: tables of
// a million entries travel so.
func (c Pool) Split(n int) (pieces []Pool) {
	for {
		p := c
		p.Entries = c.Entries[:min(n, len(c.Entries))]
		c.Entries = c.Entries[len(p.Entries):]
		if pieces = append(pieces, p); len(c.Entries) == 0 {
			return pieces
		}
	}
}
