package ipnat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ionet/stack/packet"
	"ionet/stack/pfil"

	"pgregory.net/rapid"
)

// seg is a segment of a control connection.
type seg struct {
	src, dst string // with ports
	seq, ack uint32
	flags    uint8
	sack     []uint32
	data     string
}

func (g seg) bytes() []byte {
	src, dst := netip.MustParseAddrPort(g.src), netip.MustParseAddrPort(g.dst)
	var o []byte
	if len(g.sack) > 0 {
		o = []byte{1, 1, 5, byte(2 + 4*len(g.sack))}
		for _, v := range g.sack {
			o = binary.BigEndian.AppendUint32(o, v)
		}
	}
	b := make([]byte, packet.TCPLen, packet.TCPLen+len(o)+len(g.data))
	packet.PutTCP(b, src.Port(), dst.Port(), g.seq, g.ack, packet.TCPLen+len(o), g.flags|packet.TCPAck, 100, 0, 0)
	return ip(src.Addr().String(), dst.Addr().String(), packet.ProtoTCP, append(append(b, o...), g.data...), 16)
}

// told is a segment in words: sequence number, acknowledgement, blocks, octets.
func toldSegment(b []byte) string {
	l4 := 20
	if b[0]>>4 == 6 {
		l4 = 40
	}
	h := packet.TCP(b[l4:])
	s := fmt.Sprintf("%d %d %q", h.Seq(), h.Ack(), h.Payload())
	var o packet.TCPOptions
	o.Parse(h.Options())
	for _, k := range o.SACK[:o.NSACK] {
		s += fmt.Sprintf(" %d-%d", k.Start, k.End)
	}
	return s
}

// speaks has a segment translated and compares what it says afterwards.
func (r *rig) speaks(out bool, g seg, want string) {
	r.Helper()
	p, v := r.hookBuf(out, r.buf(g.bytes(), 20))
	defer p.Free()
	got := v2s(v)
	if v == pfil.Translated {
		p.CompleteCsum()
		got = toldSegment(p.Bytes())
		if err := sums(p.Bytes()); err != nil {
			r.Errorf("%q: %v", g.data, err)
		}
	}
	if got != want {
		r.Errorf("%d %d %q became %s, want %s", g.seq, g.ack, g.data, got, want)
	}
}

func v2s(v pfil.Verdict) string {
	return map[pfil.Verdict]string{pfil.Untouched: "untouched", pfil.Refused: "refused", pfil.Translated: "translated", pfil.Taken: "taken"}[v]
}

const inner, server, outer = "10.0.0.1:1025", "198.51.100.1:21", "192.0.2.1:1025"

const ftpMap = "map out0 10.0.0.0/8 -> 0/32 proxy port 21 ftp/tcp"

