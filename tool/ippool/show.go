package ippool

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"ionet/ipl"
	"ionet/protocol"
	"ionet/tool/ruleset"
)

// shown is a pool as --json prints it.
type shown struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	Role      string   `json:"role"`
	Direction string   `json:"direction,omitempty"`
	Group     string   `json:"group,omitempty"`
	Size      int      `json:"size,omitempty"`
	Seed      int      `json:"seed,omitempty"`
	Hits      uint64   `json:"hits"`
	Entries   []string `json:"entries"`
}

// list obeys -l.
func (t *tool) list(o *options) error {
	s, err := t.open()
	if err != nil {
		return err
	}
	pools, err := s.Pools()
	if err != nil {
		return errors.New(ruleset.Reason(err))
	}
	w := bufio.NewWriter(t.out)
	found := false
	for _, p := range pools {
		if !o.about(p) {
			continue
		}
		found = true
		rows, err := s.Entries(p.Name)
		if err != nil {
			return errors.New(ruleset.Reason(err))
		}
		if err := t.print(w, p, rows, o); err != nil {
			return err
		}
	}
	if o.name != "" && !found {
		return fmt.Errorf("there is no such pool %s", o.name)
	}
	return w.Flush()
}

func (t *tool) print(w *bufio.Writer, p protocol.PoolRow, rows []protocol.PoolEntryRow, o *options) error {
	if t.json {
		v := shown{Name: p.Name, Kind: p.Kind, Role: p.Role, Direction: p.Direction, Group: p.Group, Size: p.Size, Seed: p.Seed, Hits: p.Hits, Entries: make([]string, len(rows))}
		for i, r := range rows {
			v.Entries[i] = r.Entry
		}
		return json.NewEncoder(w).Encode(v)
	}
	if o.verbose {
		fmt.Fprintf(w, "# %d entries, %d hits\n", len(rows), p.Hits)
	}
	// The words of a pool without entries, and then them: they are what ipl prints.
	w.WriteString(strings.TrimSuffix(ipl.Pool{Kind: kindOf[p.Kind], Role: p.Role, Name: p.Name, Group: p.Group, Out: p.Direction == "out", Size: p.Size, Seed: p.Seed}.String(), " };"))
	for _, r := range rows {
		w.WriteString(" " + r.Entry + ";")
	}
	_, err := w.WriteString(" };\n")
	return err
}

var kindOf = map[string]ipl.PoolKind{"tree": ipl.PoolTree, "hash": ipl.PoolHash, "group-map": ipl.PoolGroupMap}

// counts is what -s shows.
type counts struct {
	Pools           int    `json:"pools"`
	PoolEntries     int    `json:"pool_entries"`
	Hashes          int    `json:"hashes"`
	HashEntries     int    `json:"hash_entries"`
	GroupMaps       int    `json:"group_maps"`
	GroupMapEntries int    `json:"group_map_entries"`
	Hits            uint64 `json:"hits"`
}

// statistics obeys -s.
func (t *tool) statistics() error {
	s, err := t.open()
	if err != nil {
		return err
	}
	pools, err := s.Pools()
	if err != nil {
		return errors.New(ruleset.Reason(err))
	}
	var c counts
	for _, p := range pools {
		c.Hits += p.Hits
		switch p.Kind {
		case "hash":
			c.Hashes, c.HashEntries = c.Hashes+1, c.HashEntries+p.Entries
		case "group-map":
			c.GroupMaps, c.GroupMapEntries = c.GroupMaps+1, c.GroupMapEntries+p.Entries
		default:
			c.Pools, c.PoolEntries = c.Pools+1, c.PoolEntries+p.Entries
		}
	}
	if t.json {
		return json.NewEncoder(t.out).Encode(c)
	}
	_, err = fmt.Fprintf(t.out, "Pools:\t%d\nNodes:\t%d\nHash Tables:\t%d\nNodes:\t%d\nGroup Maps:\t%d\nNodes:\t%d\nHits:\t%d\n",
		c.Pools, c.PoolEntries, c.Hashes, c.HashEntries, c.GroupMaps, c.GroupMapEntries, c.Hits)
	return err
}
