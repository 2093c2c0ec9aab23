package setkey

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ionet/protocol"
)

// printer prints entries in KAME's form.
type printer struct {
	now  func() time.Time
	zone *time.Location
	name func(index int) string // of an interface, "" when it is gone
}

var saTypes = map[uint8]string{protocol.SADBSATypeUnspec: "unspec", protocol.SADBSATypeAH: "ah", protocol.SADBSATypeESP: "esp",
	protocol.SADBSATypeRSVP: "rsvp", protocol.SADBSATypeOSPFv2: "ospfv2", protocol.SADBSATypeRIPv2: "ripv2", protocol.SADBSATypeMIP: "mip",
	protocol.SADBSATypeIPComp: "ipcomp"}

var (
	modes  = []string{"any", "transport", "tunnel", "beet"}
	states = []string{"larval", "mature", "dying", "dead"}
)

// pick is the name of n, or the number.
func pick(list []string, n uint8) string {
	if int(n) < len(list) {
		return list[n]
	}
	return strconv.Itoa(int(n))
}

func saType(n uint8) string {
	if s, ok := saTypes[n]; ok {
		return s
	}
	return strconv.Itoa(int(n))
}

// addr is an address as people read it: a scope by the interface's name.
func (p *printer) addr(ip netip.Addr) string {
	if n, err := strconv.Atoi(ip.Zone()); err == nil {
		if name := p.name(n); name != "" {
			ip = ip.WithZone(name)
		}
	}
	return ip.String()
}

// hexWords are octets in words of four, eight words a line.
func hexWords(b []byte) string {
	const digits = "0123456789abcdef"
	s := make([]byte, 0, len(b)*3)
	for i, c := range b {
		if i > 0 && i%32 == 0 {
			s = append(s, '\n')
		}
		if i%4 == 0 {
			s = append(s, ' ')
		}
		s = append(s, digits[c>>4], digits[c&15])
	}
	return string(s)
}

// time20 is a time in 20 columns.
func (p *printer) time20(unix uint64) string {
	if unix == 0 {
		return strings.Repeat(" ", 20)
	}
	return time.Unix(int64(unix), 0).In(p.zone).Format("Jan _2 15:04:05 2006")
}

func orZero(l *protocol.KeyLifetime) protocol.KeyLifetime {
	if l == nil {
		return protocol.KeyLifetime{}
	}
	return *l
}

// replay is the window in octets, as KAME counts.
func replay(m *protocol.KeyMessage) uint32 {
	if m.Replay != nil {
		return *m.Replay / 8
	}
	return uint32(m.SA.Replay)
}

// sa prints an association.
func (p *printer) sa(w io.Writer, m *protocol.KeyMessage) {
	if m.Src == nil || m.Dst == nil || m.SA == nil || m.SA2 == nil {
		fmt.Fprintf(w, "an entry without %s\n", map[bool]string{true: "ADDRESS_SRC and ADDRESS_DST", false: "SA and X_SA2"}[m.Src == nil || m.Dst == nil])
		return
	}
	udp := m.NATT != nil && m.NATT.Type != 0
	port := func(n uint16) string {
		if !udp {
			return ""
		}
		return "[" + strconv.Itoa(int(n)) + "]"
	}
	natt := protocol.KeyNATT{}
	if udp {
		natt = *m.NATT
	}
	fmt.Fprintf(w, "%s%s %s%s \n", p.addr(m.Src.IP), port(natt.SrcPort), p.addr(m.Dst.IP), port(natt.DstPort))
	kind := saType(m.SAType)
	switch {
	case udp && m.SAType == protocol.SADBSATypeESP:
		kind = "esp-udp"
	case udp:
		kind = "natt+" + kind
	}
	fmt.Fprintf(w, "\t%s mode=%s spi=%d(0x%08x) reqid=%d(0x%08x)\n", kind, pick(modes, m.SA2.Mode), m.SA.SPI, m.SA.SPI, m.SA2.ReqID, m.SA2.ReqID)
	if natt.OAI != nil {
		fmt.Fprintf(w, "\tNAT OA=%s\n", p.addr(natt.OAI.IP))
	}
	key := func(k *protocol.Key) []byte {
		if k == nil {
			return nil
		}
		return k.Octets
	}
	switch {
	case m.SAType == protocol.SADBSATypeIPComp:
		fmt.Fprintf(w, "\tC: %s ", nameOf(calgs, m.SA.Encrypt))
	case m.SAType == protocol.SADBSATypeESP && m.SA.Encrypt != protocol.SADBEalgNone:
		fmt.Fprintf(w, "\tE: %s %s\n", nameOf(ealgs, m.SA.Encrypt), hexWords(key(m.EncryptKey)))
	}
	if m.SA.Auth != protocol.SADBAalgNone {
		fmt.Fprintf(w, "\tA: %s %s\n", nameOf(aalgs, m.SA.Auth), hexWords(key(m.AuthKey)))
	}
	fmt.Fprintf(w, "\tseq=0x%08x replay=%d flags=0x%08x state=%s \n", m.SA2.Seq, replay(m), m.SA.Flags, pick(states, m.SA.State))
	if m.TFC != 0 {
		fmt.Fprintf(w, "\ttfc=%d\n", m.TFC)
	}
	if c := m.Current; c != nil {
		hard, soft := orZero(m.Hard), orZero(m.Soft)
		now := uint64(max(p.now().Unix(), 0))
		age := uint64(0)
		if c.AddTime != 0 && now > c.AddTime {
			age = now - c.AddTime
		}
		fmt.Fprintf(w, "\tcreated: %s\tcurrent: %s\n", p.time20(c.AddTime), p.time20(now))
		fmt.Fprintf(w, "\tdiff: %d(s)\thard: %d(s)\tsoft: %d(s)\n", age, hard.AddTime, soft.AddTime)
		fmt.Fprintf(w, "\tlast: %s\thard: %d(s)\tsoft: %d(s)\n", p.time20(c.UseTime), hard.UseTime, soft.UseTime)
		fmt.Fprintf(w, "\tcurrent: %d(bytes)\thard: %d(bytes)\tsoft: %d(bytes)\n", c.Bytes, hard.Bytes, soft.Bytes)
		fmt.Fprintf(w, "\tallocated: %d\thard: %d\tsoft: %d\n", c.Allocations, hard.Allocations, soft.Allocations)
	}
	fmt.Fprintf(w, "\tsadb_seq=%d pid=%d refcnt=%d\n", m.Seq, m.PID, m.Refs)
}

