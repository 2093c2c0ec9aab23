package crypt

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// remains walks through v and calls what is not zero, by its path.
func remains(v reflect.Value, path string, found func(string)) {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			remains(v.Elem(), path, found)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			remains(v.Field(i), path+"."+v.Type().Field(i).Name, found)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			remains(v.Index(i), path, found)
		}
	default:
		if !v.IsZero() {
			found(path)
		}
	}
}

// memory is what a pointer in v leads to, of size octets: the keys of the library's
// ciphers as they lie there, whatever v holds after Wipe.
func memory(v any) []byte {
	p := reflect.ValueOf(v)
	return unsafe.Slice((*byte)(p.UnsafePointer()), p.Type().Elem().Size())
}

// secretless reports whether what is at path may remain: lengths, names, and that
// it was wiped.
func secretless(path string) bool {
	at := path[strings.LastIndexByte(path, '.')+1:]
	return slices.Contains([]string{"name", "kind", "iv", "icv", "text", "size", "v"}, at) || path == ".salt" || path == ".combined.salt"
}

// Wipe leaves nothing of a key: neither in what we hold nor in the library's ciphers
// that we held, and what was wiped protects and opens nothing.
func TestWipe(t *testing.T) {
	for _, p := range pairs() {
		e := p.new(t, false)
		var held [][]byte
		switch e := e.(type) {
		case *combined:
			held = append(held, memory(e.aead))
		case *separate:
			if c, ok := e.c.(*cbc); ok {
				held = append(held, memory(c.block), memory(c.ivs))
			}
		}
		b := blank(e, make([]byte, 64))
		e.Seal(b, 0, 1)
		old := bytes.Clone(b)
		e.Wipe()
		for _, m := range held {
			if len(bytes.Trim(m, "\x00")) != 0 {
				t.Errorf("%s: of the library's cipher remains %x", p.name(), m)
			}
		}
		remains(reflect.ValueOf(e), "", func(path string) {
			if !secretless(path) {
				t.Errorf("%s: %s is not zero", p.name(), path)
			}
		})
		if e.Open(old, 0) {
			t.Errorf("%s: opens without its keys", p.name())
		}
		text := bytes.Repeat([]byte{0x77}, 64)
		c := blank(e, text)
		e.Seal(c, 0, 2)
		if bytes.Contains(c, text[:8]) {
			t.Errorf("%s: a packet in clear without its keys", p.name())
		}
	}
	for _, alg := range aalgs {
		if alg.Number == AalgNull {
			continue
		}
		a, err := NewAuth(alg.Number, bytes.Repeat([]byte{9}, alg.MinBits/8))
		if err != nil {
			t.Fatal(err)
		}
		icv := make([]byte, alg.ICVLen)
		a.SumIV(icv, 5, []byte("text"))
		a.Wipe()
		if a.Verify(icv, []byte("text")) || a.Verify(make([]byte, alg.ICVLen), []byte("text")) {
			t.Errorf("%s: verifies without its key", alg.Name)
		}
		remains(reflect.ValueOf(a), "", func(path string) {
			if !secretless(path) {
				t.Errorf("%s: %s is not zero", alg.Name, path)
			}
		})
	}
}

// Nothing of a key stays in the scratch states: what a hash held when it was put
// back is its beginning.
func TestScratchKeepsNothing(t *testing.T) {
	a, err := NewAuth(AalgHMACSHA256, bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	a.Sum(make([]byte, 16), []byte("text"))
	fresh, _ := after(kindSHA256.make(), nil)
	for i := range spare.places {
		s := spare.places[i].s.Load()
		if s == nil || s.digests[kindSHA256] == nil {
			continue
		}
		if state, _ := s.digests[kindSHA256].(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary(); !bytes.Equal(state, fresh) {
			t.Errorf("a hash remembers %x", state)
		}
	}
}
