package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

var ne = binary.NativeEndian

const (
	minType  = 0x10       // NLMSG_MIN_TYPE: below are the messages of netlink itself
	attrType = 0x3fff     // NLA_TYPE_MASK
	maxDump  = 4096 - 320 // what the kernel fills at first (NLMSG_GOODSIZE): glibc reads with a page
)

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// request is one message from the program.
type request struct {
	typ   uint16 // RTM_*
	flags uint16 // NLM_F_*
	seq   uint32
	head  []byte // struct nlmsghdr
	body  []byte

	fixed []byte // the type's fixed header, filled with zeros if the program sent only a family
	attrs []byte // behind it
}

// nextRequest cuts the first message off b. Not ok when none is whole, which is
// how the kernel takes it too: programs send what is behind the message in
// their buffers along.
//
//	struct nlmsghdr: 0 len u32, 4 type u16, 6 flags u16, 8 seq u32, 12 pid u32
func nextRequest(b []byte) (r *request, rest []byte, ok bool) {
	if len(b) < unix.NLMSG_HDRLEN {
		return nil, nil, false
	}
	n := ne.Uint32(b)
	if n < unix.NLMSG_HDRLEN || uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	r = &request{typ: ne.Uint16(b[4:]), flags: ne.Uint16(b[6:]), seq: ne.Uint32(b[8:]),
		head: b[:unix.NLMSG_HDRLEN], body: b[unix.NLMSG_HDRLEN:n]}
	return r, b[min(align(int(n)), len(b)):], true
}

// parse cuts the body into a fixed header of n octets and attributes. A dump
// may be asked for by a family alone (struct rtgenmsg), unless strict.
func (r *request) parse(n int, how, what string, strict bool) error {
	if len(r.body) < n {
		if how != "dump" || strict {
			return refused(syscall.EINVAL, fmt.Sprintf("Invalid header for %s %s", what, how))
		}
		r.fixed = make([]byte, n)
		r.fixed[0] = r.body[0]
		return nil
	}
	r.fixed, r.attrs = r.body[:n], r.body[n:]
	rest := r.attrs
	for ok := true; ok; {
		_, _, rest, ok = nextAttr(rest)
	}
	if strict && len(rest) > 0 {
		return refused(syscall.EINVAL, "bytes leftover after parsing attributes")
	}
	return nil
}

// nextAttr cuts the first attribute off b; not ok when none is whole.
//
//	struct nlattr: 0 len u16, 2 type u16
func nextAttr(b []byte) (typ uint16, value, rest []byte, ok bool) {
	if len(b) < unix.SizeofRtAttr {
		return 0, nil, b, false
	}
	n := int(ne.Uint16(b))
	if n < unix.SizeofRtAttr || n > len(b) {
		return 0, nil, b, false
	}
	return ne.Uint16(b[2:]) & attrType, b[unix.SizeofRtAttr:n], b[min(align(n), len(b)):], true
}

// attr is the value of an attribute, the last one if there are several.
func (r *request) attr(typ uint16) (value []byte, there bool) {
	for b := r.attrs; ; {
		t, v, rest, ok := nextAttr(b)
		if !ok {
			return value, there
		}
		if t == typ {
			value, there = v, true
		}
		b = rest
	}
}

// only refuses attributes beside those of the list, as strict dumps do.
func (r *request) only(types ...uint16) error {
	for b := r.attrs; ; {
		t, _, rest, ok := nextAttr(b)
		if !ok {
			return nil
		}
		known := false
		for _, k := range types {
			known = known || k == t
		}
		if !known {
			return refused(syscall.EINVAL, "Unsupported attribute in dump request")
		}
		b = rest
	}
}

// u32 is the value of an attribute that is a number; 0 when it is not there.
func (r *request) u32(typ uint16) (uint32, error) {
	v, there := r.attr(typ)
	switch {
	case !there:
		return 0, nil
	case len(v) < 4:
		return 0, refused(syscall.EINVAL, "Attribute failed policy validation")
	}
	return ne.Uint32(v), nil
}

// addr is the value of an attribute that is an internet address of the
// family; none when it is not there.
func (r *request) addr(typ uint16, family uint8) (netip.Addr, error) {
	v, there := r.attr(typ)
	switch {
	case !there:
		return netip.Addr{}, nil
	case family == unix.AF_INET && len(v) == 4, family == unix.AF_INET6 && len(v) == 16:
		ip, _ := netip.AddrFromSlice(v)
		return ip, nil
	}
	return netip.Addr{}, refused(syscall.EINVAL, "Attribute failed policy validation")
}