// A client inside has the server connect to it: the address in the text is the outer one, all that
// follows moves, and the connection comes in.
func TestFTPActive(t *testing.T) {
	r := newRig(t, ftpMap, "map out0 10.0.0.0/8 -> 0/32")
	c := func(seq, ack uint32, data, want string) {
		r.Helper()
		r.speaks(out, seg{src: inner, dst: server, seq: seq, ack: ack, data: data}, want)
	}
	s := func(seq, ack uint32, data, want string, sack ...uint32) {
		r.Helper()
		r.speaks(in, seg{src: server, dst: outer, seq: seq, ack: ack, data: data, sack: sack}, want)
	}
	r.speaks(out, seg{src: inner, dst: server, seq: 99, flags: packet.TCPSyn}, `99 0 ""`)
	s(500, 100, "220 hello\r\n", `500 100 "220 hello\r\n"`)
	c(100, 511, "USER me\r\n", `100 511 "USER me\r\n"`)
	c(109, 511, "PORT 10,0,0,1,19,137\r\n", `109 511 "PORT 192,0,2,1,19,137\r\n"`) // one octet more
	s(511, 132, "200 fine\r\n", `511 131 "200 fine\r\n"`)
	c(131, 521, "LIST\r\n", `132 521 "LIST\r\n"`)
	c(109, 511, "PORT 10,0,0,1,19,137\r\n", `110 511 "PORT 10,0,0,1,19,137\r\n"`) // has been acknowledged: to be thrown away
	s(521, 138, "", `521 137 ""`)
	// The data connection, from whatever port, once.
	r.says(in, tcp("198.51.100.1", 20, "192.0.2.1", 5001, packet.TCPSyn), "tcp 198.51.100.1:20 > 10.0.0.1:5001")
	r.says(out, tcp("10.0.0.1", 5001, "198.51.100.1", 20, packet.TCPSyn|packet.TCPAck), "tcp 192.0.2.1:5001 > 198.51.100.1:20")
	r.says(in, tcp("198.51.100.1", 2020, "192.0.2.1", 5001, packet.TCPSyn), "untouched")
	r.says(in, tcp("198.51.100.9", 20, "192.0.2.1", 5001, packet.TCPSyn), "untouched")
	// Two more in one segment, lost, repeated as two and as one, with SACK blocks about what follows.
	const two = "EPRT |1|10.0.0.1|5002|\r\nport 10,0,0,1,19,139\r\n"
	c(137, 521, two, `138 521 "EPRT |1|192.0.2.1|5002|\r\nport 192,0,2,1,19,139\r\n"`)
	c(137, 521, two[:24], `138 521 "EPRT |1|192.0.2.1|5002|\r\n"`)
	c(161, 521, two[24:], `163 521 "port 192,0,2,1,19,139\r\n"`)
	c(183, 521, "NOOP\r\n", `186 521 "NOOP\r\n"`)
	s(521, 138, "", `521 137 "" 183-189`, 186, 192)
	s(521, 138, "", `521 137 "" 161-183`, 163, 186)
	s(521, 138, "", `521 137 "" 181-189`, 170, 192) // begins inside of the changed text: behind it
	s(521, 138, "", `521 137 ""`, 170, 175)         // of changed text alone
	s(521, 170, "", `521 166 ""`)                   // as much as is before the text
	s(521, 192, "", `521 189 ""`)
	c(189, 521, "QUIT\r\n", `192 521 "QUIT\r\n"`)
	if st := r.Stats(); st.FTPEdits != 3 || st.Expected != 3 || st.FTPRefused != 0 || st.FTPDropped != 0 {
		t.Errorf("%+v", st)
	}
	if k := len(r.Sessions(0, 0)); k != 2 {
		t.Errorf("%d sessions", k)
	}
	r.fast(r.in0, r.out0, seg{src: inner, dst: server, seq: 189}.bytes(), "no")
	if b, err := r.Save(); err != nil || strings.Contains(string(b), ":21") {
		t.Errorf("a connection whose numbers have moved is saved: %s, %v", b, err)
	}
	r.pass(61) // nobody has come
	r.says(in, tcp("198.51.100.1", 20, "192.0.2.1", 5003, packet.TCPSyn), "untouched")
}

// A command cut into pieces waits to be whole; the pieces go on together, or when they turn out to be
// something else.
func TestFTPCut(t *testing.T) {
	r := newRig(t, ftpMap)
	c := func(seq uint32, data string, flags uint8, want string) {
		r.Helper()
		r.speaks(out, seg{src: inner, dst: server, seq: seq, ack: 500, data: data, flags: flags}, want)
	}
	c(100, "", 0, `100 500 ""`)
	c(100, "NOOP\r\nPO", packet.TCPPsh, `100 500 "NOOP\r\n"`)
	c(108, "", 0, `106 500 ""`)
	c(108, "RT 10,0,0", 0, `106 500 ""`)
	c(106, "PORT 10,0,0", 0, `106 500 ""`) // again, since nobody has acknowledged it
	c(117, ",1,19,137\r\nP", 0, `106 500 "PORT 192,0,2,1,19,137\r\n"`)
	c(106, "PORT 10,0,0", 0, `106 500 "PORT 192,0,2,1,19,137"`) // the first piece alone again: all of it
	c(117, ",1,19,137\r\nP", 0, `127 500 "\r\n"`)               // the second: what is behind the change
	c(129, "ASV\r\n", 0, `129 500 "PASV\r\n"`)
	c(140, "late", 0, "refused") // not the next one
	c(133, "EPRT |1|10.0.0.1|", packet.TCPFin, `134 500 "EPRT |1|10.0.0.1|"`)
	c(150, "", packet.TCPFin, `151 500 ""`)
	if st := r.Stats(); st.FTPEdits != 1 || st.FTPDropped != 1 {
		t.Errorf("%+v", st)
	}
	// The ports are used again: nothing has been changed of the next connection.
	r.speaks(in, seg{src: server, dst: outer, seq: 500, ack: 152, flags: packet.TCPFin}, `500 151 ""`)
	b := seg{src: inner, dst: server, seq: 9000}.bytes()
	b[33] = packet.TCPSyn
	b = ip("10.0.0.1", "198.51.100.1", packet.ProtoTCP, append(b[20:36:36], 0, 0, 0, 0), 16)
	r.says(out, b, "tcp 192.0.2.1:1025 > 198.51.100.1:21")
	c(9001, "NOOP\r\n", 0, `9001 500 "NOOP\r\n"`)
}

