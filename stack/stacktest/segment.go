package stacktest

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"ionet/stack/packet"
)

// Segment is a TCP segment in words:
//
//	FLAGS SEQ[+LEN] [ack N] [win N] [urg N] [<OPTIONS>] ["DATA"]
//
// FLAGS are of S F R P . U E W, "." being ACK, and "-" none; SEQ the sequence
// number of the first octet; LEN that of data. OPTIONS are of "mss N",
// "wscale N", "sackOK", "ts VAL ECR", "sack FROM-TO ...", and of Fast Open "ask"
// and "cookie HEX". The window is what the header says, without scaling.
type Segment struct {
	Flags    uint8
	Seq, Ack uint32
	Win      uint16
	Urgent   uint16
	Opt      packet.TCPOptions
	Data     []byte
}

const flagLetters = "FSRP.UEW"

// String is the segment in words, with everything it has.
func (s *Segment) String() string { return s.words(0, 0) }

// words is the segment with its numbers relative to where each side began.
func (s *Segment) words(seq, ack uint32) string {
	var b strings.Builder
	for _, i := range []int{1, 0, 2, 3, 5, 6, 7, 4} { // the dot stands last
		if s.Flags&(1<<i) != 0 {
			b.WriteByte(flagLetters[i])
		}
	}
	if s.Flags == 0 {
		b.WriteByte('-')
	}
	fmt.Fprintf(&b, " %d", int32(s.Seq-seq))
	if len(s.Data) > 0 {
		fmt.Fprintf(&b, "+%d", len(s.Data))
	}
	if s.Flags&packet.TCPAck != 0 {
		fmt.Fprintf(&b, " ack %d", int32(s.Ack-ack))
	}
	fmt.Fprintf(&b, " win %d", s.Win)
	if s.Flags&packet.TCPUrg != 0 {
		fmt.Fprintf(&b, " urg %d", s.Urgent)
	}
	var o []string
	if s.Opt.MSS != 0 {
		o = append(o, fmt.Sprint("mss ", s.Opt.MSS))
	}
	if s.Opt.HasWScale {
		o = append(o, fmt.Sprint("wscale ", s.Opt.WScale))
	}
	if s.Opt.SACKOK {
		o = append(o, "sackOK")
	}
	if s.Opt.HasTimestamp {
		o = append(o, fmt.Sprintf("ts %d %d", s.Opt.TSVal, s.Opt.TSEcr))
	}
	if s.Opt.NSACK > 0 {
		k := "sack"
		for _, x := range s.Opt.SACK[:s.Opt.NSACK] {
			k += fmt.Sprintf(" %d-%d", int32(x.Start-ack), int32(x.End-ack))
		}
		o = append(o, k)
	}
	switch {
	case s.Opt.HasFastOpen && len(s.Opt.FastOpen) == 0:
		o = append(o, "ask")
	case s.Opt.HasFastOpen:
		o = append(o, fmt.Sprintf("cookie %x", s.Opt.FastOpen))
	}
	if len(o) > 0 {
		b.WriteString(" <" + strings.Join(o, " ") + ">")
	}
	return b.String()
}

