package ping

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"ionet/protocol"
	"ionet/tool/echo"
)

// link is a socket that ICMP goes through.
type link interface {
	send(icmp []byte, to netip.Addr) error
	recv() (packet, error) // waits; fails when the link is closed
	id() uint16            // of our requests
	close()
}

// Result is what --json prints: one object at the end.
type Result struct {
	Host        string    `json:"host"`
	Address     string    `json:"address"`
	Size        int       `json:"size"` // octets of data
	Transmitted int       `json:"transmitted"`
	Received    int       `json:"received"`
	Duplicates  int       `json:"duplicates"`
	Loss        float64   `json:"loss"`          // percent
	RTT         *echo.RTT `json:"rtt,omitempty"` // data of 8 octets and more
	Replies     []Reply   `json:"replies"`       // the first 65,536, none with -q
	Errors      []Error   `json:"errors"`        // other ICMP about our requests; all with -v
}

// Reply is one echo reply.
type Reply struct {
	Seq       int     `json:"seq"`
	From      string  `json:"from"`
	Bytes     int     `json:"bytes"` // of the ICMP message
	TTL       int     `json:"ttl"`
	Time      float64 `json:"time,omitempty"` // milliseconds
	Duplicate bool    `json:"duplicate,omitempty"`
	Damaged   bool    `json:"damaged,omitempty"` // length or data are not what was sent
}

// Error is another ICMP message. One that an echo socket tells of has no
// sender, and -1 for type and code.
type Error struct {
	From string `json:"from,omitempty"`
	Type int    `json:"type"`
	Code int    `json:"code"`
	Text string `json:"text"`
}

// session is one run of ping.
type session struct {
	*options
	echo.Run[packet]
	json     bool
	err      io.Writer
	link     link
	hostname string
	to, hop  netip.Addr // hop: where packets go first; that is to, or -g
	name     func(netip.Addr) string

	data    []byte
	route   []byte
	replies []Reply
	errors  []Error
}

func (s *session) timed() bool { return s.size >= headerLen }

// prepare makes ready for a run.
func (s *session) prepare() {
	s.data = make([]byte, s.size)
	echo.Fill(s.data, s.pattern, s.random)
	s.Pace = echo.Pace{Count: s.count, Preload: s.preload, Interval: s.interval, Wait: s.wait, Once: s.once, Flood: s.flood}
	s.Dotted = !s.quiet && !s.json
	s.Recv, s.Send, s.Take, s.Close = s.link.recv, s.send, s.take, s.link.close
	s.Interim = func() { s.Out.WriteString(summary(&s.Stats, "", s.timed(), s.flood)) }
	s.Begin()
}

// run pings and answers the exit status: 0 replies came, 2 none.
func (s *session) run(ctx context.Context) int {
	if !s.json {
		if s.pattern != nil && !s.quiet {
			fmt.Fprintf(s.Out, "PATTERN: 0x%x\n", s.pattern)
		}
		fmt.Fprintf(s.Out, "PING %s (%s): %d data bytes\n", s.hostname, s.to, s.size)
		s.Out.Flush()
	}
	s.prepare()
	broken := s.Do(ctx)
	if broken != nil {
		s.Out.Flush()
		fmt.Fprintf(s.err, "ping: %v\n", broken)
	}
	s.finish()
	switch {
	case broken != nil:
		return 1
	case s.Received > 0:
		return 0
	}
	return 2
}

// send sends one request.
func (s *session) send(seq uint16, since time.Duration) {
	if s.random {
		echo.Fill(s.data, nil, true)
	}
	if err := s.link.send(request(s.link.id(), seq, s.data, since), s.hop); err != nil {
		s.Newline()
		s.Out.Flush()
		fmt.Fprintf(s.err, "ping: sendto: %s\n", protocol.Strerror(err))
	}
}

// take looks at what came.
func (s *session) take(p *packet) {
	if p.failed != 0 {
		s.takeFailure(p.failed)
		return
	}
	if len(p.icmp) < headerLen {
		if s.verbose && !s.json {
			s.Newline()
			fmt.Fprintf(s.Out, "packet too short (%d bytes) from %s\n", p.total, p.from)
		}
		return
	}
	if typ, _ := p.kind(); typ != echoReply || p.id() != s.link.id() {
		s.takeOther(p)
		return
	}
	seq := p.seq()
	rtt, dup, known := s.Reply(seq, p.at, s.timed())
	if !known {
		return // we have not sent this number
	}
	problem := ""
	if want := headerLen + s.size; len(p.icmp) != want {
		ip := p.total - len(p.icmp)
		problem = fmt.Sprintf("\nwrong total length %d instead of %d", p.total, ip+want)
	}
	if !s.random {
		problem += wrongData(s.data, p.data())
	}
	if s.json {
		if !s.quiet && len(s.replies) < echo.KeepReplies {
			r := Reply{Seq: int(seq), From: p.from.String(), Bytes: len(p.icmp), TTL: p.ttl, Duplicate: dup, Damaged: problem != ""}
			if s.timed() {
				r.Time = echo.Millis(rtt)
			}
			s.replies = append(s.replies, r)
		}
		return
	}
	if s.quiet && problem == "" {
		return
	}
	if s.flood && problem == "" {
		s.Undot()
		return
	}
	s.Newline()
	s.Out.WriteString(replyLine(p, dup, s.timed(), rtt) + problem + route(p.opts, &s.route, s.name) + "\n")
	if s.audible && !dup && !s.flood {
		fmt.Fprint(s.err, "\a")
	}
}

// takeOther looks at ICMP that is no reply to us.
func (s *session) takeOther(p *packet) {
	text, ok := other(p, s.link.id(), s.verbose, s.name)
	switch {
	case !ok:
	case s.json:
		if len(s.errors) < echo.KeepReplies {
			typ, code := p.kind()
			_, what, _ := strings.Cut(text, ": ")
			s.errors = append(s.errors, Error{p.from.String(), int(typ), int(code), what})
		}
	case !s.verbose && (s.quiet || s.semi):
	default:
		s.Newline()
		s.Out.WriteString(text + route(p.opts, &s.route, s.name) + "\n")
	}
}

// takeFailure tells of an ICMP error about a request of ours, of which an echo
// socket knows neither the sender nor the words.
func (s *session) takeFailure(errno syscall.Errno) {
	switch text := protocol.Strerror(errno); {
	case s.json:
		if len(s.errors) < echo.KeepReplies {
			s.errors = append(s.errors, Error{Type: -1, Code: -1, Text: text})
		}
	case !s.verbose && (s.quiet || s.semi):
	default:
		s.Newline()
		s.Out.Flush()
		fmt.Fprintf(s.err, "ping: recvfrom: %s\n", text)
	}
}

// finish says the last word.
func (s *session) finish() {
	defer s.Out.Flush()
	if !s.json {
		s.Newline()
		s.Out.WriteString(summary(&s.Stats, s.hostname, s.timed(), s.flood))
		return
	}
	r := Result{Host: s.hostname, Address: s.to.String(), Size: s.size, Transmitted: s.Sent, Received: s.Received, Duplicates: s.Dups,
		Loss: max(s.Loss(), 0), Replies: append([]Reply{}, s.replies...), Errors: append([]Error{}, s.errors...)}
	if s.Received > 0 && s.timed() {
		rtt := s.RTT()
		r.RTT = &rtt
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		s.Out.Write(append(b, '\n'))
	}
}
