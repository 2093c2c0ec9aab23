package ipfilter

import "sync/atomic"

// dirStats are what is counted of one direction.
type dirStats struct {
	Passed, Blocked, NoMatch, Logged, LogFailed atomic.Uint64
	NewStates, BadStates                        atomic.Uint64 // begun; found no place
	KnownFrags, NewFrags, BadFrags              atomic.Uint64
	Replies, RSTs                               atomic.Uint64 // ICMP errors, resets
}

func (d *dirStats) all() []*atomic.Uint64 {
	return []*atomic.Uint64{&d.Passed, &d.Blocked, &d.NoMatch, &d.Logged, &d.LogFailed, &d.NewStates, &d.BadStates,
		&d.KnownFrags, &d.NewFrags, &d.BadFrags, &d.Replies, &d.RSTs}
}

// Stats are the filter's counters, as ipfstat shows them.
type Stats struct {
	In, Out DirStats
	States  StateStats
	Frags   FragStats
}

// DirStats are those of one direction.
type DirStats struct {
	Passed, Blocked, NoMatch, Logged, LogFailed uint64
	NewStates, BadStates                        uint64
	KnownFrags, NewFrags, BadFrags              uint64
	Replies, RSTs                               uint64
}

func (d *dirStats) read() DirStats {
	return DirStats{Passed: d.Passed.Load(), Blocked: d.Blocked.Load(), NoMatch: d.NoMatch.Load(), Logged: d.Logged.Load(), LogFailed: d.LogFailed.Load(),
		NewStates: d.NewStates.Load(), BadStates: d.BadStates.Load(), KnownFrags: d.KnownFrags.Load(), NewFrags: d.NewFrags.Load(), BadFrags: d.BadFrags.Load(),
		Replies: d.Replies.Load(), RSTs: d.RSTs.Load()}
}

// Stats are the counters now.
func (f *Filter) Stats() Stats {
	return Stats{In: f.stats[0].read(), Out: f.stats[1].read(), States: f.states.read(), Frags: f.frags.read()}
}
