package stackd

import (
	"encoding/json"
	"sync"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/ipfilter"
	"ionet/stack/ipnat"
	"ionet/stack/pfil"
)

// logHub hands the records of the filter's logs to who waits for them: each
// record to one reader, as from BSD's /dev/ipl. A goroutine of its own writes them
// out, for the packet path has other things to do.
type logHub struct {
	s      *server
	filter *ipfilter.Filter
	nat    *ipnat.NAT

	mu   sync.Mutex
	stop chan struct{} // ends the goroutine; nil: there is no filter
	done chan struct{} // it has ended
	// waiting are requests without an answer. Bound: kern.client's; each is parked.
	waiting [protocol.LogNAT + 1][]logWait
}

type logWait struct {
	c *conn
	h protocol.Header
}

// logBatch is how many records are taken from a log at once.
const logBatch = 64

func (l *logHub) open(s *server, f *ipfilter.Filter, nat *ipnat.NAT) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s, l.filter, l.nat = s, f, nat
	kick, stop, done := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	l.stop, l.done = stop, done
	wake := func() {
		select {
		case kick <- struct{}{}:
		default:
		}
	}
	f.OnLog(ipfilter.PacketLog, wake)
	f.OnLog(ipfilter.StateLog, wake)
	nat.OnLog(wake)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-kick:
			}
			l.mu.Lock()
			for which := range l.waiting {
				for l.stop == stop && len(l.waiting[which]) > 0 && l.serve(uint8(which), l.waiting[which][0]) {
					l.waiting[which][0].c.unpark()
					l.waiting[which] = l.waiting[which][1:]
				}
			}
			l.mu.Unlock()
		}
	}()
}

// close answers who waits that there is nothing to wait for.
func (l *logHub) close() {
	l.mu.Lock()
	if l.stop == nil {
		l.mu.Unlock()
		return
	}
	l.filter.OnLog(ipfilter.PacketLog, nil)
	l.filter.OnLog(ipfilter.StateLog, nil)
	l.nat.OnLog(nil)
	for which := range l.waiting {
		for _, w := range l.waiting[which] {
			w.c.unpark()
			w.c.reply(w.h, errNoFilter, nil)
		}
		l.waiting[which] = nil
	}
	close(l.stop)
	l.stop, l.filter, l.nat = nil, nil, nil
	l.mu.Unlock()
	<-l.done
}

// recv serves TypeLog.
func (l *logHub) recv(c *conn, h protocol.Header, p []byte) error {
	r := protocol.NewReader(p)
	which := r.U8()
	if err := r.Close(); err != nil {
		return err
	}
	if err := c.privileged("read the packet filter's logs"); err != nil {
		return err
	}
	if int(which) >= len(l.waiting) {
		return errf(unix.EINVAL, "no log %d", which)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop == nil {
		return errNoFilter
	}
	w := logWait{c, h}
	if len(l.waiting[which]) == 0 && l.serve(which, w) {
		return nil
	}
	if err := c.park(); err != nil {
		return err
	}
	l.waiting[which] = append(l.waiting[which], w)
	return nil
}

// remove takes a client's requests out, those of one tag or all, and answers
// them with EINTR.
func (l *logHub) remove(c *conn, tag uint32, all bool) (found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for which, ws := range l.waiting {
		kept := ws[:0:0]
		for _, w := range ws {
			if w.c != c || !all && w.h.Tag != tag {
				kept = append(kept, w)
				continue
			}
			found = true
			c.unpark()
			c.reply(w.h, unix.EINTR, nil)
		}
		l.waiting[which] = kept
	}
	return found
}

// serve answers w with what fits a frame; false: there is nothing. The caller holds
// l.mu.
func (l *logHub) serve(which uint8, w logWait) bool {
	rows, lost := l.read(which)
	if len(rows) == 0 && lost == 0 {
		return false
	}
	b := protocol.AppendU32(nil, uint32(min(lost, 1<<32-1)))
	for _, r := range rows {
		line, err := json.Marshal(r)
		if err != nil || len(b)+len(line)+1 > protocol.MaxPayload {
			continue // cannot be: logBatch records of that size fit
		}
		b = append(append(b, line...), '\n')
	}
	w.c.reply(w.h, nil, b)
	return true
}

func (l *logHub) read(which uint8) (rows []protocol.LogRow, lost uint64) {
	wall := func(ns int64) int64 { return l.s.eng.Wall(ns).UnixNano() }
	switch which {
	case protocol.LogNAT:
		recs, lost := l.nat.ReadLog(logBatch)
		for _, r := range recs {
			session := sessionRow(r.SessionInfo)
			rows = append(rows, protocol.LogRow{Log: "nat", Time: wall(r.Time), Event: r.Event.String(), Rule: l.nat.Number(r.Rule), Session: &session})
		}
		return rows, lost
	case protocol.LogStates:
		recs, lost := l.filter.ReadLog(ipfilter.StateLog, logBatch)
		for _, r := range recs {
			state := stateRow(r.State)
			rows = append(rows, protocol.LogRow{Log: "states", Time: wall(r.Time), Event: logEvents[r.Event], State: &state})
		}
		return rows, lost
	}
	recs, lost := l.filter.ReadLog(ipfilter.PacketLog, logBatch)
	for _, r := range recs {
		rows = append(rows, protocol.LogRow{Log: "packets", Time: wall(r.Time), Event: logEvents[r.Event], Direction: direction(r.Out),
			Interface: r.If, Group: r.Group, Rule: r.Rule, Level: r.Level, Tag: r.Tag, Anyway: r.Anyway, With: logWith(r), Length: r.Len, Packet: r.Packet})
	}
	return rows, lost
}

var logEvents = map[ipfilter.LogEvent]string{ipfilter.LogPass: "pass", ipfilter.LogBlock: "block", ipfilter.LogOnly: "log", ipfilter.LogNoMatch: "nomatch",
	ipfilter.LogNew: "NEW", ipfilter.LogExpired: "EXPIRE", ipfilter.LogRemoved: "REMOVE"}

func logWith(r ipfilter.Record) (with []string) {
	for _, w := range []struct {
		on   bool
		word string
	}{
		{r.Keeps[0], protocol.WithState}, {r.Keeps[1], protocol.WithFrags}, {r.Is&pfil.Short != 0, protocol.WithShort}, {r.Is&pfil.LowTTL != 0, protocol.WithLowTTL},
		{r.Is&pfil.OutOfWindow != 0, protocol.WithOOW}, {r.Is&pfil.Bad != 0, protocol.WithBad}, {r.Is&pfil.NATed != 0, protocol.WithNAT},
		{r.Is&pfil.Multicast != 0, protocol.WithMulticast}, {r.Is&pfil.Broadcast != 0, protocol.WithBroadcast},
	} {
		if w.on {
			with = append(with, w.word)
		}
	}
	return with
}

func direction(out bool) string {
	if out {
		return "out"
	}
	return "in"
}
