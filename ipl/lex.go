package ipl

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Options say what a file's words mean here.
type Options struct {
	V6      bool                                              // rules that name no family are about IPv6
	Service func(name, proto string) (uint16, bool)           // nil: ports are numbers
	Resolve func(name string) (addrs []netip.Addr, err error) // nil: hosts are addresses
}

// Error is one fault of a file. Lines and columns count from 1, columns in octets.
type Error struct {
	File         string
	Line, Column int
	Msg          string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg) }

// Errors are the faults of a file, at most maxErrors, in its order.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// What a file may grow to: lists and variables multiply it.
const (
	maxErrors    = 20
	maxStatement = 10000   // rules of one statement
	maxRules     = 100000  // rules of one file
	maxValue     = 4096    // octets of a variable
	maxLine      = 1 << 16 // octets of a line, its variables replaced
	maxGrowth    = 4 << 20 // octets that variables add to a file
)

type kind uint8

const (
	kindEnd kind = iota
	kindWord
	kindString
	kindMark
)

type token struct {
	kind      kind
	text      string
	line, col int
}

func (t token) String() string {
	if t.kind == kindEnd {
		return "the end of the line"
	}
	return fmt.Sprintf("%q", t.text)
}

func (t token) is(s string) bool { return t.text == s && (t.kind == kindWord || t.kind == kindMark) }

// scanner cuts a file into lines of tokens.
type scanner struct {
	name  string
	vars  map[string]string
	errs  Errors
	grown int
}

func (s *scanner) full() bool { return len(s.errs) >= maxErrors }

func (s *scanner) fault(line, col int, format string, args ...any) {
	if !s.full() {
		s.errs = append(s.errs, &Error{s.name, line, col, fmt.Sprintf(format, args...)})
	}
}

// err is what a Parse function returns.
func (s *scanner) err() error {
	if len(s.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(s.errs, func(a, b *Error) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	return s.errs
}

// lines are the file's lines that say something, joined where "\" says so,
// without its assignments; nil for one that could not be cut.
func (s *scanner) lines(text []byte) (out [][]token) {
	s.vars = map[string]string{}
	var cur []token
	good := true
	rest := string(text)
	for n := 1; rest != "" && !s.full(); n++ {
		line, more, _ := strings.Cut(rest, "\n")
		rest = more
		line = strings.TrimRight(line, " \t\r")
		joined := false
		for from := 0; from < len(line); {
			to := from + segment(line[from:]) // by segments, since an assignment counts in the next one
			toks, more, ok := s.line(n, line[:to], from)
			cur, good, joined = append(cur, toks...), good && ok, more
			if good && s.assign(cur) {
				cur = nil
			}
			from = to
		}
		if joined && rest != "" {
			continue
		}
		switch {
		case !good:
			out = append(out, nil)
		case len(cur) > 0:
			out = append(out, cur)
		}
		cur, good = nil, true
	}
	return out
}

// segment is the length of a line as far as its first ";".
func segment(line string) int {
	quoted := false
	for i := range len(line) {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case c == '#' && !quoted:
			return len(line)
		case c == ';' && !quoted:
			return i + 1
		}
	}
	return len(line)
}

// assign obeys `name="value";`.
func (s *scanner) assign(l []token) bool {
	if len(l) != 4 || l[0].kind != kindWord || !l[1].is("=") || l[2].kind != kindString || !l[3].is(";") || !isName(l[0].text) {
		return false
	}
	if len(l[2].text) > maxValue {
		s.fault(l[2].line, l[2].col, "a value of %d octets; at most %d", len(l[2].text), maxValue)
	} else {
		s.vars[l[0].text] = l[2].text
	}
	return true
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !nameByte(s[i], i > 0) {
			return false
		}
	}
	return s != ""
}

func nameByte(c byte, digits bool) bool {
	return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' || digits && '0' <= c && c <= '9'
}

// expand replaces $name outside of comments, from an octet of a line on. cols has the column of each octet.
func (s *scanner) expand(n int, line string, from int) (out string, cols []int, ok bool) {
	var b strings.Builder
	quoted := false
	for i := from; i < len(line); {
		c := line[i]
		switch {
		case c == '#' && !quoted:
			i = len(line)
			continue
		case c == '"':
			quoted = !quoted
		case c == '$':
			end := i + 1
			for end < len(line) && nameByte(line[end], end > i+1) {
				end++
			}
			name := line[i+1 : end]
			value, known := s.vars[name]
			if !known {
				s.fault(n, i+1, "no variable $%s%s", name, near(name, keys(s.vars)))
				return "", nil, false
			}
			s.grown += len(value)
			if b.Len()+len(value) > maxLine || s.grown > maxGrowth {
				s.fault(n, i+1, "$%s makes the line longer than %d octets, or the file by %d", name, maxLine, maxGrowth)
				return "", nil, false
			}
			b.WriteString(value)
			for range len(value) {
				cols = append(cols, i+1)
			}
			i = end
			continue
		}
		b.WriteByte(c)
		cols = append(cols, i+1)
		i++
	}
	return b.String(), append(cols, len(line)+1), true
}

