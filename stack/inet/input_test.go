package inet_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	. "ionet/stack/stacktest"
)

// mangle is a good packet with octets of its IPv4 header replaced.
func mangle(sum bool, changes ...int) []byte {
	b := Echo("10.0.0.2", "10.0.0.1", "12345678")
	for i := 0; i < len(changes); i += 2 {
		b[packet.EtherLen+changes[i]] = byte(changes[i+1])
	}
	if sum {
		packet.IPv4(b[packet.EtherLen:]).SetChecksum()
	}
	return b
}

func TestWhatInputDrops(t *testing.T) {
	for _, c := range []struct {
		counter string
		frame   []byte
	}{
		{"too small", Echo("10.0.0.2", "10.0.0.1", "")[:14+19]},
		{"bad header", mangle(false, 0, 0x65)},        // version 6
		{"bad header", mangle(false, 0, 0x44)},        // header of 16
		{"bad header", mangle(false, 0, 0x4f)},        // header beyond the packet
		{"bad header", mangle(false, 2, 0, 3, 19)},    // total length below the header's
		{"bad header checksum", mangle(false, 8, 63)}, // TTL changed, checksum not
		{"data length", mangle(true, 2, 9)},           // longer than the frame
		{"martian", mangle(true, 12, 127)},            // from loopback
		{"martian", mangle(true, 16, 127)},            // to loopback
		{"martian", mangle(true, 12, 224)},            // from a group
		{"martian", mangle(true, 12, 255, 13, 255, 14, 255, 15, 255)},
		{"martian", mangle(true, 12, 0)}, // from net 0
		{"martian", UDP("10.0.0.1", "10.0.0.1", 9, 9, "to itself, for ever")},
		{"not forwardable", mangle(true, 19, 77)},
		{"no such group", IP{Src: "10.0.0.2", Dst: "239.0.0.9", Proto: 17, Data: make([]byte, 8)}.Frame()},
		{"bad options", IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, Options: []byte{7, 1, 4, 0}, Data: make([]byte, 8)}.Frame()},
		{"malformed fragment", IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, Frag: packet.IPv4MF, Data: make([]byte, 9)}.Frame()},
		{"malformed fragment", IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, Frag: 0x1fff, Data: make([]byte, 99)}.Frame()},
		{"unknown protocol", IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 99, Data: make([]byte, 8)}.Frame()},
	} {
		r := New(t)
		r.Meet("10.0.0.2")
		r.Counts("ip", "received", func() { r.Counts("ip", c.counter, func() { r.Send(c.frame) }) })
		if strings.Contains("too small bad header checksum martian data length", c.counter) {
			r.Expect() // silently
		}
	}
}

func TestPaddingIsCutOff(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	r.Send(append(Echo("10.0.0.2", "10.0.0.1", "ab"), make([]byte, 16)...))
	r.Expect("10.0.0.1 > 10.0.0.2 echo-reply id 1 seq 2 len 2")
}

func TestLimitedBroadcastAndDirected(t *testing.T) {
	r := New(t)
	s := r.UDP(":9")
	for _, dst := range []string{"255.255.255.255", "10.0.0.255", "10.0.0.0"} {
		r.Send(UDP("10.0.0.2", dst, 5, 9, dst))
		if got := s.Get(); got != "10.0.0.2:5: "+dst {
			t.Errorf("%s: %s", dst, got)
		}
	}
	r.Sysctl("net.inet.ip.hostzerobroadcast", "0")
	r.Send(UDP("10.0.0.2", "10.0.0.0", 5, 9, "old style"))
	if got := s.Get(); got != "resource temporarily unavailable" {
		t.Errorf("hostzerobroadcast=0: %s", got)
	}
}

func fragments(data []byte, id uint16, cuts ...int) (out [][]byte) {
	at := 0
	for _, c := range append(cuts, len(data)) {
		f := uint16(at / 8)
		if c < len(data) {
			f |= packet.IPv4MF
		}
		out = append(out, IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoUDP, ID: id, Frag: f, Data: data[at:c]}.Frame())
		at = c
	}
	return out
}

