package tcp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ionet/stack/packet"
	. "ionet/stack/stacktest"
	"ionet/stack/tcp"
)

// model is a connection as RFC 9293 §3.10.7.4 and RFC 5961 tell it, slowly and
// without anything that makes it fast. Numbers are relative, as an [End]'s.
type model struct {
	state     string
	una, nxt  int
	rcv, edge int // next octet wanted; right edge of the window
	have      map[int]bool
	fin       int // place of the peer's FIN; 0: not known
	finSent   bool
	answer    string // "", "ack", "rst", or "any" where none and an ack will do
	maxWnd    int    // the widest window that the peer has offered
}

func (m *model) acceptable(seq, n int) bool {
	first := m.rcv <= seq && seq < m.edge
	if n == 0 {
		return first
	}
	last := seq + n - 1
	return first || m.rcv <= last && last < m.edge
}

// segment is the arrival of one.
func (m *model) segment(s Segment) {
	seq, ack, n := int(int32(s.Seq)), int(int32(s.Ack)), len(s.Data)
	is := func(f uint8) bool { return s.Flags&f != 0 }
	if is(packet.TCPSyn) {
		n++
	}
	if is(packet.TCPFin) {
		n++
	}
	m.answer = ""
	if m.state == "TIME_WAIT" {
		switch {
		case is(packet.TCPRst): // RFC 1337
		case is(packet.TCPSyn) && !is(packet.TCPAck) && seq > m.rcv: // RFC 6191: and nobody listens
			m.state, m.answer = "CLOSED", "rst"
		case n > 0:
			m.answer = "ack"
		}
		return
	}
	if !m.acceptable(seq, n) {
		if is(packet.TCPRst) {
			return
		}
		m.answer = "ack"
		if is(packet.TCPAck) && !is(packet.TCPSyn) && seq < m.rcv && ack > m.una && ack <= m.nxt && seq+n > m.rcv-100000 {
			was := m.state
			m.acked(ack) // its data is old, its news is not
			if m.state != was && was != "FIN_WAIT_1" {
				m.answer = "any"
			}
		}
		return
	}
	switch {
	case is(packet.TCPRst) && seq == m.rcv:
		m.state = "CLOSED"
		return
	case is(packet.TCPRst), is(packet.TCPSyn):
		m.answer = "ack" // RFC 5961 §3, §4
		return
	case !is(packet.TCPAck):
		return
	case ack > m.nxt, ack < m.una-m.maxWnd: // RFC 5961 §5
		m.answer = "ack"
		return
	}
	if ack > m.una {
		was := m.state
		m.acked(ack)
		if m.state == "CLOSED" {
			return
		}
		if was == "CLOSING" && m.state == "TIME_WAIT" {
			m.answer = "any"
			return
		}
	}
	if len(s.Data) == 0 && !is(packet.TCPFin) {
		return
	}
	m.answer = "ack"
	switch m.state {
	case "CLOSE_WAIT", "CLOSING", "LAST_ACK":
		return
	}
	at := seq
	for range s.Data {
		if at >= m.rcv && at < m.edge && (m.fin == 0 || at < m.fin) {
			m.have[at] = true
		}
		at++
	}
	if is(packet.TCPFin) && at >= m.rcv && at <= m.edge && m.fin == 0 {
		m.fin = at
	}
	for m.have[m.rcv] {
		m.rcv++
	}
	if m.fin == m.rcv {
		m.rcv++
		m.state = map[string]string{"ESTABLISHED": "CLOSE_WAIT", "FIN_WAIT_1": "CLOSING", "FIN_WAIT_2": "TIME_WAIT"}[m.state]
	}
}

// acked: everything before ack has arrived.
func (m *model) acked(ack int) {
	m.una = ack
	if m.finSent && ack == m.nxt {
		m.state = map[string]string{"FIN_WAIT_1": "FIN_WAIT_2", "CLOSING": "TIME_WAIT", "LAST_ACK": "CLOSED"}[m.state]
	}
}

// shutdown is the user's.
func (m *model) shutdown() {
	if next, ok := map[string]string{"ESTABLISHED": "FIN_WAIT_1", "CLOSE_WAIT": "LAST_ACK"}[m.state]; ok {
		m.state, m.finSent = next, true
		m.nxt++
	}
}

// contradicts reports that a peer cannot say so: its stream ends in two places.
// That is for the fuzzer; what it does to the stream is no matter.
func (m *model) contradicts(end int, fin bool) bool {
	if m.fin != 0 {
		return m.rcv <= m.fin && (end > m.fin || fin && end != m.fin)
	}
	for at := range m.have {
		if fin && at >= end {
			return true
		}
	}
	return false
}

