package stacktest

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// End is the far end of one connection, which the test plays. Its numbers are
// relative: each side's SYN is 0 and its first octet 1.
type End struct {
	r        *Rig
	ip, to   string
	port, at uint16
	known    bool // irs is
	iss, irs uint32
	next     uint32 // behind the last octet that the stack sent, for ACKs
	ts       bool   // segments carry timestamps
	Echo     uint32 // the timestamp they echo: the stack's last
	TSVal    uint32 // what they say; 0: milliseconds of the rig's clock
	Win      uint16 // of segments that name no window
	TOS      uint8
	Seen     []byte // the stream that the stack has sent, as far as it is whole
}

// End makes a far end such as "10.0.0.2:5000" for a connection with the
// stack's "10.0.0.1:80", whose neighbour it becomes.
func (r *Rig) End(from, to string) *End {
	f, t := said(from), said(to)
	r.Meet(f.IP.String())
	return &End{r: r, ip: f.IP.String(), to: t.IP.String(), port: f.Port, at: t.Port, iss: 0xfffffff0, Win: 65535}
}

// Send has the stack receive segments, in the words of [Segment]; an ACK that
// is not named is for all that has come.
func (e *End) Send(lines ...string) {
	var frames [][]byte
	for _, l := range lines {
		frames = append(frames, e.Frame(l))
	}
	e.r.Send(frames...)
}

// Frame is one of them.
func (e *End) Frame(line string) []byte {
	s, hasAck, hasWin := ParseSegment(line)
	s.Seq += e.iss
	switch {
	case hasAck:
		s.Ack += e.irs
	case s.Flags&packet.TCPAck != 0:
		s.Ack = e.next
	}
	if !hasWin {
		s.Win = e.Win
	}
	for i := range s.Opt.SACK[:s.Opt.NSACK] {
		s.Opt.SACK[i].Start += e.irs
		s.Opt.SACK[i].End += e.irs
	}
	if e.ts && !s.Opt.HasTimestamp && s.Flags&packet.TCPRst == 0 {
		s.Opt.HasTimestamp, s.Opt.TSVal, s.Opt.TSEcr = true, e.clock(), e.Echo
	}
	return e.frame(&s)
}

func (e *End) clock() uint32 {
	if e.TSVal != 0 {
		return e.TSVal
	}
	return uint32(e.r.now / 1e6)
}

func (e *End) frame(s *Segment) []byte {
	var ob [packet.TCPMaxLen - packet.TCPLen]byte
	return e.raw(s, ob[:s.Opt.Put(ob[:])])
}

func (e *End) raw(s *Segment, opts []byte) []byte {
	src, dst := netip.MustParseAddr(e.ip), netip.MustParseAddr(e.to)
	return IP{Src: e.ip, Dst: e.to, Proto: packet.ProtoTCP, TOS: e.TOS, ID: 7, Data: s.octets(src, dst, e.port, e.at, opts)}.Frame()
}

// SendRaw has the stack receive a segment with these octets as its options.
func (e *End) SendRaw(line string, opts []byte) {
	s, _, _ := ParseSegment(line)
	s.Seq += e.iss
	s.Ack = e.next
	s.Win = e.Win
	e.r.Send(e.raw(&s, opts))
}

