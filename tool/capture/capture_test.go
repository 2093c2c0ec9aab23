package capture

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/tool/cli"
)

// Frames of the tests: Ethernet header apart, for reading.
const (
	eth4   = "020000000002 020000000001 0800 "
	ip1    = "45000054 00070000 4001 0000 0a000001 0a000002 "
	unreac = "0301 0000 00000000 45000021 0001 0000 4011 0000 0a000001 0a000009 04d2 0035 000d 0000"
)

func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLine(t *testing.T) {
	for _, tc := range []struct {
		frame string
		orig  int // 0: not cut
		want  string
	}{
		{eth4 + ip1 + "0800 0000 0001 0002" + strings.Repeat("00", 56), 0,
			"IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 2, length 64"},
		{eth4 + ip1 + "0000 0000 0001 0002", 98,
			"IP 10.0.0.1 > 10.0.0.2: ICMP echo reply, id 1, seq 2, length 64"},
		{eth4 + ip1 + "0800 0000", 98, "IP 10.0.0.1 > 10.0.0.2: ICMP [type 8] [|icmp]"},
		{eth4 + "45000054", 98, "IP [|ip]"},
		{eth4 + ip1, 40, "IP 10.0.0.1 > 10.0.0.2: ICMP [type ?] [|icmp] [total length 84 > length 26]"},
		{eth4 + "450005dc 0024 2000 4001 0000 0a000001 0a000002 0800 0000 0001 0001", 1514,
			"IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 1, length 1480 (frag 36:1480@0+)"},
		{eth4 + "4500001c 0024 00b9 4001 0000 0a000001 0a000002 0000000000000000", 0,
			"IP 10.0.0.1 > 10.0.0.2: ICMP (frag 36:8@1480)"},
		{eth4 + "45000038 0001 0000 4001 0000 0a000002 0a000001" + unreac, 0,
			"IP 10.0.0.2 > 10.0.0.1: ICMP host 10.0.0.9 unreachable, length 36"},
		{eth4 + "45000038 0001 0000 4001 0000 0a000002 0a000001 0303" + strings.Replace(unreac, "0301", "", 1), 0,
			"IP 10.0.0.2 > 10.0.0.1: ICMP 10.0.0.9 udp port 53 unreachable, length 36"},
		{eth4 + "45000038 0001 0000 4001 0000 0a000002 0a000001 0b00" + strings.Replace(unreac, "0301", "", 1), 0,
			"IP 10.0.0.2 > 10.0.0.1: ICMP time exceeded in-transit, length 36, quoting {10.0.0.1.1234 > 10.0.0.9.53: UDP, length 5}"},
		{eth4 + "45000020 0001 0000 4011 0000 0a000001 0a000002 04d2 0035 000c 0000 01020304", 0,
			"IP 10.0.0.1.1234 > 10.0.0.2.53: UDP, length 4"},
		{eth4 + "45000020 0001 0000 4011 0000 0a000001 0a000002 04d2 0035 00ff 0000 01020304", 0,
			"IP 10.0.0.1.1234 > 10.0.0.2.53: UDP, bad length 247 > 4"},
		{eth4 + "45000028 0001 0000 4006 0000 0a000001 0a000002 04d2 0050 00000001 00000002 5012 1000 0000 0000", 0,
			"IP 10.0.0.1.1234 > 10.0.0.2.80: Flags [S.], seq 1, ack 2, win 4096, length 0"},
		{eth4 + "4500001c 0001 0000 0102 0000 0a000001 e0000001 1164 0000 00000000", 0,
			"IP 10.0.0.1 > 224.0.0.1: igmp query v2"},
		{eth4 + "45000024 0001 0000 0102 0000 0a000001 e0000016 2200 0000 0000 0001 04000000 ef010101", 0,
			"IP 10.0.0.1 > 224.0.0.22: igmp v3 report, 1 group record(s) [gaddr 239.1.1.1 to_ex, 0 source(s)]"},
		{"ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002" + strings.Repeat("00", 18), 0,
			"ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 46"},
		{"020000000001 020000000002 0806 0001 0800 06 04 0002 020000000002 0a000002 020000000001 0a000001", 0,
			"ARP, Reply 10.0.0.2 is-at 02:00:00:00:00:02, length 28"},
		{"ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000001", 0,
			"ARP, Announcement 10.0.0.1, length 28"},
		{"020000000001 020000000002 86dd 60000000 0008 3a 40 20010db8000000000000000000000001 20010db8000000000000000000000002 8000 0000 0001 0002", 0,
			"IP6 2001:db8::1 > 2001:db8::2: ICMP6, echo request, id 1, seq 2, length 8"},
		{"020000000001 020000000002 88b5 0102", 0, "ethertype Unknown (0x88b5), length 2"},
		{"0200", 0, "[unknown link or version: type 1, octet 0x02], length 2"},
		{"", 60, "[empty], length 60"},
	} {
		w := Printer{NoTime: true}
		b := octets(t, tc.frame)
		p := &Packet{Link: linkEthernet, Data: b, OrigLen: max(tc.orig, len(b))}
		if got := w.Line(p); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.frame, got, tc.want)
		}
	}
}