// refusal is an errno and, for programs that want one, a sentence.
type refusal struct {
	errno syscall.Errno
	text  string
}

func refused(errno syscall.Errno, text string) error { return &refusal{errno, text} }

func (e *refusal) Error() string { return e.errno.Error() + ": " + e.text }

// refusalOf is what a program is told of err.
func refusalOf(err error) refusal {
	if e, ok := errors.AsType[*refusal](err); ok {
		return *e
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return refusal{errno: errno}
	}
	return refusal{syscall.EIO, err.Error()}
}

// begin appends a message's header and fixed part.
func (a *answer) begin(b []byte, r *request, typ, flags uint16, fixed ...byte) []byte {
	b = ne.AppendUint32(b, 0)
	b = ne.AppendUint16(b, typ)
	b = ne.AppendUint16(b, flags)
	b = ne.AppendUint32(b, r.seq)
	b = ne.AppendUint32(b, a.PID)
	return append(b, fixed...)
}

// end fills in the length of the message that begins at start.
func end(b []byte, start int) []byte {
	ne.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// appendAttr appends an attribute; the value may be text or octets.
func appendAttr[T string | []byte](b []byte, typ uint16, value T) []byte {
	b = ne.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = ne.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%unix.NLMSG_ALIGNTO != 0 { // b begins on a boundary, as a datagram
		b = append(b, 0)
	}
	return b
}

func appendU32(b []byte, typ uint16, v uint32) []byte {
	b = ne.AppendUint16(b, unix.SizeofRtAttr+4)
	b = ne.AppendUint16(b, typ)
	return ne.AppendUint32(b, v)
}

// appendText appends a text and its zero.
func appendText(b []byte, typ uint16, v string) []byte { return appendAttr(b, typ, v+"\x00") }

// appendIP appends an address, if there is one.
func appendIP(b []byte, typ uint16, ip netip.Addr) []byte {
	if !ip.IsValid() {
		return b
	}
	return appendAttr(b, typ, ip.AsSlice())
}

// appendSentence appends the text of a refusal (NLMSGERR_ATTR_MSG).
func (a *answer) appendSentence(b []byte, e refusal) (_ []byte, flags uint16) {
	if !a.ExtAck || e.text == "" {
		return b, 0
	}
	return appendText(b, unix.NLMSGERR_ATTR_MSG, e.text), unix.NLM_F_ACK_TLVS
}

// acknowledgement is NLMSG_ERROR: an errno, negative, or 0; the header of the
// request, with its body if it failed; a sentence.
func (a *answer) acknowledgement(r *request, err error) []byte {
	var e refusal
	if err != nil {
		e = refusalOf(err)
	}
	b := a.begin(nil, r, unix.NLMSG_ERROR, 0)
	b = ne.AppendUint32(b, uint32(-int32(e.errno)))
	b = append(b, r.head...)
	var flags uint16
	if err != nil && !a.CapAck {
		b = append(b, r.body...)
		b = append(b, make([]byte, align(len(b))-len(b))...)
	} else {
		flags = unix.NLM_F_CAPPED
	}
	b, tlvs := a.appendSentence(b, e)
	ne.PutUint16(b[6:], flags|tlvs)
	return end(b, 0)
}

// dump is a dump on its way out.
type dump struct {
	*answer
	*request
	filtered bool
	page     []byte
}

// multi is the flags of every message of the dump.
func (d *dump) multi() uint16 {
	if d.filtered {
		return unix.NLM_F_MULTI | unix.NLM_F_DUMP_FILTERED
	}
	return unix.NLM_F_MULTI
}

// add takes page with one more message, which begins where the page ended;
// when that is too much for a datagram, the page goes without it.
func (d *dump) add(page []byte) {
	start := len(d.page)
	if len(page) > maxDump && start > 0 {
		d.out = append(d.out, page[:start])
		page = page[start:]
	}
	d.page = page
}

// done ends the dump: NLMSG_DONE has an errno, negative, or 0.
func (d *dump) done(err error) {
	var e refusal
	if err != nil {
		e = refusalOf(err)
	}
	start := len(d.page)
	b := d.begin(d.page, d.request, unix.NLMSG_DONE, d.multi())
	b = ne.AppendUint32(b, uint32(-int32(e.errno)))
	b, tlvs := d.appendSentence(b, e)
	ne.PutUint16(b[start+6:], d.multi()|tlvs)
	d.add(end(b, start))
	d.out = append(d.out, d.page)
}