// ways are how a connection gets into a state: "s", the user shuts down; the
// other words are segments.
var ways = map[string][]string{
	"ESTABLISHED": nil,
	"CLOSE_WAIT":  {"F. 1 ack 1"},
	"FIN_WAIT_1":  {"s"},
	"FIN_WAIT_2":  {"s", ". 1 ack 2"},
	"CLOSING":     {"s", "F. 1 ack 1"},
	"LAST_ACK":    {"F. 1 ack 1", "s"},
	"TIME_WAIT":   {"s", "F. 1 ack 2"},
}

// TestAgainstTheModel: any segments, in any state.
func TestAgainstTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := New(t)
		r.Delay = 20 * time.Millisecond
		r.Sysctl("net.inet.tcp.delack", "0")
		r.Sysctl("net.inet.tcp.rtomin", "60000")
		s, e := r.Dial(bare)
		option(t, s, tcp.NoDelay, 1)
		m := &model{state: "ESTABLISHED", una: 1, nxt: 1, rcv: 1, edge: 65536, have: map[int]bool{}, maxWnd: 65535}
		said := ""
		step := func(line string) {
			said += "\n\t" + line
			switch line {
			case "s":
				m.shutdown()
				_ = s.Shutdown(false, true)
				e.Segments()
				return
			case "w":
				if m.state == "ESTABLISHED" || m.state == "CLOSE_WAIT" {
					m.nxt += 5
				}
				_, _ = s.Write("12345", 0)
				e.Segments()
				return
			}
			x, _, _ := ParseSegment(line)
			m.segment(x)
			e.Send(line)
			got := e.Segments()
			if have := state(r); have != m.state {
				rt.Fatalf("%s\n\tis %s, want %s", said, have, m.state)
			}
			want := m.answer
			if want == "any" {
				if want = ""; len(got) > 0 {
					want = "ack"
				}
			}
			switch want {
			case "":
				if len(got) == 1 && m.finSent && m.una < m.nxt && got[0].Flags&packet.TCPFin != 0 {
					break // the third acknowledgement of the same (RFC 5681 §3.2)
				}
				if len(got) != 0 {
					rt.Fatalf("%s\n\tis answered by %s", said, got[0].String())
				}
			case "rst":
				if len(got) != 1 || got[0].Flags&packet.TCPRst == 0 {
					rt.Fatalf("%s\n\tis not answered by a reset: %v", said, got)
				}
			default:
				if len(got) == 0 {
					rt.Fatalf("%s\n\tis not answered", said)
				}
				a := got[len(got)-1]
				if a.Flags&^packet.TCPPsh != packet.TCPAck || int(int32(a.Seq)) != m.nxt || int(int32(a.Ack)) != m.rcv {
					rt.Fatalf("%s\n\tis answered by %s, want seq %d ack %d", said, a.String(), m.nxt, m.rcv)
				}
				if m.state != "TIME_WAIT" {
					m.edge = max(m.edge, m.rcv+int(a.Win))
				}
			}
		}
		for _, w := range ways[rapid.SampledFrom([]string{"ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSING", "LAST_ACK", "TIME_WAIT"}).Draw(rt, "state")] {
			step(w)
		}
		for range rapid.IntRange(1, 5).Draw(rt, "steps") {
			if m.state == "CLOSED" {
				break
			}
			flags := rapid.SampledFrom([]string{".", ".", "F.", "P.", "R", "R.", "S", "S.", "F", "-", "FP.", "w", "s"}).Draw(rt, "flags")
			if flags == "w" || flags == "s" {
				step(flags)
				continue
			}
			seq := rapid.SampledFrom([]int{m.rcv, m.rcv, m.rcv, m.rcv - 1, m.rcv + 1, m.rcv - 3, m.rcv + 4, m.edge - 1, m.edge, m.edge - 3, m.rcv - 70000}).Draw(rt, "seq")
			n := rapid.SampledFrom([]int{0, 0, 1, 5, 9}).Draw(rt, "n")
			ack := rapid.SampledFrom([]int{m.una, m.nxt, m.nxt, m.nxt + 1, m.una - 1, m.una + 1, m.una - 70000}).Draw(rt, "ack")
			if m.contradicts(seq+n, strings.Contains(flags, "F")) {
				continue
			}
			step(fmt.Sprintf("%s %d+%d ack %d", flags, seq, n, ack))
		}
		// What the user sees is what the model has put in order.
		in := m.rcv - 1
		if m.fin > 0 && m.rcv > m.fin {
			in--
		}
		if q := s.Queued(); q != in {
			rt.Fatalf("%s\n\t%d octets wait, want %d", said, q, in)
		}
		if got := s.Read(in+1, 0); in > 0 && got != string(Octets(1, in)) {
			rt.Fatalf("%s\n\tread %q", said, got)
		}
		s.Close()
	})
}
