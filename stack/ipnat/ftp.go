package ipnat

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/ipl"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// What a client has asked its server and has not been answered.
const (
	askedPASV uint8 = 1 << iota
	askedEPSV
	askedAUTH
)

// minData is the lowest port that a data connection is let go to: servers that others trust are below
// (RFC 2577 §3).
const minData = 1024

// control is what is known of a control connection of FTP (RFC 959, RFC 2428). Addresses that an
// inside end announces go on as outer ones, and the connection that is announced by either end is
// expected ([expect]). What goes out is changed, and lines that may have to be wait until they
// are whole; what comes in is read alone.
type control struct {
	s      *session
	edited atomic.Bool // sequence numbers of the two ends are not the same any more

	mu      sync.Mutex
	streams [2]stream // by direction: in, out
	asked   uint8
	reply   [3]byte // the code of the reply that has begun and goes on; 0: none
	opaque  bool    // encrypted from here on (RFC 4217)
	over    bool    // closed or reset: the next SYN begins anew

	lines lines // of the segment at hand

	expected [maxExpected]*expect // under the lock of expects
}

// controls reports whether a session is of a connection that the rule's proxy reads.
func (r *rule) controls(s *session) bool {
	switch {
	case r.Proxy == nil || s.proto != packet.ProtoTCP:
		return false
	case r.Kind == ipl.Rdr:
		return !s.began && s.out.port >= r.Ports[0] && s.out.port <= r.Ports[1]
	}
	return s.began && s.rem.port == r.Proxy.Port
}

