package stackd

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/mib"
	"ionet/stack/packet"
)

// keyHub is the key sockets (RFC 2367). A reply goes to the asker or to all, as KAME has it; acquires and
// expires to those that have registered.
type keyHub struct {
	s *server

	mu   sync.Mutex
	all  map[*conn]struct{}
	weak map[string]bool // algorithms of which the log has been told
}

// keyState is a key socket. Of the handling worker, but for registered and promisc: the hub's lock.
type keyState struct {
	registered [256]bool // by SADB_SATYPE_*
	promisc    bool
	dump       keyDump
	later      []byte   // requests that came with a dump's, and wait for its end
	gather     bool     // the frame in hand has several requests, and so may its answer
	answers    []byte   // that have been gathered
	said       *keySaid // the last message about an association or policy
}

func (k *keyHub) init(s *server) {
	k.s, k.all, k.weak = s, map[*conn]struct{}{}, map[string]bool{}
	if x := s.eng.Engine().IPsec; x != nil {
		x.Subscribe(k.event)
	}
}

// join has a key socket hear of what happens. Who may not ask is told nothing.
func (k *keyHub) join(c *conn) {
	if !c.super {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[c] = struct{}{}
}

func (k *keyHub) leave(c *conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.all, c)
}

// sendKey sends one message to the asker.
func (c *conn) sendKey(m *protocol.KeyMessage) {
	if start := c.answer(m, cntKeyToOne); start >= 0 {
		c.answered()
	}
}

// answer appends m to the asker's answers, where it begins then; -1: it cannot be said.
func (c *conn) answer(m *protocol.KeyMessage, target mib.Counter) (start int) {
	k := &c.keys
	start = len(c.room())
	b, ok := c.s.keys.say(k.answers, m, target)
	if k.answers = b; !ok {
		return -1
	}
	if len(b) > protocol.MaxFrame {
		c.send(b[:start])
		n := copy(b, b[start:])
		clear(b[n:])
		k.answers, start = b[:n], 0
	}
	return start
}

// room is what there is of answers. A buffer that grew would leave keys behind; who gets none has what he needs.
func (c *conn) room() []byte {
	k := &c.keys
	if k.answers == nil && c.super {
		k.answers = make([]byte, 0, protocol.MaxFrame+protocol.MaxFrame/4)
	}
	return k.answers
}

// answered sends what there is of answers, unless more is to come.
func (c *conn) answered() {
	k := &c.keys
	if k.gather || len(k.answers) == 0 {
		return
	}
	c.send(k.answers)
	clear(k.answers) // keys
	k.answers = k.answers[:0]
}

// say appends a message as it is sent to whom target counts; false: it cannot be said.
func (k *keyHub) say(b []byte, m *protocol.KeyMessage, target mib.Counter) ([]byte, bool) {
	said, err := protocol.AppendKeyMessage(b, m)
	n := len(said) - len(b)
	if err != nil || n > protocol.MaxFrame {
		k.s.log.Error("a message for a key socket cannot be said", "type", protocol.KeyTypeName(m.Type), "err", err)
		return b, false
	}
	k.countOut(m.Type, 1, n, target)
	return said, true
}

// toAll sends m to every key socket, and to the asker among its answers.
func (c *conn) toAll(m *protocol.KeyMessage) {
	start := c.answer(m, cntKeyToAll)
	if start < 0 {
		return
	}
	c.s.keys.send(c.keys.answers[start:], func(o *conn) bool { return o != c })
	c.answered()
}

// send sends octets to the key sockets that want them.
func (k *keyHub) send(b []byte, want func(*conn) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.all { // map order: connections are apart
		if want(c) {
			c.send(b)
		}
	}
}

// tell sends what nobody has asked for to all, or to those that have registered for its kind.
func (k *keyHub) tell(m *protocol.KeyMessage, all bool) {
	target := cntKeyToSome
	if all {
		target = cntKeyToAll
	}
	if b, ok := k.say(nil, m, target); ok {
		k.send(b, func(c *conn) bool { return all || c.keys.registered[m.SAType] || c.keys.promisc })
	}
}

