package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/net/bpf"
)

// Frames of the test, by what they are.
var frames = map[string][]byte{
	"udp":    ip4(17, 0, "10.0.0.1", "10.0.0.2", []byte{0x04, 0xd2, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4}),
	"udpopt": ip4opt(17, "10.0.0.2", "10.1.0.1", []byte{0, 53, 0x04, 0xd2, 0, 8, 0, 0}),
	"frag":   ip4(17, 100, "10.0.0.1", "10.0.0.2", []byte{0x04, 0xd2, 0, 53, 0, 12, 0, 0}),
	"echo":   ip4(1, 0, "192.168.1.5", "224.0.0.1", []byte{8, 0, 0, 0, 0, 1, 0, 2}),
	"syn":    ip4(6, 0, "10.0.0.1", "10.0.0.9", append([]byte{0x04, 0xd2, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2}, make([]byte, 6)...)),
	// 443 > 40000 [P.] with a time stamp option and the octets of "GET "; 40000 > 443 [R.] over IPv6.
	"get": ip4(6, 0, "172.16.0.1", "172.16.0.2", append([]byte{1, 187, 0x9c, 0x40, 0, 0, 0, 9, 0, 0, 0, 7, 0x80, 0x18, 1, 0, 0, 0, 0, 0,
		1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, "GET "...)),
	"rst6":  ip6(6, "2001:db9::1", "2001:db9::2", []byte{0x9c, 0x40, 1, 187, 0, 0, 0, 7, 0, 0, 0, 13, 0x50, 0x14, 0, 0, 0, 0, 0, 0}),
	"arp":   ether(0x0806, append([]byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2}, make([]byte, 18)...)),
	"udp6":  ip6(17, "2001:db8::1", "ff02::1", []byte{0x04, 0xd2, 0, 53, 0, 8, 0, 0}),
	"echo6": ip6(58, "2001:db8::1", "2001:db8::2", []byte{128, 0, 0, 0, 0, 1, 0, 1}),
	"frag6": ip6(44, "2001:db8::1", "2001:db8::2", []byte{17, 0, 0, 1, 0, 0, 0, 1, 0x04, 0xd2, 0, 53, 0, 8, 0, 0}),
}

func ether(typ uint16, p []byte) []byte {
	dst := []byte{2, 0, 0, 0, 0, 2}
	if typ == 0x0806 {
		dst = bytes.Repeat([]byte{0xff}, 6)
	}
	b := append(dst, 2, 0, 0, 0, 0, 1)
	return append(binary.BigEndian.AppendUint16(b, typ), p...)
}

func ip4(proto byte, off uint16, src, dst string, p []byte) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 7, 0, 0, 64, proto, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(p)))
	binary.BigEndian.PutUint16(b[6:], off)
	b = append(b, netip.MustParseAddr(src).AsSlice()...)
	b = append(b, netip.MustParseAddr(dst).AsSlice()...)
	return ether(0x0800, append(b, p...))
}

func ip4opt(proto byte, src, dst string, p []byte) []byte {
	f := ip4(proto, 0, src, dst, append([]byte{1, 1, 1, 0}, p...))
	f[14] = 0x46
	return f
}

func ip6(next byte, src, dst string, p []byte) []byte {
	b := []byte{0x60, 0, 0, 0, 0, byte(len(p)), next, 64}
	b = append(b, netip.MustParseAddr(src).AsSlice()...)
	b = append(b, netip.MustParseAddr(dst).AsSlice()...)
	return ether(0x86dd, append(b, p...))
}

