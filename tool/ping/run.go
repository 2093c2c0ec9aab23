package ping

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"ionet/protocol"
)

// link is a socket that ICMP goes through.
type link interface {
	send(icmp []byte, to netip.Addr) error
	recv() (packet, error) // waits; fails when the link is closed
	id() uint16            // of our requests
	close()
}

// keepReplies bounds what --json remembers.
const keepReplies = 65536

// Result is what --json prints: one object at the end.
type Result struct {
	Host        string  `json:"host"`
	Address     string  `json:"address"`
	Size        int     `json:"size"` // octets of data
	Transmitted int     `json:"transmitted"`
	Received    int     `json:"received"`
	Duplicates  int     `json:"duplicates"`
	Loss        float64 `json:"loss"`          // percent
	RTT         *RTT    `json:"rtt,omitempty"` // data of 8 octets and more
	Replies     []Reply `json:"replies"`       // the first 65,536, none with -q
	Errors      []Error `json:"errors"`        // other ICMP about our requests; all with -v
}

// RTT are the round trip times in milliseconds.
type RTT struct {
	Min    float64 `json:"min"`
	Avg    float64 `json:"avg"`
	Max    float64 `json:"max"`
	StdDev float64 `json:"stddev"`
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
	json     bool
	out      *bufio.Writer
	err      io.Writer
	link     link
	hostname string
	to, hop  netip.Addr // hop: where packets go first; that is to, or -g
	name     func(netip.Addr) string
	signals  <-chan os.Signal

	stats
	data     []byte
	start    time.Time
	sentAt   []time.Time // by sequence number modulo its length
	seen     []bool
	last     int // sequence number of the last request
	caughtUp bool
	limit    int // requests to send
	next     time.Time
	dots     int
	route    []byte
	replies  []Reply
	errors   []Error
	broken   error
}

func (s *session) timed() bool { return s.size >= headerLen }

// run pings and answers the exit status: 0 replies came, 2 none.
func (s *session) run(ctx context.Context) int {
	s.data = make([]byte, s.size)
	s.fill(s.data)
	s.sentAt, s.seen = make([]time.Time, 1<<16), make([]bool, 1<<16)
	s.limit = s.count
	if s.limit == 0 {
		s.limit = 1<<31 - 1
	}
	if !s.json {
		if s.pattern != nil && !s.quiet {
			fmt.Fprintf(s.out, "PATTERN: 0x%x\n", s.pattern)
		}
		fmt.Fprintf(s.out, "PING %s (%s): %d data bytes\n", s.hostname, s.to, s.size)
		s.out.Flush()
	}
	in := make(chan packet, 256)
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		for {
			p, err := s.link.recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case in <- p:
			case <-stop:
				return
			}
		}
	}()
	s.start = time.Now()
	for range s.preload {
		s.send()
	}
	s.loop(ctx, in, failed)
	close(stop)
	s.link.close()
	if s.broken != nil {
		s.out.Flush()
		fmt.Fprintf(s.err, "ping: %v\n", s.broken)
	}
	s.finish()
	switch {
	case s.broken != nil:
		return 1
	case s.received > 0:
		return 0
	}
	return 2
}

// loop sends when it is time and takes what comes, until all is there that
// can be waited for.
func (s *session) loop(ctx context.Context, in <-chan packet, failed <-chan error) {
	interrupted := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for s.received < s.limit && !(s.once && s.received > 0) {
		now := time.Now()
		var wait time.Duration
		if s.sent < s.limit {
			if wait = s.next.Sub(now); wait <= 100*time.Microsecond || s.caughtUp && s.flood {
				s.send()
				wait = time.Until(s.next)
			}
			wait = max(wait, 0)
		} else {
			// The last reply may take twice as long as the slowest, or ten
			// intervals; or what -w says.
			limit := max(time.Duration(2*s.most*float64(time.Second)), 10*s.interval)
			if s.wait > 0 {
				limit = s.wait
			}
			if wait = limit - now.Sub(s.lastTx); wait <= 0 {
				return
			}
		}
		timer.Reset(wait)
		select {
		case p := <-in:
			s.take(&p)
			for more := true; more; { // what came with it
				select {
				case p := <-in:
					s.take(&p)
				default:
					more = false
				}
			}
			s.out.Flush()
		case <-timer.C:
		case err := <-failed:
			s.broken = err
			return
		case <-ctx.Done():
			return
		case sig := <-s.signals:
			switch {
			case sig == syscall.SIGQUIT:
				s.newline()
				fmt.Fprint(s.out, s.summary("", s.timed(), s.flood))
				s.out.Flush()
			case sig != syscall.SIGINT || interrupted || s.caughtUp || s.received == 0:
				return
			default: // let what is on its way come in
				interrupted = true
				s.limit = s.sent
			}
		}
	}
}