func TestLineOptions(t *testing.T) {
	b := octets(t, eth4+"4500001c 0007 4000 4001 0000 0a000001 0a000002 0800 f7fc 0001 0002")
	p := &Packet{Time: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC), Interface: "en0", Link: linkEthernet, Data: b, OrigLen: len(b)}
	const echo = "10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 2, length 8"
	drop := *p
	drop.Link, drop.Data, drop.OrigLen, drop.Dropped = linkRaw, b[14:], len(b)-14, "bad header checksum"
	for _, tc := range []struct {
		w    Printer
		p    *Packet
		want string
	}{
		{Printer{}, p, "03:04:05.678901 IP " + echo},
		{Printer{NoTime: true, Interface: true}, p, "en0   In  IP " + echo},
		{Printer{NoTime: true, Interface: true}, &drop, "en0   Drp IP " + echo + " [dropped: bad header checksum]"},
		{Printer{NoTime: true, Ether: true}, p, "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 42: IP " + echo},
		{Printer{NoTime: true, Verbose: true}, p, "IP (tos 0x0, ttl 64, id 7, offset 0, flags [DF], proto ICMP (1), length 28, bad cksum 0)\n    " + echo},
		{Printer{NoTime: true, Hex: true}, p, "IP " + echo + "\n\t0x0000:  4500 001c 0007 4000 4001 0000 0a00 0001\n\t0x0010:  0a00 0002 0800 f7fc 0001 0002"},
		{Printer{NoTime: true, ASCII: true}, &Packet{Link: linkEthernet, OrigLen: 17, Data: octets(t, "020000000002 020000000001 88b5 414200")}, "ethertype Unknown (0x88b5), length 3\n\t0x0000:  4142 00                                  AB."},
	} {
		if got := tc.w.Line(tc.p); got != tc.want {
			t.Errorf("got\n%s\nwant\n%s", got, tc.want)
		}
	}
}

