package crypt

import (
	"bytes"
	"compress/flate"
	"io"
	"testing"
)

// FuzzOpen hands octets from anywhere to each algorithm: nothing but a packet that
// Seal has made opens, and Open writes nothing outside it.
func FuzzOpen(f *testing.F) {
	all := pairs()
	for i, p := range all {
		e := p.new(f, i%2 == 0)
		b := blank(e, make([]byte, 48))
		e.Seal(b, 7, 99)
		f.Add(uint8(i), b)
		for odd := range 4 {
			f.Add(uint8(i), blank(e, make([]byte, 16+odd)))
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		p := all[int(i)%len(all)]
		e := p.new(t, i%2 == 0)
		room := append(bytes.Repeat([]byte{0xee}, 16), b...)
		room = append(room, bytes.Repeat([]byte{0xee}, 16)...)
		in := room[16 : len(room)-16]
		opened := e.Open(in, 7)
		if fence := append(bytes.Clone(room[:16]), room[len(room)-16:]...); !bytes.Equal(fence, bytes.Repeat([]byte{0xee}, 32)) {
			t.Fatalf("%s: writes outside of %d octets", p.name(), len(b))
		}
		if !opened || !p.authenticates() {
			return
		}
		again := bytes.Clone(b)
		copy(textOf(e, again), textOf(e, in))
		if c, ok := e.(*separate); ok {
			c.c.encrypt(again, c.text, len(again)-c.icv)
			if !bytes.Equal(again[:len(again)-c.icv], b[:len(b)-c.icv]) {
				t.Fatalf("%s: opens, and is not what Seal makes", p.name())
			}
			return
		}
		if len(textOf(e, again))%4 != 0 {
			return
		}
		e.Seal(again, 7, be.Uint64(b[headerLen:]))
		if !bytes.Equal(again, b) {
			t.Fatalf("%s: opens, and is not what Seal makes", p.name())
		}
	})
}

// FuzzDecompress holds our expander to the library's, and to the room it is given.
func FuzzDecompress(f *testing.F) {
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
		for _, text := range []string{"", "x", "abcabcabcabc, and abcabc", string(make([]byte, 3000))} {
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, level)
			w.Write([]byte(text))
			w.Close()
			f.Add(b.Bytes())
		}
	}
	c := comp(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 4000
		room := bytes.Repeat([]byte{0xee}, limit+16)
		n := c.Decompress(room[:limit:limit], b)
		if !bytes.Equal(room[limit:], bytes.Repeat([]byte{0xee}, 16)) {
			t.Fatal("writes behind its room")
		}
		want, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b)), limit+1))
		switch {
		case err != nil && n < 0:
		case err != nil || len(want) > limit:
			if n != TooLong {
				t.Fatalf("%d octets; the library: %d, %v", n, len(want), err)
			}
		case n != len(want) || !bytes.Equal(room[:n], want):
			t.Fatalf("%d octets; the library: %d", n, len(want))
		}
	})
}
