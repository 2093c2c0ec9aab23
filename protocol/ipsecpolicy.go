package protocol

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// ipsecWord is a word of policies with its number; the first of a number is
// the one that is printed.
type ipsecWord struct {
	word   string
	number uint32
}

var (
	ipsecDirs     = []ipsecWord{{"in", IPSecDirIn}, {"out", IPSecDirOut}, {"fwd", IPSecDirFwd}}
	ipsecTypes    = []ipsecWord{{"discard", IPSecPolicyDiscard}, {"none", IPSecPolicyNone}, {"ipsec", IPSecPolicyIPSec}, {"entrust", IPSecPolicyEntrust}, {"bypass", IPSecPolicyBypass}}
	ipsecProtos   = []ipsecWord{{"esp", 50}, {"ah", 51}, {"ipcomp", 108}}
	ipsecModes    = []ipsecWord{{"transport", IPSecModeTransport}, {"tunnel", IPSecModeTunnel}, {"beet", IPSecModeBEET}}
	ipsecLevels   = []ipsecWord{{"default", IPSecLevelDefault}, {"use", IPSecLevelUse}, {"require", IPSecLevelRequire}, {"unique", IPSecLevelUnique}}
	ipsecPriority = []ipsecWord{{"high", IPSecPriorityHigh}, {"def", IPSecPriorityDefault}, {"low", IPSecPriorityLow}, {"default", IPSecPriorityDefault}}
)

func ipsecNumber(words []ipsecWord, w string) (uint32, bool) {
	for _, x := range words {
		if x.word == w {
			return x.number, true
		}
	}
	return 0, false
}

// ipsecName is the word of a number, or the number.
func ipsecName(words []ipsecWord, n uint32) string {
	for _, x := range words {
		if x.number == n {
			return x.word
		}
	}
	return strconv.FormatUint(uint64(n), 10)
}