// segment takes a segment of a control connection in before its addresses are changed, and
// puts another in its place if it must. false: it is not to go on.
func (c *control) segment(w *netif.Work, i *pfil.Info) bool {
	n := c.s.n
	h, ok := packet.CheckTCP(i.Transport())
	if !ok || i.Is&pfil.Fragment != 0 || i.Pkt.Csum == packet.CsumNone && !sumOK(i) {
		n.count.ftpDropped.Add(1)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase(i.Out, h)
	seq, flags := h.Seq(), h.Flags()
	if flags&packet.TCPSyn != 0 {
		seq++ // what it carries begins there
	}
	d := &c.streams[dir(i.Out)]
	if !d.began {
		d.start(seq)
	}
	c.lines = lines{c, w, i}
	out, at, ok := d.pass(seq, h.Payload(), flags&packet.TCPFin != 0, &c.lines)
	if !ok {
		n.count.ftpDropped.Add(1)
		return false
	}
	if flags&packet.TCPSyn != 0 {
		at--
	}
	if !i.Out {
		c.back(i, h)
		return true
	}
	if len(d.edits) > 0 && !c.edited.Load() {
		c.edited.Store(true)
	}
	if !c.edited.Load() && at == h.Seq() && len(out) == len(h.Payload()) {
		return true
	}
	return n.replace(i, d, h, out, at)
}

// phase begins anew with the SYN of a connection that follows another one on its ports, and notes
// how one ends.
func (c *control) phase(out bool, h packet.TCP) {
	d := &c.streams[dir(out)]
	if c.streams[0].fin && c.streams[1].fin {
		c.over = true
	}
	switch f := h.Flags(); {
	case f&packet.TCPRst != 0:
		if !d.began || h.Seq() == d.next || d.held && h.Seq() == d.sent() {
			c.over = true
		}
	case f&(packet.TCPSyn|packet.TCPAck) == packet.TCPSyn && c.over:
		c.over, c.asked, c.opaque, c.reply = false, 0, false, [3]byte{}
		c.streams[0].began, c.streams[1].began = false, false
		c.edited.Store(false)
	}
}

// back has what comes in acknowledge the octets that the inside end has sent.
func (c *control) back(i *pfil.Info, h packet.TCP) {
	d := &c.streams[dir(true)]
	if !c.edited.Load() || h.Flags()&packet.TCPAck == 0 {
		return
	}
	ack := h.Ack()
	binary.BigEndian.PutUint32(h[8:], d.unmapped(ack, false))
	d.unmapSACK(h.Options())
	d.acknowledged(ack)
	setSum(i)
}

// unmapSACK translates the blocks of the SACK option (RFC 2018 §3) among o. One of which nothing is
// left makes room for the others, and NOPs follow these.
func (d *stream) unmapSACK(o []byte) {
	for len(o) > 0 && o[0] != packet.TCPOptEnd {
		if o[0] == packet.TCPOptNop {
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return
		}
		v := o[2:o[1]]
		if o[0] != packet.TCPOptSACK || len(v)%8 != 0 {
			o = o[o[1]:]
			continue
		}
		k := 0
		for x := 0; x < len(v); x += 8 {
			first, end := d.unmapped(binary.BigEndian.Uint32(v[x:]), true), d.unmapped(binary.BigEndian.Uint32(v[x+4:]), false)
			if before(first, end) {
				binary.BigEndian.PutUint32(v[k:], first)
				binary.BigEndian.PutUint32(v[k+4:], end)
				k += 8
			}
		}
		for x := k; x < len(v); x++ {
			v[x] = packet.TCPOptNop
		}
		if k > 0 {
			o[1] = byte(2 + k)
		} else {
			o[0], o[1] = packet.TCPOptNop, packet.TCPOptNop
		}
		return
	}
}

// Below these a packet may leave by any path as it is (RFC 791 §3.2, RFC 8200 §5).
const (
	minMTU  = 576
	minMTU6 = 1280
)

// replace puts the octets out, at that sequence number, into the segment h, in a buffer of its own if
// they are others. One that has grown beyond what any path takes is a super-packet from then on,
// since its sender knows of smaller ones. false: there is no memory, or no room in a datagram.
func (n *NAT) replace(i *pfil.Info, d *stream, h packet.TCP, out []byte, at uint32) bool {
	old := h.Payload()
	urgent := d.mapped(h.Seq()+uint32(h.Urgent())) - at
	if len(out) != len(old) || len(out) > 0 && &out[0] != &old[0] {
		p := i.Pkt
		head := p.Len() - len(old)
		if head+len(out) > 65535 {
			n.count.ftpDropped.Add(1)
			return false
		}
		c := p.Pool().Get(head + len(out))
		if c == nil {
			n.count.ftpDropped.Add(1)
			return false
		}
		copy(c.Append(head), p.Bytes())
		copy(c.Append(len(out)), out)
		c.CopyMeta(p)
		least, kind := minMTU, packet.GSOTCPv4
		if i.V6 {
			least, kind = minMTU6, packet.GSOTCPv6
		}
		switch {
		case c.GSO != packet.GSONone && len(out) <= int(c.GSOSize):
			c.GSO, c.GSOSize = packet.GSONone, 0
		case c.GSO == packet.GSONone && len(out) > len(old) && head+len(out) > least:
			c.GSO, c.GSOSize = kind, uint16(len(old))
			c.SetPartial(i.L4, packet.TCPCsumOffset)
		}
		p.Free()
		i.Pkt = c
		b := c.Bytes()
		if h = packet.TCP(b[i.L4:]); i.V6 {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6Len))
		} else {
			ip := packet.IPv4(b)
			ip.SetTotalLen(len(b))
			ip.SetChecksum()
		}
	}
	binary.BigEndian.PutUint32(h[4:], at)
	if len(out) == 0 && len(old) > 0 {
		h[13] &^= packet.TCPPsh | packet.TCPUrg
	}
	if h[13]&packet.TCPUrg != 0 && urgent <= 65535 {
		binary.BigEndian.PutUint16(h[18:], uint16(urgent))
	}
	setSum(i)
	return true
}

// sumOK verifies the checksum of a TCP segment.
func sumOK(i *pfil.Info) bool {
	t := i.Transport()
	return packet.Fold(packet.Sum(packet.HeaderPseudoSum(i.Pkt.Bytes(), packet.ProtoTCP, len(t)), t)) == 0xffff
}