// Where the server is to connect to must be the client, and no port of a server.
func TestFTPBounce(t *testing.T) {
	r := newRig(t, ftpMap)
	at := uint32(100)
	for _, line := range []string{"PORT 10,0,0,2,19,137", "PORT 10,0,0,1,0,25", "PORT 10,0,0,1,3,255", "EPRT |1|10.0.0.2|5000|", "EPRT |2|fd00::5|5000|",
		"PORT 10,0,0,1,19,137 x", "PORT 10,0,0,1,19,256", "PORT 10,0,0,1,19", "EPRT |1|10.0.0.1|5000", "EPRT |1|10.0.0.1|70000|", "PORTER", "EPRT", strings.Repeat("PORT ", 200)} {
		line += "\r\n"
		r.speaks(out, seg{src: inner, dst: server, seq: at, ack: 500, data: line}, fmt.Sprintf("%d 500 %q", at, line))
		at += uint32(len(line))
	}
	if st := r.Stats(); st.Expected != 0 || st.FTPEdits != 0 || st.FTPRefused != 5 {
		t.Errorf("%+v", st)
	}
}

// A server inside says where it listens; from a client outside it hears where to connect to.
func TestFTPServerInside(t *testing.T) {
	r := newRig(t, "rdr out0 192.0.2.1/32 port 2121 -> 10.0.0.3 port 21 tcp proxy ftp")
	r.sockets("tcp 192.0.2.1:5001")
	c := func(seq, ack uint32, data, want string) {
		r.Helper()
		r.speaks(in, seg{src: "203.0.113.5:999", dst: "192.0.2.1:2121", seq: seq, ack: ack, data: data}, want)
	}
	s := func(seq, ack uint32, data, want string) {
		r.Helper()
		r.speaks(out, seg{src: "10.0.0.3:21", dst: "203.0.113.5:999", seq: seq, ack: ack, data: data}, want)
	}
	c(10, 1, "", `10 1 ""`)
	s(1, 10, "227 Nobody has asked (10,0,0,3,19,137).\r\n", `1 10 "227 Nobody has asked (10,0,0,3,19,137).\r\n"`)
	c(10, 42, "PASV\r\n", `10 42 "PASV\r\n"`)
	s(42, 16, "211-Listing\r\n227 (10,0,0,3,19,137)\r\n211 end\r\n", `42 16 "211-Listing\r\n227 (10,0,0,3,19,137)\r\n211 end\r\n"`)
	var text string
	p, _ := r.hookBuf(out, r.buf(seg{src: "10.0.0.3:21", dst: "203.0.113.5:999", seq: 87, ack: 16, data: "227 Entering Passive Mode (10,0,0,3,19,137).\r\n"}.bytes(), 20))
	text = string(packet.TCP(p.Bytes()[20:]).Payload())
	p.Free()
	a, ok := parse227([]byte(text))
	if !ok || a.addr != netip.MustParseAddr("192.0.2.1") || a.port == 5001 || a.port < 1024 || !strings.HasSuffix(text, ").\r\n") {
		t.Errorf("%q: %+v; 5001 is a socket's", text, a)
	}
	r.says(in, tcp("203.0.113.5", 7000, "192.0.2.1", a.port, packet.TCPSyn), "tcp 203.0.113.5:7000 > 10.0.0.3:5001")
	next := 87 + uint32(len(text))
	c(16, next, "EPSV\r\n", fmt.Sprintf("16 %d %q", 87+46, "EPSV\r\n"))
	s(87+46, 22, "229 Extended (|||6446|)\r\n", fmt.Sprintf("%d 22 %q", next, "229 Extended (|||6446|)\r\n")) // its port is free outside
	r.says(in, tcp("203.0.113.5", 7001, "192.0.2.1", 6446, packet.TCPSyn), "tcp 203.0.113.5:7001 > 10.0.0.3:6446")
	// Active: the server's connection goes out as the address that the client knows.
	c(22, next+25, "PORT 203,0,113,5,27,88\r\n", fmt.Sprintf("22 %d %q", 87+46+25, "PORT 203,0,113,5,27,88\r\n"))
	r.says(out, tcp("10.0.0.3", 20, "203.0.113.5", 7000, packet.TCPSyn), "tcp 192.0.2.1:20 > 203.0.113.5:7000")
	c(46, next+25, "PORT 203,0,113,6,27,88\r\n", fmt.Sprintf("46 %d %q", 87+46+25, "PORT 203,0,113,6,27,88\r\n"))
	r.says(out, tcp("10.0.0.3", 20, "203.0.113.6", 7000, packet.TCPSyn), "untouched")
	c(70, next+25, "AUTH TLS\r\n", fmt.Sprintf("70 %d %q", 87+46+25, "AUTH TLS\r\n"))
	s(87+46+25, 80, "234 Go on\r\n", fmt.Sprintf("%d 80 %q", next+25, "234 Go on\r\n"))
	s(87+46+36, 80, "229", fmt.Sprintf("%d 80 %q", next+36, "229")) // what looks like it is not
	if st := r.Stats(); st.FTPRefused != 1 || st.Expected != 3 {
		t.Errorf("%+v", st)
	}
}

