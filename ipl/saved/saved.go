// Package saved is what the files of ipfs(8) have in common: which rules and interfaces
// their states and sessions are of. The states themselves are the stack's matter.
package saved

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"ionet/ipl"
)

// statesMagic begins a file of states; its version follows.
const statesMagic = "ipfstat"

// States is a file of states, big-endian:
//
//	8 octets     "ipfstat" and the version of the form
//	uint32 n     rules, each: uint16 length, text
//	uint32 n     interfaces, each: uint16 length, name
//	Rest         uint32 n and as many states, which say rules and interfaces by their numbers
type States struct {
	Version           byte
	Rules, Interfaces []string
	Rest              []byte
}

// Append appends the file.
func (s States) Append(b []byte) []byte {
	b = append(append(b, statesMagic...), s.Version)
	for _, names := range [][]string{s.Rules, s.Interfaces} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(names)))
		for _, n := range names {
			b = binary.BigEndian.AppendUint16(b, uint16(len(n)))
			b = append(b, n...)
		}
	}
	return append(b, s.Rest...)
}

// IsStates reports whether b begins as a file of states does.
func IsStates(b []byte) bool { return bytes.HasPrefix(b, []byte(statesMagic)) }

// ParseStates reads a file of states of any version. Rest points into b.
func ParseStates(b []byte) (s States, err error) {
	if len(b) <= len(statesMagic) || !IsStates(b) {
		return s, fmt.Errorf("saved states begin with %q: %q and a version are expected", b[:min(8, len(b))], statesMagic)
	}
	at := len(statesMagic)
	s.Version = b[at]
	at++
	take := func(n int) []byte {
		if err == nil && len(b)-at < n {
			err = fmt.Errorf("saved states, octet %d: %d octets where %d are expected", at, len(b)-at, n)
		}
		if err != nil {
			return make([]byte, 4)
		}
		at += n
		return b[at-n : at]
	}
	for i, to := range []*[]string{&s.Rules, &s.Interfaces} {
		n := int(binary.BigEndian.Uint32(take(4)))
		if most := (len(b) - at) / 2; err == nil && n > most {
			err = fmt.Errorf("saved states, octet %d: number of %s %d: at most %d", at, []string{"rules", "interfaces"}[i], n, most)
		}
		for ; err == nil && n > 0; n-- {
			name := take(int(binary.BigEndian.Uint16(take(2))))
			*to = append(*to, string(name))
		}
	}
	if err != nil {
		return States{}, err
	}
	s.Rest = b[at:]
	return s, nil
}

// Count is how many states the file says that it has.
func (s States) Count() int {
	if len(s.Rest) < 4 {
		return 0
	}
	return int(binary.BigEndian.Uint32(s.Rest))
}

// sessions is a file of sessions of address translation, with what it says of each kept
// as it is.
type sessions struct {
	Version  int                          `json:"version"`
	Sessions []map[string]json.RawMessage `json:"sessions"`
}

func parseSessions(b []byte) (f sessions, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, fmt.Errorf("no file of translations: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return f, fmt.Errorf("something follows the translations, at octet %d", d.InputOffset())
	}
	if f.Version == 0 || f.Sessions == nil {
		return f, errors.New("no file of translations: version and sessions are expected")
	}
	return f, nil
}

// Count is how many states or sessions a file has, and whether it is of states.
func Count(b []byte) (n int, states bool, err error) {
	if IsStates(b) {
		s, err := ParseStates(b)
		return s.Count(), true, err
	}
	f, err := parseSessions(b)
	return len(f.Sessions), false, err
}

// Rename is the file b, of states or of sessions, with the interface from called to, in
// its rules too; n is in how many places.
func Rename(b []byte, from, to string) (out []byte, n int, err error) {
	if IsStates(b) {
		s, err := ParseStates(b)
		if err != nil {
			return nil, 0, err
		}
		for i, text := range s.Rules {
			rules, err := ipl.Parse("rule", []byte(text), ipl.Options{})
			if err != nil || len(rules) != 1 {
				return nil, 0, fmt.Errorf("saved states: %q: one rule is expected: %v", text, err)
			}
			if k := renameRule(&rules[0], from, to); k > 0 {
				s.Rules[i], n = rules[0].String(), n+k
			}
		}
		for i := range s.Interfaces {
			n += rename(&s.Interfaces[i], from, to)
		}
		return s.Append(nil), n, nil
	}
	f, err := parseSessions(b)
	if err != nil {
		return nil, 0, err
	}
	for i, s := range f.Sessions {
		var text, name string
		if json.Unmarshal(s["rule"], &text) != nil || json.Unmarshal(s["if"], &name) != nil {
			return nil, 0, fmt.Errorf("translation %d: rule and if are expected", i)
		}
		rules, err := ipl.ParseNAT("rule", []byte(text), ipl.Options{})
		if err != nil || len(rules) != 1 {
			return nil, 0, fmt.Errorf("translation %d: %q: one rule is expected: %v", i, text, err)
		}
		if k := renameNAT(&rules[0], from, to); k > 0 {
			n += k
			text = rules[0].String()
		}
		n += rename(&name, from, to)
		for key, v := range map[string]string{"rule": text, "if": name} {
			if s[key], err = json.Marshal(v); err != nil {
				return nil, 0, err
			}
		}
	}
	out, err = json.Marshal(f)
	return out, n, err
}

func rename(name *string, from, to string) int {
	if *name != from {
		return 0
	}
	*name = to
	return 1
}

func renameEnd(e *ipl.Endpoint, from, to string) int {
	if e.Kind != ipl.IfAddr {
		return 0
	}
	return rename(&e.Name, from, to)
}

func renameRule(r *ipl.Rule, from, to string) (n int) {
	for _, name := range []*string{&r.If, &r.Via, &r.DupTo.If, &r.To.If, &r.ReplyTo.If} {
		n += rename(name, from, to)
	}
	return n + renameEnd(&r.Src, from, to) + renameEnd(&r.Dst, from, to)
}

func renameNAT(r *ipl.NATRule, from, to string) int {
	return rename(&r.If, from, to) + rename(&r.If2, from, to) + renameEnd(&r.Src, from, to) + renameEnd(&r.Dst, from, to)
}
