package ping6

import (
	"context"
	"encoding/binary"
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

// link is a socket that ICMPv6 goes through.
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
	Source      string    `json:"source"`
	Size        int       `json:"size"` // octets behind the ICMPv6 header
	Transmitted int       `json:"transmitted"`
	Received    int       `json:"received"`
	Duplicates  int       `json:"duplicates"`
	Loss        float64   `json:"loss"`          // percent
	RTT         *echo.RTT `json:"rtt,omitempty"` // data of 8 octets and more
	Replies     []Reply   `json:"replies"`       // the first 65,536, none with -q
	Errors      []Error   `json:"errors"`        // other ICMPv6 about our requests; all with -v
}

// Reply is one reply.
type Reply struct {
	Seq       int     `json:"seq"`
	From      string  `json:"from"`
	Bytes     int     `json:"bytes"` // of the ICMPv6 message
	HopLimit  int     `json:"hlim,omitempty"`
	Time      float64 `json:"time,omitempty"` // milliseconds
	Duplicate bool    `json:"duplicate,omitempty"`
	Damaged   bool    `json:"damaged,omitempty"` // length or data are not what was sent
	Info      string  `json:"info,omitempty"`    // of a node information reply
}

// Error is another ICMPv6 message. One that an echo socket tells of has no
// sender, and -1 for type and code.
type Error struct {
	From string `json:"from,omitempty"`
	Type int    `json:"type"`
	Code int    `json:"code"`
	Text string `json:"text"`
}

// session is one run of ping6.
type session struct {
	*options
	echo.Run[packet]
	json bool
	err  io.Writer
	link link
	from netip.Addr // our address; invalid: not known
	to   netip.Addr // zone: the interface's name
	name func(netip.Addr) string

	data    []byte
	replies []Reply
	errors  []Error
}

// length is that of a request, behind the ICMPv6 header.
func (s *session) length() int {
	if s.ask == askEcho {
		return s.size
	}
	return len(query(s.options, 0, 0, s.to)) - headerLen
}

// timed says that replies have a time: an echo's data has room for it, and a
// node's answer takes as long as it takes.
func (s *session) timed() bool { return s.ask == askEcho && s.size >= headerLen }

// prepare makes ready for a run.
func (s *session) prepare() {
	s.data = make([]byte, s.size)
	echo.Fill(s.data, s.pattern, false)
	s.Pace = echo.Pace{Count: s.count, Preload: s.preload, Interval: s.interval, Flood: s.flood}
	s.Dotted = !s.quiet && !s.json
	s.Recv, s.Send, s.Take, s.Close = s.link.recv, s.send, s.take, s.link.close
	s.Interim = func() { s.Out.WriteString(summary(&s.Stats, "", s.timed())) }
	s.Begin()
}

// run pings and answers the exit status: 0 replies came, 2 none.
func (s *session) run(ctx context.Context) int {
	if !s.json {
		if s.pattern != nil && !s.quiet {
			fmt.Fprintf(s.Out, "PATTERN: 0x%x\n", s.pattern)
		}
		n := s.length()
		from := "::" // no way leads there
		if s.from.IsValid() {
			from = s.from.String()
		}
		fmt.Fprintf(s.Out, "PING6(%d=40+8+%d bytes) %s --> %s\n", ipHeaderLen+headerLen+n, n, from, s.to)
		s.Out.Flush()
	}
	s.prepare()
	broken := s.Do(ctx)
	if broken != nil {
		s.Out.Flush()
		fmt.Fprintf(s.err, "ping6: %v\n", broken)
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
	b := request(s.link.id(), seq, s.data, since)
	if s.ask != askEcho {
		b = query(s.options, s.link.id(), seq, s.to)
	}
	if err := s.link.send(b, s.to); err != nil {
		s.Newline()
		s.Out.Flush()
		fmt.Fprintf(s.err, "ping6: sendmsg: %s\n", protocol.Strerror(err))
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
			fmt.Fprintf(s.Out, "packet too short (%d bytes) from %s\n", len(p.icmp), p.from)
		}
		return
	}
	typ, _ := p.kind()
	switch {
	case typ == echoReply && s.ask == askEcho && p.id() == s.link.id():
		s.takeReply(p)
	case typ == niReply && s.ask != askEcho && len(p.icmp) >= niHeaderLen && binary.BigEndian.Uint16(p.icmp[10:]) == s.link.id():
		s.takeInfo(p)
	case typ == echoReply || typ == niReply: // others' are no news
	default:
		s.takeOther(p)
	}
}