// The passive mode of a client inside needs no other text: its connection has the outer address that the
// control connection has.
func TestFTPPassive(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 192.0.2.9/32 proxy port 21 ftp/tcp", "map out0 10.0.0.0/8 -> 192.0.2.10/32")
	r.speaks(out, seg{src: inner, dst: server, seq: 100, ack: 500, data: "PASV\r\n"}, `100 500 "PASV\r\n"`)
	r.speaks(in, seg{src: server, dst: "192.0.2.9:1025", seq: 500, ack: 106, data: "227 Here: 198,51,100,1,19,137\r\n"}, `500 106 "227 Here: 198,51,100,1,19,137\r\n"`)
	syn := tcp("10.0.0.1", 1026, "198.51.100.1", 5001, packet.TCPSyn)
	i := new(pfil.Info)
	b := r.buf(syn, 20)
	i.Parse(b, r.in0, false)
	f, ok := r.Expected(i)
	if want := (pfil.Flow{SrcLo: 0x0a000001, DstLo: 0xc6336401, Sport: 1025, Dport: 21, Proto: 6}); !ok || f != want {
		t.Errorf("%+v %v", f, ok)
	}
	i.Dport++
	if _, ok := r.Expected(i); ok {
		t.Error("another port is expected")
	}
	b.Free()
	r.says(out, syn, "tcp 192.0.2.9:1026 > 198.51.100.1:5001")
	r.says(out, tcp("10.0.0.1", 1027, "198.51.100.1", 5001, packet.TCPSyn), "tcp 192.0.2.10:1027 > 198.51.100.1:5001")
	// Two clients of one port; and the connections expected of one that ends are not any more.
	r.speaks(out, seg{src: "10.0.0.2:1025", dst: server, seq: 100, ack: 500, data: "PORT 10,0,0,2,19,137\r\n"}, `100 500 "PORT 192,0,2,9,19,137\r\n"`)
	if r.expects.m.Len() != 1 {
		t.Errorf("%d are expected", r.expects.m.Len())
	}
	if err := r.Edit([]Op{{Kind: FlushSessions}}); err != nil || r.expects.m.Len() != 0 {
		t.Errorf("%d are expected, %v", r.expects.m.Len(), err)
	}
}

func TestFTPSix(t *testing.T) {
	r := newRig(t, "map out0 fd00::/64 -> ::/128 proxy port 21 ftp/tcp")
	r.speaks(out, seg{src: "[fd00::5]:1025", dst: "[2001:db8:9::1]:21", seq: 1, data: "EPRT |2|fd00::5|5282|\r\n"}, `1 0 "EPRT |2|2001:db8::1|5282|\r\n"`)
	r.speaks(in, seg{src: "[2001:db8:9::1]:21", dst: "[2001:db8::1]:1025", seq: 1, ack: 28}, `1 24 ""`)
	r.says(in, tcp("2001:db8:9::1", 20, "2001:db8::1", 5282, packet.TCPSyn), "tcp [2001:db8:9::1]:20 > [fd00::5]:5282")
}