func TestReassembly(t *testing.T) {
	text := strings.Repeat("reassembly ", 20)
	d := Datagram("10.0.0.2", "10.0.0.1", 5, 9, text)
	e := Datagram("10.0.0.2", "10.0.0.1", 5, 9, "another")
	f, g := fragments(d, 1, 8, 64, 128), fragments(e, 2, 8)
	over := fragments(d, 1, 8, 72, 128)
	end := fragments(d[:100], 1, 64)
	for name, c := range map[string]struct {
		frames [][]byte
		got    string // one datagram, or nothing
	}{
		"in order":          {[][]byte{f[0], f[1], f[2], f[3]}, text},
		"backwards":         {[][]byte{f[3], f[2], f[1], f[0]}, text},
		"a piece twice":     {[][]byte{f[0], f[1], f[1], f[2], f[3]}, text},
		"interleaved":       {[][]byte{f[0], g[1], f[2], f[1], f[3]}, text},
		"an overlap":        {[][]byte{f[0], over[1], f[2], f[1], f[3]}, ""},
		"two ends":          {[][]byte{f[0], f[3], end[1], f[1], f[2]}, ""},
		"beyond the end":    {[][]byte{end[1], f[3], f[0], f[1], f[2]}, ""},
		"a piece is absent": {[][]byte{f[0], f[1], f[3]}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(t)
			s := r.UDP(":9")
			r.Send(c.frames...)
			want := "resource temporarily unavailable"
			if c.got != "" {
				want = "10.0.0.2:5: " + c.got
			}
			if got := s.Get(); got != want {
				t.Errorf("got %q", got)
			}
			if got := s.Get(); got != "resource temporarily unavailable" {
				t.Errorf("then %q", got)
			}
		})
	}
}

func TestReassemblyTimesOut(t *testing.T) {
	d := Datagram("10.0.0.2", "10.0.0.1", 5, 9, strings.Repeat("x", 100))
	f := fragments(d, 1, 64)
	r := New(t)
	r.Meet("10.0.0.2")
	r.Send(f[1])
	r.Pass(29 * time.Second)
	r.Counts("ip", "fragment timeout", func() { r.Pass(2 * time.Second) })
	r.Expect() // the first piece never came: nobody to tell (RFC 792)
	r.Send(f[0])
	r.Pass(31 * time.Second)
	r.Expect("10.0.0.1 > 10.0.0.2 time-exceeded 1 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 8")
}

func TestReassemblyIsBounded(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.ip.maxfragpackets", "10")
	piece := func(id uint16, n int) []byte {
		return IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, ID: id, Frag: packet.IPv4MF, Data: make([]byte, n)}.Frame()
	}
	for id := range uint16(50) {
		r.Send(piece(id, 1400))
	}
	if n := r.Env.Pool.Bufs(); n != 10 {
		t.Errorf("%d pieces are held, want 10", n)
	}
	r.Sysctl("net.inet.ip.maxfragpackets", "1000000")
	for id := range uint16(6000) {
		r.Send(piece(id, 1400))
	}
	if n := r.Env.Pool.InUse(); n > 4<<20+2048 {
		t.Errorf("%d octets are held, want at most 4 MiB", n)
	}
	r.Sysctl("net.inet.ip.maxfragpackets", "0")
	r.Counts("ip", "fragment dropped", func() { r.Send(piece(7, 8)) })
}

func TestFragmentation(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := r.UDP("10.0.0.1:5")
	if err := s.SendTo("10.0.0.2:7", strings.Repeat("x", 3000)); err != nil {
		t.Fatal(err)
	}
	sent := r.Sent()
	sizes := ""
	for _, f := range sent {
		h := packet.IPv4(f[packet.EtherLen:])
		sizes += fmt.Sprintf("%d@%d ", len(h.Payload()), h.FragOff())
		if !h.ChecksumOK() {
			t.Error("a fragment's header checksum is wrong")
		}
	}
	if sizes != "1480@0 1480@1480 48@2960 " {
		t.Errorf("pieces %s", sizes)
	}
	if err := s.Set(0, 28, []byte{1}); err != nil { // IP_DONTFRAG
		t.Fatal(err)
	}
	if err := s.SendTo("10.0.0.2:7", strings.Repeat("x", 3000)); err == nil {
		t.Error("fragmented in spite of IP_DONTFRAG")
	}
}

// An option that is not there says so, whatever its value's length.
func TestNoSuchOption(t *testing.T) {
	s := New(t).UDP("10.0.0.1:5")
	for name, want := range map[int]error{99: syscall.ENOPROTOOPT, 4: syscall.EINVAL} { // the latter is IP_TTL
		if err := s.Set(0, name, make([]byte, 24)); err != want {
			t.Errorf("option %d of 24 octets: %v, want %v", name, err, want)
		}
	}
}

