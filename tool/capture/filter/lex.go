package filter

import (
	"fmt"
	"strings"
)

// Error is a fault in an expression.
type Error struct {
	Expr   string
	Column int // of the octet, from 1
	Text   string
}

func (e *Error) Error() string {
	return fmt.Sprintf("filter, column %d: %s", e.Column, e.Text)
}

type token struct {
	text string
	col  int
	word bool // a name, number or address; else an operator
	end  bool
}

func (t token) String() string {
	if t.end {
		return "the end"
	}
	return fmt.Sprintf("%q", t.text)
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

var operators = []string{"&&", "||", "<<", ">>", "<=", ">=", "==", "!=",
	"!", "(", ")", "[", "]", "=", "<", ">", "+", "-", "*", "/", "%", "&", "|", "^", ":"}

// lex cuts an expression into tokens. A colon belongs to a word, which may be
// a link or IPv6 address, except between brackets, and so does the scope behind
// such an address; a hyphen belongs to a word that began with a letter.
func lex(s string) ([]token, error) {
	var out []token
	brackets := 0
next:
	for i := 0; i < len(s); {
		c := s[i]
		if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
			i++
			continue
		}
		start := i
		if c == '\\' { // \tcp: the name, not the keyword; the parser knows from the place
			i++
		}
		if i < len(s) && (letter(s[i]) || digit(s[i]) || s[i] == ':' && brackets == 0) {
			first := i
			for i < len(s) && (letter(s[i]) || digit(s[i]) || s[i] == '.' ||
				s[i] == ':' && brackets == 0 ||
				s[i] == '%' && brackets == 0 && strings.Contains(s[first:i], "::") ||
				s[i] == '-' && letter(s[first]) && i+1 < len(s) && (letter(s[i+1]) || digit(s[i+1]))) {
				i++
			}
			out = append(out, token{text: s[first:i], col: start + 1, word: true})
			continue
		}
		for _, op := range operators {
			if i == start && strings.HasPrefix(s[i:], op) {
				switch op {
				case "[":
					brackets++
				case "]":
					brackets--
				}
				out = append(out, token{text: op, col: i + 1})
				i += len(op)
				continue next
			}
		}
		return nil, &Error{s, start + 1, fmt.Sprintf("unexpected character %q", s[start])}
	}
	return append(out, token{col: len(s) + 1, end: true}), nil
}
