// Package traceroute is traceroute and traceroute6: probes whose hop limit is
// too small for the way, and the routers that say so.
package traceroute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"
	"time"

	"ionet/protocol"
)

// link sends probes and hears what becomes of them.
type link interface {
	// send sends the probe number seq with a hop limit; size is as options.size
	// counts. EMSGSIZE: the packet does not leave this host in one piece.
	send(seq, hops, size int) error
	// recv waits for what somebody says of the probe number seq, or for other
	// ICMP; after the deadline it fails with os.ErrDeadlineExceeded.
	recv(seq int, deadline time.Time) (answer, error)
}

// answer is an ICMP message.
type answer struct {
	at       time.Time
	from, to netip.Addr
	hops     int    // that were left to it; -1 unknown
	size     int    // octets that came
	mark     string // what is printed behind the time: " !H"
	reached  bool   // it is the target's
	barred   bool   // there is no way on
	mtu      int    // >0: the probe was too large, and so much fits; <0: nobody says what fits
	other    string // not about the probe: the lines that -v prints of it
}

// Result is what --json prints.
type Result struct {
	Host    string `json:"host"`
	Address string `json:"address"`
	Source  string `json:"source,omitempty"`
	MaxHops int    `json:"max_hops"`
	Size    int    `json:"size"`
	Reached bool   `json:"reached"`
	Hops    []Hop  `json:"hops"`
}

// Hop are the probes with one hop limit.
type Hop struct {
	TTL    int     `json:"ttl"`
	Probes []Probe `json:"probes"`
}

// Probe is one of them; without From nobody answered.
type Probe struct {
	From string  `json:"from,omitempty"`
	Name string  `json:"name,omitempty"`
	Time float64 `json:"time,omitempty"` // milliseconds
	TTL  int     `json:"ttl,omitempty"`  // left to the answer; with -l
	Mark string  `json:"mark,omitempty"` // "!H"
}

// session is one run.
type session struct {
	*options
	prog     string
	hostname string
	to       netip.Addr
	from     netip.Addr // none: not said
	unit     string     // "byte packets"
	link     link
	out, err io.Writer
	json     bool
	now      func() time.Time
	name     func(netip.Addr) string           // the name, or the address if there is none
	address  func(s *session, a answer) string // how the row shows who answered

	seq    int
	result Result
}

// run traces and answers the exit status.
func (s *session) run(ctx context.Context) int {
	fmt.Fprintf(s.err, "%s to %s (%s)", s.prog, s.hostname, s.to)
	if s.from.IsValid() {
		fmt.Fprintf(s.err, " from %s", s.from)
		s.result.Source = s.from.String()
	}
	fmt.Fprintf(s.err, ", %d hops max, %d %s\n", s.hops, s.size, s.unit)
	s.result.Host, s.result.Address, s.result.MaxHops, s.result.Hops = s.host, s.to.String(), s.hops, []Hop{}
	var broken error
	for ttl := s.first; ttl <= s.hops; ttl++ {
		var over bool
		if over, broken = s.hop(ctx, ttl); over || broken != nil {
			break
		}
	}
	s.result.Size = s.size
	if s.json {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		_ = e.Encode(s.result)
	}
	if broken != nil {
		fmt.Fprintf(s.err, "%s: %v\n", s.prog, broken)
		return 1
	}
	return 0
}

// say prints a piece of a row.
func (s *session) say(format string, a ...any) {
	if !s.json {
		fmt.Fprintf(s.out, format, a...)
	}
}

// hop sends the probes of one hop limit; over: there is no use in the next.
func (s *session) hop(ctx context.Context, ttl int) (over bool, err error) {
again:
	row := Hop{TTL: ttl, Probes: []Probe{}}
	var last netip.Addr
	reached, barred := false, 0
	s.say("%2d ", ttl)
	for range s.tries {
		if ctx.Err() != nil {
			s.say("\n")
			return true, nil
		}
		a, took, err := s.probe(ctx, ttl)
		switch {
		case errors.Is(err, syscall.EMSGSIZE) && s.mtu, err == nil && a.mtu != 0 && s.mtu:
			size := s.smaller(a.mtu)
			if size == 0 {
				s.say("\n")
				return true, fmt.Errorf("packets of %d octets are too large, and nothing smaller is left to try", s.size)
			}
			s.say("\nmessage too big, trying new MTU = %d\n", size)
			s.size = size
			goto again
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.say(" *")
			row.Probes = append(row.Probes, Probe{})
			continue
		case err != nil:
			s.say("\n")
			return true, err
		}
		p := Probe{From: a.from.String(), Time: float64(took) / float64(time.Millisecond)}
		if !s.numeric {
			p.Name = s.name(a.from)
		}
		if a.from != last {
			s.say("%s", s.address(s, a))
			last = a.from
		}
		s.say("  %.3f ms", p.Time)
		if s.show {
			p.TTL = max(a.hops, 0)
			if s.to.Is4() {
				s.say(" (%d)", a.hops)
			}
		}
		if a.reached && a.hops >= 0 && a.hops <= 1 {
			a.mark += " !" // its answers come with the hop limit of our probe
		}
		s.say("%s", a.mark)
		if len(a.mark) > 0 {
			p.Mark = a.mark[1:]
		}
		row.Probes = append(row.Probes, p)
		reached = reached || a.reached
		if a.barred {
			barred++
		}
	}
	s.say("\n")
	s.result.Hops = append(s.result.Hops, row)
	s.result.Reached = s.result.Reached || reached
	return reached || barred > 0 && barred >= (s.tries+1)/2, nil
}

// probe sends one and waits for its answer.
func (s *session) probe(ctx context.Context, ttl int) (answer, time.Duration, error) {
	s.seq++
	sent := s.now()
	if err := s.link.send(s.seq, ttl, s.size); err != nil {
		if errors.Is(err, syscall.EMSGSIZE) && s.mtu {
			return answer{}, 0, err
		}
		return answer{}, 0, fmt.Errorf("sendto: %s", protocol.Strerror(err))
	}
	deadline := sent.Add(s.wait)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	for {
		a, err := s.link.recv(s.seq, deadline)
		if err != nil {
			return answer{}, 0, err
		}
		if a.other == "" {
			return a, a.at.Sub(sent), nil
		}
		if s.verbose {
			s.say("\n%s", a.other)
		}
	}
}

// plateaus are the sizes to try when nobody says what fits (RFC 1191 §7).
var plateaus = []int{32000, 17914, 8166, 4352, 2002, 1500, 1492, 1480, 1280, 1006, 508, 296, 68}

// smaller is the next size to try after one that was too large; mtu is what a
// router said, 0 or less if nobody did. 0: there is none.
func (s *session) smaller(mtu int) int {
	if mtu > 0 && mtu < s.size {
		return mtu
	}
	for _, p := range plateaus {
		if p < s.size && p >= inet4.least {
			return p
		}
	}
	return 0
}