// line cuts one line, from an octet on; joined: it goes on with the next.
func (s *scanner) line(n int, raw string, from int) (toks []token, joined, ok bool) {
	line, cols, ok := s.expand(n, raw, from)
	if !ok {
		return nil, strings.HasSuffix(raw, "\\"), false
	}
	for i := 0; i < len(line); {
		c := line[i]
		t := token{line: n, col: cols[i]}
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			i++
			continue
		case c == '\\':
			if strings.TrimSpace(line[i+1:]) == "" {
				return toks, true, true
			}
			s.fault(n, cols[i], `"\" ends a line that goes on`)
			return nil, false, false
		case c == '"':
			end := strings.IndexByte(line[i+1:], '"')
			if end < 0 {
				s.fault(n, cols[i], `no " ends what begins here`)
				return nil, false, false
			}
			t.kind, t.text = kindString, line[i+1:i+1+end]
			i += end + 2
		case markLen(line[i:]) > 0:
			t.kind, t.text = kindMark, line[i:i+markLen(line[i:])]
			i += len(t.text)
		case wordByte(c):
			end := i
			for end < len(line) && wordByte(line[end]) && !strings.HasPrefix(line[end:], "->") {
				end++
			}
			t.kind, t.text = kindWord, line[i:end]
			i = end
		default:
			s.fault(n, cols[i], "octet %#02x belongs to no word", c)
			return nil, false, false
		}
		toks = append(toks, t)
	}
	return toks, false, true
}

var marks = []string{"->", "!=", "<=", ">=", "<>", "><", "<", ">", "=", "!", "(", ")", "{", "}", ",", ";", "@"}

func markLen(s string) int {
	for _, m := range marks {
		if strings.HasPrefix(s, m) {
			return len(m)
		}
	}
	return 0
}

func wordByte(c byte) bool {
	return nameByte(c, true) || strings.IndexByte(".:/%*+-", c) >= 0
}

// goesOn are words with which an indented line goes on with the rule above it.
var goesOn = words("from to with and flags keep head group icmp-type port proto set-tag code family tos ttl portmap icmpidmap mssclamp proxy age")

// statements joins the lines of a language of lines: open lists go on, and
// indented lines that no rule begins with. What goes on from a line that could
// not be cut is left out with it.
func statements(lines [][]token) (out [][]token) {
	broken := false
	for _, l := range lines {
		n := len(out) - 1
		switch {
		case l == nil:
			broken = true
		case continues(l[0]) && broken:
		case n >= 0 && !broken && (continues(l[0]) && !last(out[n]).is(";") || open(last(out[n]))):
			out[n] = append(out[n], l...)
		default:
			out, broken = append(out, l), false
		}
	}
	return out
}

func last(l []token) token { return l[len(l)-1] }

// open reports a token that no line ends with.
func open(t token) bool { return t.is(",") || t.is("{") || t.is("(") || t.is("->") }

// continues reports a token that goes on with the line above it.
func continues(t token) bool {
	return t.is(",") || t.is("}") || t.is(")") || t.is("->") || t.col > 1 && t.kind == kindWord && goesOn[t.text]
}

// parser reads one statement. What it cannot read it panics about with an
// *Error, which scanner.each takes.
type parser struct {
	s    *scanner
	o    Options
	toks []token
	i    int
	of   []string // the protocols whose services ports may name; nil: either
}

// each calls read for every statement until it is used up.
func (s *scanner) each(stmts [][]token, o Options, read func(p *parser)) {
	for _, toks := range stmts {
		if s.full() {
			return
		}
		s.one(&parser{s: s, o: o, toks: toks}, read)
	}
}

func (s *scanner) one(p *parser, read func(p *parser)) {
	defer func() {
		if e := recover(); e != nil {
			err, ok := e.(*Error)
			if !ok {
				panic(e)
			}
			s.errs = append(s.errs, err)
		}
	}()
	for p.i < len(p.toks) {
		read(p)
		if !p.at().is(";") {
			p.end()
		}
		for p.accept(";") {
		}
	}
}

func (p *parser) failAt(t token, format string, args ...any) {
	panic(&Error{p.s.name, t.line, t.col, fmt.Sprintf(format, args...)})
}

// at is the next token, after the last one an end behind it.
func (p *parser) at() token {
	if p.i < len(p.toks) {
		return p.toks[p.i]
	}
	last := p.toks[len(p.toks)-1]
	width := len(last.text)
	if last.kind == kindString {
		width += 2
	}
	return token{line: last.line, col: last.col + width}
}

func (p *parser) next() token {
	t := p.at()
	if p.i < len(p.toks) {
		p.i++
	}
	return t
}

func (p *parser) accept(s string) bool {
	if p.at().is(s) {
		p.i++
		return true
	}
	return false
}

func (p *parser) expect(s string) {
	if t := p.at(); !p.accept(s) {
		p.failAt(t, "%s where %q is expected", t, s)
	}
}

// end fails unless the statement is over.
func (p *parser) end() {
	if t := p.at(); t.kind != kindEnd {
		p.failAt(t, "%s where the rule is over", t)
	}
}

// word is the next token if it is a word, of which what says what it means.
func (p *parser) word(what string) token {
	t := p.at()
	if t.kind != kindWord && t.kind != kindString {
		p.failAt(t, "%s where %s is expected", t, what)
	}
	p.i++
	return t
}

// list reads one element, or several between braces or parentheses.
func (p *parser) list(element func()) (several bool) {
	end := "}"
	switch {
	case p.accept("{"):
	case p.accept("("):
		end = ")"
	default:
		element()
		return false
	}
	for {
		element()
		comma := p.accept(",")
		if p.accept(end) {
			return true
		}
		if t := p.at(); !comma && (t.kind == kindEnd || t.kind == kindMark && !t.is("!")) {
			p.failAt(t, "%s where \",\" or %q is expected", t, end)
		}
	}
}