// setSum makes the checksum of a TCP segment, or that of the pseudo-header if it is partial.
func setSum(i *pfil.Info) {
	b := i.Pkt.Bytes()
	t := b[i.L4:]
	f := t[packet.TCPCsumOffset:]
	sum := packet.HeaderPseudoSum(b, packet.ProtoTCP, len(t))
	if i.Pkt.Csum == packet.CsumPartial {
		binary.BigEndian.PutUint16(f, packet.Fold(sum))
		return
	}
	f[0], f[1] = 0, 0
	binary.BigEndian.PutUint16(f, ^packet.Fold(packet.Sum(sum, t)))
}

// lines reads the lines of one direction of a control connection.
type lines struct {
	c *control
	w *netif.Work
	i *pfil.Info
}

// client reports whether the client says them: sessions of map begin with the inside one.
func (l *lines) client() bool { return l.i.Out == l.c.s.began }

func (l *lines) wants(line []byte) (read, hold bool) {
	switch {
	case l.c.opaque:
		return false, false
	case l.client():
		hold = begins(line, cmdPORT) || begins(line, cmdEPRT)
		read = hold || begins(line, cmdPASV) || begins(line, cmdEPSV) || begins(line, cmdAUTH)
	default:
		hold = begins(line, reply227) || begins(line, reply229)
		read = true
	}
	return read, hold && l.i.Out
}

func (l *lines) whole(line []byte) (at, end int, text []byte, ok bool) {
	c := l.c
	if c.opaque {
		return 0, 0, nil, false
	}
	var a announced
	switch {
	case l.client():
		if a, ok = parsePORT(line); !ok {
			a, ok = parseEPRT(line)
		}
		if ok {
			break
		}
		if _, is := argument(line, cmdPASV); is {
			c.asked |= askedPASV
		} else if _, is = argument(line, cmdEPSV); is {
			c.asked |= askedEPSV
		} else if _, is = argument(line, cmdAUTH); is {
			c.asked |= askedAUTH
		}
	case c.within(line):
	case c.asked&askedAUTH != 0 && begins(line, reply234) && len(line) >= len(reply234):
		c.opaque = true // RFC 4217 §4
	case c.asked&askedPASV != 0:
		if a, ok = parse227(line); ok {
			c.asked &^= askedPASV
			break
		}
		fallthrough
	case c.asked&askedEPSV != 0:
		if a, ok = parse229(line); ok && c.asked&askedEPSV != 0 {
			c.asked &^= askedEPSV
		} else {
			ok = false
		}
	}
	if !ok {
		return 0, 0, nil, false
	}
	to, ok := c.announce(l.w, &a, l.i.Out)
	if !ok || !l.i.Out {
		return 0, 0, nil, false
	}
	if text = a.text(to); string(text) == string(line[a.at:a.end]) {
		return 0, 0, nil, false
	}
	c.s.n.count.ftpEdits.Add(1)
	return a.at, a.end, text, true
}

// within reports whether a line of the server is one of a reply of several lines, but not the last
// (RFC 959 §4.2).
func (c *control) within(line []byte) bool {
	coded := len(line) > 3
	for n := 0; coded && n < 3; n++ {
		coded = line[n] >= '0' && line[n] <= '9'
	}
	switch {
	case c.reply == [3]byte{}:
		if coded && line[3] == '-' {
			c.reply = [3]byte(line)
			return true
		}
		return false
	case coded && line[3] == ' ' && c.reply == [3]byte(line):
		c.reply = [3]byte{}
		return false
	}
	return true
}

// announce has the connection expected that one end of a control connection has announced, the
// inside one if out, and answers where to the other end is to be told. Nobody may announce
// another host, or a port of a server (RFC 2577 §3).
func (c *control) announce(w *netif.Work, a *announced, out bool) (to netip.AddrPort, ok bool) {
	s := c.s
	e := s.rem
	if out {
		e = s.in
	}
	e.port = a.port
	if own := e.addrPort(s.v6); a.port < minData || a.addr.IsValid() && a.addr != own.Addr() {
		s.n.count.ftpRefused.Add(1)
		return to, false
	}
	if !out {
		return to, s.n.expects.outgoing(w, c, e)
	}
	e, ok = s.n.expects.incoming(w, c, e)
	return e.addrPort(s.v6), ok
}
