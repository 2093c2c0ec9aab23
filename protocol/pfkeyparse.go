package protocol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"syscall"
)

// NextKeyMessage reads the first message of b and answers what is behind it.
// A message that is not as the layout wants it is an error of EINVAL that
// names message, extension and offset (of the octet in the message); m has
// then what could be read, rest is nil if the message's end is not known.
// Nothing in m points into b.
func NextKeyMessage(b []byte) (m *KeyMessage, rest []byte, err error) {
	x := new(keyRead)
	m = &x.KeyMessage
	if len(b) < sadbMsgLen {
		return m, nil, KeyErrorf(KeyFaultShort, syscall.EINVAL, "PF_KEY message of %d octets, its head alone has %d", len(b), sadbMsgLen)
	}
	m.Type, m.Errno, m.SAType = b[1], syscall.Errno(b[2]), b[3]
	m.Refs = le.Uint16(b[6:])
	m.Seq, m.PID = le.Uint32(b[8:]), le.Uint32(b[12:])
	if b[0] != PFKeyVersion {
		return m, nil, KeyErrorf(KeyFaultVersion, syscall.EINVAL, "PF_KEY message of version %d, this is version %d", b[0], PFKeyVersion)
	}
	n := int(le.Uint16(b[4:])) * sadbUnit
	if n < sadbMsgLen || n > len(b) {
		return m, nil, keyErrorf(KeyFaultLength, m, "the length at octet 4 says %d octets, there are %d, and the head has %d", n, len(b), sadbMsgLen)
	}
	r := keyReader{m: m, x: x, b: b[:n], off: sadbMsgLen}
	return m, b[n:], r.message()
}

// KeyHead reads the head of the first message of b, and how many octets the
// message has; false: there is no whole one.
func KeyHead(b []byte) (typ uint8, errno syscall.Errno, seq, pid uint32, octets int, ok bool) {
	if len(b) < sadbMsgLen || b[0] != PFKeyVersion {
		return 0, 0, 0, 0, 0, false
	}
	n := int(le.Uint16(b[4:])) * sadbUnit
	return b[1], syscall.Errno(b[2]), le.Uint32(b[8:]), le.Uint32(b[12:]), n, n >= sadbMsgLen && n <= len(b)
}

// PutKeySender writes a message's sequence number and its sender's id.
func PutKeySender(b []byte, seq, pid uint32) {
	le.PutUint32(b[8:], seq)
	le.PutUint32(b[12:], pid)
}

// ParseKeyMessage reads the message that b is, as [NextKeyMessage] does.
func ParseKeyMessage(b []byte) (*KeyMessage, error) {
	m, rest, err := NextKeyMessage(b)
	if err == nil && len(rest) != 0 {
		err = keyErrorf(KeyFaultLength, m, "%d octets left over behind the message's %d", len(rest), len(b)-len(rest))
	}
	return m, err
}

// ParseKeyPolicy reads what [AppendKeyPolicy] wrote.
func ParseKeyPolicy(b []byte) (*KeyPolicy, error) {
	if len(b) < sadbUnit || int(le.Uint16(b))*sadbUnit != len(b) || le.Uint16(b[2:]) != SADBXExtPolicy {
		return nil, KeyErrorf(KeyFaultLength, syscall.EINVAL, "%d octets are no policy (sadb_x_policy with its length in units of 8, and type %d)", len(b), SADBXExtPolicy)
	}
	r := keyReader{typ: SADBXExtPolicy}
	p := r.policy(b[sadbExtLen:])
	return p, r.err
}

// keyRead is a message with what most have, in one piece of memory.
type keyRead struct {
	KeyMessage
	sa                  KeySA
	sa2                 KeySA2
	src, dst            KeyAddress
	current, hard, soft KeyLifetime
	auth, encrypt       Key
}

// keyReader takes a message apart.
type keyReader struct {
	m    *KeyMessage // nil of a policy alone
	x    *keyRead    // likewise
	b    []byte
	off  int    // of the extension
	typ  uint16 // of the extension
	seen uint64 // extensions that were read, by number; ionet's own as 62 and 63
	err  error
}

// fail notes an error at an octet of the extension: a length, if it is of no address.
func (r *keyReader) fail(at int, format string, args ...any) {
	fault := KeyFaultLength
	switch r.typ {
	case SADBExtAddressSrc, SADBExtAddressDst, SADBExtAddressProxy, SADBXExtNATTOAI, SADBXExtNATTOAR:
		fault = KeyFaultAddress
	}
	r.failFor(fault, at, format, args...)
}

