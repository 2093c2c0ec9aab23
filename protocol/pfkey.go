package protocol

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// KeyMessage is a message of PF_KEY version 2 (RFC 2367). An extension that
// is nil is not there.
type KeyMessage struct {
	Type   uint8         // SADB_*
	Errno  syscall.Errno // Linux's number, of a reply
	SAType uint8         // SADB_SATYPE_*; of X_PROMISC 1 on, 0 off
	Refs   uint16        // of a dumped entry, in what RFC 2367 reserves, as KAME has it
	Seq    uint32
	PID    uint32

	SA                  *KeySA
	Current, Hard, Soft *KeyLifetime
	Src, Dst, Proxy     *KeyAddress
	AuthKey, EncryptKey *Key
	SrcIdent, DstIdent  *KeyIdent
	Sensitivity         []byte // what follows the extension's head; not looked into
	Proposal            *KeyProposal
	SupportedAuth       []KeyAlg
	SupportedEncrypt    []KeyAlg
	SPIRange            *KeySPIRange
	KMPrivate           []byte // what follows the extension's head
	Policy              *KeyPolicy
	SA2                 *KeySA2
	NATT                *KeyNATT
	Replay              *uint32 // packets: the window of SADB_X_EXT_SA_REPLAY, of any width
	TFC                 uint32  // octets that plaintexts are padded to at least (RFC 4303 §2.7), 0 none; ionet's own
	Unknown             []KeyExtension
	Text                string // a sentence about Errno; ionet\'s own
	Promisc             []byte // of X_PROMISC: the message that was overheard
}

// KeySA is SADB_EXT_SA.
type KeySA struct {
	SPI     uint32 // in the order of this machine
	Replay  uint8  // KAME: octets of the window, 8 packets each
	State   uint8  // SADB_SASTATE_*
	Auth    uint8  // SADB_AALG_*
	Encrypt uint8  // SADB_EALG_*, of IPComp SADB_X_CALG_*
	Flags   uint32 // SADB_X_EXT_*
}

// KeyLifetime is one of the SADB_EXT_LIFETIME_*; 0 is without a limit.
type KeyLifetime struct {
	Allocations uint32 // packets, as KAME counts
	Bytes       uint64
	AddTime     uint64 // seconds; of the current one when it was made, Unix seconds
	UseTime     uint64 // seconds since it was first used; of the current one when that was, Unix seconds
}

// KeyAddress is one of the SADB_EXT_ADDRESS_*.
type KeyAddress struct {
	IP    netip.Addr // the zone is the scope, an interface index in decimal
	Port  uint16     // 0 any; in the policies of ICMP the source's is the type, the destination's the code
	Bits  uint8      // length of the prefix
	Proto uint8      // upper-layer protocol, [IPSecProtoAny]
}

// Key is one of the SADB_EXT_KEY_*. Its octets are a copy.
type Key struct {
	Bits   uint16 // as many as count, from the left; not 0
	Octets []byte // as many as hold the bits
}

// KeyIdent is one of the SADB_EXT_IDENTITY_*.
type KeyIdent struct {
	Type uint16 // SADB_IDENTTYPE_*
	ID   uint64
	Text string // without a zero octet
}

// KeyProposal is SADB_EXT_PROPOSAL, the best first.
type KeyProposal struct {
	Replay uint8
	Combs  []KeyComb
}

// KeyComb is one proposal (sadb_comb). Soft and hard limits are of the
// association that would be made.
type KeyComb struct {
	Auth, Encrypt                    uint8
	Flags                            uint16
	AuthMinBits, AuthMaxBits         uint16
	EncryptMinBits, EncryptMaxBits   uint16
	SoftAllocations, HardAllocations uint32
	SoftBytes, HardBytes             uint64
	SoftAddTime, HardAddTime         uint64 // seconds
	SoftUseTime, HardUseTime         uint64 // seconds
}

// KeyAlg is an algorithm that REGISTER's reply lists (sadb_alg).
type KeyAlg struct {
	ID               uint8 // SADB_AALG_* or SADB_EALG_*
	IVLen            uint8 // octets
	MinBits, MaxBits uint16
}

// KeySPIRange is SADB_EXT_SPIRANGE, both ends included.
type KeySPIRange struct{ Min, Max uint32 }

// KeySA2 is KAME's SADB_X_EXT_SA2.
type KeySA2 struct {
	Mode  uint8  // IPSEC_MODE_*
	Seq   uint32 // the low half of the sequence number
	ReqID uint32
}