// selector is one end of a policy: its network, and its port where there are
// ports.
func (p *printer) selector(a *protocol.KeyAddress) string {
	s := p.addr(a.IP)
	if int(a.Bits) != a.IP.BitLen() {
		s += "/" + strconv.Itoa(int(a.Bits))
	}
	switch {
	case a.Proto == 1 || a.Proto == 58: // a type or code
	case a.Port == protocol.IPSecPortAny:
		s += "[any]"
	default:
		s += "[" + strconv.Itoa(int(a.Port)) + "]"
	}
	return s
}

func upperName(n uint8) string {
	if s, ok := protocolNames[n]; ok {
		return s
	}
	return strconv.Itoa(int(n))
}

// upperSpec is the upper-layer protocol, of ICMP with type and code.
func upperSpec(src, dst *protocol.KeyAddress) string {
	s := upperName(src.Proto)
	if (src.Proto == 1 || src.Proto == 58) && (src.Port != 0 || dst.Port != 0) {
		s += fmt.Sprintf(" %d,%d", src.Port, dst.Port)
	}
	return s
}

// policyText is a policy with scopes by interfaces' names.
func (p *printer) policyText(o *protocol.KeyPolicy, delimiter string) string {
	q := *o
	q.Requests = append([]protocol.KeyRequest(nil), o.Requests...)
	for i := range q.Requests {
		for _, a := range []*protocol.Addr{&q.Requests[i].Src, &q.Requests[i].Dst} {
			if n, err := strconv.Atoi(a.IP.Zone()); err == nil {
				if name := p.name(n); name != "" {
					a.IP = a.IP.WithZone(name)
				}
			}
		}
	}
	return q.Text(delimiter)
}

// policy prints a policy.
func (p *printer) policy(w io.Writer, m *protocol.KeyMessage) {
	if m.Src != nil && m.Dst != nil {
		fmt.Fprintf(w, "%s %s %s", p.selector(m.Src), p.selector(m.Dst), upperSpec(m.Src, m.Dst))
	} else {
		fmt.Fprint(w, "(no selector, probably per-socket policy) ")
	}
	if m.Policy == nil {
		fmt.Fprintln(w, "\n\tno X_POLICY")
		return
	}
	fmt.Fprintf(w, "\n\t%s\n", p.policyText(m.Policy, "\n\t"))
	if c := m.Current; c != nil {
		fmt.Fprintf(w, "\tcreated: %s  lastused: %s\n", p.time20(c.AddTime), p.time20(c.UseTime))
	}
	if h := m.Hard; h != nil {
		fmt.Fprintf(w, "\tlifetime: %d(s) validtime: %d(s)\n", h.AddTime, h.UseTime)
	}
	fmt.Fprintf(w, "\tspid=%d seq=%d pid=%d\n\trefcnt=%d\n", m.Policy.ID, m.Seq, m.PID, m.Refs)
}

// shortHead is the head of -l's lines.
const shortHead = "time p   s spi      ltime   src -> dst\n"

// short prints an association in a line.
func (p *printer) short(w io.Writer, m *protocol.KeyMessage) {
	now := p.now().In(p.zone)
	fmt.Fprintf(w, "%02d%02d %-3s", now.Minute(), now.Second(), saType(m.SAType))
	if m.SA != nil {
		fmt.Fprintf(w, " %s %08x", pick([]string{"L", "M", "D", "d"}, m.SA.State), m.SA.SPI)
	} else {
		fmt.Fprintf(w, " %-1s %-8s", "?", "?")
	}
	brief := func(n uint64) string {
		if n >= 1000 {
			return "big"
		}
		return strconv.FormatUint(n, 10)
	}
	if m.Current != nil && m.Hard != nil {
		age := uint64(0)
		if m.Current.AddTime != 0 {
			age = uint64(max(now.Unix()-int64(m.Current.AddTime), 0))
		}
		fmt.Fprintf(w, " %3s/%-3s", brief(age), brief(m.Hard.AddTime))
	} else {
		fmt.Fprint(w, " ???/???")
	}
	end := func(a *protocol.KeyAddress) string {
		switch {
		case a == nil:
			return "?"
		case a.Port != 0:
			return p.addr(a.IP) + "[" + strconv.Itoa(int(a.Port)) + "]"
		}
		return p.addr(a.IP)
	}
	fmt.Fprintf(w, " %s -> %s\n", end(m.Src), end(m.Dst))
}
