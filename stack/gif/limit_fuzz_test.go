package gif

import (
	"testing"

	"ionet/stack/packet"
)

// FuzzLimit looks for a limit behind a header of IPv6. One that is found stands
// where it is said to.
func FuzzLimit(f *testing.F) {
	for _, body := range []string{
		"\x29\x00\x04\x01\x02\x01\x01\x00", "\x29\x00\x00\x01\x00\x04\x01\x00", "\x29\x00\x04\x09\x00\x01\x01\x00", "\x29\x09\x04\x01\x00\x01\x01\x00", "\x3c\x00\x01\x04\x00\x00\x00\x00\x29\x00\x04\x01\x02\x01\x01\x00", "",
	} {
		f.Add(byte(packet.ProtoDstOpts), []byte(body))
		f.Add(byte(packet.ProtoHopByHop), []byte(body))
	}
	f.Fuzz(func(t *testing.T, next byte, body []byte) {
		b := append(make([]byte, packet.IPv6Len), body...)
		b[0] = 6 << 4
		packet.IPv6(b).SetNext(next)
		if limit, at := saidLimit(b); at != 0 && (at < packet.IPv6Len+4 || at >= len(b) || b[at] != limit || b[at-1] != 1 || b[at-2] != optLimit) {
			t.Errorf("a limit of %d at %d of %x", limit, at, b)
		}
	})
}