func machine(t testing.TB, prog []bpf.RawInstruction) *bpf.VM {
	t.Helper()
	ins, ok := bpf.Disassemble(prog)
	if !ok {
		t.Fatalf("program of unknown instructions:\n%s", Print(prog))
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// table are expressions and the frames they accept.
var table = []struct{ expr, want string }{
	{"ip", "echo frag syn udp udpopt get"},
	{"arp", "arp"},
	{"ip6", "echo6 frag6 udp6 rst6"},
	{"udp", "frag frag6 udp udp6 udpopt"},
	{"icmp", "echo"},
	{"icmp6", "echo6"},
	{"ip6 host 2001:db8::2", "echo6 frag6"},
	{"ip6 src 2001:db9::1", "rst6"},
	{"net 2001:db8::/64 and icmp6", "echo6"},
	{"src net 2001:db9::/64", "rst6"},
	{"icmp6[icmp6type] = icmp6-multicastlistenerreportv2", ""},
	{"tcp or arp", "arp syn get rst6"},
	{"not ip && !ip6", "arp"},
	{"host 10.0.0.1", "arp frag syn udp"},
	{"src host 10.0.0.2", "udpopt"},
	{"dst 10.0.0.2", "arp frag udp"},
	{"src and dst host 10.0.0.1", ""},
	{"src or dst 10.0.0.9", "syn"},
	{"ip host 10.0.0.1", "frag syn udp"},
	{"arp host 10.0.0.1", "arp"},
	{"udp host 10.0.0.1", "frag udp"},
	{"host 10.0.0.9 or 192.168.1.5", "echo syn"},
	{"host (10.0.0.9 or 192.168.1.5)", "echo syn"},
	{"net 10", "arp frag syn udp udpopt"},
	{"net 10.1", "udpopt"},
	{"net 10.0.0.0/30", "arp frag udp udpopt syn"},
	{"dst net 10.0.0.0/30", "arp frag udp"},
	{"net 192.168.0.0 mask 255.255.0.0", "echo"},
	{"net 2001:db8::/32", "echo6 frag6 udp6"},
	{"dst net ff00::/8", "udp6"},
	{"host 2001:db8::2", "echo6 frag6"},
	{"port 53", "udp udp6 udpopt"},
	{"udp dst port domain", "udp udp6"},
	{"src port 53", "udpopt"},
	{"tcp port 53", ""},
	{"ip6 port 1234", "udp6"},
	{"portrange 50-60", "udp udp6 udpopt"},
	{"portrange 60-90", "syn"},
	{"port 80 or 53", "syn udp udp6 udpopt"},
	{"ip proto 1", "echo"},
	{"ip proto \\icmp", "echo"},
	{"proto 17", "frag frag6 udp udp6 udpopt"},
	{"ip6 proto 58", "echo6"},
	{"ether proto 0x806", "arp"},
	{"ether proto \\arp", "arp"},
	{"ether broadcast", "arp"},
	{"broadcast", "arp"},
	{"multicast", "arp"},
	{"ip multicast", "echo"},
	{"ip6 multicast", "udp6"},
	{"ether src 2:0:0:0:0:1", "arp echo echo6 frag frag6 syn udp udp6 udpopt get rst6"},
	{"ether dst 02:00:00:00:00:02 and arp", ""},
	{"ether host ff:ff:ff:ff:ff:ff", "arp"},
	{"greater 60", "arp echo6 frag6 udp6 get rst6"},
	{"less 42", "echo frag"},
	{"len = 54", "syn"},
	{"len - 14 >= 48", "echo6 frag6 udp6 get rst6"},
	{"tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn", "syn"},
	{"tcp[13] & 2 != 0", "syn"},
	{"tcp[tcpflags] == tcp-syn", "syn"},
	{"tcp[tcpflags] & (tcp-push|tcp-fin) != 0", "get"},
	{"tcp[tcpflags] & tcp-rst != 0", ""}, // IPv4 only, as tcpdump's
	{"ip6 and tcp and ip6[40+13] & tcp-rst != 0", "rst6"},
	{"tcp[(tcp[12] >> 4) * 4:4] = 0x47455420", "get"}, // GET, behind the options
	{"ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 0", "get"},
	{"tcp[4:4] = 9 and tcp[8:4] = 7", "get"},
	{"tcp port 443", "get rst6"},
	{"tcp src port https", "get"},
	{"tcp dst port 443", "rst6"},
	{"tcp portrange 400-500 and ip", "get"},
	{"tcp port 443 or tcp port 80", "get rst6 syn"},
	{"udp port 443", ""},
	{"ip6 and tcp", "rst6"},
	{"icmp[icmptype] = icmp-echo", "echo"},
	{"icmp6[icmp6type] == icmp6-echo", "echo6"},
	{"udp[2:2] = 53", "udp"},
	{"udp[0:2] < udp[2:2]", "udpopt"},
	{"ip[0] & 0xf != 5", "udpopt"},
	{"(ip[0] & 0xf) * 4 > 20", "udpopt"},
	{"ip[6:2] & 0x1fff != 0", "frag"},
	{"ip[2:2] - ((ip[0]&0xf)<<2) - 8 > 3 and udp", "udp"},
	{"ether[0] & 1 = 1", "arp"},
	{"udp[len % 2] = 4", "udp"},
	{"1 = 1 and arp", "arp"},
	{"-1 = 0xffffffff and arp", "arp"},
	{"not (tcp[0:2] = 1234) and tcp", "get rst6"},
	{"arp or tcp and host 10.0.0.9", "syn"}, // from the left
	{"arp or (tcp and host 10.0.0.9)", "arp syn"},
	{"not not arp", "arp"},
}

func TestCompile(t *testing.T) {
	for _, tc := range table {
		prog, err := Compile(tc.expr, Options{})
		if err != nil {
			t.Errorf("%s: %v", tc.expr, err)
			continue
		}
		vm := machine(t, prog)
		want := strings.Fields(tc.want)
		for name, f := range frames {
			n, err := vm.Run(f)
			if err != nil {
				t.Fatal(err)
			}
			in := false
			for _, w := range want {
				in = in || w == name
			}
			if n > 0 != in {
				t.Errorf("%s on %s: accepted %v, want %v\n%s", tc.expr, name, n > 0, in, Print(prog))
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		expr string
		col  int
		text string
	}{
		{"host", 5, "the end where a host would be right"},
		{"udp port foo", 10, `"foo" is no port`},
		{"udp port 65536", 10, "no port"},
		{"port 53 port 54", 9, `"and", "or" or the end`},
		{"(arp", 5, `")"`},
		{"arp and", 8, "unexpected the end"},
		{"10.0.0.1", 1, `"host 10.0.0.1"`},
		{"net 10.1.0.0/8", 5, "10.0.0.0 would be the network"},
		{"net 10.0.0.0/33", 14, "prefix length"},
		{"host 10.0.0.256", 6, "not an address"},
		{"host 2:0:0:0:0:1", 6, "ether host"},
		{"icmp port 3", 11, "has no ports"},
		{"ip broadcast", 4, "netmask"},
		{"vlan 3", 1, "not supported"},
		{"tcp[0:3] = 1", 7, "size 3"},
		{"tcp[0] 1", 8, "comparison"},
		{"tcp[0", 6, `"]"`},
		{"ip[0]/0 = 1", 6, "division by zero"},
		{"arp $ 1", 5, "unexpected character"},
		{"ether proto 80", 13, "length"},
		{"host nosuch", 6, "not known"},
		{"tcp src", 8, "host would be right"},
		{strings.Repeat("(", 100) + "arp", 33, "nested deeper"},
	} {
		_, err := Compile(tc.expr, Options{})
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", tc.expr, err)
			continue
		}
		if e.Column != tc.col || !strings.Contains(e.Text, tc.text) {
			t.Errorf("%s: column %d: %s; want column %d: %s", tc.expr, e.Column, e.Text, tc.col, tc.text)
		}
	}
}

// The scope of an address, which tcpdump refuses, is not in the packet.
func TestScope(t *testing.T) {
	prog, err := Compile("host ff02::1%en0 and udp", Options{})
	if err != nil {
		t.Fatal(err)
	}
	vm := machine(t, prog)
	for name, want := range map[string]bool{"udp6": true, "echo6": false} {
		if n, _ := vm.Run(frames[name]); n > 0 != want {
			t.Errorf("%s: %v", name, n > 0)
		}
	}
}

func TestLookup(t *testing.T) {
	o := Options{Lookup: func(n string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("2001:db8::2")}, nil
	}}
	prog, err := Compile("host my-host.example", o)
	if err != nil {
		t.Fatal(err)
	}
	vm := machine(t, prog)
	for name, want := range map[string]bool{"syn": true, "echo6": true, "udp": false, "udp6": false} {
		if n, _ := vm.Run(frames[name]); n > 0 != want {
			t.Errorf("%s: %v", name, n > 0)
		}
	}
}

// A long expression needs jumps longer than a conditional one reaches.
func TestLongJumps(t *testing.T) {
	var b strings.Builder
	for i := range 150 {
		if i > 0 {
			b.WriteString(" or ")
		}
		b.WriteString("less 3")
	}
	b.WriteString(" or arp")
	prog, err := Compile(b.String(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	vm := machine(t, prog)
	if n, _ := vm.Run(frames["arp"]); n == 0 {
		t.Error("arp not accepted")
	}
	if n, _ := vm.Run(frames["udp"]); n != 0 {
		t.Error("udp accepted")
	}
	prog, err = Compile("not ("+b.String()+") or arp", Options{})
	if err == nil {
		if n, _ := machine(t, prog).Run(frames["udp"]); n == 0 {
			t.Error("negated: udp not accepted")
		}
	}
}

func TestPrint(t *testing.T) {
	prog, err := Compile("udp[0:2] = 53", Options{SnapLen: 96})
	if err != nil {
		t.Fatal(err)
	}
	const want = `(000) ldh      [12]
(001) jeq      #0x800           jt 2	jf 10
(002) ldb      [23]
(003) jeq      #0x11            jt 4	jf 10
(004) ldh      [20]
(005) jset     #0x1fff          jt 10	jf 6
(006) ldx      4*([14]&0xf)
(007) ldh      [x + 14]
(008) jeq      #0x35            jt 9	jf 10
(009) ret      #96
(010) ret      #0
`
	if got := Print(prog); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// tcpdump, where it is installed, judges the same frames.
func TestAgainstTcpdump(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Logf("tcpdump is not installed: our programs were NOT compared with its own (apt-get install tcpdump)")
		return
	}
	var data [][]byte
	for _, f := range frames {
		data = append(data, f)
	}
	// More frames, where the collection is at hand.
	if dir := os.Getenv("IONET_CAPTURES"); dir != "" {
		files, _ := filepath.Glob(filepath.Join(dir, "*.pcap"))
		for _, name := range files {
			data = append(data, readEthernet(name, 40)...)
		}
	}
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	w.WriteFileHeader(262144, layers.LinkTypeEthernet)
	for _, f := range data {
		if err := w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(f), Length: len(f)}, f); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d frames, %d expressions", len(data), len(table))
	ours := map[string]bool{"udp host 10.0.0.1": true, "ip6 port 1234": true, "-1 = 0xffffffff and arp": true} // tcpdump has no such
	for _, tc := range table {
		if ours[tc.expr] {
			continue
		}
		prog, err := Compile(tc.expr, Options{})
		if err != nil {
			t.Errorf("%s: %v", tc.expr, err)
			continue
		}
		cmd := exec.Command(tcpdump, "-r", "-", "-w", "-", tc.expr)
		cmd.Stdin = bytes.NewReader(file.Bytes())
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("tcpdump refuses %q: %v", tc.expr, err)
			continue
		}
		r, err := pcapgo.NewReader(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		vm := machine(t, prog)
		theirs, _, more := r.ReadPacketData()
		for i, f := range data {
			n, _ := vm.Run(f)
			match := more == nil && bytes.Equal(theirs, f)
			if n > 0 != match {
				t.Errorf("%s on frame %d (%x): we say %v, tcpdump %v", tc.expr, i, f[:min(len(f), 80)], n > 0, match)
				break
			}
			if match {
				theirs, _, more = r.ReadPacketData()
			}
		}
	}
}

func readEthernet(name string, limit int) (out [][]byte) {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil || r.LinkType() != layers.LinkTypeEthernet {
		return nil
	}
	for len(out) < limit {
		b, _, err := r.ReadPacketData()
		if err != nil {
			break
		}
		out = append(out, b)
	}
	return out
}

// Any text compiles to a program that the machine takes, or is refused.
func FuzzCompile(f *testing.F) {
	for _, tc := range table {
		f.Add(tc.expr)
	}
	f.Add("ip[ip[0]+ip[1]*2:4] >= tcp[len-1]")
	f.Add("((((1+2)*3)-len)%7) != 0 or port 1-2")
	f.Fuzz(func(t *testing.T, s string) {
		prog, err := Compile(s, Options{})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Column < 1 || e.Column > len(s)+1 {
				t.Fatalf("%q: error %v", s, err)
			}
			return
		}
		if len(prog) == 0 {
			return
		}
		vm := machine(t, prog)
		Print(prog)
		for _, fr := range frames {
			if _, err := vm.Run(fr); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
		}
	})
}