// ParseSegment reads a segment of words. Octets of data that the words do not
// quote are [Octets] of their place, which begins at 1. hasAck and hasWin
// report whether the words say these.
func ParseSegment(line string) (s Segment, hasAck, hasWin bool) {
	bad := func(what string) { panic(fmt.Sprintf("stacktest: %s in segment %q", what, line)) }
	rest, quote, quoted := strings.Cut(line, `"`)
	if quoted {
		q, err := strconv.Unquote(`"` + quote)
		if err != nil {
			bad("a bad quotation")
		}
		s.Data = []byte(q)
	}
	rest, opts, _ := strings.Cut(rest, "<")
	w := strings.Fields(rest)
	if len(w) < 2 {
		bad("no sequence number")
	}
	if w[0] != "-" {
		for _, c := range w[0] {
			i := strings.IndexRune(flagLetters, c)
			if i < 0 {
				bad("an unknown flag")
			}
			s.Flags |= 1 << i
		}
	}
	num := func(t string) uint32 {
		n, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			bad("no number")
		}
		return uint32(n)
	}
	at, n, plus := strings.Cut(w[1], "+")
	s.Seq = num(at)
	if plus && !quoted {
		s.Data = Octets(int(int32(s.Seq)), int(num(n)))
	}
	for w = w[2:]; len(w) >= 2; w = w[2:] {
		switch v := num(w[1]); w[0] {
		case "ack":
			s.Ack, hasAck = v, true
		case "win":
			s.Win, hasWin = uint16(v), true
		case "urg":
			s.Urgent = uint16(v)
		default:
			bad("an unknown word")
		}
	}
	if len(w) != 0 {
		bad("a word too many")
	}
	o := strings.Fields(strings.TrimSuffix(strings.TrimSpace(opts), ">"))
	next := func() string {
		if len(o) == 0 {
			bad("half an option")
		}
		x := o[0]
		o = o[1:]
		return x
	}
	for len(o) > 0 {
		switch next() {
		case "mss":
			s.Opt.MSS = uint16(num(next()))
		case "wscale":
			s.Opt.HasWScale, s.Opt.WScale = true, uint8(num(next()))
		case "sackOK":
			s.Opt.SACKOK = true
		case "ts":
			s.Opt.HasTimestamp, s.Opt.TSVal, s.Opt.TSEcr = true, num(next()), num(next())
		case "cookie":
			c, err := hex.DecodeString(next())
			if err != nil {
				bad("no cookie")
			}
			s.Opt.HasFastOpen, s.Opt.FastOpen = true, c
		case "ask":
			s.Opt.HasFastOpen = true
		case "sack":
			for len(o) > 0 && strings.Contains(o[0], "-") && s.Opt.NSACK < packet.TCPMaxSACK {
				x := next() // numbers may be negative
				at := 1 + strings.IndexByte(x[1:], '-')
				from, to := x[:at], x[at+1:]
				s.Opt.SACK[s.Opt.NSACK] = packet.SACKBlock{Start: num(from), End: num(to)}
				s.Opt.NSACK++
			}
		default:
			bad("an unknown option")
		}
	}
	return s, hasAck, hasWin
}

// Octets are n octets of the stream that tests send, from place at on; the
// first is 1. No piece of it is like its neighbours.
func Octets(at, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		k := uint32(at + i)
		b[i] = 'a' + byte(k*2654435761>>16%26)
	}
	return b
}

// octets is the segment as it goes into a packet from src to dst.
func (s *Segment) octets(src, dst netip.Addr, sport, dport uint16, opts []byte) []byte {
	hlen := packet.TCPLen + len(opts)
	b := make([]byte, hlen+len(s.Data))
	packet.PutTCP(b, sport, dport, s.Seq, s.Ack, hlen, s.Flags, s.Win, 0, s.Urgent)
	copy(b[packet.TCPLen:], opts)
	copy(b[hlen:], s.Data)
	sum := ^packet.Fold(packet.Sum(packet.PseudoSum(src, dst, packet.ProtoTCP, len(b)), b))
	b[packet.TCPCsumOffset], b[packet.TCPCsumOffset+1] = byte(sum>>8), byte(sum)
	return b
}

// segmentOf takes a frame apart; false when it is not TCP over IPv4, or its
// checksum is wrong.
func segmentOf(frame []byte) (s Segment, ip packet.IPv4, t packet.TCP, ok bool) {
	e, ok := packet.CheckEther(frame)
	if !ok || e.Type() != packet.EtherIPv4 {
		return s, nil, nil, false
	}
	ip, ok = packet.CheckIPv4(e.Payload())
	if !ok || ip.Proto() != packet.ProtoTCP || ip.TotalLen() > len(ip) {
		return s, nil, nil, false
	}
	p := ip[:ip.TotalLen()].Payload()
	if t, ok = packet.CheckTCP(p); !ok {
		return s, nil, nil, false
	}
	if packet.Fold(packet.Sum(packet.PseudoSum(ip.Src(), ip.Dst(), packet.ProtoTCP, len(p)), p)) != 0xffff {
		return s, nil, nil, false
	}
	s = Segment{Flags: t.Flags(), Seq: t.Seq(), Ack: t.Ack(), Win: t.Window(), Urgent: t.Urgent(), Data: t.Payload()}
	s.Opt.Parse(t.Options())
	return s, ip, t, true
}

// describeTCP is Describe for a segment: absolute numbers.
func describeTCP(h packet.IPv4, p []byte) (string, bool) {
	t, ok := packet.CheckTCP(p)
	if !ok {
		return "", false
	}
	s := Segment{Flags: t.Flags(), Seq: t.Seq(), Ack: t.Ack(), Win: t.Window(), Urgent: t.Urgent(), Data: t.Payload()}
	s.Opt.Parse(t.Options())
	out := fmt.Sprintf(" tcp %d > %d %s", t.SrcPort(), t.DstPort(), s.String())
	if packet.Fold(packet.Sum(packet.PseudoSum(h.Src(), h.Dst(), packet.ProtoTCP, len(p)), p)) != 0xffff {
		out += " bad-tcp-sum"
	}
	return out, true
}
