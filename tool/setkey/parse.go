package setkey

import (
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"strings"

	"ionet/protocol"
)

// endpoint is an address or network with a port, not looked up yet.
type endpoint struct {
	host token
	bits int   // of the prefix; -1 all
	port token // kind end: any
}

// statement is one of the language's, with what does not depend on names
// filled into a message.
type statement struct {
	line    int // of its semicolon
	leave   bool
	numeric bool // -n: names are not looked up
	family  int  // -4, -6; 0 either

	src, dst endpoint
	oa       *endpoint // of esp-udp
	udp      bool
	upper    token
	misc     token // behind the upper-layer protocol; kind end: none
	requests token // of a policy; kind end: none

	m protocol.KeyMessage

	weak []string // names of weak algorithms
}

// parser reads statements.
type parser struct {
	lex  *lexer
	t    token // the present one
	s    statement
	algs func() (auth, encrypt supported)
}

func newParser(l *lexer, algs func() (auth, encrypt supported)) *parser {
	return &parser{lex: l, algs: algs}
}

func (p *parser) advance() (err error) {
	p.t, err = p.lex.next()
	return err
}

// skip passes over the rest of a statement that was not understood.
func (p *parser) skip() error {
	for p.t.kind != semi && p.t.kind != end {
		if err := p.advance(); err != nil {
			if !errors.As(err, new(*syntaxError)) {
				return err
			}
			p.t = token{kind: word}
		}
	}
	return nil
}

