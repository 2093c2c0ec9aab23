package ping6

import (
	"crypto/md5"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// ICMPv6 types (RFC 4443, RFC 4861, RFC 2710, RFC 3810, RFC 4620).
const (
	unreachable  = 1
	tooBig       = 2
	timeExceeded = 3
	paramProblem = 4
	echoRequest  = 128
	echoReply    = 129
	redirect     = 137
	niQuery      = 139
	niReply      = 140

	niHeaderLen = 16
	protoICMPv6 = 58
)

// Query types of RFC 4620 §5, and what a query is about (its code, §4).
const (
	qNoop  = 0
	qTypes = 1
	qName  = 2
	qAddrs = 3

	subjectIPv6 = 0
	subjectName = 1
)

// packet is an ICMPv6 message that came.
type packet struct {
	at     time.Time
	from   netip.Addr
	to     netip.Addr // invalid: not told
	hlim   int        // -1: not told
	icmp   []byte
	failed syscall.Errno // not 0: what an echo socket tells of an ICMPv6 error, and all it tells
}

func (p *packet) kind() (typ, code byte) { return p.icmp[0], p.icmp[1] }
func (p *packet) id() uint16             { return binary.BigEndian.Uint16(p.icmp[4:]) }
func (p *packet) seq() uint16            { return binary.BigEndian.Uint16(p.icmp[6:]) }

// inner is the packet that an error returns, past its extension headers:
// its first header, what the last one names, and as much of that as came back.
// false: less than a header.
func (p *packet) inner() (head []byte, proto byte, rest []byte, ok bool) {
	b := p.icmp[headerLen:]
	if len(b) < ipHeaderLen || b[0]>>4 != 6 {
		return nil, 0, nil, false
	}
	head, proto, rest = b[:ipHeaderLen], b[6], b[ipHeaderLen:]
	for range 8 {
		n := 0
		switch proto {
		case 0, 43, 60: // hop-by-hop, routing, destination
			if len(rest) >= 8 {
				n = int(rest[1])*8 + 8
			}
		case 44: // a first fragment
			if len(rest) >= 8 && binary.BigEndian.Uint16(rest[2:])&0xfff8 == 0 {
				n = 8
			}
		}
		if n == 0 || n > len(rest) {
			break
		}
		proto, rest = rest[0], rest[n:]
	}
	return head, proto, rest, true
}

// request makes an echo request. Its checksum is the stack's to compute.
func request(id, seq uint16, data []byte, since time.Duration) []byte {
	if len(data) >= headerLen {
		binary.BigEndian.PutUint64(data, uint64(since))
	}
	b := make([]byte, headerLen, headerLen+len(data))
	b[0] = echoRequest
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	return append(b, data...)
}

// query makes a node information query; its nonce is the request's number and
// our identifier.
func query(o *options, id, seq uint16, to netip.Addr) []byte {
	b := make([]byte, niHeaderLen, niHeaderLen+64)
	b[0], b[1] = niQuery, subjectIPv6
	qtype, flags := uint16(qName), uint16(0)
	switch o.ask {
	case askTypes:
		qtype, flags = qTypes, 1 // compressed bitmaps are understood
	case askAddrs:
		qtype, flags = qAddrs, o.addrFlags
	}
	binary.BigEndian.PutUint16(b[4:], qtype)
	binary.BigEndian.PutUint16(b[6:], flags)
	binary.BigEndian.PutUint16(b[8:], seq)
	binary.BigEndian.PutUint16(b[10:], id)
	switch {
	case o.ask == askOld: // draft 03 has no subject
	case o.group > 0:
		b[1] = subjectName
		if name, err := encodeName(o.host); err == nil {
			b = append(b, name...)
		}
	default:
		a := to.As16()
		b = append(b, a[:]...)
	}
	return b
}

// encodeName writes a name in the DNS's form. One of a single label is a part
// of a name, which two zeros end (RFC 4620 §6.3).
func encodeName(name string) ([]byte, error) {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	var b []byte
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return nil, errors.New("a label of a name has 1 to 63 letters")
		}
		b = append(append(b, byte(len(l))), l...)
	}
	b = append(b, 0)
	if len(labels) == 1 && !strings.HasSuffix(name, ".") {
		b = append(b, 0)
	}
	return b, nil
}

// decodeNames reads names in the DNS's form, with compression within b. Every
// octet that is no letter of a name is shown as a question mark.
func decodeNames(b []byte) ([]string, bool) {
	var names []string
	for at := 0; at < len(b); {
		name, end := "", -1
		for pos, hops := at, 0; ; {
			if pos >= len(b) {
				return names, false
			}
			n := int(b[pos])
			if n == 0 {
				if end < 0 {
					end = pos + 1
				}
				break
			}
			if n >= 0xc0 { // a pointer, backwards only
				if pos+1 >= len(b) || hops > 16 {
					return names, false
				}
				to := (n&0x3f)<<8 | int(b[pos+1])
				if end < 0 {
					end = pos + 2
				}
				if to >= pos {
					return names, false
				}
				pos = to
				hops++
				continue
			}
			if n > 63 || pos+1+n > len(b) || len(name)+n > 255 {
				return names, false
			}
			name += strings.Map(printable, string(b[pos+1:pos+1+n])) + "."
			pos += 1 + n
		}
		at = end
		if name != "" && at < len(b) && b[at] == 0 { // a part of a name
			name = strings.TrimSuffix(name, ".")
			at++
		}
		if name != "" {
			names = append(names, name)
		}
	}
	return names, true
}

func printable(r rune) rune {
	if r <= ' ' || r > '~' {
		return '?'
	}
	return r
}

// groupOf is the group that whoever has the name listens to (RFC 4620 §5): 24
// bits of the hash of its first label in small letters; in the drafts, kind 2,
// 32 bits.
func groupOf(host string, kind int) netip.Addr {
	label, _, _ := strings.Cut(strings.ToLower(host), ".")
	label = label[:min(len(label), 63)]
	h := md5.Sum(append([]byte{byte(len(label))}, label...))
	a := [16]byte{0xff, 0x02, 11: 0x02, 12: 0xff}
	if kind > 1 {
		copy(a[12:], h[:4])
	} else {
		copy(a[13:], h[:3])
	}
	return netip.AddrFrom16(a)
}