// takeReply looks at an echo reply to us.
func (s *session) takeReply(p *packet) {
	rtt, dup, known := s.Reply(p.seq(), p.at, s.timed())
	if !known {
		return // we have not sent this number
	}
	problem := ""
	if want := headerLen + s.size; len(p.icmp) != want {
		problem = fmt.Sprintf("\nwrong total length %d instead of %d", len(p.icmp), want)
	}
	problem += wrongData(s.data, p.icmp[headerLen:])
	switch {
	case s.json:
		r := Reply{Seq: int(p.seq()), From: p.from.String(), Bytes: len(p.icmp), HopLimit: max(p.hlim, 0), Duplicate: dup, Damaged: problem != ""}
		if s.timed() {
			r.Time = echo.Millis(rtt)
		}
		s.keep(r)
	case problem == "" && s.quiet:
	case problem == "" && s.flood:
		s.Undot()
	default:
		s.Newline()
		s.Out.WriteString(replyLine(p, s.name(p.from), dup, s.timed(), s.verbose, rtt) + problem + "\n")
	}
}

// takeInfo looks at a node information reply to us.
func (s *session) takeInfo(p *packet) {
	seq := binary.BigEndian.Uint16(p.icmp[8:])
	_, dup, known := s.Reply(seq, p.at, false)
	if !known {
		return
	}
	text := nodeinfo(p.icmp, s.verbose)
	switch {
	case s.json:
		s.keep(Reply{Seq: int(seq), From: p.from.String(), Bytes: len(p.icmp), HopLimit: max(p.hlim, 0), Duplicate: dup, Info: text})
	case s.quiet:
	case s.flood:
		s.Undot()
	default:
		s.Newline()
		fmt.Fprintf(s.Out, "%d bytes from %s: %s\n", len(p.icmp), s.name(p.from), text)
	}
}

// keep remembers a reply for --json.
func (s *session) keep(r Reply) {
	if !s.quiet && len(s.replies) < echo.KeepReplies {
		s.replies = append(s.replies, r)
	}
}

// takeOther looks at ICMPv6 that is no reply to us.
func (s *session) takeOther(p *packet) {
	text, ok := other(p, s.link.id(), s.verbose, s.name(p.from))
	switch {
	case !ok:
	case s.json:
		if len(s.errors) < echo.KeepReplies {
			typ, code := p.kind()
			_, what, _ := strings.Cut(text, ": ")
			s.errors = append(s.errors, Error{p.from.String(), int(typ), int(code), what})
		}
	case !s.verbose && s.quiet:
	default:
		s.Newline()
		s.Out.WriteString(text + "\n")
	}
}

// takeFailure tells of an ICMPv6 error about a request of ours, of which an
// echo socket knows neither the sender nor the words.
func (s *session) takeFailure(errno syscall.Errno) {
	switch text := protocol.Strerror(errno); {
	case s.json:
		if len(s.errors) < echo.KeepReplies {
			s.errors = append(s.errors, Error{Type: -1, Code: -1, Text: text})
		}
	case !s.verbose && s.quiet:
	default:
		s.Newline()
		s.Out.Flush()
		fmt.Fprintf(s.err, "ping6: recvmsg: %s\n", text)
	}
}

// finish says the last word.
func (s *session) finish() {
	defer s.Out.Flush()
	if !s.json {
		s.Newline()
		s.Out.WriteString(summary(&s.Stats, s.host, s.timed()))
		return
	}
	r := Result{Host: s.host, Address: s.to.String(), Size: s.length(), Transmitted: s.Sent, Received: s.Received, Duplicates: s.Dups,
		Loss: max(s.Loss(), 0), Replies: append([]Reply{}, s.replies...), Errors: append([]Error{}, s.errors...)}
	if s.from.IsValid() {
		r.Source = s.from.String()
	}
	if s.Received > 0 && s.timed() {
		rtt := s.RTT()
		r.RTT = &rtt
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		s.Out.Write(append(b, '\n'))
	}
}