// send sends one request.
func (s *session) send() {
	now := time.Now()
	if s.random {
		s.fill(s.data)
	}
	seq := uint16(s.sent)
	s.last = int(seq)
	s.sentAt[seq], s.seen[seq], s.caughtUp = now, false, false
	b := request(s.link.id(), seq, s.data, now.Sub(s.start))
	if err := s.link.send(b, s.hop); err != nil {
		s.newline()
		s.out.Flush()
		fmt.Fprintf(s.err, "ping: sendto: %s\n", protocol.Strerror(err))
	}
	s.sent++
	s.lastTx = now
	if s.sent == 1 {
		s.firstTx, s.next = now, now
	}
	// At the same moment of every interval; at most 100 ms behind send
	// extras, beyond that skip.
	if s.next.Sub(now) <= s.interval {
		for {
			s.next = s.next.Add(s.interval)
			if s.next.Sub(now) >= -100*time.Millisecond {
				break
			}
		}
	}
	if s.flood && !s.quiet && !s.json {
		s.out.WriteByte('.')
		s.dots++
		s.out.Flush()
	}
}

// newline ends a line of flood's dots.
func (s *session) newline() {
	if s.dots > 0 {
		s.out.WriteByte('\n')
		s.dots = 0
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
			s.newline()
			fmt.Fprintf(s.out, "packet too short (%d bytes) from %s\n", p.total, p.from)
		}
		return
	}
	if typ, _ := p.kind(); typ != echoReply || p.id() != s.link.id() {
		s.takeOther(p)
		return
	}
	seq := p.seq()
	at := s.sentAt[seq]
	if at.IsZero() {
		return // we have not sent this number
	}
	if int(seq) == s.last {
		s.caughtUp = true
	}
	s.lastRx = p.at
	if s.firstRx.IsZero() {
		s.firstRx = p.at
	}
	dup := s.seen[seq]
	s.seen[seq] = true
	if dup {
		s.dups++
	} else {
		s.received++
	}
	rtt := max(p.at.Sub(at), 0)
	if s.timed() {
		s.add(rtt)
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
		if !s.quiet && len(s.replies) < keepReplies {
			r := Reply{Seq: int(seq), From: p.from.String(), Bytes: len(p.icmp), TTL: p.ttl, Duplicate: dup, Damaged: problem != ""}
			if s.timed() {
				r.Time = millis(rtt)
			}
			s.replies = append(s.replies, r)
		}
		return
	}
	if s.quiet && problem == "" {
		return
	}
	if s.flood && problem == "" {
		if s.dots > 0 {
			s.out.WriteByte('\b')
			s.dots--
		}
		return
	}
	s.newline()
	s.out.WriteString(replyLine(p, dup, s.timed(), rtt) + problem + route(p.opts, &s.route, s.name) + "\n")
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
		if len(s.errors) < keepReplies {
			typ, code := p.kind()
			_, what, _ := strings.Cut(text, ": ")
			s.errors = append(s.errors, Error{p.from.String(), int(typ), int(code), what})
		}
	case !s.verbose && (s.quiet || s.semi):
	default:
		s.newline()
		s.out.WriteString(text + route(p.opts, &s.route, s.name) + "\n")
	}
}

// takeFailure tells of an ICMP error about a request of ours, of which an echo
// socket knows neither the sender nor the words.
func (s *session) takeFailure(errno syscall.Errno) {
	switch text := protocol.Strerror(errno); {
	case s.json:
		if len(s.errors) < keepReplies {
			s.errors = append(s.errors, Error{Type: -1, Code: -1, Text: text})
		}
	case !s.verbose && (s.quiet || s.semi):
	default:
		s.newline()
		s.out.Flush()
		fmt.Fprintf(s.err, "ping: recvfrom: %s\n", text)
	}
}

// finish says the last word.
func (s *session) finish() {
	defer s.out.Flush()
	if !s.json {
		s.newline()
		s.out.WriteString(s.summary(s.hostname, s.timed(), s.flood))
		return
	}
	r := Result{Host: s.hostname, Address: s.to.String(), Size: s.size, Transmitted: s.sent, Received: s.received, Duplicates: s.dups,
		Loss: max(s.loss(), 0), Replies: append([]Reply{}, s.replies...), Errors: append([]Error{}, s.errors...)}
	if s.received > 0 && s.timed() {
		avg, dev := s.deviation()
		r.RTT = &RTT{s.least * 1000, avg * 1000, s.most * 1000, dev * 1000}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		s.out.Write(append(b, '\n'))
	}
}
