package rtadvd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The file is a termcap(5) of interfaces, as getcap(3) and rtadvd read it:
//
//	default:\
//		:chlim#64:raflags#0:rltime#1800:
//	ef0|inner:\
//		:addr="2001:db8:1::":prefixlen#64:vltimedecr:tc=default:
//
// A line that begins with # is a comment, one that ends in a backslash goes on. An
// entry is its names and its capabilities: name#number (decimal, 0octal, 0xhex),
// name=string, a name alone, and name@, which hides what tc= would bring. A string
// may stand in double quotes, where a colon is a colon; elsewhere \: is one.

// entry is what the file says of a name.
type entry struct {
	names []string
	caps  []capability
}

// capability is one word of an entry.
type capability struct {
	name string
	kind byte // '#', '=', '@', or 0: the name alone
	num  int64
	str  string
}

// database is a file.
type database []entry

// parseDatabase reads a file.
func parseDatabase(text string) (database, error) {
	var db database
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		first := i + 1
		l := strings.TrimSpace(lines[i])
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		for strings.HasSuffix(l, `\`) && i+1 < len(lines) {
			i++
			next := strings.TrimSpace(lines[i])
			if strings.HasPrefix(next, "#") {
				continue // a comment in the middle of an entry
			}
			l = strings.TrimSuffix(l, `\`) + next
		}
		e, err := parseEntry(l)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", first, err)
		}
		db = append(db, e)
	}
	return db, nil
}

// parseEntry reads an entry that has been put into one line.
func parseEntry(l string) (entry, error) {
	words, err := split(strings.TrimSuffix(l, `\`))
	if err != nil {
		return entry{}, err
	}
	e := entry{names: strings.Split(words[0], "|")}
	for _, n := range e.names {
		if strings.TrimSpace(n) == "" {
			return entry{}, fmt.Errorf("%q: an entry begins with its name and a colon", l)
		}
	}
	for _, w := range words[1:] {
		if w = strings.TrimSpace(w); w == "" {
			continue
		}
		c, err := parseCapability(w)
		if err != nil {
			return entry{}, err
		}
		e.caps = append(e.caps, c)
	}
	return e, nil
}

// split parts an entry at its colons.
func split(l string) ([]string, error) {
	var out []string
	var b strings.Builder
	quoted := false
	for i := 0; i < len(l); i++ {
		switch c := l[i]; {
		case c == '\\' && i+1 < len(l):
			b.WriteString(l[i : i+2])
			i++
		case c == '"':
			quoted = !quoted
			b.WriteByte(c)
		case c == ':' && !quoted:
			out = append(out, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return nil, fmt.Errorf("%q: a quotation has no end", l)
	}
	return append(out, b.String()), nil
}

func parseCapability(w string) (capability, error) {
	at := strings.IndexAny(w, "#=@")
	if at < 0 {
		return capability{name: w}, nil
	}
	c := capability{name: w[:at], kind: w[at]}
	if c.name == "" {
		return c, fmt.Errorf("%q: a capability begins with its name", w)
	}
	rest := w[at+1:]
	switch c.kind {
	case '@':
		if rest != "" {
			return c, fmt.Errorf("%q: nothing follows the @", w)
		}
	case '#':
		n, err := strconv.ParseInt(rest, 0, 64)
		if err != nil {
			return c, fmt.Errorf("%q: a number follows the #", w)
		}
		c.num = n
	case '=':
		s, err := unquote(rest)
		if err != nil {
			return c, fmt.Errorf("%q: %w", w, err)
		}
		c.str = s
	}
	return c, nil
}

// unquote undoes quotation marks, backslashes (\E \n \r \t \b \f \000) and ^X.
func unquote(s string) (string, error) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '^' && i+1 < len(s):
			i++
			b.WriteByte(s[i] & 0x1f)
		case c == '\\' && i+1 < len(s):
			i++
			if s[i] >= '0' && s[i] <= '7' {
				n, digits := 0, 0
				for ; digits < 3 && i < len(s) && s[i] >= '0' && s[i] <= '7'; i++ {
					n = n*8 + int(s[i]-'0')
					digits++
				}
				i--
				b.WriteByte(byte(n))
				continue
			}
			const plain, meant = "EenrtbfEc", "\x1b\x1b\n\r\t\b\f\x1b:"
			if at := strings.IndexByte(plain, s[i]); at >= 0 {
				b.WriteByte(meant[at])
			} else {
				b.WriteByte(s[i])
			}
		case c == '\\':
			return "", fmt.Errorf("nothing follows a backslash")
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// find is where the entry of a name stands; -1: there is none.
func (db database) find(name string) int {
	return slices.IndexFunc(db, func(e entry) bool { return slices.Contains(e.names, name) })
}

// resolve are the capabilities of a name, with those that tc= brings; what
// stands first counts. ok: there is an entry.
func (db database) resolve(name string) (caps map[string]capability, ok bool, err error) {
	i := db.find(name)
	if i < 0 {
		return nil, false, nil
	}
	caps = map[string]capability{}
	const entered, done = 1, 2
	state := make([]int, len(db)) // an entry that is done has nothing to add
	var add func(i int) error
	add = func(i int) error {
		state[i] = entered
		for _, c := range db[i].caps {
			if c.name == "tc" && c.kind == '=' {
				next := db.find(c.str)
				if next < 0 {
					return fmt.Errorf("the entry %q names tc=%s, and there is no such entry", db[i].names[0], c.str)
				}
				if state[next] == entered {
					return fmt.Errorf("the entry %q leads back to itself by tc=", c.str)
				}
				if state[next] == done {
					continue
				}
				if err := add(next); err != nil {
					return err
				}
				continue
			}
			if _, there := caps[c.name]; !there {
				caps[c.name] = c
			}
		}
		state[i] = done
		return nil
	}
	if err := add(i); err != nil {
		return nil, true, err
	}
	return caps, true, nil
}