func TestFileRoundTrip(t *testing.T) {
	b := octets(t, eth4+ip1+"0800 0000 0001 0002")
	at := time.Unix(1700000000, 123456789).UTC()
	packets := []Packet{
		{Time: at, Interface: "en0", Link: linkEthernet, Data: b, OrigLen: 98},
		{Time: at.Add(1), Interface: "en0", Link: linkEthernet, Data: b[:33], OrigLen: 33, Out: true},
		{Time: at.Add(2), Interface: "en0", Link: linkRaw, Data: b[14:], OrigLen: 84, Dropped: "no route"},
		{Time: at.Add(3), Interface: "lo0", Link: linkRaw, Data: b[14:], OrigLen: 84},
	}
	var file bytes.Buffer
	w := NewWriter(&file, 65535)
	for i := range packets {
		before := file.Len()
		if err := w.Write(&packets[i]); err != nil {
			t.Fatal(err)
		}
		if file.Len() == before {
			t.Fatalf("packet %d was not flushed", i)
		}
	}
	r, err := NewReader(&file, "test")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range packets {
		got, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !got.Time.Equal(want.Time) || got.Interface != want.Interface || got.Out != want.Out || got.Dropped != want.Dropped ||
			got.Link != want.Link || got.OrigLen != want.OrigLen || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("packet %d: got %+v, want %+v", i, got, want)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func capture(t *testing.T, in []byte, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	ctx := &cli.Context{Stdin: bytes.NewReader(in), Stdout: &o, Stderr: &e, Env: func(string) string { return "" }}
	c := Command
	status = c.Exec(ctx, args)
	return status, o.String(), e.String()
}

func TestCommand(t *testing.T) {
	b := octets(t, eth4+ip1+"0800 0000 0001 0002")
	var file bytes.Buffer
	w := NewWriter(&file, 65535)
	w.Write(&Packet{Time: time.Unix(1, 0), Interface: "en0", Link: linkEthernet, Data: b, OrigLen: 98})
	w.Write(&Packet{Time: time.Unix(2, 5), Interface: "en0", Link: linkRaw, Data: b[14:], OrigLen: 84, Dropped: "no route"})
	const line = "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 2, length 64"
	for _, tc := range []struct {
		args   string
		status int
		out    string
		err    string
	}{
		{"-t -r -", 0, line + "\n" + line + " [dropped: no route]\n", ""},
		{"-c1 -tr - icmp", 0, line + "\n", ""},
		{"-tr - arp", 0, "", ""},
		{"-tr - host 10.0.0.2 and less 60", 0, line + "\n" + line + " [dropped: no route]\n", ""},
		{"-d arp", 0, "(000) ldh      [12]\n(001) jeq      #0x806           jt 2\tjf 3\n(002) ret      #262144\n(003) ret      #0\n", ""},
		{"-c0 -r -", 1, "", "-c 0: a number from 1"},
		{"-r - port", 1, "", "column 5"},
		{"-r - -i en0", 1, "", "only one"},
		{"-z", 1, "", "illegal option -- z"},
		{"-r /nonexistent/file", 1, "", "no such file"},
		{"--sock /nonexistent/prefix -i en0", 1, "", "/nonexistent/prefix"},
	} {
		status, out, errs := capture(t, file.Bytes(), strings.Fields(tc.args)...)
		if status != tc.status || out != tc.out || !strings.Contains(errs, tc.err) {
			t.Errorf("%s: status %d\n%s%s", tc.args, status, out, errs)
		}
	}
	status, out, _ := capture(t, file.Bytes(), "-r", "-", "--json", "-c1")
	var o object
	if err := json.Unmarshal([]byte(out), &o); err != nil || status != 0 {
		t.Fatal(err, out)
	}
	want := object{Time: "1970-01-01T00:00:01.000000000Z", Interface: "en0", Direction: "in", LinkType: 1, Length: 98, Captured: len(b), Summary: line, Data: hex.EncodeToString(b)}
	if o != want {
		t.Errorf("got %+v\nwant %+v", o, want)
	}
	if status, _, errs := capture(t, []byte("no capture at all"), "-r", "-"); status != 1 || !strings.Contains(errs, "neither pcap nor pcapng") {
		t.Errorf("status %d: %s", status, errs)
	}
	status, out, _ = capture(t, file.Bytes(), "-r", "-", "-w", "-", "arp")
	if r, err := NewReader(strings.NewReader(out), "out"); err != nil || status != 0 {
		t.Error(err)
	} else if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
}

func TestFollow(t *testing.T) {
	b := octets(t, eth4+ip1+"0800 0000 0001 0002")
	rec := protocol.CaptureRecord{Time: 1, IfName: "en0", LinkType: protocol.LinkTypeEthernet, OrigLen: 98, Data: b}
	var out, errs bytes.Buffer
	s := &session{ctx: &cli.Context{Stdout: &out, Stderr: &errs}, o: &options{count: 3, print: Printer{NoTime: true}}}
	if st := s.follow(context.Background(), func() ([]protocol.CaptureRecord, error) { return []protocol.CaptureRecord{rec, rec}, nil }); st != 0 || s.n != 3 || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("status %d, %d packets\n%s", st, s.n, &out)
	}
	if st := s.follow(context.Background(), func() ([]protocol.CaptureRecord, error) { return nil, errors.New("gone") }); st != 1 {
		t.Errorf("status %d", st)
	}
	c, cancel := context.WithCancel(context.Background())
	if st := s.follow(c, func() ([]protocol.CaptureRecord, error) { cancel(); return nil, errors.New("closed") }); st != 0 {
		t.Errorf("interrupted: status %d", st)
	}
}

// Any octets, on any link, decode to a line.
func FuzzLine(f *testing.F) {
	f.Add(uint16(1), 98, octets(f, eth4+ip1+"0800 0000 0001 0002"))
	f.Add(uint16(1), 98, octets(f, eth4+"45000038 0001 0000 4001 0000 0a000002 0a000001"+unreac))
	f.Add(uint16(101), 0, octets(f, "4f000000 0000 0000 4011 0000 0a000002 0a000001"))
	f.Add(uint16(101), 60, octets(f, "60000000 0008 00 40 20010db8000000000000000000000001 20010db8000000000000000000000002 2c00 0000 0001 0002 0200 0001 00000001 1164000000000000"))
	for _, c := range neighbourhood {
		f.Add(uint16(1), 0, frame6(f, c.src, c.dst, c.first, c.ext, c.body))
	}
	for _, tc := range dialogue[:6] {
		f.Add(uint16(1), 0, tc.frame(f))
	}
	if dir := os.Getenv("IONET_CAPTURES"); dir != "" {
		files, _ := filepath.Glob(filepath.Join(dir, "*.pcap*"))
		for _, name := range files {
			file, err := os.Open(name)
			if err != nil {
				continue
			}
			if r, err := NewReader(file, name); err == nil {
				for range 3 {
					if p, err := r.Next(); err == nil {
						f.Add(p.Link, p.OrigLen, p.Data)
					}
				}
			}
			file.Close()
		}
	}
	f.Fuzz(func(t *testing.T, link uint16, orig int, b []byte) {
		p := &Packet{Link: link, OrigLen: max(orig, len(b)), Data: b, Dropped: "x"}
		for _, w := range []Printer{{}, {Quiet: true, Ether: true, Hex: true}, {Verbose: true, ASCII: true, Ether: true}} {
			if w.Line(p) == "" {
				t.Fatal("no line")
			}
		}
		p.Frame()
	})
}

// Any file is read to its end or refused.
func FuzzReader(f *testing.F) {
	var file bytes.Buffer
	w := NewWriter(&file, 65535)
	w.Write(&Packet{Time: time.Unix(1, 0), Interface: "en0", Link: linkEthernet, Data: make([]byte, 60), OrigLen: 60, Dropped: "x"})
	f.Add(file.Bytes())
	f.Add(octets(f, "d4c3b2a1 02000400 00000000 00000000 ffff0000 01000000 00000000 00000000 02000000 02000000 0102"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b), "fuzz")
		if err != nil {
			return
		}
		for range 100 {
			p, err := r.Next()
			if err != nil {
				return
			}
			if p.OrigLen < len(p.Data) {
				t.Fatal("longer than it was")
			}
		}
	})
}
