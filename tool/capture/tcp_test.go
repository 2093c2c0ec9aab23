package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// segment is a frame with a TCP segment from a, port 1234, to b, port 9999, or
// back.
type segment struct {
	back     bool
	seq, ack uint32
	flags    byte
	opts     string // hexadecimal
	data     string
	bad      bool // its checksum
}

func (s segment) frame(t testing.TB) []byte {
	opts := octets(t, s.opts)
	for len(opts)%4 != 0 {
		opts = append(opts, 1)
	}
	src, dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	ports := []byte{4, 210, 39, 15}
	if s.back {
		src, dst, ports = dst, src, []byte{39, 15, 4, 210}
	}
	b := binary.BigEndian.AppendUint32(ports, s.seq)
	b = binary.BigEndian.AppendUint32(b, s.ack)
	b = append(b, byte(20+len(opts))/4<<4, s.flags, 1, 0, 0, 0, 0, 7)
	b = append(append(b, opts...), s.data...)
	binary.BigEndian.PutUint16(b[16:], ^ones(b, pseudo(src, dst, 6, len(b))))
	if s.bad {
		b[17]++
	}
	ip := append([]byte{0x45, 0, 0, byte(20 + len(b)), 0, 1, 0x40, 0, 64, 6, 0, 0}, append(src.AsSlice(), dst.AsSlice()...)...)
	binary.BigEndian.PutUint16(ip[10:], ^ones(ip, 0))
	return append(append(octets(t, eth4), ip...), b...)
}

const there, back = "10.0.0.1.1234 > 10.0.0.2.9999: Flags ", "10.0.0.2.9999 > 10.0.0.1.1234: Flags "

// dialogue is a connection from its first segment to its end, and the oddities
// that another one may have. The lines are those of -n -t.
var dialogue = []struct {
	segment
	line string
}{
	{segment{seq: 4294967295, flags: 0x02, opts: "020405b4 0402 080a0000000100000000 01030307"},
		there + "[S], seq 4294967295, win 256, options [mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7], length 0"},
	{segment{back: true, seq: 5000, ack: 0, flags: 0x52, opts: "020405b4"}, back + "[S.E], seq 5000, ack 0, win 256, options [mss 1460], length 0"},
	{segment{seq: 0, ack: 5001, flags: 0x10}, there + "[.], ack 1, win 256, length 0"},
	{segment{seq: 0, ack: 5001, flags: 0x18, data: "hello"}, there + "[P.], seq 1:6, ack 1, win 256, length 5"},
	{segment{back: true, seq: 5001, ack: 0, flags: 0x10, opts: "0101 050a 00000064 000000c8"},
		back + "[.], ack 1, win 256, options [nop,nop,sack 1 {101:201}], length 0"},
	{segment{seq: 5, ack: 5001, flags: 0x10, opts: "0101 0512 000013ec 00001450 000014b4 00001518"},
		there + "[.], ack 1, win 256, options [nop,nop,sack 2 {100:200}{300:400}], length 0"},
	{segment{seq: 5, ack: 5001, flags: 0x38, data: "x"}, there + "[P.U], seq 6:7, ack 1, win 256, urg 7, length 1"},
	{segment{seq: 6, ack: 5001, flags: 0xd1}, there + "[F.EW], seq 7, ack 1, win 256, length 0"},
	{segment{back: true, seq: 5001, ack: 7, flags: 0x14}, back + "[R.], seq 1, ack 8, win 256, length 0"},
	{segment{back: true, seq: 5001, flags: 0x04}, back + "[R], seq 5001, win 256, length 0"},
	// The next connection between the same ends.
	{segment{seq: 70, flags: 0x02, opts: "2202"}, there + "[S], seq 70, win 256, options [tfo  cookiereq,nop,nop], length 0"},
	{segment{seq: 70, flags: 0x02, opts: "220a 3132333435363738", data: "early"},
		there + "[S], seq 70:75, win 256, options [tfo  cookie 3132333435363738,nop,nop], length 5"},
	{segment{back: true, seq: 90, ack: 76, flags: 0x12, bad: true}, back + "[S.], seq 90, ack 76, win 256, length 0"},
	{segment{seq: 76, ack: 91, flags: 0x10, opts: "01010101"}, there + "[.], ack 1, win 256, options [nop,nop,nop,nop], length 0"},
	{segment{seq: 76, ack: 91, flags: 0x10, opts: "00000000"}, there + "[.], ack 1, win 256, options [eol], length 0"},
	{segment{seq: 76, ack: 91, flags: 0x00}, there + "[none], win 256, length 0"},
}