// A segment that has grown beyond what its sender found to fit is cut before it leaves; a
// super-packet stays one, and its sum is yet to be completed.
func TestFTPSizes(t *testing.T) {
	r := newRig(t, ftpMap)
	long := strings.Repeat("NOOP\r\n", 240) + "PORT 10,0,0,1,19,137\r\n" // 1462 octets
	p, _ := r.hookBuf(out, r.buf(seg{src: inner, dst: server, seq: 1, data: long}.bytes(), 20))
	if p.GSO != packet.GSOTCPv4 || int(p.GSOSize) != len(long) || p.Csum != packet.CsumPartial || p.Len() != 41+len(long) {
		t.Errorf("%d octets, segments of %d, checksum %d", p.Len(), p.GSOSize, p.Csum)
	}
	cut, ok := p.Segments(nil)
	if !ok || len(cut) != 2 {
		t.Fatal(len(cut), ok)
	}
	for n, want := range []string{fmt.Sprintf("1 0 %q", long[:1440]+"PORT 192,0,2,1,19,137\r"), `1463 0 "\n"`} {
		cut[n].CompleteCsum()
		if got := toldSegment(cut[n].Bytes()); got != want || sums(cut[n].Bytes()) != nil {
			t.Errorf("%s, want %s, %v", got, want, sums(cut[n].Bytes()))
		}
	}
	packet.FreeBurst(cut)
	p.Free()
	// A super-packet, whose octets are another's too.
	g := seg{src: inner, dst: server, seq: 1463, data: "PORT 10,0,0,1,19,138\r\nP" + strings.Repeat("x", 3000) + "\n"}
	q := r.buf(g.bytes(), 20)
	x := q.L4()
	binary.BigEndian.PutUint16(x[16:], packet.Fold(packet.HeaderPseudoSum(q.Bytes(), packet.ProtoTCP, len(x))))
	q.SetPartial(20, 16)
	q.GSO, q.GSOSize = packet.GSOTCPv4, 1000
	s := q.Share(q.Len())
	s.CopyMeta(q)
	was := append([]byte(nil), q.Bytes()[40:]...)
	s, _ = r.hookBuf(out, s)
	if !bytes.Equal(q.Bytes()[40:], was) {
		t.Error("octets that are another's too have been written")
	}
	if s.GSO != packet.GSOTCPv4 || s.GSOSize != 1000 || s.Csum != packet.CsumPartial {
		t.Errorf("segments of %d, checksum %d", s.GSOSize, s.Csum)
	}
	if cut, ok = s.Segments(nil); !ok || len(cut) != 4 {
		t.Fatal(len(cut), ok)
	}
	cut[0].CompleteCsum()
	if got := toldSegment(cut[0].Bytes()); !strings.HasPrefix(got, `1464 0 "PORT 192,0,2,1,19,138\r\nPxx`) || sums(cut[0].Bytes()) != nil {
		t.Errorf("%.60s, %v", got, sums(cut[0].Bytes()))
	}
	packet.FreeBurst(cut)
	s.Free()
	q.Free()
}