func ipsecChoice(words []ipsecWord) string {
	var names []string
	for _, x := range words {
		names = append(names, x.word)
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// ParseIPSecPolicy reads a policy as ipsec_set_policy(3) has it:
//
//	in|out|fwd [priority PRIORITY] discard|none|entrust|bypass
//	in|out|fwd [priority PRIORITY] ipsec proto/mode/src-dst/level …
//
// PRIORITY is a number, the more the earlier, or high, def or low with one
// behind + or -. The mode is transport, tunnel or beet; the ends may have
// ports, "10.0.0.1[500]-10.0.0.2[500]", and only transport goes without them; the level is
// default, use, require, unique or unique:N. A scope is an interface's index.
// Errors are of type *[PolicyError].
func ParseIPSecPolicy(s string) (*KeyPolicy, error) {
	l := policyLexer{s: s}
	p := &KeyPolicy{Priority: IPSecPriorityDefault, Dir: l.direction()}
	if t := l.peek(); t.text == "priority" || t.text == "prio" {
		l.next()
		p.Priority = l.priority()
	}
	t := l.next()
	typ, ok := ipsecNumber(ipsecTypes, t.text)
	if !ok {
		l.fail(t, "%s belongs here", ipsecChoice(ipsecTypes))
	}
	p.Type = uint16(typ)
	for l.err == nil && l.peek().text != "" {
		if t := l.peek(); p.Type != IPSecPolicyIPSec {
			l.fail(t, "%s goes without requests", ipsecName(ipsecTypes, typ))
			break
		}
		p.Requests = append(p.Requests, l.request(p.Dir))
	}
	if p.Type == IPSecPolicyIPSec && len(p.Requests) == 0 {
		l.fail(l.peek(), "ipsec wants at least one request, proto/mode/src-dst/level")
	}
	if l.err != nil {
		return nil, l.err
	}
	return p, nil
}

// PolicyError says where in a policy's text what is wrong.
type PolicyError struct {
	Column int    // octets, from 1
	Token  string // "" the end of the text
	Text   string
}

// Error is `column 4: "foo": what would be right`.
func (e *PolicyError) Error() string {
	what := "the end"
	if e.Token != "" {
		what = strconv.Quote(e.Token)
	}
	return fmt.Sprintf("column %d: %s: %s", e.Column, what, e.Text)
}

// Unwrap answers EINVAL.
func (e *PolicyError) Unwrap() error { return syscall.EINVAL }

// ParseIPSecDirection reads the direction that a policy begins with, which is
// all that its removal needs, and answers what is behind it.
func ParseIPSecDirection(s string) (dir uint8, rest string, err error) {
	l := policyLexer{s: s}
	dir = l.direction()
	return dir, strings.TrimLeft(s[l.off:], policySpace), l.err
}

const policySpace = " \t\r\n"

// policyToken is a word, one of / - + [ ], or the end, which is "".
type policyToken struct {
	text string
	at   int // octets before it
}

type policyLexer struct {
	s   string
	off int
	err error
}

func (l *policyLexer) peek() policyToken {
	at := l.off
	for at < len(l.s) && strings.IndexByte(policySpace, l.s[at]) >= 0 {
		at++
	}
	const special = "/-+[]"
	end := at
	for end < len(l.s) && strings.IndexByte(policySpace+special, l.s[end]) < 0 {
		end++
	}
	if end == at && end < len(l.s) {
		end++
	}
	return policyToken{l.s[at:end], at}
}

func (l *policyLexer) next() policyToken {
	t := l.peek()
	l.off = t.at + len(t.text)
	return t
}

func (l *policyLexer) fail(t policyToken, format string, args ...any) {
	if l.err == nil {
		l.err = &PolicyError{t.at + 1, t.text, fmt.Sprintf(format, args...)}
	}
}

// want takes a token that has to be there.
func (l *policyLexer) want(text string) {
	if t := l.next(); t.text != text {
		l.fail(t, "%q belongs here", text)
	}
}

func (l *policyLexer) word(words []ipsecWord, what string) uint32 {
	t := l.next()
	n, ok := ipsecNumber(words, t.text)
	if !ok {
		l.fail(t, "%s belongs here: %s", what, ipsecChoice(words))
	}
	return n
}

func (l *policyLexer) direction() uint8 { return uint8(l.word(ipsecDirs, "a direction")) }

// priority reads what libipsec reads: more is earlier, and so a smaller number.
func (l *policyLexer) priority() uint32 {
	t := l.peek()
	base := int64(IPSecPriorityDefault)
	if n, ok := ipsecNumber(ipsecPriority, t.text); ok {
		base = int64(n)
		l.next()
		if sign := l.peek().text; sign != "+" && sign != "-" {
			return n
		}
	}
	sign := int64(1)
	if s := l.peek().text; s == "-" || s == "+" {
		if s == "-" {
			sign = -1
		}
		l.next()
	}
	num := l.next()
	n, err := strconv.ParseUint(num.text, 10, 32)
	if err != nil {
		l.fail(num, "a number belongs here, or one of high, def and low")
	}
	v := base - sign*int64(n)
	if v < 0 || v > 1<<32-1 {
		l.fail(t, "a priority beyond what fits into 32 bits")
	}
	return uint32(v)
}

func (l *policyLexer) request(dir uint8) (r KeyRequest) {
	r.Proto = uint16(l.word(ipsecProtos, "a protocol"))
	l.want("/")
	mode := l.peek()
	r.Mode = uint8(l.word(ipsecModes, "a mode"))
	if l.peek().text == "/" {
		l.next()
		if t := l.peek(); t.text != "/" && !l.requestEnds(t) {
			l.ends(&r, dir)
		}
		if l.peek().text == "/" {
			l.next()
			l.level(&r)
		}
	}
	if r.Mode != IPSecModeTransport && r.Src.Family == 0 {
		l.fail(mode, "%s wants its ends, %s/%s/src-dst/level", mode.text, ipsecName(ipsecProtos, uint32(r.Proto)), mode.text)
	}
	return r
}

// requestEnds says that t is not of the request that was begun.
func (l *policyLexer) requestEnds(t policyToken) bool {
	_, proto := ipsecNumber(ipsecProtos, t.text)
	return t.text == "" || proto
}

// level may be missing.
func (l *policyLexer) level(r *KeyRequest) {
	t := l.peek()
	if l.requestEnds(t) {
		return
	}
	if id, ok := strings.CutPrefix(t.text, "unique:"); ok {
		l.next()
		n, err := strconv.ParseUint(id, 10, 16)
		if err != nil || n == 0 || n > IPSecManualReqIDMax {
			l.fail(t, "unique:1 to unique:%d are right", IPSecManualReqIDMax)
		}
		r.Level, r.ReqID = IPSecLevelUnique, uint16(n)
		return
	}
	r.Level = uint8(l.word(ipsecLevels, "a level"))
}

// ends reads src-dst, me-any or any-me; of the last two there is nothing to
// be said.
func (l *policyLexer) ends(r *KeyRequest, dir uint8) {
	switch t := l.peek(); t.text {
	case "me", "any":
		l.next()
		l.want("-")
		other := map[string]string{"me": "any", "any": "me"}[t.text]
		l.want(other)
		if right := map[uint8]string{IPSecDirIn: "any", IPSecDirOut: "me"}[dir]; t.text != right {
			l.fail(t, "me-any is of out, any-me of in")
		}
		return
	}
	t := l.peek()
	r.Src = l.end()
	l.want("-")
	r.Dst = l.end()
	if l.err == nil && r.Src.Family != r.Dst.Family {
		l.fail(t, "%v and %v are not of one family", r.Src.IP, r.Dst.IP)
	}
}

func (l *policyLexer) end() Addr {
	t := l.next()
	ip, err := netip.ParseAddr(t.text)
	if err != nil || ip.Is4In6() {
		l.fail(t, "an address belongs here, as a number")
		return Addr{}
	}
	if zone := ip.Zone(); zone != "" {
		n, err := strconv.ParseUint(zone, 10, 32)
		if err != nil || n == 0 {
			l.fail(t, "the scope of an address is the index of an interface")
			return Addr{}
		}
		ip = ip.WithZone(strconv.FormatUint(n, 10))
	}
	a := AddrFrom(ip, 0)
	if l.peek().text == "[" {
		l.next()
		p := l.next()
		port, err := strconv.ParseUint(p.text, 10, 16)
		if err != nil && p.text != "any" {
			l.fail(p, "a port belongs here, 0 to 65535")
		}
		a.Port = uint16(port)
		l.want("]")
	}
	return a
}

// Text is the policy as [ParseIPSecPolicy] reads it, with delimiter before
// each request (ipsec_dump_policy(3)); a reqid that the stack has chosen stands
// behind #, and a number that has no word is printed as it is.
func (p *KeyPolicy) Text(delimiter string) string {
	b := []byte(ipsecName(ipsecDirs, uint32(p.Dir)))
	if p.Priority != IPSecPriorityDefault {
		b = append(b, " prio "...)
		base, word := uint32(IPSecPriorityDefault), "def"
		switch {
		case p.Priority < IPSecPriorityDefault/4*3:
			base, word = IPSecPriorityHigh, "high"
		case p.Priority >= IPSecPriorityDefault/4*5:
			base, word = IPSecPriorityLow, "low"
		}
		b = append(b, word...)
		switch {
		case p.Priority < base:
			b = fmt.Appendf(b, " + %d", base-p.Priority)
		case p.Priority > base:
			b = fmt.Appendf(b, " - %d", p.Priority-base)
		}
	}
	b = append(append(b, ' '), ipsecName(ipsecTypes, uint32(p.Type))...)
	for i := range p.Requests {
		b = append(b, delimiter...)
		b = p.Requests[i].append(b)
	}
	return string(b)
}

// String is the policy in one line.
func (p *KeyPolicy) String() string { return p.Text(" ") }

func (r *KeyRequest) append(b []byte) []byte {
	mode := "any"
	if r.Mode != IPSecModeAny {
		mode = ipsecName(ipsecModes, uint32(r.Mode))
	}
	b = fmt.Appendf(b, "%s/%s/", ipsecName(ipsecProtos, uint32(r.Proto)), mode)
	if r.Src.Family != 0 {
		b = append(append(appendEnd(b, r.Src), '-'), appendEnd(nil, r.Dst)...)
	}
	b = append(append(b, '/'), ipsecName(ipsecLevels, uint32(r.Level))...)
	switch {
	case r.ReqID > IPSecManualReqIDMax:
		b = fmt.Appendf(b, "#%d", r.ReqID)
	case r.ReqID != 0:
		b = fmt.Appendf(b, ":%d", r.ReqID)
	}
	return b
}

func appendEnd(b []byte, a Addr) []byte {
	b = a.IP.AppendTo(b)
	if a.Port != 0 {
		b = fmt.Appendf(b, "[%d]", a.Port)
	}
	return b
}