// keyFrame serves a frame of the door 29: whole messages.
func (c *conn) keyFrame(b []byte) {
	k := &c.s.keys
	defer func() {
		c.keys.gather = false
		c.answered()
	}()
	for len(b) > 0 {
		m, rest, err := protocol.NextKeyMessage(b)
		k.countIn(m.Type, len(b)-len(rest))
		if err != nil {
			k.countError(err)
			c.keyError(m, err)
			return
		}
		raw := b[:len(b)-len(rest)]
		b = rest
		c.keys.gather = c.keys.gather || len(b) > 0
		if err := c.key(m, raw); err != nil {
			k.countError(err)
			c.keyError(m, err)
		}
		clear(raw) // keys
		if c.keys.dump.left() > 0 && len(b) > 0 {
			c.keys.later = bytes.Clone(b)
			return
		}
	}
}

// goOnKeys goes on with a dump and what waits for its end; false: that waits for its reader.
func (c *conn) goOnKeys() bool {
	for c.keys.goOn(c) {
		if c.keys.later == nil {
			return true
		}
		b := c.keys.later
		c.keys.later = nil
		c.keyFrame(b)
		clear(b) // keys
	}
	return false
}

// keyError answers a request that failed, without its extensions (RFC 2367 §2.2).
func (c *conn) keyError(m *protocol.KeyMessage, err error) {
	e := protocol.AsError(err)
	r := protocol.KeyMessage{Errno: e.Errno, Text: e.Text}
	if m != nil {
		r.Type, r.SAType, r.Seq, r.PID = m.Type, m.SAType, m.Seq, m.PID
	}
	if e.Text == e.Errno.Error() {
		r.Text = ""
	}
	c.sendKey(&r)
}

// key carries out one request.
func (c *conn) key(m *protocol.KeyMessage, raw []byte) error {
	if err := c.privileged("use key sockets"); err != nil {
		return err
	}
	x := c.s.eng.Engine().IPsec
	k := &c.s.keys
	switch m.Type {
	case protocol.SADBGetSPI:
		return c.getSPI(x, m)
	case protocol.SADBAdd, protocol.SADBUpdate:
		return c.addSA(x, m)
	case protocol.SADBDelete:
		return c.deleteSA(x, m)
	case protocol.SADBGet:
		s, err := findSA(x, m)
		if err != nil {
			return err
		}
		r := c.say().sa(c.s, s, true)
		r.Type, r.Seq, r.PID = m.Type, m.Seq, m.PID
		c.sendKey(r)
		c.keys.said.wipe()
	case protocol.SADBFlush:
		proto, err := protoOf(m.SAType)
		if err != nil {
			return err
		}
		x.DeleteAll(proto, netip.Addr{}, netip.Addr{})
		c.toAll(reply(m))
	case protocol.SADBDump:
		proto, err := protoOf(m.SAType)
		if err != nil {
			return err
		}
		return c.dumpKeys(m, keyDump{sas: x.SAs(proto)})
	case protocol.SADBRegister:
		return c.register(m)
	case protocol.SADBAcquire:
		if m.Errno == 0 {
			return errf(unix.EOPNOTSUPP, "daemons are asked by the stack alone")
		}
		x.Failed(m.Seq)
	case protocol.SADBXPromisc:
		k.mu.Lock()
		c.keys.promisc = m.SAType != 0
		k.mu.Unlock()
		c.sendKey(reply(m))
	case protocol.SADBXSPDAdd, protocol.SADBXSPDUpdate, protocol.SADBXSPDSetIdx:
		return c.addPolicy(x, m, raw)
	case protocol.SADBXSPDDelete, protocol.SADBXSPDDelete2, protocol.SADBXSPDGet:
		return c.onePolicy(x, m, raw)
	case protocol.SADBXSPDFlush:
		x.FlushPolicies()
		c.s.journal.key(raw)
		c.toAll(reply(m))
	case protocol.SADBXSPDDump:
		return c.dumpKeys(m, keyDump{policies: x.Policies()})
	default:
		return protocol.KeyErrorf(protocol.KeyFaultType, unix.EOPNOTSUPP, "PF_KEY %s is not served", protocol.KeyTypeName(m.Type))
	}
	return nil
}

// reply is m without its extensions.
func reply(m *protocol.KeyMessage) *protocol.KeyMessage {
	return &protocol.KeyMessage{Type: m.Type, SAType: m.SAType, Seq: m.Seq, PID: m.PID}
}

// protoOf is the protocol of a kind of SA; 0: all.
func protoOf(satype uint8) (uint8, error) {
	switch satype {
	case protocol.SADBSATypeUnspec:
		return 0, nil
	case protocol.SADBSATypeESP:
		return packet.ProtoESP, nil
	case protocol.SADBSATypeAH:
		return packet.ProtoAH, nil
	case protocol.SADBSATypeIPComp:
		return packet.ProtoIPComp, nil
	}
	return 0, protocol.KeyErrorf(protocol.KeyFaultSAType, unix.EINVAL, "associations of type %d are not served: ah (2), esp (3) and ipcomp (9) are", satype)
}

