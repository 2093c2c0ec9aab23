package setkey

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// kind is what a token is.
type kind uint8

const (
	end      kind = iota // of the input
	semi                 // ;
	slash                // /
	open                 // [
	shut                 // ]
	flag                 // -m
	number               // decimal digits
	hexadec              // 0x and digits
	quoted               // in double quotes, text without them
	word                 // a name, an address, digits with commas
	requests             // what stands between -P and ;
)

// token is one of them, with the line on which it ends.
type token struct {
	kind kind
	text string
	line int
}

// show is the token as an error quotes it.
func (t token) show() string {
	switch t.kind {
	case quoted:
		return `"` + t.text + `"`
	case requests:
		return strings.Join(strings.Fields(t.text), " ")
	}
	return t.text
}

// maxToken bounds a token, in octets.
const maxToken = 64 << 10

// syntaxError is a statement that cannot be understood.
type syntaxError struct {
	line int
	text string
	at   string // the token
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s at [%s]", e.line, e.text, e.at) }

func (t token) wrong(format string, args ...any) error {
	return &syntaxError{t.line, fmt.Sprintf(format, args...), t.show()}
}

// lexer cuts a text into tokens as it comes, a statement before the next one
// is there.
type lexer struct {
	in   *bufio.Reader
	line int
	last byte
}

func newLexer(in io.Reader) *lexer { return &lexer{in: bufio.NewReaderSize(in, 64<<10), line: 1} }

// get is the next octet, 0 at the end; a zero octet in the text is an error
// as it has no meaning.
func (l *lexer) get() (byte, error) {
	c, err := l.in.ReadByte()
	switch {
	case errors.Is(err, io.EOF):
		l.last = 0
		return 0, nil
	case err != nil:
		return 0, err
	case c == 0:
		return 0, &syntaxError{l.line, "a zero octet", `\0`}
	case c == '\n':
		l.line++
	}
	l.last = c
	return c, nil
}

// back undoes the last get.
func (l *lexer) back() {
	if l.last == 0 {
		return // the end stays where it is
	}
	if l.last == '\n' {
		l.line--
	}
	_ = l.in.UnreadByte()
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// inWord says that c goes on a word; the comma is of numbers only.
func inWord(c byte) bool {
	return letter(c) || digit(c) || c == ':' || c == '%' || c == '.' || c == '-' || c == '_' || c == ','
}

// next is the next token.
func (l *lexer) next() (token, error) {
	for {
		c, err := l.get()
		if err != nil {
			return token{}, err
		}
		one := func(k kind) (token, error) { return token{k, string(c), l.line}, nil }
		switch {
		case c == 0:
			return token{end, "", l.line}, nil
		case c == ' ', c == '\t', c == '\n', c == '\r':
		case c == '#':
			if err := l.comment(); err != nil {
				return token{}, err
			}
		case c == ';':
			return one(semi)
		case c == '/':
			return one(slash)
		case c == '[':
			return one(open)
		case c == ']':
			return one(shut)
		case c == '"':
			return l.quoted()
		case c == '-':
			return l.run(flag, "-", func(c byte) bool { return letter(c) || digit(c) })
		case letter(c), digit(c), c == ':':
			return l.run(word, string(c), inWord)
		default:
			return token{}, &syntaxError{l.line, "a character that means nothing here", string(rune(c))}
		}
	}
}

// comment reads up to the end of the line.
func (l *lexer) comment() error {
	for {
		c, err := l.get()
		if err != nil || c == 0 {
			return err
		}
		if c == '\n' {
			l.back()
			return nil
		}
	}
}

func (l *lexer) quoted() (token, error) {
	line := l.line
	var b []byte
	for {
		c, err := l.get()
		switch {
		case err != nil:
			return token{}, err
		case c == '"':
			return token{quoted, string(b), l.line}, nil
		case c == 0, len(b) == maxToken:
			return token{}, &syntaxError{line, "a quotation that does not end", `"` + string(b[:min(len(b), 20)])}
		}
		b = append(b, c)
	}
}

func (l *lexer) run(k kind, first string, in func(byte) bool) (token, error) {
	var room [64]byte
	b := append(room[:0], first...)
	for {
		ready, _ := l.in.Peek(min(l.in.Buffered(), maxToken-len(b)))
		n := 0
		for n < len(ready) && in(ready[n]) {
			n++
		}
		b = append(b, ready[:n]...)
		_, _ = l.in.Discard(n)
		c, err := l.get()
		if err != nil {
			return token{}, err
		}
		if c == 0 || !in(c) {
			l.back()
			break
		}
		if len(b) == maxToken {
			return token{}, &syntaxError{l.line, "a word that does not end", string(b[:20])}
		}
		b = append(b, c)
	}
	t := token{k, string(b), l.line}
	if k == word {
		t.kind = kindOf(b)
	}
	return t, nil
}

// kindOf tells numbers from words.
func kindOf(b []byte) kind {
	is := func(b []byte, in func(byte) bool) bool {
		for _, c := range b {
			if !in(c) {
				return false
			}
		}
		return true
	}
	switch {
	case is(b, digit):
		return number
	case len(b) > 2 && b[0] == '0' && b[1]|0x20 == 'x' && is(b[2:], hexDigit):
		return hexadec
	}
	return word
}

func hexDigit(c byte) bool { return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// policy reads what stands between -P and the end of the statement, without
// comments. The line is the one on which it begins.
func (l *lexer) policy() (token, error) {
	t := token{requests, "", l.line}
	var b []byte
	for {
		c, err := l.get()
		switch {
		case err != nil:
			return t, err
		case c == '#':
			if err := l.comment(); err != nil {
				return t, err
			}
			continue
		case c == 0, c == ';':
			l.back()
			t.text = string(b)
			return t, nil
		case len(b) == maxToken:
			return t, &syntaxError{l.line, "a policy that does not end", string(b[:20])}
		}
		b = append(b, c)
	}
}