// Got compares what the stack has sent to this end since the last time, in the
// words of [Segment]. Windows and timestamps count only where the words name
// them. Data has to be that of [Octets], unless it is quoted.
func (e *End) Got(want ...string) {
	e.r.Helper()
	var got []string
	bad := false
	for i, f := range e.r.Sent() {
		s, ok := e.take(f)
		if !ok {
			got, bad = append(got, Describe(f)), true
			continue
		}
		w := s.words(e.irs, e.iss)
		line := ""
		if i < len(want) {
			line = want[i]
		}
		w = e.plain(w, line)
		if strings.Contains(line, `"`) {
			w += " " + strconv.Quote(string(s.Data))
		} else if at := int(int32(s.Seq - e.irs)); len(s.Data) > 0 && string(s.Data) != string(Octets(at, len(s.Data))) {
			w += fmt.Sprintf(" of other data: %.40q", s.Data)
		}
		got = append(got, w)
		bad = bad || w != line
	}
	if bad || len(got) != len(want) {
		e.r.Fatalf("at %v sent:\n\t%s\nwant:\n\t%s", e.r.now, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// Lines is what the stack has sent, in words without windows and timestamps.
func (e *End) Lines() (out []string) {
	for _, f := range e.r.Sent() {
		if s, ok := e.take(f); ok {
			out = append(out, e.plain(s.words(e.irs, e.iss), ""))
		} else {
			out = append(out, Describe(f))
		}
	}
	return out
}

// Segments is what the stack has sent to this end; numbers are relative.
func (e *End) Segments() (out []Segment) {
	for _, f := range e.r.Sent() {
		if s, ok := e.take(f); ok {
			s.Seq -= e.irs
			s.Ack -= e.iss
			for i := range s.Opt.SACK[:s.Opt.NSACK] {
				s.Opt.SACK[i].Start -= e.iss
				s.Opt.SACK[i].End -= e.iss
			}
			out = append(out, s)
		}
	}
	return out
}

// Take notes a frame that the test has looked at itself.
func (e *End) Take(f []byte) { e.take(f) }

// take notes a segment of the stack's.
func (e *End) take(f []byte) (Segment, bool) {
	s, ip, t, ok := segmentOf(f)
	if !ok || ip.Dst().String() != e.ip || t.DstPort() != e.port || t.SrcPort() != e.at {
		return s, false
	}
	if s.Flags&packet.TCPSyn != 0 && !e.known {
		e.irs, e.next, e.known = s.Seq, s.Seq, true
	}
	if s.Opt.HasTimestamp {
		e.Echo = s.Opt.TSVal
	}
	n := uint32(len(s.Data))
	if s.Flags&packet.TCPSyn != 0 {
		n++
	}
	if s.Flags&packet.TCPFin != 0 {
		n++
	}
	if end := s.Seq + n; e.known && s.Flags&packet.TCPRst == 0 && int32(end-e.next) > 0 && int32(s.Seq-e.next) <= 0 {
		if over := e.next - s.Seq; len(s.Data) > int(over) && s.Flags&packet.TCPSyn == 0 {
			e.Seen = append(e.Seen, s.Data[over:]...)
		}
		e.next = end
	}
	return s, true
}

// plain leaves out what want does not name.
func (e *End) plain(w, want string) string {
	if !strings.Contains(want, " win ") {
		a, b, _ := strings.Cut(w, " win ")
		_, b, more := strings.Cut(b, " ")
		w = a
		if more {
			w += " " + b
		}
	}
	if at := strings.Index(w, "ts "); at >= 0 && !strings.Contains(want, "ts ") {
		end := at
		for n := 0; end < len(w) && w[end] != '>'; end++ {
			if w[end] == ' ' {
				if n++; n == 3 {
					end++
					break
				}
			}
		}
		w = w[:at] + w[end:]
		w = strings.ReplaceAll(strings.ReplaceAll(w, " >", ">"), " <>", "")
	}
	return w
}

// Stream makes a stream socket, bound to local ("" for not).
func (r *Rig) Stream(local string) *Socket {
	r.Helper()
	s := r.Socket(socket.Stream, 0)
	if local != "" {
		if err := s.Bind(local); err != nil {
			r.Fatal(err)
		}
	}
	return s
}

// Listen makes a listening socket on a local end such as ":80".
func (r *Rig) Listen(local string, backlog int) *Socket {
	r.Helper()
	s := r.Stream(local)
	if err := s.Listen(backlog); err != nil {
		r.Fatal(err)
	}
	return s
}

// Dial connects a stream socket on 10.0.0.1:5000 to 10.0.0.2:80, which answers
// with options (see [Segment]).
func (r *Rig) Dial(options string) (*Socket, *End) {
	r.Helper()
	s := r.Stream("10.0.0.1:5000")
	return s, r.DialOn(s, options)
}

// DialOn is Dial with a socket of one's own, bound to 10.0.0.1:5000.
func (r *Rig) DialOn(s *Socket, options string) *End {
	r.Helper()
	e := r.End("10.0.0.2:80", "10.0.0.1:5000")
	if err := s.Connect("10.0.0.2:80"); !errors.Is(err, syscall.EINPROGRESS) {
		r.Fatal(err)
	}
	if got := e.Lines(); len(got) != 1 {
		r.Fatal("for a SYN came ", got)
	}
	r.Pass(r.Delay)
	e.ts = strings.Contains(options, "ts")
	e.Send("S. 0 <" + e.stamped(options) + ">")
	if got := e.Lines(); len(got) != 1 || got[0] != ". 1 ack 1" {
		r.Fatal("the handshake ends with ", got)
	}
	return e
}

// stamped completes a lonely "ts".
func (e *End) stamped(options string) string {
	w := strings.Fields(options)
	for i := range w {
		if w[i] == "ts" {
			w[i] = fmt.Sprint("ts ", e.clock(), " ", e.Echo)
		}
	}
	return strings.Join(w, " ")
}

// Serve listens on 10.0.0.1:80, and accepts 10.0.0.2:5000, whose SYN has
// options.
func (r *Rig) Serve(options string) (*Socket, *End) {
	r.Helper()
	l := r.Listen("10.0.0.1:80", 5)
	e := r.Knock(options)
	s, err := l.Accept()
	if err != nil {
		r.Fatal(err)
	}
	return s, e
}

// Knock is 10.0.0.2:5000 opening a connection to 10.0.0.1:80.
func (r *Rig) Knock(options string) *End {
	r.Helper()
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Knock(options)
	return e
}

// Knock opens the connection with a SYN that has options.
func (e *End) Knock(options string) {
	e.r.Helper()
	e.ts = strings.Contains(options, "ts")
	e.Send("S 0 <" + e.stamped(options) + ">")
	if got := e.Lines(); len(got) != 1 || !strings.HasPrefix(got[0], "S. 0 ack 1") {
		e.r.Fatal("for a SYN came ", got)
	}
	e.Send(". 1")
}

// Listen, Accept, Shutdown and Abort are the calls of their names.
func (s *Socket) Listen(backlog int) error {
	return s.r.Do(func(w *netif.Work) error { return s.Socket.Listen(w, backlog) })
}

func (s *Socket) Accept() (*Socket, error) {
	n := &Socket{r: s.r}
	err := s.r.Do(func(w *netif.Work) (err error) {
		n.Socket, err = s.Socket.Accept(w)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.r.socks = append(s.r.socks, n)
	return n, nil
}

func (s *Socket) Shutdown(read, write bool) error {
	return s.r.Do(func(w *netif.Work) error { return s.Socket.Shutdown(w, read, write) })
}

func (s *Socket) Abort() {
	_ = s.r.Do(func(w *netif.Work) error { s.Socket.Abort(w); return nil })
}

// Write is send(2): how much of data was taken.
func (s *Socket) Write(data string, flags int) (n int, err error) {
	err = s.r.Do(func(w *netif.Work) (err error) {
		n, err = s.Send(w, &socket.Msg{Data: []byte(data), Flags: flags})
		return err
	})
	return n, err
}

// Put sends [Octets] and fails unless all are taken.
func (s *Socket) Put(at, n int) {
	s.r.Helper()
	if k, err := s.Write(string(Octets(at, n)), 0); k != n || err != nil {
		s.r.Fatalf("of %d octets %d were taken: %v", n, k, err)
	}
}

// Read is recv(2) of n octets: what has come, as text, or the error in words;
// "EOF" at the end.
func (s *Socket) Read(n, flags int) string {
	m := socket.Msg{Data: make([]byte, n), Flags: flags}
	err := s.r.Do(func(w *netif.Work) error { return s.Recv(w, &m) })
	switch {
	case err != nil:
		return err.Error()
	case len(m.Data) == 0 && n > 0:
		return "EOF"
	}
	return string(m.Data)
}

// Has fails unless what can be received is just the n octets of [Octets] from
// at on.
func (s *Socket) Has(at, n int) {
	s.r.Helper()
	got := ""
	for len(got) < n {
		x := s.Read(n-len(got), 0)
		if got += x; x == "" || x == "EOF" || s.Queued() == 0 {
			break
		}
	}
	if got != string(Octets(at, n)) {
		s.r.Fatalf("received %d octets %.60q, want %d, %.60q", len(got), got, n, Octets(at, n))
	}
	if q := s.Queued(); q != 0 {
		s.r.Fatalf("%d octets more than %d are there", q, n)
	}
}

// IRS is the stack's initial sequence number.
func (e *End) IRS() uint32 { return e.irs }

// Next is the number behind the last octet that the stack has sent.
func (e *End) Next() uint32 { return e.next - e.irs }

// Put has the stack receive a segment; its numbers are relative. stamped says
// whether it carries a timestamp, if that was agreed on.
func (e *End) Put(s Segment, stamped bool) {
	s.Seq += e.iss
	s.Ack += e.irs
	for i := range s.Opt.SACK[:s.Opt.NSACK] {
		s.Opt.SACK[i].Start += e.irs
		s.Opt.SACK[i].End += e.irs
	}
	if e.ts && stamped {
		s.Opt.HasTimestamp, s.Opt.TSVal, s.Opt.TSEcr = true, e.clock(), e.Echo
	}
	e.r.Send(e.frame(&s))
}

// Quote is a segment of the stack's as an ICMP error quotes it.
func (e *End) Quote(s Segment) []byte {
	s.Seq += e.irs
	src, dst := netip.MustParseAddr(e.to), netip.MustParseAddr(e.ip)
	return IP{Src: e.to, Dst: e.ip, Proto: packet.ProtoTCP, Data: s.octets(src, dst, e.at, e.port, nil)}.Frame()[packet.EtherLen:]
}