func satypeOf(proto uint8) uint8 {
	switch proto {
	case packet.ProtoESP:
		return protocol.SADBSATypeESP
	case packet.ProtoAH:
		return protocol.SADBSATypeAH
	}
	return protocol.SADBSATypeIPComp
}

// specOf is the SA that a message describes.
func specOf(m *protocol.KeyMessage) (s ipsec.Spec, err error) {
	if s.Proto, err = protoOf(m.SAType); err != nil {
		return s, err
	}
	if s.Proto == 0 || m.Src == nil || m.Dst == nil {
		return s, errf(unix.EINVAL, "a type and both addresses are needed")
	}
	if m.Src.IP.Is4() != m.Dst.IP.Is4() {
		return s, protocol.KeyErrorf(protocol.KeyFaultAddress, unix.EINVAL, "%v and %v are of two families", m.Src.IP, m.Dst.IP)
	}
	s.Src, s.Dst, s.PID, s.Seq = m.Src.IP.Unmap(), m.Dst.IP.Unmap(), m.PID, m.Seq
	if m.SA2 != nil {
		s.Mode, s.ReqID = m.SA2.Mode, m.SA2.ReqID
	}
	if m.SA == nil {
		return s, nil
	}
	s.SPI, s.Aalg = m.SA.SPI, m.SA.Auth
	if s.Ealg = m.SA.Encrypt; s.Proto == packet.ProtoIPComp {
		s.Ealg, s.Calg = 0, m.SA.Encrypt
	}
	if s.Replay = int(m.SA.Replay) * 8; m.Replay != nil {
		s.Replay = int(min(*m.Replay, 1<<30))
	}
	s.TFC = int(min(m.TFC, 1<<30))
	flags := m.SA.Flags
	if flags&protocol.SADBXExtOld != 0 && s.Proto != packet.ProtoIPComp {
		return s, errf(unix.EPROTONOSUPPORT, "the old forms of ESP and AH (RFC 1826, 1827) are not here")
	}
	s.ESN, s.Cyclic, s.RawCPI = flags&protocol.SADBXSAFlagsESN != 0, flags&protocol.SADBXExtCycSeq != 0, flags&protocol.SADBXExtRawCPI != 0
	switch flags & protocol.SADBXExtPMask {
	case protocol.SADBXExtPRand:
		s.Pad = ipsec.PadRandom
	case protocol.SADBXExtPZero:
		s.Pad = ipsec.PadZero
	}
	if m.EncryptKey != nil {
		s.Ekey = m.EncryptKey.Octets
	}
	if m.AuthKey != nil {
		s.Akey = m.AuthKey.Octets
	}
	s.Soft, s.Hard = lifetimeOf(m.Soft), lifetimeOf(m.Hard)
	if n := m.NATT; n != nil && n.Type != 0 {
		if n.Type != protocol.NATTEspInUDP {
			return s, errf(unix.EPROTONOSUPPORT, "NAT-T of type %d is not here; ESP in UDP is %d", n.Type, protocol.NATTEspInUDP)
		}
		s.NATT = ipsec.NATT{Type: n.Type, Sport: n.SrcPort, Dport: n.DstPort}
		if n.OAI != nil {
			s.NATT.OA = n.OAI.IP
		}
	}
	return s, nil
}

func lifetimeOf(l *protocol.KeyLifetime) ipsec.Lifetime {
	if l == nil {
		return ipsec.Lifetime{}
	}
	const longest = 1 << 40 // seconds
	return ipsec.Lifetime{Packets: l.Allocations, Bytes: l.Bytes, Add: int64(min(l.AddTime, longest)), Use: int64(min(l.UseTime, longest))}
}

func (c *conn) getSPI(x *ipsec.IPsec, m *protocol.KeyMessage) error {
	spec, err := specOf(m)
	if err != nil {
		return err
	}
	lo, hi := uint32(0), uint32(0)
	if r := m.SPIRange; r != nil {
		lo, hi = r.Min, r.Max
	}
	s, err := x.GetSPI(spec, lo, hi)
	if err != nil {
		return err
	}
	r := reply(m)
	r.SA, r.SA2, r.Src, r.Dst = &protocol.KeySA{SPI: s.SPI}, m.SA2, m.Src, m.Dst
	c.sendKey(r)
	return nil
}