// next is the next statement, nil at the end; it is good until it is called again. Errors of the language are of
// type *syntaxError.
func (p *parser) next() (*statement, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	for p.t.kind == semi {
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if p.t.kind == end {
		return nil, nil
	}
	p.s = statement{}
	s := &p.s
	verb, ok := verbs[p.t.text]
	if !ok || p.t.kind != word {
		return nil, p.t.wrong("syntax error: a statement begins with add, update, getspi, get, delete, deleteall, flush, dump, spdadd, spdupdate, spddelete, spdflush or spddump")
	}
	s.m.Type = verb.typ
	if err := p.advance(); err != nil {
		return nil, err
	}
	if err := verb.parse(p, s); err != nil {
		return nil, err
	}
	if p.t.kind != semi {
		return nil, p.t.wrong("syntax error: the statement should end here, with ;")
	}
	s.line = p.t.line
	return s, nil
}

var verbs map[string]struct {
	typ   uint8
	parse func(*parser, *statement) error
}

func init() {
	nothing := func(*parser, *statement) error { return nil }
	leave := func(_ *parser, s *statement) error { s.leave = true; return nil }
	type v = struct {
		typ   uint8
		parse func(*parser, *statement) error
	}
	verbs = map[string]v{
		"add":       {protocol.SADBAdd, (*parser).add},
		"update":    {protocol.SADBUpdate, (*parser).add},
		"getspi":    {protocol.SADBGetSPI, (*parser).getSPI},
		"get":       {protocol.SADBGet, (*parser).named},
		"delete":    {protocol.SADBDelete, (*parser).named},
		"deleteall": {protocol.SADBDelete, (*parser).deleteAll},
		"flush":     {protocol.SADBFlush, (*parser).proto},
		"dump":      {protocol.SADBDump, (*parser).proto},
		"spdadd":    {protocol.SADBXSPDAdd, (*parser).spd},
		"spdupdate": {protocol.SADBXSPDUpdate, (*parser).spd},
		"spddelete": {protocol.SADBXSPDDelete, (*parser).spd},
		"spdflush":  {protocol.SADBXSPDFlush, nothing},
		"spddump":   {protocol.SADBXSPDDump, nothing},
		"exit":      {0, leave},
		"quit":      {0, leave},
		"bye":       {0, leave},
	}
}

// options reads -4, -6 and -n.
func (p *parser) options(s *statement) error {
	for p.t.kind == flag && strings.Trim(p.t.text[1:], "46n") == "" {
		for _, c := range p.t.text[1:] {
			switch c {
			case '4':
				s.family = protocol.AFInet
			case '6':
				s.family = protocol.AFInet6
			case 'n':
				s.numeric = true
			}
		}
		if err := p.advance(); err != nil {
			return err
		}
	}
	return nil
}

// host reads an address or a name, with a prefix length if there may be one,
// and a port.
func (p *parser) host(prefix, port bool) (e endpoint, err error) {
	if p.t.kind != word {
		return e, p.t.wrong("syntax error: an address belongs here")
	}
	e.host, e.bits = p.t, -1
	if err := p.advance(); err != nil {
		return e, err
	}
	if prefix && p.t.kind == slash {
		if err := p.advance(); err != nil {
			return e, err
		}
		n, err := p.number(128)
		if err != nil {
			return e, err
		}
		e.bits = int(n)
	}
	if port && p.t.kind == open {
		if err := p.advance(); err != nil {
			return e, err
		}
		switch {
		case p.t.kind == word && p.t.text == "any":
		case p.t.kind == word, p.t.kind == number:
			e.port = p.t
		default:
			return e, p.t.wrong("syntax error: a port belongs here, or any")
		}
		if err := p.advance(); err != nil {
			return e, err
		}
		if p.t.kind != shut {
			return e, p.t.wrong("syntax error: ] belongs here")
		}
		return e, p.advance()
	}
	return e, nil
}

// number reads a decimal number of at most the value of most.
func (p *parser) number(most uint64) (uint64, error) {
	if p.t.kind != number {
		return 0, p.t.wrong("syntax error: a number belongs here")
	}
	n, err := strconv.ParseUint(p.t.text, 10, 64)
	if err != nil || n > most {
		return 0, p.t.wrong("a number of at most %d belongs here", most)
	}
	return n, p.advance()
}

// proto reads the protocol of an association; none is any.
func (p *parser) proto(s *statement) error {
	if p.t.kind != word {
		return nil
	}
	flags := &s.sa().Flags
	switch p.t.text {
	case "esp":
		s.m.SAType = protocol.SADBSATypeESP
	case "esp-old":
		s.m.SAType = protocol.SADBSATypeESP
		*flags |= protocol.SADBXExtOld
	case "ah":
		s.m.SAType = protocol.SADBSATypeAH
	case "ah-old":
		s.m.SAType = protocol.SADBSATypeAH
		*flags |= protocol.SADBXExtOld
	case "ipcomp":
		s.m.SAType = protocol.SADBSATypeIPComp
	case "esp-udp":
		s.m.SAType, s.udp = protocol.SADBSATypeESP, true
	case "tcp":
		return p.t.wrong("signatures of TCP (RFC 2385) are not supported")
	default:
		return p.t.wrong("syntax error: a protocol belongs here, ah, ah-old, esp, esp-old, esp-udp or ipcomp")
	}
	udp := s.udp && p.t.text == "esp-udp"
	if err := p.advance(); err != nil {
		return err
	}
	if udp && p.t.kind == word {
		oa, err := p.host(false, false)
		s.oa = &oa
		return err
	}
	return nil
}

// sa is the association that the statement is about.
func (s *statement) sa() *protocol.KeySA {
	if s.m.SA == nil {
		s.m.SA = &protocol.KeySA{Flags: protocol.SADBXExtCycSeq}
	}
	return s.m.SA
}

// name reads what an association is known by: its ends, protocol and SPI.
func (p *parser) name(s *statement, spi bool) (err error) {
	if err = p.options(s); err != nil {
		return err
	}
	if s.src, err = p.host(false, spi); err != nil {
		return err
	}
	if s.dst, err = p.host(false, spi); err != nil {
		return err
	}
	at := p.t
	if err = p.proto(s); err != nil {
		return err
	}
	if s.m.SAType == protocol.SADBSATypeUnspec {
		return at.wrong("syntax error: a protocol belongs here, ah, ah-old, esp, esp-old, esp-udp or ipcomp")
	}
	if !spi {
		return nil
	}
	base := 10
	text := p.t.text
	switch p.t.kind {
	case number:
	case hexadec:
		base, text = 16, text[2:]
	default:
		return p.t.wrong("syntax error: an SPI belongs here, a number")
	}
	n, err := strconv.ParseUint(text, base, 32)
	if err != nil {
		return p.t.wrong("an SPI has 32 bits")
	}
	any := s.m.Type == protocol.SADBGetSPI && n == 0 // the stack chooses
	if s.m.SAType != protocol.SADBSATypeIPComp && n < 256 && !any {
		return p.t.wrong("SPIs up to 255 are reserved")
	}
	s.sa().SPI = uint32(n)
	return p.advance()
}

func (p *parser) deleteAll(s *statement) error {
	err := p.name(s, false)
	s.m.SA = nil
	return err
}

// named is get and delete.
func (p *parser) named(s *statement) error {
	if err := p.name(s, true); err != nil {
		return err
	}
	return p.extensions(s)
}

// getSPI asks for an association without keys: of that SPI, with 0 of any.
func (p *parser) getSPI(s *statement) error {
	if err := p.named(s); err != nil {
		return err
	}
	if n := s.m.SA.SPI; n != 0 {
		s.m.SPIRange = &protocol.KeySPIRange{Min: n, Max: n}
	}
	return nil
}

func (p *parser) add(s *statement) error {
	if err := p.named(s); err != nil {
		return err
	}
	return p.algorithms(s)
}

// extensions reads the options of an association.
func (p *parser) extensions(s *statement) error {
	s.m.SA2 = &protocol.KeySA2{}
	for p.t.kind == flag {
		f := p.t
		switch f.text {
		case "-E", "-A", "-C":
			return nil
		case "-ctx":
			return f.wrong("security contexts are not supported")
		case "-m", "-u", "-r", "-f", "-lh", "-ls", "-bh", "-bs", "-nh", "-ns", "-tfc":
		default:
			return f.wrong("syntax error: an option belongs here, -m, -u, -r, -f, -lh, -ls, -bh, -bs, -nh, -ns, -tfc, or -E, -A, -C")
		}
		if err := p.advance(); err != nil {
			return err
		}
		if err := p.extension(s, f); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) extension(s *statement, f token) error {
	hard, soft := &s.m.Hard, &s.m.Soft
	life := func(l **protocol.KeyLifetime) *protocol.KeyLifetime {
		if *l == nil {
			*l = &protocol.KeyLifetime{}
		}
		return *l
	}
	most := uint64(math.MaxUint32)
	switch f.text {
	case "-m":
		mode, ok := map[string]uint8{"any": protocol.IPSecModeAny, "transport": protocol.IPSecModeTransport, "tunnel": protocol.IPSecModeTunnel, "beet": protocol.IPSecModeBEET}[p.t.text]
		if !ok {
			return p.t.wrong("syntax error: a mode belongs here, any, transport, tunnel or beet")
		}
		s.m.SA2.Mode = mode
		return p.advance()
	case "-f":
		return p.feature(s)
	case "-lh", "-ls", "-bh", "-bs":
		most = math.MaxUint64
	case "-r":
		most = math.MaxUint32 / 8
	}
	at := p.t
	n, err := p.number(most)
	if err != nil {
		return err
	}
	switch f.text {
	case "-tfc":
		if n > 0 && s.m.SAType != protocol.SADBSATypeESP {
			return f.wrong("esp alone pads packets")
		}
		s.m.TFC = uint32(n)
	case "-u":
		s.m.SA2.ReqID = uint32(n)
	case "-r":
		if n > 0 && s.m.SA.Flags&protocol.SADBXExtOld != 0 {
			return at.wrong("ah-old and esp-old have no sequence numbers, and so no window")
		}
		if s.m.SA.Replay = uint8(min(n, math.MaxUint8)); n > math.MaxUint8 {
			packets := uint32(n) * 8
			s.m.Replay = &packets
		}
	case "-lh":
		life(hard).AddTime = n
	case "-ls":
		life(soft).AddTime = n
	case "-bh":
		life(hard).Bytes = n
	case "-bs":
		life(soft).Bytes = n
	case "-nh":
		life(hard).Allocations = uint32(n)
	case "-ns":
		life(soft).Allocations = uint32(n)
	}
	return nil
}

func (p *parser) feature(s *statement) error {
	flags := &s.m.SA.Flags
	switch p.t.text {
	case "zero-pad":
		*flags = *flags&^protocol.SADBXExtPMask | protocol.SADBXExtPZero
	case "random-pad":
		*flags = *flags&^protocol.SADBXExtPMask | protocol.SADBXExtPRand
	case "seq-pad":
		*flags &^= protocol.SADBXExtPMask
	case "cyclic-seq":
		*flags |= protocol.SADBXExtCycSeq
	case "nocyclic-seq":
		*flags &^= protocol.SADBXExtCycSeq
	case "esn":
		*flags |= protocol.SADBXSAFlagsESN
	default:
		return p.t.wrong("syntax error: one of zero-pad, random-pad, seq-pad, cyclic-seq, nocyclic-seq and esn belongs here")
	}
	return p.advance()
}

// algorithms reads -E, -A and -C, which go as the protocol has them.
func (p *parser) algorithms(s *statement) error {
	auth, encrypt := p.algs()
	sa := s.m.SA
	var aead bool
	for p.t.kind == flag {
		f := p.t
		if err := p.advance(); err != nil {
			return err
		}
		var err error
		switch old := sa.Flags&protocol.SADBXExtOld != 0; {
		case f.text == "-E" && s.m.SAType == protocol.SADBSATypeESP && sa.Encrypt == 0:
			var a algorithm
			if a, s.m.EncryptKey, err = p.keyed(s, ealgs, encrypt); err != nil {
				return err
			}
			if old == (a.flags == protocol.SADBXExtDeriv) && a.flags != 0 {
				return f.wrong("des-deriv is of esp, des-32iv of esp-old")
			}
			sa.Encrypt, aead = a.number, a.aead
			sa.Flags |= a.flags
		case f.text == "-A" && s.m.SAType == protocol.SADBSATypeESP && sa.Encrypt != 0 && sa.Auth == 0 && aead:
			return f.wrong("%s authenticates by itself, without -A", nameOf(ealgs, sa.Encrypt))
		case f.text == "-A" && s.m.SAType == protocol.SADBSATypeESP && old:
			return f.wrong("esp-old goes without -A")
		case f.text == "-A" && sa.Auth == 0 && (s.m.SAType == protocol.SADBSATypeAH || s.m.SAType == protocol.SADBSATypeESP && sa.Encrypt != 0):
			var a algorithm
			if a, s.m.AuthKey, err = p.keyed(s, aalgs, auth); err != nil {
				return err
			}
			sa.Auth = a.number
		case f.text == "-C" && s.m.SAType == protocol.SADBSATypeIPComp && sa.Encrypt == 0:
			if err := p.compression(s); err != nil {
				return err
			}
		default:
			return f.wrong("esp goes with -E and may have -A behind it, esp-old with -E, ah with -A, ipcomp with -C; each once")
		}
	}
	if sa.Encrypt == 0 && sa.Auth == 0 {
		return p.t.wrong("an algorithm is missing: esp goes with -E and may have -A behind it, esp-old with -E, ah with -A, ipcomp with -C")
	}
	return nil
}

func (p *parser) compression(s *statement) error {
	a, ok := find(calgs, p.t.text)
	switch {
	case !ok:
		return p.t.wrong("syntax error: a compression algorithm belongs here, %s", names(calgs))
	case a.number != protocol.SADBCalgDeflate:
		return p.t.wrong("%s is not supported, deflate is", a.name)
	}
	s.m.SA.Encrypt = a.number
	if err := p.advance(); err != nil {
		return err
	}
	if p.t.kind == flag && p.t.text == "-R" {
		if s.m.SA.SPI > math.MaxUint16 {
			return p.t.wrong("with -R the SPI is what packets carry, 16 bits; %d is more", s.m.SA.SPI)
		}
		s.m.SA.Flags |= protocol.SADBXExtRawCPI
		return p.advance()
	}
	return nil
}

// keyed reads an algorithm and its key.
func (p *parser) keyed(s *statement, list []algorithm, known supported) (a algorithm, key *protocol.Key, err error) {
	a, ok := find(list, p.t.text)
	if !ok || p.t.kind != word {
		return a, nil, p.t.wrong("unsupported algorithm; there are %s", names(list))
	}
	alg := p.t
	if a.weak {
		s.weak = append(s.weak, a.name)
	}
	if err := p.advance(); err != nil || a.nokey {
		return a, nil, err
	}
	var octets []byte
	switch p.t.kind {
	case quoted:
		octets = []byte(p.t.text)
	case hexadec:
		digits := p.t.text[2:]
		if len(digits)%2 != 0 {
			digits = "0" + digits
		}
		if octets, err = hex.DecodeString(digits); err != nil {
			return a, nil, p.t.wrong("a key in hexadecimal digits belongs here")
		}
	default:
		return a, nil, p.t.wrong("syntax error: a key belongs here, in quotes or as 0x and hexadecimal digits")
	}
	at := token{word, "the key", p.t.line} // which nobody should read in a log
	switch bits := len(octets) * 8; {
	case bits == 0:
		return a, nil, at.wrong("%s: a key without an octet", a.name)
	case bits > math.MaxUint16:
		return a, nil, at.wrong("%s: a key of %d bits, more than can be said", a.name, bits)
	case a.bits != 0 && bits != a.bits:
		return a, nil, at.wrong("%s: a key of %d bits, %d are right", alg.text, bits, a.bits)
	default:
		if fault := known.check(a, bits); fault != "" {
			return a, nil, at.wrong("%s", fault)
		}
		key = &protocol.Key{Bits: uint16(bits), Octets: octets}
	}
	return a, key, p.advance()
}

// spd reads a policy's statement.
func (p *parser) spd(s *statement) (err error) {
	if err = p.options(s); err != nil {
		return err
	}
	if p.t.kind == word && p.t.text == "tagged" {
		return p.t.wrong("policies about tagged packets are not supported")
	}
	if s.src, err = p.host(true, true); err != nil {
		return err
	}
	if s.dst, err = p.host(true, true); err != nil {
		return err
	}
	if p.t.kind != word && p.t.kind != number {
		return p.t.wrong("syntax error: an upper-layer protocol belongs here, any, tcp, udp, icmp, icmp6, ip4 or another")
	}
	s.upper = p.t
	if err = p.advance(); err != nil {
		return err
	}
	if p.t.kind == word || p.t.kind == number {
		s.misc = p.t
		if err = p.advance(); err != nil {
			return err
		}
	}
	if p.t.kind == flag && p.t.text == "-ctx" {
		return p.t.wrong("security contexts are not supported")
	}
	if p.t.kind != flag || p.t.text != "-P" {
		return p.t.wrong("syntax error: a policy belongs here, -P in|out|fwd …")
	}
	if s.requests, err = p.lex.policy(); err != nil {
		return err
	}
	return p.advance()
}
