package nd6_test

import (
	"slices"
	"testing"
	"time"

	"ionet/stack/nd6"
	"ionet/stack/neigh"
	. "ionet/stack/stacktest"
)

// TestChanges: what becomes of a neighbour is told when its link address comes,
// changes and goes, and not with its states between.
func TestChanges(t *testing.T) {
	r := rig(t)
	var told []string
	r.ND.Changed = func(i nd6.Info, c neigh.Change) {
		told = append(told, [...]string{"", "found", "moved", "lost", "silent"}[c]+" "+i.MAC.String())
	}
	heard := func(want ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		told = nil
	}
	s := udp(r)
	meet(r, s, peer)
	heard("found 02:00:00:00:00:02")
	r.Pass(45 * time.Second) // STALE
	s.send(peer, "x")        // DELAY
	r.Send(na(t, Peer, peer, "S"))
	heard()
	r.Send(na(t, other, peer, "O"))
	heard("moved 02:00:00:00:00:09")
	r.Send(ns(t, Peer, peer, me))
	heard("moved 02:00:00:00:00:02")
	r.Pass(2 * time.Minute) // nobody uses it
	heard("lost 02:00:00:00:00:02")

	// One that stays silent when it is probed is lost; asked for, silent.
	meet(r, s, peer)
	heard("found 02:00:00:00:00:02")
	r.Pass(45 * time.Second)
	s.send(peer, "x")
	r.Pass(10 * time.Second)
	heard("lost 02:00:00:00:00:02")
	s.send(peer, "x")
	r.Pass(10 * time.Second)
	heard("silent 00:00:00:00:00:00")

	set(r, peer, other, 0, 0)
	set(r, peer, Peer, nd6.Published, 0)
	heard("found 02:00:00:00:00:09", "moved 02:00:00:00:00:02")
	r.Sent()
}