// addSA serves ADD and UPDATE. Nobody else sees the keys.
func (c *conn) addSA(x *ipsec.IPsec, m *protocol.KeyMessage) error {
	spec, err := specOf(m)
	if err != nil {
		return err
	}
	if m.SA == nil {
		return errf(unix.EINVAL, "an association has an SPI and algorithms")
	}
	var s *ipsec.SA
	if m.Type == protocol.SADBAdd {
		s, err = x.Add(spec)
	} else {
		s, err = x.Update(spec)
	}
	if err != nil || m.Type == protocol.SADBUpdate && !keeps(s, &spec) {
		clear(spec.Ekey)
		clear(spec.Akey)
	}
	if err != nil {
		return keyReason(err)
	}
	c.s.keys.warnWeak(&s.Spec)
	r := c.say().sa(c.s, s, false)
	r.Type, r.Seq, r.PID = m.Type, m.Seq, m.PID
	c.toAll(r)
	return nil
}

// keeps reports whether an SA's keys are those of a spec, and not copies or others.
func keeps(s *ipsec.SA, spec *ipsec.Spec) bool {
	same := func(a, b []byte) bool {
		return len(a) == 0 && len(b) == 0 || len(a) > 0 && len(b) > 0 && &a[0] == &b[0]
	}
	return same(s.Ekey, spec.Ekey) && same(s.Akey, spec.Akey)
}

// keyReason is an error of the engine or of crypt, which has no number, as a client sees it.
func keyReason(err error) error {
	if e := protocol.AsError(err); e.Errno != unix.EIO {
		return err
	}
	return errf(unix.EINVAL, "%v", err)
}