func (r *keyReader) failFor(fault KeyFault, at int, format string, args ...any) {
	if r.err == nil {
		r.err = keyErrorf(fault, r.m, "%s at octet %d: %s", KeyExtName(r.typ), r.off+at, fmt.Sprintf(format, args...))
	}
}

func (r *keyReader) message() error {
	if r.m.Type == SADBXPromisc && len(r.b) > sadbMsgLen {
		r.m.Promisc = bytes.Clone(r.b[sadbMsgLen:])
		return nil
	}
	for r.off < len(r.b) {
		left := len(r.b) - r.off // a multiple of 8
		r.typ = le.Uint16(r.b[r.off+2:])
		n := int(le.Uint16(r.b[r.off:])) * sadbUnit
		if n == 0 || n > left {
			r.failFor(KeyFaultLength, 0, "its length says %d octets, from 8 to %d are right", n, left)
			return r.err
		}
		if r.typ == 0 {
			r.failFor(KeyFaultExtension, 2, "the type 0 is reserved")
		}
		if bit := r.bit(); r.seen&bit != 0 {
			r.failFor(KeyFaultTwice, 2, "it is there twice; once is right (RFC 2367 §2.3)")
		} else {
			r.seen |= bit
		}
		if r.err == nil {
			r.extension(r.b[r.off+sadbExtLen : r.off+n])
		}
		if r.err != nil {
			return r.err
		}
		r.off += n
	}
	return nil
}

// bit is the extension's in seen, 0 of one that may come again.
func (r *keyReader) bit() uint64 {
	switch {
	case r.typ == SADBXExtText:
		return 1 << 63
	case r.typ == SADBXExtTFC:
		return 1 << 62
	case r.typ < 62:
		return 1 << r.typ
	}
	return 0
}

// fixed checks the length of an extension that has one.
func (r *keyReader) fixed(p []byte, octets int) bool {
	if n := len(p) + sadbExtLen; n != octets {
		r.fail(0, "%d octets, %d are right", n, octets)
		return false
	}
	return true
}

// least checks the length of one that may be longer.
func (r *keyReader) least(p []byte, octets int) bool {
	if n := len(p) + sadbExtLen; n < octets {
		r.fail(0, "%d octets, %d at least are right", n, octets)
		return false
	}
	return true
}

// extension reads one; p is what follows its head.
func (r *keyReader) extension(p []byte) {
	m := r.m
	switch r.typ {
	case SADBExtSA:
		if r.fixed(p, 16) {
			m.SA = &r.x.sa
			*m.SA = KeySA{SPI: binary.BigEndian.Uint32(p), Replay: p[4], State: p[5], Auth: p[6], Encrypt: p[7], Flags: le.Uint32(p[8:])}
		}
	case SADBExtLifetimeCurrent:
		m.Current = r.lifetime(&r.x.current, p)
	case SADBExtLifetimeHard:
		m.Hard = r.lifetime(&r.x.hard, p)
	case SADBExtLifetimeSoft:
		m.Soft = r.lifetime(&r.x.soft, p)
	case SADBExtAddressSrc:
		m.Src = r.address(&r.x.src, p)
	case SADBExtAddressDst:
		m.Dst = r.address(&r.x.dst, p)
	case SADBExtAddressProxy:
		m.Proxy = r.address(new(KeyAddress), p)
	case SADBExtKeyAuth:
		m.AuthKey = r.key(&r.x.auth, p)
	case SADBExtKeyEncrypt:
		m.EncryptKey = r.key(&r.x.encrypt, p)
	case SADBExtIdentitySrc:
		m.SrcIdent = r.ident(p)
	case SADBExtIdentityDst:
		m.DstIdent = r.ident(p)
	case SADBExtSensitivity:
		r.sensitivity(p)
	case SADBExtProposal:
		r.proposal(p)
	case SADBExtSupportedAuth:
		m.SupportedAuth = r.supported(p)
	case SADBExtSupportedEncrypt:
		m.SupportedEncrypt = r.supported(p)
	case SADBExtSPIRange:
		if r.fixed(p, 16) {
			m.SPIRange = &KeySPIRange{Min: le.Uint32(p), Max: le.Uint32(p[4:])}
			if m.SPIRange.Min > m.SPIRange.Max {
				r.fail(4, "from %d to %d is no range", m.SPIRange.Min, m.SPIRange.Max)
			}
		}
	case SADBXExtKMPrivate:
		m.KMPrivate = bytes.Clone(p)
	case SADBXExtPolicy:
		m.Policy = r.policy(p)
	case SADBXExtSA2:
		if r.fixed(p, 16) {
			m.SA2 = &r.x.sa2
			*m.SA2 = KeySA2{Mode: p[0], Seq: le.Uint32(p[4:]), ReqID: le.Uint32(p[8:])}
		}
	case SADBXExtNATTType, SADBXExtNATTSPort, SADBXExtNATTDPort, SADBXExtNATTOAI, SADBXExtNATTOAR, SADBXExtNATTFrag:
		r.natt(p)
	case SADBXExtSAReplay:
		if r.fixed(p, 8) {
			v := le.Uint32(p)
			m.Replay = &v
		}
	case SADBXExtTFC:
		if r.fixed(p, 8) {
			if m.TFC = le.Uint32(p); m.TFC == 0 {
				r.fail(4, "0 octets; without padding it is not there")
			}
		}
	case SADBXExtText:
		m.Text = r.text(sadbExtLen, p)
	default:
		m.Unknown = append(m.Unknown, KeyExtension{Type: r.typ, Data: bytes.Clone(p)})
	}
}