func TestOptionsAreRecorded(t *testing.T) {
	for name, c := range map[string]struct{ in, out string }{
		"record route":             {"\x07\x0b\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x07\x0b\x08\x0a\x00\x00\x01\x00\x00\x00\x00\x00"},
		"record route, full":       {"\x07\x07\x08\x0a\x00\x00\x09\x00", "\x07\x07\x08\x0a\x00\x00\x09\x00"},
		"timestamp, overflow":      {"\x44\x08\x09\x00\x00\x00\x00\x01", "\x44\x08\x09\x10\x00\x00\x00\x01"},
		"timestamp":                {"\x44\x08\x05\x00\x00\x00\x00\x00", "\x44\x08\x09\x00\x80\x00\x2a\xf8"},
		"timestamp with addresses": {"\x44\x0c\x05\x01\x00\x00\x00\x00\x00\x00\x00\x00", "\x44\x0c\x0d\x01\x0a\x00\x00\x01\x80\x00\x2a\xf8"},
		"asked of another":         {"\x44\x0c\x05\x03\x0a\x00\x00\x09\x00\x00\x00\x00", "\x44\x0c\x05\x03\x0a\x00\x00\x09\x00\x00\x00\x00"},
	} {
		r := New(t)
		r.Meet("10.0.0.2")
		r.Send(IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Options: []byte(c.in), Data: ICMP(8, 0, 0, nil)}.Frame())
		sent := r.Sent()
		if len(sent) != 1 {
			t.Fatalf("%s: %d answers", name, len(sent))
		}
		h := packet.IPv4(sent[0][packet.EtherLen:])
		if got := string(h.Options()); got != c.out || !h.ChecksumOK() {
			t.Errorf("%s: % x, want % x", name, got, c.out)
		}
	}
}

func TestSourceRoute(t *testing.T) {
	lsrr := []byte{131, 7, 4, 10, 0, 1, 2, 0}
	ssrr := append([]byte{137}, lsrr[1:]...)
	p := IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, Options: lsrr, Data: make([]byte, 8)}
	r := New(t)
	r.Meet("10.0.0.2")
	r.AddIf("en1", Me1, "10.0.1.1/24")
	r.Pass(10 * time.Second)
	r.Sent()
	r.Send(p.Frame())
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 5 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 8") // we do not forward
	r.Sysctl("net.inet.ip.forwarding", "1")
	r.Send(p.Frame())
	r.Expect("arp who-has 10.0.1.2 tell 10.0.1.1")
	p.Options = ssrr
	p.Options[6] = 99
	r.Send(p.Frame())
	r.Expect("arp who-has 10.0.1.99 tell 10.0.1.1")
	p.Dst = "10.0.1.77" // strict, and we are not on it
	r.Send(p.Frame())
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 5 quotes 10.0.0.2 > 10.0.1.77 proto 17 len 8")
	p.Dst = "10.0.0.1"
	r.Sysctl("net.inet.ip.forwsrcrt", "0")
	r.Send(p.Frame())
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 5 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 8")
	r.Sysctl("net.inet.ip.allowsrcrt", "0")
	r.Send(p.Frame())
	r.Expect("10.0.0.1 > 10.0.0.2 unreach 9 quotes 10.0.0.2 > 10.0.0.1 proto 17 len 8")
}

// A recorded route makes no host answer to a group.
func TestReplyAlongARouteGoesToNoGroup(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	for _, hop := range [][4]byte{{224, 0, 0, 5}, {10, 0, 0, 255}, {255, 255, 255, 255}} {
		o := append([]byte{131, 7, 8}, append(hop[:], 0)...)
		r.Send(IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Options: o, Data: ICMP(8, 0, 0, nil)}.Frame())
		r.Expect()
	}
}

func TestUserSourceRoute(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := r.UDP("10.0.0.1:5")
	// By 10.0.0.2 and 10.0.0.3 to 10.9.9.9.
	if err := s.Set(0, 1, []byte{1, 131, 15, 4, 10, 0, 0, 2, 10, 0, 0, 3, 10, 9, 9, 9}); err != nil {
		t.Fatal(err)
	}
	if err := s.SendTo("10.9.9.9:7", "x"); err != nil {
		t.Fatal(err)
	}
	sent := r.Sent()
	if len(sent) != 1 {
		t.Fatalf("%d frames", len(sent))
	}
	h := packet.IPv4(sent[0][packet.EtherLen:])
	if h.Dst().String() != "10.0.0.2" || string(h.Options()) != "\x83\x0b\x04\x0a\x00\x00\x03\x0a\x09\x09\x09\x00" {
		t.Errorf("to %v with % x", h.Dst(), h.Options())
	}
	if err := s.Set(0, 1, []byte{131, 3, 4, 0}); err == nil {
		t.Error("a source route without hops was taken")
	}
}

func TestInterfaceIndexOfAGroup(t *testing.T) {
	r := New(t)
	s := r.UDP(":9")
	if err := s.Set(0, 12, []byte{239, 1, 1, 1, 10, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	r.Pass(10 * time.Second)
	r.Sent()
	r.Send(UDP("10.0.0.2", "239.1.1.1", 5, 9, "hello"))
	if got := s.Get(); got != "10.0.0.2:5: hello" {
		t.Error(got)
	}
	other := r.AddIf("en1", Me1, "10.0.1.1/24")
	r.SendOn(other, IP{Src: "10.0.1.2", Dst: "239.1.1.1", Proto: 17, Data: Datagram("10.0.1.2", "239.1.1.1", 5, 9, "wrong link")}.FrameTo(netif.MAC{}, Peer1))
	if got := s.Get(); got != "resource temporarily unavailable" {
		t.Error(got)
	}
}