// warnWeak tells the log once of each weak algorithm that somebody uses.
func (k *keyHub) warnWeak(s *ipsec.Spec) {
	var names []string
	if e, ok := crypt.EalgByNumber(s.Ealg); ok && e.Weak && s.Proto == packet.ProtoESP {
		names = append(names, e.Name)
	}
	if a, ok := crypt.AalgByNumber(s.Aalg); ok && a.Weak && s.Proto != packet.ProtoIPComp {
		names = append(names, a.Name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range names {
		if !k.weak[n] {
			k.weak[n] = true
			k.s.log.Warn("a weak algorithm protects packets; net.inet.ipsec.weak=0 refuses such", "algorithm", n)
		}
	}
}

func findSA(x *ipsec.IPsec, m *protocol.KeyMessage) (*ipsec.SA, error) {
	proto, err := protoOf(m.SAType)
	if err != nil {
		return nil, err
	}
	if m.SA == nil || m.Dst == nil || proto == 0 {
		return nil, errf(unix.EINVAL, "a type, an SPI and a destination are needed")
	}
	src := netip.Addr{}
	if m.Src != nil {
		src = m.Src.IP.Unmap()
	}
	return x.Find(proto, m.SA.SPI, src, m.Dst.IP.Unmap())
}

// deleteSA ends one SA, or without an SPI all between two addresses (KAME's deleteall).
func (c *conn) deleteSA(x *ipsec.IPsec, m *protocol.KeyMessage) error {
	if m.SA == nil {
		proto, err := protoOf(m.SAType)
		if err != nil {
			return err
		}
		if m.Src == nil || m.Dst == nil {
			return errf(unix.EINVAL, "both addresses are needed")
		}
		if x.DeleteAll(proto, m.Src.IP.Unmap(), m.Dst.IP.Unmap()) == 0 {
			return unix.ESRCH
		}
	} else {
		s, err := findSA(x, m)
		if err != nil {
			return err
		}
		x.Delete(s)
	}
	r := reply(m)
	r.SA, r.Src, r.Dst = m.SA, m.Src, m.Dst
	c.toAll(r)
	return nil
}

// register serves REGISTER: what there is of algorithms.
func (c *conn) register(m *protocol.KeyMessage) error {
	if _, err := protoOf(m.SAType); err != nil {
		return err
	}
	k := &c.s.keys
	k.mu.Lock()
	c.keys.registered[m.SAType] = true
	k.mu.Unlock()
	r := reply(m)
	if m.SAType != protocol.SADBSATypeIPComp {
		r.SupportedAuth = algorithms(crypt.Aalgs())
	}
	switch m.SAType {
	case protocol.SADBSATypeESP, protocol.SADBSATypeUnspec:
		r.SupportedEncrypt = algorithms(crypt.Ealgs())
	case protocol.SADBSATypeIPComp:
		r.SupportedEncrypt = algorithms(crypt.Calgs())
	}
	c.sendKey(r)
	return nil
}

func algorithms(all []crypt.Algorithm) (out []protocol.KeyAlg) {
	for _, a := range all {
		out = append(out, protocol.KeyAlg{ID: a.Number, IVLen: uint8(a.IVLen), MinBits: uint16(a.MinBits), MaxBits: uint16(a.MaxBits)})
	}
	return out
}

// unix is a time of the stack's clock in Unix seconds; 0: never.
func (s *server) unix(ns int64) uint64 {
	if ns == 0 {
		return 0
	}
	return uint64(s.eng.Wall(ns).Unix())
}

func keyAddress(ip netip.Addr) *protocol.KeyAddress {
	return &protocol.KeyAddress{IP: ip, Bits: uint8(ip.BitLen()), Proto: protocol.IPSecProtoAny}
}

// event tells registered sockets what happens; the engine calls it from anywhere.
func (k *keyHub) event(e ipsec.Event) {
	switch e.Kind {
	case ipsec.Acquire:
		w := e.Wanted
		m := &protocol.KeyMessage{Type: protocol.SADBAcquire, SAType: satypeOf(w.Proto), Seq: e.Session, Src: keyAddress(w.Src), Dst: keyAddress(w.Dst),
			SA2: &protocol.KeySA2{Mode: w.Mode, ReqID: w.ReqID}, Proposal: proposal(w.Proto)}
		if w.Policy != nil {
			m.Policy = &protocol.KeyPolicy{Type: protocol.IPSecPolicyIPSec, Dir: w.Policy.Dir, ID: w.Policy.ID, Priority: w.Policy.Priority}
		}
		k.tell(m, false)
	case ipsec.SAExpired:
		m := new(keySaid).sa(k.s, e.SA, false)
		m.Type, m.PID, m.Seq = protocol.SADBExpire, 0, 0
		if e.Hard {
			m.Soft = nil
		} else {
			m.Hard = nil
		}
		k.tell(m, false)
	case ipsec.PolicyExpired:
		m := new(keySaid).policy(k.s, e.Policy)
		m.Type, m.PID, m.Seq = protocol.SADBXSPDExpire, 0, 0
		k.tell(m, true)
	}
}

// proposal is what a daemon may negotiate, the best first: nothing weak.
func proposal(proto uint8) *protocol.KeyProposal {
	p := &protocol.KeyProposal{Replay: 32}
	add := func(e, a, bits uint8) {
		c := protocol.KeyComb{Encrypt: e, Auth: a, HardAddTime: 8 * 3600, SoftAddTime: 8 * 3600 * 8 / 10}
		if alg, ok := crypt.EalgByNumber(e); ok && proto == packet.ProtoESP {
			c.EncryptMinBits, c.EncryptMaxBits = uint16(alg.MinBits), uint16(alg.MaxBits)
		}
		if alg, ok := crypt.AalgByNumber(a); ok && a != 0 {
			c.AuthMinBits, c.AuthMaxBits = uint16(alg.MinBits), uint16(alg.MaxBits)
		}
		p.Combs = append(p.Combs, c)
	}
	switch proto {
	case packet.ProtoESP:
		add(crypt.EalgAESGCM16, 0, 0)
		add(crypt.EalgChaCha20Poly1305, 0, 0)
		add(crypt.EalgAESCBC, crypt.AalgHMACSHA256, 0)
		add(crypt.EalgAESCBC, crypt.AalgHMACSHA1, 0)
	case packet.ProtoAH:
		add(0, crypt.AalgHMACSHA256, 0)
		add(0, crypt.AalgHMACSHA1, 0)
	default:
		add(crypt.CalgDeflate, 0, 0)
	}
	return p
}

// policyOf is the policy that a message describes, without what protects.
func selectorOf(m *protocol.KeyMessage) (s ipsec.Selector, err error) {
	if m.Src == nil || m.Dst == nil {
		return s, errf(unix.EINVAL, "both addresses are needed")
	}
	if m.Src.IP.Is4() != m.Dst.IP.Is4() {
		return s, protocol.KeyErrorf(protocol.KeyFaultAddress, unix.EINVAL, "%v and %v are of two families", m.Src.IP, m.Dst.IP)
	}
	ip := func(a *protocol.KeyAddress) netip.Prefix {
		plain, _ := packet.Unscoped(a.IP.Unmap())
		return netip.PrefixFrom(plain.WithZone(""), int(a.Bits))
	}
	s = ipsec.Selector{Src: ip(m.Src), Dst: ip(m.Dst), SrcPort: m.Src.Port, DstPort: m.Dst.Port, Proto: m.Dst.Proto}
	if m.Src.Proto != m.Dst.Proto {
		return s, errf(unix.EINVAL, "upper-layer protocols %d and %d", m.Src.Proto, m.Dst.Proto)
	}
	s.Typed = (s.Proto == packet.ProtoICMP || s.Proto == packet.ProtoICMPv6) && s.SrcPort|s.DstPort != 0
	return s, nil
}

// enginePolicy is a policy of PF_KEY, without its selector, as the engine has it.
func enginePolicy(k *protocol.KeyPolicy) (*ipsec.Policy, error) {
	p := &ipsec.Policy{Dir: k.Dir, Kind: ipsec.Kind(k.Type), Priority: k.Priority, ID: 0}
	if p.Priority == 0 { // who knows of none
		p.Priority = protocol.IPSecPriorityDefault
	}
	for _, r := range k.Requests {
		q := ipsec.Request{Proto: uint8(r.Proto), Mode: r.Mode, Level: ipsec.Level(r.Level), ReqID: uint32(r.ReqID), Src: r.Src.IP.Unmap(), Dst: r.Dst.IP.Unmap(),
			SrcPort: r.Src.Port, DstPort: r.Dst.Port}
		p.Requests = append(p.Requests, q)
	}
	return p, nil
}

func (c *conn) addPolicy(x *ipsec.IPsec, m *protocol.KeyMessage, raw []byte) error {
	p, err := c.s.newPolicy(x, m)
	if err != nil {
		return err
	}
	c.s.journal.key(raw)
	r := c.say().policy(c.s, p)
	r.Type, r.Seq, r.PID = m.Type, m.Seq, m.PID
	c.toAll(r)
	return nil
}

func (s *server) newPolicy(x *ipsec.IPsec, m *protocol.KeyMessage) (*ipsec.Policy, error) {
	sel, err := selectorOf(m)
	if err != nil {
		return nil, err
	}
	if m.Policy == nil {
		return nil, errf(unix.EINVAL, "no policy in the message")
	}
	p, err := enginePolicy(m.Policy)
	if err != nil {
		return nil, err
	}
	p.Selector, p.PID, p.Seq = sel, m.PID, m.Seq
	if m.Hard != nil {
		p.Life = lifetimeOf(m.Hard)
	}
	if m.Type == protocol.SADBXSPDUpdate {
		return p, x.UpdatePolicy(p)
	}
	return p, x.AddPolicy(p)
}

// onePolicy serves SPDDELETE, SPDDELETE2 and SPDGET.
func (c *conn) onePolicy(x *ipsec.IPsec, m *protocol.KeyMessage, raw []byte) error {
	p, err := findPolicy(x, m)
	if err != nil {
		return err
	}
	r := c.say().policy(c.s, p)
	r.Type, r.Seq, r.PID = m.Type, m.Seq, m.PID
	if m.Type == protocol.SADBXSPDGet {
		c.sendKey(r)
		return nil
	}
	if p.Kept {
		return errf(unix.EPERM, "the policy is an ipsec interface's, and goes with its tunnel (ifconfig deletetunnel)")
	}
	x.RemovePolicy(p)
	r.Type = protocol.SADBXSPDDelete // in the journal a number means nothing
	if b, err := protocol.AppendKeyMessage(nil, r); err == nil {
		c.s.journal.key(b)
	}
	r.Type = m.Type
	c.toAll(r)
	return nil
}

func findPolicy(x *ipsec.IPsec, m *protocol.KeyMessage) (*ipsec.Policy, error) {
	if m.Policy == nil {
		return nil, errf(unix.EINVAL, "a policy is named by its direction or its number")
	}
	if m.Type != protocol.SADBXSPDDelete {
		p, err := x.PolicyByID(m.Policy.ID)
		if err != nil {
			return nil, fmt.Errorf("policy %d: %w", m.Policy.ID, err)
		}
		return p, nil
	}
	sel, err := selectorOf(m)
	if err != nil {
		return nil, err
	}
	return x.FindPolicy(m.Policy.Dir, sel)
}
