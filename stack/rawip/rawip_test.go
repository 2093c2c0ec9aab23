package rawip_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

const again = "resource temporarily unavailable"

func TestOnlyTheSuperuser(t *testing.T) {
	r := New(t)
	if _, err := r.SocketAs(socket.Raw, 1, socket.Cred{UID: 1}); !errors.Is(err, syscall.EACCES) {
		t.Errorf("raw: %v", err)
	}
	if _, err := r.SocketAs(socket.Raw, 300, socket.Cred{Super: true}); !errors.Is(err, syscall.EPROTONOSUPPORT) {
		t.Errorf("protocol 300: %v", err)
	}
}

func TestProtocolAndAddressFilter(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	icmp, udp, all, from3 := r.Socket(socket.Raw, 1), r.Socket(socket.Raw, 17), r.Socket(socket.Raw, 0), r.Socket(socket.Raw, 1)
	if err := from3.Connect("10.0.0.3"); err != nil {
		t.Fatal(err)
	}
	r.Send(Echo("10.0.0.2", "10.0.0.1", "hi"))
	for name, c := range map[string]struct {
		s    *Socket
		want bool
	}{"icmp": {icmp, true}, "udp": {udp, false}, "all": {all, true}, "connected elsewhere": {from3, false}} {
		got := c.s.Get()
		if (got != again) != c.want {
			t.Errorf("%s: %q", name, got)
		}
		if c.want && (!strings.HasPrefix(got, "10.0.0.2: \x45") || !strings.HasSuffix(got, "hi")) {
			t.Errorf("%s: %q, want the packet from its IP header on", name, got)
		}
	}
	r.Expect("10.0.0.1 > 10.0.0.2 echo-reply id 1 seq 2 len 2") // and the stack's own protocol has it too
}

func TestUnknownProtocolWithASocket(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := r.Socket(socket.Raw, 99)
	r.Send(IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 99, Data: []byte("xyz")}.Frame())
	r.Expect() // no protocol unreachable
	if got := s.Get(); !strings.HasSuffix(got, "xyz") {
		t.Errorf("%q", got)
	}
}

func TestHeaderIncluded(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := r.Socket(socket.Raw, 255)
	if err := s.Set(0, 2, []byte{1}); err != nil {
		t.Fatal(err)
	}
	p := IP{Src: "0.0.0.0", Dst: "10.0.0.2", Proto: 77, TTL: 3, Data: []byte("abc")}.Frame()[14:]
	p[10], p[11] = 9, 9
	if err := s.SendTo("10.0.0.2", string(p)); err != nil {
		t.Fatal(err)
	}
	sent := r.Sent()
	if len(sent) != 1 {
		t.Fatal(sent)
	}
	h := packet.IPv4(sent[0][14:])
	if h.Src().String() != "10.0.0.1" || h.ID() == 0 || h.TTL() != 3 || h.Proto() != 77 || !h.ChecksumOK() {
		t.Errorf("% x", h)
	}
	for _, bad := range []string{"", string(p[:19]), "\x65" + string(p[1:]), string(p[:2]) + "\xff\xff" + string(p[4:])} {
		if err := s.SendTo("10.0.0.2", bad); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("% x: %v, want EINVAL", bad, err)
		}
	}
	r.Expect()
}

// 0.0.0.0 as a destination is this host, as for UDP.
func TestToThisHost(t *testing.T) {
	r := New(t)
	s := r.Socket(socket.Raw, 99)
	if err := s.SendTo("0.0.0.0", "me"); err != nil {
		t.Fatal(err)
	}
	if got := s.Get(); !strings.HasPrefix(got, "127.0.0.1: ") || !strings.HasSuffix(got, "me") {
		t.Errorf("%q", got)
	}
}

// A datagram on lo0 has a checksum that nobody computed: a raw socket sees the
// right one all the same.
func TestWholeChecksumOnLoopback(t *testing.T) {
	r := New(t)
	raw := r.Socket(socket.Raw, 17)
	u := r.UDP("127.0.0.1:9")
	if err := u.SendTo("127.0.0.1:9", "hello"); err != nil {
		t.Fatal(err)
	}
	got := []byte(strings.TrimPrefix(raw.Get(), "127.0.0.1: "))
	h := packet.IPv4(got)
	if packet.Fold(packet.Sum(packet.PseudoSum(h.Src(), h.Dst(), 17, len(h.Payload())), h.Payload())) != 0xffff {
		t.Errorf("the checksum is wrong: % x", got)
	}
	if got := u.Get(); got != "127.0.0.1:9: hello" {
		t.Error(got)
	}
}