// KeyNATT are the SADB_X_EXT_NAT_T_*: ESP in UDP (RFC 3948).
type KeyNATT struct {
	Type             uint8 // [NATTEspInUDP]
	SrcPort, DstPort uint16
	OAI, OAR         *KeyAddress // source and destination before they were translated
	Frag             uint16      // octets; 0 whatever fits
}

// KeyPolicy is SADB_X_EXT_POLICY.
type KeyPolicy struct {
	Type     uint16 // IPSEC_POLICY_*
	Dir      uint8  // IPSEC_DIR_*
	Scope    uint8
	ID       uint32
	Priority uint32 // smaller is asked first
	Requests []KeyRequest
}

// KeyRequest is what a policy asks for (sadb_x_ipsecrequest). Src and Dst are
// the ends of a tunnel, neither or both, of one family.
type KeyRequest struct {
	Proto    uint16 // IPPROTO_ESP 50, AH 51, IPCOMP 108
	Mode     uint8  // IPSEC_MODE_*
	Level    uint8  // IPSEC_LEVEL_*
	ReqID    uint16
	Src, Dst Addr
}

// KeyExtension is an extension that this codec does not know. Data is what
// follows its head of 4 octets; 8 times some number less 4.
type KeyExtension struct {
	Type uint16
	Data []byte
}

// Lengths of the structures.
const (
	sadbMsgLen      = 16
	sadbExtLen      = 4
	sadbUnit        = 8 // lengths count these
	sadbCombLen     = 72
	sadbRequestLen  = 8
	keyMessageLimit = 0xffff * sadbUnit
)

// AppendKeyMessage appends the C layout of m as NetBSD's net/pfkeyv2.h has
// it, integers little-endian but SPIs and ports. The extensions are in the
// order of their numbers, padding, a text and those unknown last. What cannot be said in the
// layout (a key without bits, one end of a tunnel, a message longer than
// 524,280 octets) is an error of EINVAL, and b stays what it was.
func AppendKeyMessage(b []byte, m *KeyMessage) ([]byte, error) {
	w := keyWriter{b: b, start: len(b), m: m}
	w.message()
	if n := len(w.b) - w.start; w.err == nil && n > keyMessageLimit {
		w.fail("message of %d octets; at most %d can be said", n, keyMessageLimit)
	}
	if w.err != nil {
		return b, w.err
	}
	le.PutUint16(w.b[w.start+4:], uint16((len(w.b)-w.start)/sadbUnit))
	return w.b, nil
}

type keyWriter struct {
	b     []byte
	start int         // of the message
	ext   int         // of the extension
	m     *KeyMessage // nil of a policy alone
	err   error
}

func (w *keyWriter) fail(format string, args ...any) {
	if w.err == nil {
		w.err = keyErrorf(KeyFaultNone, w.m, format, args...)
	}
}

// keyErrorf says in which message something is wrong.
func keyErrorf(fault KeyFault, m *KeyMessage, format string, args ...any) error {
	where := "policy"
	if m != nil {
		where = "PF_KEY " + KeyTypeName(m.Type)
	}
	return KeyErrorf(fault, syscall.EINVAL, "%s: %s", where, fmt.Sprintf(format, args...))
}

func (w *keyWriter) u8(v ...uint8) { w.b = append(w.b, v...) }
func (w *keyWriter) u16(v uint16)  { w.b = le.AppendUint16(w.b, v) }
func (w *keyWriter) u32(v uint32)  { w.b = le.AppendUint32(w.b, v) }
func (w *keyWriter) u64(v uint64)  { w.b = le.AppendUint64(w.b, v) }

// net16 and net32 are in network order.
func (w *keyWriter) net16(v uint16) { w.u8(byte(v>>8), byte(v)) }
func (w *keyWriter) net32(v uint32) { w.u8(byte(v>>24), byte(v>>16), byte(v>>8), byte(v)) }

func (w *keyWriter) open(typ uint16) {
	w.ext = len(w.b)
	w.u16(0)
	w.u16(typ)
}

// close pads the extension and writes its length.
func (w *keyWriter) close() {
	for (len(w.b)-w.ext)%sadbUnit != 0 {
		w.b = append(w.b, 0)
	}
	n := (len(w.b) - w.ext) / sadbUnit
	if n > 0xffff {
		w.fail("%s of %d octets is too long", KeyExtName(le.Uint16(w.b[w.ext+2:])), len(w.b)-w.ext)
	}
	le.PutUint16(w.b[w.ext:], uint16(n))
}