func (r *keyReader) lifetime(l *KeyLifetime, p []byte) *KeyLifetime {
	if !r.fixed(p, 32) {
		return nil
	}
	*l = KeyLifetime{Allocations: le.Uint32(p), Bytes: le.Uint64(p[4:]), AddTime: le.Uint64(p[12:]), UseTime: le.Uint64(p[20:])}
	return l
}

func (r *keyReader) address(a *KeyAddress, p []byte) *KeyAddress {
	if !r.least(p, 16) {
		return nil
	}
	sa, ok := r.sockaddr(8, p[4:])
	if !ok {
		return nil
	}
	if n, want := len(p)+sadbExtLen, (8+sockaddrSize(sa)+7)&^7; n != want {
		r.fail(0, "%d octets, %d are right for its socket address", n, want)
		return nil
	}
	*a = KeyAddress{IP: sa.IP, Port: sa.Port, Proto: p[0], Bits: p[1]}
	if int(a.Bits) > sa.IP.BitLen() {
		r.fail(5, "a prefix of %d bits, of this family at most %d are right", a.Bits, sa.IP.BitLen())
		return nil
	}
	return a
}

func sockaddrSize(a Addr) int {
	if a.Family == AFInet {
		return SockaddrInLen
	}
	return SockaddrIn6Len
}

// sockaddr reads an internet address at an octet of the extension; p may have
// more behind it.
func (r *keyReader) sockaddr(at int, p []byte) (Addr, bool) {
	if len(p) < 2 {
		r.fail(at, "a socket address belongs here")
		return Addr{}, false
	}
	want := 0
	switch p[1] {
	case AFInet:
		want = SockaddrInLen
	case AFInet6:
		want = SockaddrIn6Len
	default:
		r.fail(at+1, "socket address of family %d, %d (inet) and %d (inet6) are right", p[1], AFInet, AFInet6)
		return Addr{}, false
	}
	if int(p[0]) != want || len(p) < want {
		r.fail(at, "socket address of length %d in %d octets, %d is right for family %d", p[0], len(p), want, p[1])
		return Addr{}, false
	}
	a, err := parseAddr(p[:want])
	if err != nil {
		r.fail(at, "%v", err)
		return Addr{}, false
	}
	if p[1] == AFInet6 && a.IP.Is4In6() {
		r.fail(at+8, "%v is an address of IPv4, which family %d is for", a.IP, AFInet)
		return Addr{}, false
	}
	return a, true
}

func (r *keyReader) key(k *Key, p []byte) *Key {
	if !r.least(p, 8) {
		return nil
	}
	bits := le.Uint16(p)
	n := keyOctets(bits)
	switch room := len(p) - 4; {
	case bits == 0:
		r.fail(4, "a key of 0 bits; a key has some, or is not there")
		return nil
	case room != (n+7)&^7:
		r.fail(4, "a key of %d bits in %d octets, %d are right", bits, room, (n+7)&^7)
		return nil
	}
	*k = Key{Bits: bits, Octets: bytes.Clone(p[4 : 4+n])}
	return k
}

func (r *keyReader) ident(p []byte) *KeyIdent {
	if !r.least(p, 16) {
		return nil
	}
	id := &KeyIdent{Type: le.Uint16(p), ID: le.Uint64(p[4:])}
	if len(p) > 12 {
		id.Text = r.text(16, p[12:])
	}
	return id
}

// text reads a text at an octet of the extension.
func (r *keyReader) text(at int, p []byte) string {
	end := bytes.IndexByte(p, 0)
	if end < 0 {
		r.fail(at, "the text has no zero octet at its end")
		return ""
	}
	return string(p[:end])
}

func (r *keyReader) sensitivity(p []byte) {
	if !r.least(p, 16) {
		return
	}
	if n, want := len(p)+sadbExtLen, 16+sadbUnit*(int(p[5])+int(p[7])); n != want {
		r.fail(0, "%d octets, %d are right for its bitmaps", n, want)
		return
	}
	r.m.Sensitivity = bytes.Clone(p)
}

