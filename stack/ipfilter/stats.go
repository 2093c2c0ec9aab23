package ipfilter

import (
	"sync/atomic"

	"ionet/stack/pfil"
)

// dirStats are what is counted of one direction and version of IP.
type dirStats struct {
	Passed, Blocked, NoMatch, Logged, LogFailed atomic.Uint64
	LoggedPassed, LoggedBlocked                 atomic.Uint64 // of Logged
	Counted, Short, Bad                         atomic.Uint64 // that rules of accounting, `with short`, `with bad` are about
	NewStates, BadStates                        atomic.Uint64 // begun; found no place
	KnownFrags, NewFrags, BadFrags              atomic.Uint64
	Replies, RSTs                               atomic.Uint64 // ICMP errors, resets
}

func (d *dirStats) all() []*atomic.Uint64 {
	return []*atomic.Uint64{&d.Passed, &d.Blocked, &d.NoMatch, &d.Logged, &d.LogFailed, &d.LoggedPassed, &d.LoggedBlocked,
		&d.Counted, &d.Short, &d.Bad, &d.NewStates, &d.BadStates, &d.KnownFrags, &d.NewFrags, &d.BadFrags, &d.Replies, &d.RSTs}
}

// stat is where packets like i are counted.
func (f *Filter) stat(i *pfil.Info) *dirStats { return &f.stats[dirOf(i.Out)][side(i.V6)] }

// Stats are the filter's counters, as ipfstat shows them.
type Stats struct {
	In, Out DirStats
	States  StateStats
	Frags   FragStats
}

// DirStats are those of one direction, of both versions of IP.
type DirStats struct {
	Passed, Blocked, NoMatch, Logged, LogFailed uint64
	LoggedPassed, LoggedBlocked                 uint64
	Counted, Short, Bad                         uint64
	NewStates, BadStates                        uint64
	KnownFrags, NewFrags, BadFrags              uint64
	Replies, RSTs                               uint64
	IPv6                                        uint64 // of Passed and Blocked
}

func (d *DirStats) add(o *dirStats) {
	for _, c := range []struct {
		sum *uint64
		of  *atomic.Uint64
	}{
		{&d.Passed, &o.Passed}, {&d.Blocked, &o.Blocked}, {&d.NoMatch, &o.NoMatch}, {&d.Logged, &o.Logged}, {&d.LogFailed, &o.LogFailed},
		{&d.LoggedPassed, &o.LoggedPassed}, {&d.LoggedBlocked, &o.LoggedBlocked}, {&d.Counted, &o.Counted}, {&d.Short, &o.Short}, {&d.Bad, &o.Bad},
		{&d.NewStates, &o.NewStates}, {&d.BadStates, &o.BadStates}, {&d.KnownFrags, &o.KnownFrags}, {&d.NewFrags, &o.NewFrags}, {&d.BadFrags, &o.BadFrags},
		{&d.Replies, &o.Replies}, {&d.RSTs, &o.RSTs},
	} {
		*c.sum += c.of.Load()
	}
}

// Stats are the counters now.
func (f *Filter) Stats() Stats {
	var dir [2]DirStats
	for d := range dir {
		for v := range f.stats[d] {
			dir[d].add(&f.stats[d][v])
		}
		six := &f.stats[d][side(true)]
		dir[d].IPv6 = six.Passed.Load() + six.Blocked.Load()
	}
	return Stats{In: dir[0], Out: dir[1], States: f.states.read(), Frags: f.frags.read()}
}
