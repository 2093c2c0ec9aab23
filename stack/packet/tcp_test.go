package packet

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// Options that fit are read as they were written.
func TestTCPOptionsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o, got TCPOptions
		o.MSS = rapid.Uint16().Draw(t, "mss")
		if o.HasWScale = rapid.Bool().Draw(t, "scaled"); o.HasWScale {
			o.WScale = rapid.Uint8Range(0, 14).Draw(t, "wscale")
		}
		o.SACKOK = rapid.Bool().Draw(t, "sackOK")
		if o.HasTimestamp = rapid.Bool().Draw(t, "stamped"); o.HasTimestamp {
			o.TSVal, o.TSEcr = rapid.Uint32().Draw(t, "val"), rapid.Uint32().Draw(t, "ecr")
		}
		o.NSACK = rapid.Uint8Range(0, TCPMaxSACK).Draw(t, "blocks")
		for i := range o.NSACK {
			o.SACK[i] = SACKBlock{rapid.Uint32().Draw(t, "start"), rapid.Uint32().Draw(t, "end")}
		}
		if o.HasFastOpen = o.NSACK == 0 && rapid.Bool().Draw(t, "fast"); o.HasFastOpen {
			o.FastOpen = make([]byte, 2*rapid.IntRange(2, 8).Draw(t, "cookie"))
		}
		b := bytes.Repeat([]byte{0xee}, TCPMaxLen-TCPLen+8)
		n := o.Put(b[:TCPMaxLen-TCPLen])
		if n%4 != 0 || n > TCPMaxLen-TCPLen {
			t.Fatalf("%d octets", n)
		}
		for i, x := range b[n:] {
			if x != 0xee {
				t.Fatalf("octet %d behind the options was written", i)
			}
		}
		got.Parse(b[:n])
		if got.NSACK < o.NSACK { // what does not fit is left out
			if n+8 <= TCPMaxLen-TCPLen {
				t.Fatalf("%d of %d blocks are there, and room for one more", got.NSACK, o.NSACK)
			}
			clear(o.SACK[got.NSACK:])
			o.NSACK = got.NSACK
		}
		if o.HasFastOpen && !got.HasFastOpen && n+2+len(o.FastOpen) > TCPMaxLen-TCPLen {
			o.HasFastOpen, o.FastOpen = false, nil
		}
		if !bytes.Equal(got.FastOpen, o.FastOpen) {
			t.Fatalf("the cookie is %x, was %x", got.FastOpen, o.FastOpen)
		}
		got.FastOpen, o.FastOpen = nil, nil
		if got.MSS != o.MSS || got.WScale != o.WScale || got.HasWScale != o.HasWScale || got.SACKOK != o.SACKOK || got.HasTimestamp != o.HasTimestamp ||
			got.TSVal != o.TSVal || got.TSEcr != o.TSEcr || got.NSACK != o.NSACK || got.SACK != o.SACK || got.HasFastOpen != o.HasFastOpen {
			t.Fatalf("got %+v, want %+v", got, o)
		}
	})
}

// Malformed options end the reading, and what came before them counts.
func TestMalformedTCPOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		mss  uint16
	}{
		{"no length", []byte{2, 4, 5, 180, 3}, 1460},
		{"length 0", []byte{2, 4, 5, 180, 8, 0}, 1460},
		{"length 1", []byte{2, 4, 5, 180, 8, 1, 1, 1}, 1460},
		{"longer than the header", []byte{2, 4, 5, 180, 5, 10, 0, 0}, 1460},
		{"unknown", []byte{254, 4, 9, 9, 2, 4, 5, 180}, 1460},
		{"wrong length of a known one", []byte{2, 3, 5, 1, 2, 4, 5, 180}, 1460},
		{"behind the end", []byte{0, 0, 0, 0, 2, 4, 5, 180}, 0},
		{"twice: the last", []byte{2, 4, 1, 1, 2, 4, 5, 180}, 1460},
	} {
		var o TCPOptions
		if o.Parse(c.in); o.MSS != c.mss || o.HasTimestamp || o.NSACK != 0 {
			t.Errorf("%s: %+v", c.name, o)
		}
	}
}

// FuzzTCPSegment: a header that is accepted can be read, and its options
// written again say the same.
func FuzzTCPSegment(f *testing.F) {
	f.Add(make([]byte, TCPLen))
	h := make([]byte, TCPMaxLen)
	PutTCP(h, 1, 2, 3, 4, TCPMaxLen, TCPSyn, 5, 6, 7)
	o := TCPOptions{MSS: 1460, HasWScale: true, WScale: 7, SACKOK: true, HasTimestamp: true, TSVal: 1, TSEcr: 2}
	o.Put(h[TCPLen:])
	f.Add(h)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := CheckTCP(b)
		if !ok {
			return
		}
		if n := len(h.Options()) + len(h.Payload()) + TCPLen; n != len(b) {
			t.Fatalf("%d octets of %d", n, len(b))
		}
		var was, got TCPOptions
		was.Parse(h.Options())
		var again [TCPMaxLen - TCPLen]byte
		n := was.Put(again[:])
		got.Parse(again[:n])
		if got.MSS != was.MSS || got.HasTimestamp != was.HasTimestamp || got.TSVal != was.TSVal || got.SACKOK != was.SACKOK || got.WScale != was.WScale {
			t.Fatalf("got %+v, was %+v", got, was)
		}
	})
}
