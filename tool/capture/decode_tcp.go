package capture

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxFlows bounds the connections whose first numbers are remembered. With
// more of them all are forgotten, and their numbers begin anew.
const maxFlows = 1 << 14

// flowKey is a connection; its lesser end is a.
type flowKey struct{ a, b netip.AddrPort }

// flow has the first sequence number of each end, that of a first.
type flow [2]uint32

type flows map[flowKey]flow

// relative answers what to take off the numbers of a segment from src, and of
// what it acknowledges. A segment that begins a connection, or is the first that
// is seen of one, is told as it stands.
func (f *flows) relative(src, dst netip.AddrPort, seq, ack uint32, syn bool) (seq0, ack0 uint32, begun bool) {
	k, from := flowKey{src, dst}, 0
	if dst.Compare(src) < 0 {
		k, from = flowKey{dst, src}, 1
	}
	if first, ok := (*f)[k]; ok && !syn {
		return first[from], first[1-from], true
	}
	if *f == nil || len(*f) >= maxFlows {
		*f = flows{}
	}
	var first flow
	first[from], first[1-from] = seq, ack-1
	(*f)[k] = first
	return seq, ack - 1, false
}

// Flags of a segment.
const (
	tcpFin, tcpSyn, tcpRst, tcpAck, tcpUrg = 1, 2, 4, 16, 32
)

// tcp decodes a segment of size octets (RFC 9293 §3.1).
func (w *Printer) tcp(src, dst netip.Addr, b []byte, size int, frag bool) {
	if len(b) < 20 {
		w.f("%s > %s: TCP", w.name(src), w.name(dst))
		w.cut("tcp")
		return
	}
	sport, dport := be16(b), be16(b[2:])
	w.f("%s.%d > %s.%d: ", w.name(src), sport, w.name(dst), dport)
	hl := int(b[12]>>4) * 4
	data := size - hl
	if hl < 20 || data < 0 {
		w.f("tcp [bad hdr length %d - length %d]", hl, size)
		return
	}
	if w.Quiet {
		w.f("tcp %d", data)
		return
	}
	flags := ""
	for i, c := range "FSRP.UEW" {
		if b[13]&(1<<i) != 0 {
			flags += string(c)
		}
	}
	if flags == "" {
		flags = "none"
	}
	seq, ack := be32(b[4:]), be32(b[8:])
	ack0 := uint32(0)
	if !w.Absolute && b[13]&tcpAck != 0 {
		seq0, a0, begun := w.flows.relative(netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), seq, ack, b[13]&tcpSyn != 0)
		if ack0 = a0; begun {
			seq, ack = seq-seq0, ack-ack0
		}
	}
	w.f("Flags [%s]", flags)
	if w.Verbose && !frag && len(b) >= size {
		sum, start := be16(b[16:]), pseudo(src, dst, 6, size)
		w.f(", cksum 0x%04x", sum)
		switch right := ^ones(b[18:size], uint32(ones(b[:16], start))); {
		case ones(b[:size], start) == 0xffff:
			w.f(" (correct)")
		case sum == ones(nil, start): // left to whoever puts it on a wire
			w.f(" (partial -> 0x%04x)", right)
		default:
			w.f(" (incorrect -> 0x%04x)", right)
		}
	}
	if data > 0 || b[13]&(tcpSyn|tcpFin|tcpRst) != 0 {
		w.f(", seq %d", seq)
		if data > 0 {
			w.f(":%d", seq+uint32(data))
		}
	}
	if b[13]&tcpAck != 0 {
		w.f(", ack %d", ack)
	}
	w.f(", win %d", be16(b[14:]))
	if b[13]&tcpUrg != 0 {
		w.f(", urg %d", be16(b[18:]))
	}
	w.tcpOptions(b[20:min(len(b), hl)], hl-20, ack0)
	w.f(", length %d", data)
}

// tcpOptions shows the options, which have size octets on the wire; ack0 is
// taken off the edges of SACK blocks.
func (w *Printer) tcpOptions(b []byte, size int, ack0 uint32) {
	if size == 0 {
		return
	}
	var out []string
	for {
		if len(b) == 0 {
			if size > 0 {
				out = append(out, "[|tcp]")
			}
			break
		}
		kind := b[0]
		if kind <= 1 {
			out = append(out, [...]string{"eol", "nop"}[kind])
			if b, size = b[1:], size-1; kind == 0 || size == 0 {
				break
			}
			continue
		}
		n := 0 // of an option whose length is beyond the capture
		if len(b) > 1 {
			n = int(b[1])
		}
		if size < 2 || len(b) > 1 && (n < 2 || n > size) {
			out = append(out, "[bad opt]")
			break
		}
		if n == 0 || n > len(b) {
			out = append(out, "[|tcp]")
			break
		}
		out = append(out, tcpOption(kind, b[2:n], ack0))
		if b, size = b[n:], size-n; size == 0 {
			break
		}
	}
	w.f(", options [%s]", strings.Join(out, ","))
}

// tcpOption is one option in tcpdump's words.
func tcpOption(kind byte, v []byte, ack0 uint32) string {
	switch {
	case kind == 2 && len(v) == 2:
		return fmt.Sprintf("mss %d", be16(v))
	case kind == 3 && len(v) == 1:
		return fmt.Sprintf("wscale %d", v[0])
	case kind == 4 && len(v) == 0:
		return "sackOK"
	case kind == 5 && len(v)%8 == 0:
		var b strings.Builder
		fmt.Fprintf(&b, "sack %d ", len(v)/8)
		for ; len(v) > 0; v = v[8:] {
			fmt.Fprintf(&b, "{%d:%d}", be32(v)-ack0, be32(v[4:])-ack0)
		}
		return b.String()
	case kind == 8 && len(v) == 8:
		return fmt.Sprintf("TS val %d ecr %d", be32(v), be32(v[4:]))
	case kind == 19 && len(v) == 16: // RFC 2385
		return fmt.Sprintf("md5 %x", v)
	case kind == 28 && len(v) == 2: // RFC 5482
		unit := "sec"
		if v[0]&0x80 != 0 {
			unit = "min"
		}
		return fmt.Sprintf("uto 0x%x %s", be16(v)&0x7fff, unit)
	case kind == 34 && len(v) == 0: // RFC 7413
		return "tfo  cookiereq"
	case kind == 34:
		return fmt.Sprintf("tfo  cookie %x", v)
	}
	return fmt.Sprintf("unknown-%d 0x%x", kind, v)
}