func (w *keyWriter) message() {
	m := w.m
	if m.Errno > 255 {
		w.fail("error %d does not fit into an octet", uint(m.Errno))
	}
	w.u8(PFKeyVersion, m.Type, byte(m.Errno), m.SAType)
	w.u16(0) // length
	w.u16(m.Refs)
	w.u32(m.Seq)
	w.u32(m.PID)
	if m.Type == SADBXPromisc && m.Promisc != nil {
		w.b = append(w.b, m.Promisc...)
		if len(m.Promisc)%sadbUnit != 0 {
			w.fail("the message inside has %d octets, no multiple of 8", len(m.Promisc))
		}
		return
	}
	w.sa(m.SA)
	w.lifetime(SADBExtLifetimeCurrent, m.Current)
	w.lifetime(SADBExtLifetimeHard, m.Hard)
	w.lifetime(SADBExtLifetimeSoft, m.Soft)
	w.address(SADBExtAddressSrc, m.Src)
	w.address(SADBExtAddressDst, m.Dst)
	w.address(SADBExtAddressProxy, m.Proxy)
	w.key(SADBExtKeyAuth, m.AuthKey)
	w.key(SADBExtKeyEncrypt, m.EncryptKey)
	w.ident(SADBExtIdentitySrc, m.SrcIdent)
	w.ident(SADBExtIdentityDst, m.DstIdent)
	w.opaque(SADBExtSensitivity, m.Sensitivity)
	w.proposal(m.Proposal)
	w.supported(SADBExtSupportedAuth, m.SupportedAuth)
	w.supported(SADBExtSupportedEncrypt, m.SupportedEncrypt)
	if r := m.SPIRange; r != nil {
		w.open(SADBExtSPIRange)
		w.u32(r.Min)
		w.u32(r.Max)
		w.u32(0)
		w.close()
	}
	w.opaque(SADBXExtKMPrivate, m.KMPrivate)
	if m.Policy != nil {
		w.policy(m.Policy)
	}
	if s := m.SA2; s != nil {
		w.open(SADBXExtSA2)
		w.u8(s.Mode, 0, 0, 0)
		w.u32(s.Seq)
		w.u32(s.ReqID)
		w.close()
	}
	w.natt(m.NATT)
	if m.Replay != nil {
		w.open(SADBXExtSAReplay)
		w.u32(*m.Replay)
		w.close()
	}
	if m.TFC != 0 {
		w.open(SADBXExtTFC)
		w.u32(m.TFC)
		w.close()
	}
	if m.Text != "" {
		w.open(SADBXExtText)
		w.text(m.Text)
		w.close()
	}
	for _, x := range m.Unknown {
		if int(x.Type) < len(keyExtNames) || x.Type == SADBXExtText || x.Type == SADBXExtTFC {
			w.fail("%s among the unknown extensions", KeyExtName(x.Type))
		}
		w.opaque(x.Type, x.Data)
	}
}

func (w *keyWriter) sa(s *KeySA) {
	if s == nil {
		return
	}
	w.open(SADBExtSA)
	w.net32(s.SPI)
	w.u8(s.Replay, s.State, s.Auth, s.Encrypt)
	w.u32(s.Flags)
	w.close()
}

func (w *keyWriter) lifetime(typ uint16, l *KeyLifetime) {
	if l == nil {
		return
	}
	w.open(typ)
	w.u32(l.Allocations)
	w.u64(l.Bytes)
	w.u64(l.AddTime)
	w.u64(l.UseTime)
	w.close()
}

func (w *keyWriter) address(typ uint16, a *KeyAddress) {
	if a == nil {
		return
	}
	sa := AddrFrom(a.IP, a.Port)
	switch {
	case sa.Family == 0:
		w.fail("%s has no address", KeyExtName(typ))
	case int(a.Bits) > a.IP.Unmap().BitLen():
		w.fail("%s has a prefix of %d bits", KeyExtName(typ), a.Bits)
	}
	w.open(typ)
	w.u8(a.Proto, a.Bits, 0, 0)
	w.b = appendSockaddr(w.b, &sa)
	w.close()
}

func (w *keyWriter) key(typ uint16, k *Key) {
	if k == nil {
		return
	}
	if k.Bits == 0 || len(k.Octets) != keyOctets(k.Bits) {
		w.fail("%s of %d bits in %d octets", KeyExtName(typ), k.Bits, len(k.Octets))
	}
	w.open(typ)
	w.u16(k.Bits)
	w.u16(0)
	w.b = append(w.b, k.Octets...)
	w.close()
}

func keyOctets(bits uint16) int { return (int(bits) + 7) / 8 }