func (r *keyReader) proposal(p []byte) {
	if !r.least(p, 8) {
		return
	}
	combs := p[4:]
	if len(combs)%sadbCombLen != 0 {
		r.fail(8, "%d octets of proposals, a multiple of %d is right", len(combs), sadbCombLen)
		return
	}
	o := &KeyProposal{Replay: p[0]}
	for ; len(combs) > 0; combs = combs[sadbCombLen:] {
		c := combs
		o.Combs = append(o.Combs, KeyComb{Auth: c[0], Encrypt: c[1], Flags: le.Uint16(c[2:]),
			AuthMinBits: le.Uint16(c[4:]), AuthMaxBits: le.Uint16(c[6:]), EncryptMinBits: le.Uint16(c[8:]), EncryptMaxBits: le.Uint16(c[10:]),
			SoftAllocations: le.Uint32(c[16:]), HardAllocations: le.Uint32(c[20:]), SoftBytes: le.Uint64(c[24:]), HardBytes: le.Uint64(c[32:]),
			SoftAddTime: le.Uint64(c[40:]), HardAddTime: le.Uint64(c[48:]), SoftUseTime: le.Uint64(c[56:]), HardUseTime: le.Uint64(c[64:])})
	}
	r.m.Proposal = o
}

func (r *keyReader) supported(p []byte) []KeyAlg {
	if !r.least(p, 8) {
		return nil
	}
	algs := make([]KeyAlg, 0, len(p)/sadbUnit)
	for p = p[4:]; len(p) > 0; p = p[sadbUnit:] {
		algs = append(algs, KeyAlg{ID: p[0], IVLen: p[1], MinBits: le.Uint16(p[2:]), MaxBits: le.Uint16(p[4:])})
	}
	return algs
}

func (r *keyReader) natt(p []byte) {
	n := r.m.NATT
	if n == nil {
		n = new(KeyNATT)
		r.m.NATT = n
	}
	switch r.typ {
	case SADBXExtNATTOAI:
		n.OAI = r.address(new(KeyAddress), p)
		return
	case SADBXExtNATTOAR:
		n.OAR = r.address(new(KeyAddress), p)
		return
	}
	if !r.fixed(p, 8) {
		return
	}
	switch r.typ {
	case SADBXExtNATTType:
		n.Type = p[0]
	case SADBXExtNATTSPort:
		n.SrcPort = binary.BigEndian.Uint16(p)
	case SADBXExtNATTDPort:
		n.DstPort = binary.BigEndian.Uint16(p)
	case SADBXExtNATTFrag:
		n.Frag = le.Uint16(p)
	}
}

func (r *keyReader) policy(p []byte) *KeyPolicy {
	if !r.least(p, 16) {
		return nil
	}
	one := new(struct { // most have one request
		KeyPolicy
		request [1]KeyRequest
	})
	o := &one.KeyPolicy
	*o = KeyPolicy{Type: le.Uint16(p), Dir: p[2], Scope: p[3], ID: le.Uint32(p[4:]), Priority: le.Uint32(p[8:])}
	const head = 12
	for at := head; at < len(p); {
		q, off := p[at:], at+sadbExtLen // the offset in the extension
		n := int(le.Uint16(q))
		if n < sadbRequestLen || n > len(q) || n%sadbUnit != 0 {
			r.fail(off, "request %d of %d octets, a multiple of 8 from %d to %d is right", len(o.Requests)+1, n, sadbRequestLen, len(q))
			return nil
		}
		x := KeyRequest{Proto: le.Uint16(q[2:]), Mode: q[4], Level: q[5], ReqID: le.Uint16(q[6:])}
		if n > sadbRequestLen {
			ends, ok := q[sadbRequestLen:n], false
			if x.Src, ok = r.sockaddr(off+sadbRequestLen, ends); !ok {
				return nil
			}
			size := sockaddrSize(x.Src)
			if x.Dst, ok = r.sockaddr(off+sadbRequestLen+size, ends[size:]); !ok {
				return nil
			}
			if x.Src.Family != x.Dst.Family {
				r.fail(off+sadbRequestLen, "a tunnel from %v to %v, ends of one family are right", x.Src, x.Dst)
				return nil
			}
			if left := len(ends) - 2*size; left != 0 {
				r.fail(off, "request %d has %d octets behind its addresses", len(o.Requests)+1, left)
				return nil
			}
		}
		if o.Requests == nil {
			o.Requests = one.request[:0]
		}
		o.Requests = append(o.Requests, x)
		at += n
	}
	return o
}
