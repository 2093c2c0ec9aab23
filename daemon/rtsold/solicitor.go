// Package rtsold is rtsold and rtsol: they solicit routers, so that a host need
// not wait for the next advertisement, when it starts and whenever its link comes
// back.
//
// The stack configures itself from the advertisements, whoever has asked for them;
// it solicits by itself too, when an interface comes up. These are for whoever
// wants to say when: a laptop that may have been carried to another network, a
// script that must not go on before there is a router.
//
// As in the original the solicitations leave by a raw socket, not by a request to
// the stack (SIOCSRTSOL): who sends them hears what comes of them, counts and
// repeats. solicitor is that state machine (RFC 4861 §6.3.7), passive: the time and
// randomness are handed in.
package rtsold

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"ionet/daemon/life"
	"ionet/daemon/nd"
)

// Constants of RFC 4861 §10, and how often -m asks anew.
const (
	maxDelay      = time.Second
	interval      = 4 * time.Second
	maxSolicits   = 3
	lastWait      = time.Second // for the answer to the last one
	probeInterval = 60 * time.Second
)

// state is where an interface stands.
type state int

const (
	down      state = iota
	tentative       // no address to send from yet
	delay           // before the first solicitation
	probe           // soliciting
	idle            // answered, or given up
)

var stateNames = [...]string{down: "down", tentative: "tentative", delay: "delay", probe: "probe", idle: "idle"}

// solicitor solicits on one interface.
type solicitor struct {
	name   string
	mobile bool
	random func(time.Duration) time.Duration // from 0 up to, and without, its argument
	link   life.Link

	state    state
	solicits int       // sent since the last beginning
	at       time.Time // when expire has something to do; zero: never
	heard    int       // valid advertisements
	gaveUp   bool      // nobody has answered
	flags    uint8     // of the last advertisement
}

// setLink says how the interface is.
func (s *solicitor) setLink(now time.Time, l life.Link) {
	s.link = l
	switch {
	case !l.Up:
		s.state, s.at = down, time.Time{}
	case !l.Local.IsValid():
		s.state, s.at = tentative, time.Time{}
	case s.state == down || s.state == tentative:
		s.begin(now)
	}
}

// begin solicits after a moment that is another for each host (RFC 4861 §6.3.7).
func (s *solicitor) begin(now time.Time) {
	s.state, s.solicits, s.gaveUp = delay, 0, false
	s.at = now.Add(s.random(maxDelay))
}

// expire answers whether a solicitation is to be sent now.
func (s *solicitor) expire(now time.Time) bool {
	if s.at.IsZero() || now.Before(s.at) {
		return false
	}
	if s.state == idle { // -m
		s.state, s.solicits, s.gaveUp = probe, 0, false
	}
	if s.solicits == maxSolicits {
		s.gaveUp = true
		s.rest(now)
		return false
	}
	s.state = probe
	s.solicits++
	s.at = now.Add(interval)
	if s.solicits == maxSolicits {
		s.at = now.Add(lastWait)
	}
	return true
}

// rest is what follows an answer, and the lack of one.
func (s *solicitor) rest(now time.Time) {
	s.state, s.at = idle, time.Time{}
	if s.mobile {
		s.at = now.Add(probeInterval)
	}
}

// hear takes an advertisement; other: the O flag is set, and was not before.
func (s *solicitor) hear(now time.Time, m *nd.RouterAdvert) (other bool) {
	s.heard++
	other = m.Flags&nd.Other != 0 && s.flags&nd.Other == 0
	s.flags = m.Flags
	if s.state == delay || s.state == probe || s.state == idle {
		s.gaveUp = false
		s.rest(now)
	}
	return other
}

// packet is a solicitation.
func (s *solicitor) packet() nd.Packet {
	return nd.Packet{If: s.link.Index, Src: s.link.Local, Dst: nd.AllRouters, HopLimit: nd.HopLimit, Data: nd.AppendSolicit(nil, s.link.HW)}
}

// own says that an address is the interface's.
func (s *solicitor) own(a netip.Addr) bool {
	for _, x := range s.link.Own {
		if x == a {
			return true
		}
	}
	return false
}

// dump writes what SIGUSR1 asks for.
func (s *solicitor) dump(w io.Writer, now time.Time) {
	status := "no carrier, or down"
	if s.link.Up {
		status = "active"
	}
	fmt.Fprintf(w, "Interface %s\n", s.name)
	every := "disabled"
	if s.mobile {
		every = fmt.Sprintf("%ds", int(probeInterval.Seconds()))
	}
	fmt.Fprintf(w, "  probe interval: %s\n  interface status: %s\n  rtsold status: %s\n", every, status, stateNames[s.state])
	timer := "INFINITY"
	if !s.at.IsZero() {
		timer = fmt.Sprintf("%ds", max(int(s.at.Sub(now).Seconds()), 0))
	}
	fmt.Fprintf(w, "  solicitations since the last beginning: %d, timer: %s\n  number of valid RAs: %d\n", s.solicits, timer, s.heard)
}
