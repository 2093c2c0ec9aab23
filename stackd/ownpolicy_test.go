package stackd

import (
	"testing"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// A socket's own policies are set and read by the octets that KAME's library makes.
func TestOwnPolicy(t *testing.T) {
	levels := []struct{ family, level, name int }{
		{protocol.AFInet, protocol.ProtoIP, protocol.IPIPSecPolicy},
		{protocol.AFInet6, protocol.ProtoIPv6, protocol.IPv6IPSecPolicy},
		{protocol.AFInet6, protocol.ProtoIP, protocol.IPIPSecPolicy}, // for its packets to mapped addresses
	}
	octets := func(text string) []byte {
		p, err := protocol.ParseIPSecPolicy(text)
		if err != nil {
			t.Fatal(err)
		}
		b, err := protocol.AppendKeyPolicy(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	s := open(t, daemonWith(t, "ipsec,"))
	for _, l := range levels {
		for _, typ := range []int{protocol.SockDgram, protocol.SockStream, protocol.SockRaw} {
			k, err := s.SocketFamily(l.family, typ, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{"out ipsec esp/transport//require", "out bypass", "out entrust"} {
				if err := k.SetOption(l.level, l.name, octets(text)); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				b, err := k.Option(l.level, l.name)
				if err != nil {
					t.Fatal(err)
				}
				p, err := protocol.ParseKeyPolicy(b)
				if err != nil || p.Text(" ") != text {
					t.Errorf("%q is read as %v, %v", text, p, err)
				}
			}
			for _, text := range []string{"in none", "fwd bypass"} {
				want(t, k.SetOption(l.level, l.name, octets(text)), unix.EINVAL)
			}
			want(t, k.SetOption(l.level, l.name, []byte{1, 2, 3}), unix.EINVAL)
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	k, err := open(t, daemonFor(t)).SocketFamily(protocol.AFInet, protocol.SockDgram, 0)
	if err != nil {
		t.Fatal(err)
	}
	want(t, k.SetOption(protocol.ProtoIP, protocol.IPIPSecPolicy, octets("out entrust")), unix.ENOPROTOOPT)
}