func TestTCPLine(t *testing.T) {
	w := Printer{NoTime: true}
	for i, tc := range dialogue {
		b := tc.frame(t)
		if got := w.Line(&Packet{Link: linkEthernet, Data: b, OrigLen: len(b)}); got != "IP "+tc.line {
			t.Errorf("segment %d:\n got %s\nwant IP %s", i, got, tc.line)
		}
	}
	// What tcpdump says in other words, or too few.
	for _, tc := range []struct {
		opts string
		cut  int // octets that were not captured
		want string
	}{
		{"1c048005 1c040007 fe0461 62", 0, "options [uto 0x5 min,uto 0x7 sec,unknown-254 0x6162], length 0"},
		{"0205 0101", 0, "options [[bad opt]], length 0"},
		{"0800 0101", 0, "options [[bad opt]], length 0"},
		{"010101 02", 0, "options [nop,nop,nop,[bad opt]], length 0"},
		{"0203 01", 0, "options [unknown-2 0x01,nop], length 0"},
		{"0506 01020304 0101", 0, "options [unknown-5 0x01020304,nop,nop], length 0"},
		{"1312" + strings.Repeat("6d", 16), 0, "options [md5 6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d,nop,nop], length 0"},
		{"020405b4 0402 0101", 4, "options [mss 1460,[|tcp]], length 0"},
		{"020405b4", 1, "options [[|tcp]], length 0"},
		{"020405b4", 3, "options [[|tcp]], length 0"},
		{"020405b4", 4, "options [[|tcp]], length 0"},
	} {
		w := Printer{NoTime: true}
		b := segment{seq: 1, flags: 2, opts: tc.opts}.frame(t)
		got := w.Line(&Packet{Link: linkEthernet, Data: b[:len(b)-tc.cut], OrigLen: len(b)})
		if want := "IP " + there + "[S], seq 1, win 256, " + tc.want; got != want {
			t.Errorf("options %s, cut by %d:\n got %s\nwant %s", tc.opts, tc.cut, got, want)
		}
	}
}

// A checksum may be left to the driver, which then finds the sum of the
// pseudo-header in its place.
func TestPartialChecksum(t *testing.T) {
	b := segment{seq: 1, flags: 2}.frame(t)
	copy(b[50:], []byte{0x14, 0x1d})
	u := octets(t, eth4+"45000020 0001 0000 4011 66ca 0a000001 0a000002 04d2 0035 000c 1420 01020304")
	w := Printer{NoTime: true, Verbose: true}
	for want, b := range map[string][]byte{"cksum 0x141d (partial -> 0x": b, ": [udp sum partial] UDP, length 4": u} {
		if got := w.Line(&Packet{Link: linkEthernet, Data: b, OrigLen: len(b)}); !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
}

// The numbers of very many connections do not take more and more memory.
func TestTCPForgets(t *testing.T) {
	var f flows
	a := netip.MustParseAddrPort("10.0.0.1:80")
	for i := range 3 * maxFlows {
		f.relative(netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 1), a, 1, 1, false)
	}
	if len(f) > maxFlows {
		t.Errorf("%d connections are remembered, want %d at most", len(f), maxFlows)
	}
}

// tcpdump, where it is installed, says the same.
func TestTCPAgainstTcpdump(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Logf("tcpdump is not installed: our lines were NOT compared with its own (apt-get install tcpdump)")
		return
	}
	var file bytes.Buffer
	w := NewWriter(&file, 65535)
	var packets []*Packet
	for _, tc := range dialogue {
		b := tc.frame(t)
		p := &Packet{Time: time.Unix(1, 0), Interface: "en0", Link: linkEthernet, Data: b, OrigLen: len(b)}
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		packets = append(packets, p)
	}
	for flags, w := range map[string]*Printer{"-nt": {}, "-ntS": {Absolute: true}, "-ntv": {Verbose: true}, "-ntq": {Quiet: true}} {
		cmd := exec.Command(tcpdump, flags, "-r", "-")
		cmd.Stdin = bytes.NewReader(file.Bytes())
		theirs, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		w.NoTime = true
		var ours strings.Builder
		for _, p := range packets {
			fmt.Fprintln(&ours, w.Line(p))
		}
		a, b := strings.Split(ours.String(), "\n"), strings.Split(string(theirs), "\n")
		for i := range max(len(a), len(b)) {
			if i >= len(a) || i >= len(b) || a[i] != b[i] {
				t.Errorf("%s:\nours\n%s\ntcpdump's\n%s", flags, strings.Join(a[min(i, len(a)):], "\n"), strings.Join(b[min(i, len(b)):], "\n"))
				break
			}
		}
	}
}
