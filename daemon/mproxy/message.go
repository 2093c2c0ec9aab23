package mproxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ionet/daemon/mproxy/querier"
)

// Types of messages: of IGMP (RFC 1112, RFC 2236, RFC 3376), of MLD (RFC 2710, RFC 3810).
const (
	igmpQuery    = 0x11
	igmpReport1  = 0x12
	igmpReport2  = 0x16
	igmpLeave    = 0x17
	igmpReport3  = 0x22
	mldQuery     = 130
	mldReport1   = 131
	mldDone      = 132
	mldReport2   = 143
	ipv4Min      = 20
	igmpMin      = 8
	igmpQuery3   = 12
	mldMin       = 24
	mldQuery2    = 28
	suppressFlag = 0x08
)

// message is what a host or a router of a link has said: a query, or records.
type message struct {
	version int // as package querier counts
	query   *querier.Query
	records []querier.Record
}

// errNotOurs is for what is meant for others: messages that are neither queries nor reports.
var errNotOurs = errors.New("no query, report or leave")

var be = binary.BigEndian

// sum16 is the Internet checksum (RFC 1071).
func sum16(b []byte) uint16 {
	var s uint32
	for ; len(b) > 1; b = b[2:] {
		s += uint32(be.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// parseIGMP reads a packet of IGMP from its IPv4 header on, as a raw socket has it.
func parseIGMP(p []byte) (src netip.Addr, m message, err error) {
	if len(p) < ipv4Min || p[0]>>4 != 4 {
		return src, m, errors.New("no IPv4 header")
	}
	n := int(p[0]&15) * 4
	if n < ipv4Min || len(p) < n+igmpMin {
		return src, m, fmt.Errorf("a packet of %d octets with a header of %d", len(p), n)
	}
	src = netip.AddrFrom4([4]byte(p[12:16]))
	if p[8] != 1 {
		return src, m, fmt.Errorf("its time to live is %d, not 1: it may be from elsewhere", p[8]) // RFC 3376 §4
	}
	b := p[n:]
	if sum16(b) != 0 {
		return src, m, errors.New("the checksum is wrong")
	}
	group := netip.AddrFrom4([4]byte(b[4:8]))
	one := func(version int, typ uint8) (netip.Addr, message, error) {
		return src, message{version: version, records: []querier.Record{{Type: typ, Group: group}}}, checkGroup(group)
	}
	switch b[0] {
	case igmpReport1:
		return one(1, querier.IsExclude)
	case igmpReport2:
		return one(2, querier.IsExclude)
	case igmpLeave:
		return one(2, querier.ToInclude)
	case igmpReport3:
		m.version = 3
		m.records, err = records(b[8:], int(be.Uint16(b[6:])), 4)
		return src, m, err
	case igmpQuery:
		q := querier.Query{MaxResp: time.Duration(b[1]) * time.Second / 10}
		switch {
		case len(b) >= igmpQuery3:
			m.version = 3
			q.MaxResp = time.Duration(float8(b[1])) * time.Second / 10
			err = rest(&q, b[8:], 4)
		case len(b) != igmpMin:
			return src, m, fmt.Errorf("a query of %d octets", len(b)) // RFC 3376 §7.1
		case b[1] == 0:
			m.version, q.MaxResp = 1, 10*time.Second
		default:
			m.version = 2
		}
		return finish(src, m, q, group, err)
	}
	return src, m, errNotOurs
}

// parseMLD reads a message of MLD from its type on, whose checksum the stack has verified.
func parseMLD(b []byte) (m message, err error) {
	if len(b) == 0 {
		return m, errNotOurs
	}
	if b[0] == mldReport2 {
		if len(b) < 8 {
			return m, fmt.Errorf("a report of %d octets", len(b))
		}
		m.version = 3
		m.records, err = records(b[8:], int(be.Uint16(b[6:])), 16)
		return m, err
	}
	if b[0] < mldQuery || b[0] > mldDone {
		return m, errNotOurs
	}
	if len(b) < mldMin {
		return m, fmt.Errorf("a message of %d octets", len(b))
	}
	group := netip.AddrFrom16([16]byte(b[8:24]))
	switch b[0] {
	case mldReport1:
		return message{version: 2, records: []querier.Record{{Type: querier.IsExclude, Group: group}}}, checkGroup(group)
	case mldDone:
		return message{version: 2, records: []querier.Record{{Type: querier.ToInclude, Group: group}}}, checkGroup(group)
	}
	q := querier.Query{MaxResp: time.Duration(be.Uint16(b[4:])) * time.Millisecond}
	switch {
	case len(b) >= mldQuery2:
		m.version = 3
		q.MaxResp = time.Duration(float16(be.Uint16(b[4:]))) * time.Millisecond
		err = rest(&q, b[24:], 16)
	case len(b) != mldMin:
		return m, fmt.Errorf("a query of %d octets", len(b)) // RFC 3810 §8.1
	default:
		m.version = 2
	}
	_, m, err = finish(netip.Addr{}, m, q, group, err)
	return m, err
}

// finish completes a query with its group.
func finish(src netip.Addr, m message, q querier.Query, group netip.Addr, err error) (netip.Addr, message, error) {
	if !group.IsUnspecified() {
		q.Group = group
		if e := checkGroup(group); err == nil && !errors.Is(e, errStays) {
			err = e
		}
	}
	m.query = &q
	return src, m, err
}

// rest reads what newer queries have behind the group: flags and robustness, interval, number of sources, sources.
func rest(q *querier.Query, b []byte, size int) error {
	q.Suppress, q.Robustness = b[0]&suppressFlag != 0, int(b[0]&7)
	q.Interval = time.Duration(float8(b[1])) * time.Second
	n := int(be.Uint16(b[2:]))
	if len(b) < 4+n*size {
		return fmt.Errorf("a query about %d sources with room for %d", n, (len(b)-4)/size)
	}
	q.Sources = addrs(b[4:], n, size)
	return nil
}

// records reads n records. Those about groups that stay on their link are left out: they are no router's business.
func records(b []byte, n, size int) (out []querier.Record, err error) {
	for i := range n {
		head := 4 + size
		if len(b) < head {
			return nil, fmt.Errorf("record %d of %d is cut off", i+1, n)
		}
		sources := int(be.Uint16(b[2:]))
		end := head + sources*size + int(b[1])*4
		if len(b) < end {
			return nil, fmt.Errorf("record %d of %d is cut off", i+1, n)
		}
		group, _ := netip.AddrFromSlice(b[4:head])
		switch err := checkGroup(group); {
		case err == nil:
			out = append(out, querier.Record{Type: b[0], Group: group, Sources: addrs(b[head:], sources, size)})
		case !errors.Is(err, errStays):
			return nil, err
		}
		b = b[end:]
	}
	return out, nil
}

func addrs(b []byte, n, size int) (out []netip.Addr) {
	for i := range n {
		a, _ := netip.AddrFromSlice(b[i*size : (i+1)*size])
		out = append(out, a)
	}
	return out
}

var errStays = errors.New("its packets stay on their link")

// checkGroup refuses what is no group, and groups whose packets no router forwards.
func checkGroup(g netip.Addr) error {
	switch {
	case !g.IsMulticast():
		return fmt.Errorf("%v is no group", g)
	case g.IsLinkLocalMulticast(), g.IsInterfaceLocalMulticast(), g.Is6() && g.As16()[1]&15 == 0:
		return fmt.Errorf("group %v: %w", g, errStays)
	}
	return nil
}

// float8 is the number of a code of 8 bits (RFC 3376 §4.1.1), float16 of one of 16 (RFC 3810 §5.1.3).
func float8(c uint8) int {
	if c < 1<<7 {
		return int(c)
	}
	return int(c&15|16) << (c>>4&7 + 3)
}

func float16(c uint16) int {
	if c < 1<<15 {
		return int(c)
	}
	return int(c&0xfff|0x1000) << (c>>12&7 + 3)
}

// code is the code of the largest number that one of so many bits of mantissa has up to n.
func code(n int, mantissa uint) uint16 {
	if n < 1<<(mantissa+3) {
		return uint16(n)
	}
	for e := uint(0); ; e++ {
		if m := n >> (e + 3); m < 2<<mantissa {
			return uint16(1<<(mantissa+3) | e<<mantissa | uint(m)&(1<<mantissa-1))
		} else if e == 7 {
			return 1<<(mantissa+4) - 1
		}
	}
}

// appendIGMPQuery appends a query of version 3, or 2.
func appendIGMPQuery(b []byte, q querier.Query, older bool) []byte {
	start := len(b)
	tenths := int(q.MaxResp * 10 / time.Second)
	c := uint8(min(tenths, 255))
	if !older {
		c = uint8(code(tenths, 4))
	}
	group := netip.IPv4Unspecified()
	if q.Group.IsValid() {
		group = q.Group
	}
	b = append(append(b, igmpQuery, c, 0, 0), group.AsSlice()...)
	if !older {
		b = appendRest(b, q)
	}
	be.PutUint16(b[start+2:], sum16(b[start:]))
	return b
}

// appendMLDQuery appends a query of version 2, or 1, without checksum.
func appendMLDQuery(b []byte, q querier.Query, older bool) []byte {
	ms := int(q.MaxResp / time.Millisecond)
	c := uint16(min(ms, 1<<16-1))
	if !older {
		c = code(ms, 12)
	}
	group := netip.IPv6Unspecified()
	if q.Group.IsValid() {
		group = q.Group
	}
	b = be.AppendUint16(append(b, mldQuery, 0, 0, 0), c)
	b = append(append(b, 0, 0), group.AsSlice()...)
	if !older {
		b = appendRest(b, q)
	}
	return b
}

func appendRest(b []byte, q querier.Query) []byte {
	flags := uint8(0)
	if q.Robustness <= 7 { // what is more is not said
		flags = uint8(q.Robustness)
	}
	if q.Suppress {
		flags |= suppressFlag
	}
	b = append(b, flags, uint8(code(int(q.Interval/time.Second), 4)))
	b = be.AppendUint16(b, uint16(len(q.Sources)))
	for _, a := range q.Sources {
		b = append(b, a.AsSlice()...)
	}
	return b
}