// Over a bad link, in whatever pieces: the server gets the client's octets with the addresses changed,
// the same ones whenever they come again, and the client hears of each of its own being acknowledged.
func TestFTPStream(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(&tb{t, rt}, ftpMap)
		defer r.Close()
		var said, want string
		for n := range rapid.IntRange(1, 30).Draw(rt, "lines") {
			switch rapid.IntRange(0, 3).Draw(rt, "line") {
			case 0:
				said += fmt.Sprintf("PORT 10,0,0,1,%d,7\r\n", 10+n)
				want += fmt.Sprintf("PORT 192,0,2,1,%d,7\r\n", 10+n)
			case 1:
				said += fmt.Sprintf("eprt |1|10.0.0.1|%d|\r\n", 5000+n)
				want += fmt.Sprintf("eprt |1|192.0.2.1|%d|\r\n", 5000+n)
			default:
				line := rapid.SampledFrom([]string{"NOOP\r\n", "PO\n", "\n", "EPSV\r\n", "PORT 1\r\n", "P"}).Draw(rt, "other")
				said, want = said+line, want+line
			}
		}
		if strings.Contains(said, "PP") || strings.Contains(said, "Pe") || strings.Contains(said, "PE") { // a line that goes on is another one
			rt.Skip()
		}
		const first = uint32(0xffffff00) // the numbers turn over
		got := map[uint32]byte{}         // what the server has, by number
		una, most, rcv := first, first, first
		var way [][]byte // to the server
		answer := func(lose bool) {
			g := seg{src: server, dst: outer, seq: 500, ack: rcv}
			if _, ok := got[rcv+3]; ok {
				end := rcv + 3
				for _, ok := got[end]; ok; _, ok = got[end] {
					end++
				}
				g.sack = []uint32{rcv + 3, end}
			}
			b, v := r.hook(in, g.bytes())
			h := packet.TCP(b[20:])
			if v != pfil.Translated || sums(b) != nil || before(most, h.Ack()) {
				rt.Fatalf("acknowledgement %d of %d: %d, %v, up to %d were sent", h.Ack(), rcv, v, sums(b), most)
			}
			if !lose && before(una, h.Ack()) {
				una = h.Ack()
			}
		}
		deliver := func(b []byte) {
			h := packet.TCP(b[20:])
			for k, c := range h.Payload() {
				at := h.Seq() + uint32(k)
				if before(at, rcv) { // it has that, and has said so
					continue
				}
				if was, ok := got[at]; ok && was != c {
					rt.Fatalf("octet %d is %q, and was %q", at, c, was)
				}
				got[at] = c
			}
			for _, ok := got[rcv]; ok; _, ok = got[rcv] {
				rcv++
			}
		}
		send := func(from uint32, n int) {
			at := int(from - first)
			n = min(n, len(said)-at)
			b, v := r.hook(out, seg{src: inner, dst: server, seq: from, ack: 500, data: said[at : at+n]}.bytes())
			if before(most, from+uint32(n)) && v == pfil.Translated {
				most = from + uint32(n)
			}
			if v == pfil.Translated {
				if sums(b) != nil {
					rt.Fatal(sums(b))
				}
				way = append(way, b)
			}
		}
		send(first, 0)
		for range rapid.IntRange(0, 200).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1:
				send(una+uint32(rapid.IntRange(0, int(most-una)).Draw(rt, "from")), rapid.IntRange(0, 60).Draw(rt, "octets"))
			case 2, 3:
				if len(way) > 0 {
					k := rapid.IntRange(0, len(way)-1).Draw(rt, "which")
					deliver(way[k])
					if rapid.Bool().Draw(rt, "once") {
						way = append(way[:k], way[k+1:]...)
					}
				}
			default:
				answer(rapid.Bool().Draw(rt, "lost"))
			}
		}
		for n := 0; int(una-first) < len(said); n++ {
			if n > 4*len(said) {
				break
			}
			way = nil
			send(una, 1+n) // all of it, by and by
			for _, b := range way {
				deliver(b)
			}
			answer(false)
		}
		if strings.HasSuffix(said, "P") { // waits for the rest of its line
			want = want[:len(want)-1]
		}
		text := make([]byte, 0, len(want))
		for k := range len(got) {
			text = append(text, got[first+uint32(k)])
		}
		if string(text) != want {
			rt.Fatalf("%q\nbecame %q,\nwant   %q", said, text, want)
		}
	})
}

func FuzzFTPLine(f *testing.F) {
	for _, s := range []string{"PORT 10,0,0,1,19,137\r\n", "EPRT |1|10.0.0.1|5000|\r\n", "eprt !2!fd00::5!5282!\n", "227 (10,0,0,3,19,137).\r\n", "229 x (|||6446|)\r\n", "220-x\r\n", "AUTH TLS\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, parse := range map[string]func([]byte) (announced, bool){"PORT": parsePORT, "EPRT": parseEPRT, "227": parse227, "229": parse229} {
			a, ok := parse(b)
			if !ok {
				continue
			}
			if a.at < 4 || a.at >= a.end || a.end > len(b) {
				t.Fatalf("%s: octets %d to %d of %q", name, a.at, a.end, b)
			}
			to := netip.MustParseAddrPort("192.0.2.1:40000")
			if a.addr.Is6() {
				to = netip.MustParseAddrPort("[2001:db8::1]:40000")
			}
			line := append(append(append([]byte(nil), b[:a.at]...), a.text(to)...), b[a.end:]...)
			c, ok := parse(line)
			if !ok || a.addr.IsValid() && c.addr != to.Addr() || c.port != to.Port() || c.at != a.at {
				t.Fatalf("%s: %q became %q, which is read as %+v, %v", name, b, line, c, ok)
			}
		}
		// However it is cut, a line begins as itself.
		l := &lines{c: &control{s: &session{began: true}}, i: &pfil.Info{Out: true}}
		_, hold := l.wants(b)
		for k := range b {
			if _, was := l.wants(b[:k]); hold && !was {
				t.Fatalf("%q waits, and its first %d octets do not", b, k)
			}
		}
	})
}
