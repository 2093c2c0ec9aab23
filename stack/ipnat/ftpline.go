package ipnat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
)

// announced is what a line of FTP says about where a data connection is to go.
type announced struct {
	addr    netip.Addr // not valid: its sender's own
	port    uint16
	at, end int  // the octets of the line that say so
	delim   byte // between the fields of EPRT
}

// Words that lines begin with.
var (
	cmdPORT, cmdEPRT = []byte("PORT"), []byte("EPRT")
	cmdPASV, cmdEPSV = []byte("PASV"), []byte("EPSV")
	cmdAUTH          = []byte("AUTH")
	reply227         = []byte("227 ")
	reply229         = []byte("229 ")
	reply234         = []byte("234 ")
)

// begins reports whether a line, or the beginning of one, begins with word, whose letters
// are capital ones, as far as it goes.
func begins(line, word []byte) bool {
	n := min(len(line), len(word))
	return bytes.EqualFold(line[:n], word[:n])
}

// argument is where what stands behind a word of four letters begins; false: the line is not of that
// word.
func argument(line, word []byte) (at int, ok bool) {
	if len(line) < len(word) || !begins(line, word) {
		return 0, false
	}
	for at = len(word); at < len(line) && line[at] == ' '; at++ {
	}
	return at, at > len(word) || at == len(bytes.TrimRight(line, "\r\n"))
}

// digits reads a number of at most max; false: there is none.
func digits(b []byte, at int, max uint32) (v uint32, next int, ok bool) {
	for next = at; next < len(b) && b[next] >= '0' && b[next] <= '9'; next++ {
		if v = v*10 + uint32(b[next]-'0'); v > max || next-at > 5 {
			return 0, next, false
		}
	}
	return v, next, next > at
}

// parseSix reads "h1,h2,h3,h4,p1,p2" at an octet of a line (RFC 959 §4.1.2).
func parseSix(line []byte, at int) (a announced, ok bool) {
	var six [6]byte
	a.at, a.end = at, at
	for n := range six {
		if n > 0 {
			if a.end >= len(line) || line[a.end] != ',' {
				return a, false
			}
			a.end++
		}
		var v uint32
		if v, a.end, ok = digits(line, a.end, 255); !ok {
			return a, false
		}
		six[n] = byte(v)
	}
	a.addr, a.port = netip.AddrFrom4([4]byte(six[:])), binary.BigEndian.Uint16(six[4:])
	return a, true
}

// ended reports that nothing but the end of the line follows.
func ended(line []byte, at int) bool { return len(bytes.TrimRight(line[at:], " \r\n")) == 0 }

// parsePORT reads a PORT command.
func parsePORT(line []byte) (a announced, ok bool) {
	at, ok := argument(line, cmdPORT)
	if !ok {
		return a, false
	}
	a, ok = parseSix(line, at)
	return a, ok && ended(line, a.end)
}

// parseEPRT reads an EPRT command, "EPRT |1|192.0.2.1|4000|" (RFC 2428 §2).
func parseEPRT(line []byte) (a announced, ok bool) {
	at, ok := argument(line, cmdEPRT)
	if !ok || at >= len(line) || line[at] < 33 || line[at] > 126 {
		return a, false
	}
	a.at, a.delim = at, line[at]
	f := bytes.SplitN(line[at+1:], line[at:at+1], 4)
	if len(f) != 4 || len(f[0]) != 1 || len(f[1]) > 45 || !ended(f[3], 0) {
		return a, false
	}
	a.end = at + 1 + len(f[0]) + 1 + len(f[1]) + 1 + len(f[2]) + 1
	var err error
	a.addr, err = netip.ParseAddr(string(f[1]))
	port, n, ok := digits(f[2], 0, 65535)
	a.port = uint16(port)
	four := f[0][0] == '1'
	return a, ok && n == len(f[2]) && err == nil && a.addr.Zone() == "" && a.addr.Is4() == four && (four || f[0][0] == '2' && !a.addr.Is4In6())
}

// parse227 reads the answer to PASV: the six numbers begin with the first digit (RFC 1123
// §4.1.2.6).
func parse227(line []byte) (a announced, ok bool) {
	if len(line) < len(reply227) || !begins(line, reply227) {
		return a, false
	}
	at := bytes.IndexAny(line[len(reply227):], "0123456789")
	if at < 0 {
		return a, false
	}
	return parseSix(line, len(reply227)+at)
}

// parse229 reads the answer to EPSV, "229 … (|||6446|)" (RFC 2428 §3).
func parse229(line []byte) (a announced, ok bool) {
	if len(line) < len(reply229) || !begins(line, reply229) {
		return a, false
	}
	at := bytes.IndexByte(line, '(') + 1
	if at == 0 || at+3 >= len(line) || line[at] != line[at+1] || line[at] != line[at+2] {
		return a, false
	}
	a.at = at + 3
	port, end, ok := digits(line, a.at, 65535)
	a.port, a.end = uint16(port), end
	return a, ok && end+1 < len(line) && line[end] == line[at] && line[end+1] == ')'
}

// text is what says instead that the data connection is to go to addr and port.
func (a *announced) text(to netip.AddrPort) []byte {
	ip, port := to.Addr(), to.Port()
	switch {
	case !a.addr.IsValid():
		return strconv.AppendUint(nil, uint64(port), 10)
	case a.delim != 0:
		family := 1
		if ip.Is6() {
			family = 2
		}
		return fmt.Appendf(nil, "%c%d%c%s%c%d%c", a.delim, family, a.delim, ip, a.delim, port, a.delim)
	}
	x := ip.As4()
	return fmt.Appendf(nil, "%d,%d,%d,%d,%d,%d", x[0], x[1], x[2], x[3], port>>8, port&255)
}