func (w *keyWriter) ident(typ uint16, id *KeyIdent) {
	if id == nil {
		return
	}
	w.open(typ)
	w.u16(id.Type)
	w.u16(0)
	w.u64(id.ID)
	if id.Text != "" {
		w.text(id.Text)
	}
	w.close()
}

// text appends s with a zero octet behind it.
func (w *keyWriter) text(s string) {
	if strings.IndexByte(s, 0) >= 0 {
		w.fail("%s has a zero octet in its text", KeyExtName(le.Uint16(w.b[w.ext+2:])))
	}
	w.b = append(append(w.b, s...), 0)
}

func (w *keyWriter) opaque(typ uint16, data []byte) {
	if data == nil {
		return
	}
	if (len(data)+sadbExtLen)%sadbUnit != 0 {
		w.fail("%s with %d octets behind its head; 4, 12, 20 and so on fit", KeyExtName(typ), len(data))
	}
	w.open(typ)
	w.b = append(w.b, data...)
	w.close()
}

func (w *keyWriter) proposal(p *KeyProposal) {
	if p == nil {
		return
	}
	w.open(SADBExtProposal)
	w.u8(p.Replay, 0, 0, 0)
	for i := range p.Combs {
		c := &p.Combs[i]
		w.u8(c.Auth, c.Encrypt)
		w.u16(c.Flags)
		w.u16(c.AuthMinBits)
		w.u16(c.AuthMaxBits)
		w.u16(c.EncryptMinBits)
		w.u16(c.EncryptMaxBits)
		w.u32(0)
		w.u32(c.SoftAllocations)
		w.u32(c.HardAllocations)
		w.u64(c.SoftBytes)
		w.u64(c.HardBytes)
		w.u64(c.SoftAddTime)
		w.u64(c.HardAddTime)
		w.u64(c.SoftUseTime)
		w.u64(c.HardUseTime)
	}
	w.close()
}

func (w *keyWriter) supported(typ uint16, algs []KeyAlg) {
	if algs == nil {
		return
	}
	w.open(typ)
	w.u32(0)
	for _, a := range algs {
		w.u8(a.ID, a.IVLen)
		w.u16(a.MinBits)
		w.u16(a.MaxBits)
		w.u16(0)
	}
	w.close()
}

func (w *keyWriter) natt(n *KeyNATT) {
	if n == nil {
		return
	}
	w.open(SADBXExtNATTType)
	w.u8(n.Type, 0, 0, 0)
	w.close()
	for i, port := range [2]uint16{n.SrcPort, n.DstPort} {
		if port != 0 {
			w.open(SADBXExtNATTSPort + uint16(i))
			w.net16(port)
			w.u16(0)
			w.close()
		}
	}
	w.address(SADBXExtNATTOAI, n.OAI)
	w.address(SADBXExtNATTOAR, n.OAR)
	if n.Frag != 0 {
		w.open(SADBXExtNATTFrag)
		w.u16(n.Frag)
		w.u16(0)
		w.close()
	}
}

func (w *keyWriter) policy(p *KeyPolicy) {
	w.open(SADBXExtPolicy)
	w.u16(p.Type)
	w.u8(p.Dir, p.Scope)
	w.u32(p.ID)
	w.u32(p.Priority)
	for i := range p.Requests {
		r := &p.Requests[i]
		at := len(w.b)
		w.u16(0)
		w.u16(r.Proto)
		w.u8(r.Mode, r.Level)
		w.u16(r.ReqID)
		if r.Src.Family != r.Dst.Family || r.Src.Family != 0 && r.Src.Family != AFInet && r.Src.Family != AFInet6 {
			w.fail("request %d of the policy has a tunnel from %q to %q; both ends or neither, of one family", i+1, r.Src, r.Dst)
			return
		}
		if r.Src.Family != 0 {
			w.b = appendSockaddr(w.b, &r.Src)
			w.b = appendSockaddr(w.b, &r.Dst)
		}
		le.PutUint16(w.b[at:], uint16(len(w.b)-at)) // octets, unlike all others
	}
	w.close()
}

// AppendKeyPolicy appends a policy alone, as options of sockets have it
// ([IPIPSecPolicy], [IPv6IPSecPolicy]). Errors are those of
// [AppendKeyMessage].
func AppendKeyPolicy(b []byte, p *KeyPolicy) ([]byte, error) {
	w := keyWriter{b: b}
	w.policy(p)
	if w.err != nil {
		return b, w.err
	}
	return w.b, nil
}
