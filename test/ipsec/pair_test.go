package ipsec

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"ionet/test/need"
	"ionet/test/play"
	"ionet/test/scapy"
	"ionet/test/vm"
)

// link is a bridge in a namespace.
type link struct {
	ns   *need.NS
	root *play.User // inside
}

func newLink(t *testing.T) *link {
	t.Helper()
	need.File(t, "/dev/net/tun")
	l := &link{ns: need.Namespace(t)}
	l.root = play.NewRoot(t, l.ns)
	l.ns.Exec("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	l.ns.Exec("ip", "link", "set", "br0", "up")
	return l
}

// join puts an interface into the bridge.
func (l *link) join(name string) {
	l.root.T.Helper()
	l.ns.Exec("ip", "link", "set", name, "master", "br0", "up")
}

// catch has tcpdump write down what passes an interface while f runs, and answers the IP packets.
func (l *link) catch(name string, f func()) (packets [][]byte) {
	l.root.T.Helper()
	for _, frame := range l.frames(name, 65535, f) {
		if p := packetOf(frame); p != nil {
			packets = append(packets, p)
		}
	}
	return packets
}

// frames is catch for frames, each to n octets.
func (l *link) frames(name string, n int, f func()) (frames [][]byte) {
	t := l.root.T
	t.Helper()
	file := filepath.Join(l.root.Dir, "caught")
	j := l.root.Serves("listening on "+name, need.Command(t, "tcpdump", "tcpdump"), "-i", name, "-n", "-U", "--immediate-mode", "-Z", "root",
		"-B", "16384", "-s", fmt.Sprint(n), "-w", file)
	f()
	_ = j.Cmd.Process.Signal(os.Interrupt)
	j.Wait()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := pcapgo.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	for {
		frame, _, err := r.ReadPacketData()
		if err != nil {
			return frames
		}
		frames = append(frames, frame)
	}
}

// between leaves the packets from and to two addresses.
func between(packets [][]byte, e ends) (some [][]byte) {
	for _, p := range packets {
		if d := destination(p); d == e.a || d == e.b {
			some = append(some, p)
		}
	}
	return some
}

// pings has a machine ping an address, and answers the average round trip.
func pings(k *vm.Kernel, to netip.Addr, more ...string) string {
	k.T.Helper()
	args := append([]string{"-n", "-c", "3", "-i", "0.1", "-W", "10"}, more...)
	r := k.Run("ping", append(args, to.String())...)
	m := regexp.MustCompile(` 0% packet loss(?s:.*)rtt min/avg/max/mdev = [0-9.]+/([0-9.]+)/`).FindStringSubmatch(r.Out)
	if r.Status != 0 || m == nil {
		k.T.Fatalf("ping %s %q: status %d\n%s%s", to, more, r.Status, r.Out, r.Err)
	}
	return m[1]
}

// carries is what iperf3 says of two seconds of TCP to an address.
func carries(k *vm.Kernel, to netip.Addr) string {
	k.T.Helper()
	out := k.Must("iperf3", "-c", to.String(), "-t", "2", "-f", "m")
	m := regexp.MustCompile(`([0-9.]+ Mbits/sec)\s+receiver`).FindStringSubmatch(out)
	if m == nil {
		k.T.Fatalf("iperf3:\n%s", out)
	}
	return m[1]
}

// Two kernels speak ESP and AH; what passes between them is that and nothing else, and scapy can read it.
func TestTwoKernels(t *testing.T) {
	y := scapy.New(t)
	l := newLink(t)
	a, b := vm.Boot(t, vm.TAP(l.ns, "vm0")), vm.Boot(t, vm.TAP(l.ns, "vm1"))
	a.Ready()
	b.Ready()
	t.Logf("up after %.1f s and %.1f s of %.1f s and %.1f s of processor", a.Up.Seconds(), b.Up.Seconds(), a.Processor().Seconds(), b.Processor().Seconds())
	l.join("vm0")
	l.join("vm1")
	for i, k := range []*vm.Kernel{a, b} {
		k.Load(vm.IPsec()...)
		k.IP("link set eth0 up")
		for _, e := range families {
			own := []netip.Addr{e.a, e.b}[i]
			k.IP("addr add " + own.String() + map[bool]string{true: "/64", false: "/24"}[own.Is6()] + " dev eth0")
		}
	}
	e4 := families["IPv4"]
	t.Logf("ping in clear: %s ms", pings(a, e4.b))
	server := b.Begin("iperf3", "-s", "--forceflush")
	server.Says("Server listening")
	t.Logf("TCP in clear: %s", carries(a, e4.b))

	gcm := suite{proto: "esp", enc: vm.NewAlg("aes-gcm-16", 20, 1)}
	for _, tc := range []struct {
		name   string
		family string
		mode   string
		suite
	}{
		{"ESP, transport, IPv4", "IPv4", "transport", gcm},
		{"ESP, tunnel, IPv6", "IPv6", "tunnel", suite{proto: "esp", enc: vm.NewAlg("aes-cbc", 32, 2), auth: vm.NewAlg("hmac-sha2-256", 32, 3)}},
		{"AH, transport, IPv6", "IPv6", "transport", suite{proto: "ah", auth: vm.NewAlg("hmac-sha1", 20, 4)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := families[tc.family]
			there, back := tc.sa(e.a, e.b, tc.mode, 0x1001), tc.sa(e.b, e.a, tc.mode, 0x1002)
			na, nb := netip.PrefixFrom(e.a, e.a.BitLen()), netip.PrefixFrom(e.b, e.b.BitLen())
			a.Protect(there, back, na, nb)
			b.Protect(back, there, nb, na)
			defer a.XfrmFlush()
			defer b.XfrmFlush()
			var took string
			caught := between(l.catch("vm1", func() { took = pings(a, e.b, "-s", "1000") }), e)
			t.Logf("ping: %s ms", took)
			if len(caught) < 6 {
				t.Fatalf("%d packets were caught, want 6", len(caught))
			}
			answered := 0
			for _, p := range caught {
				sa := there
				if destination(p) == e.a {
					sa = back
				}
				want := map[string]byte{"esp": 50, "ah": 51}[tc.proto]
				if proto, _ := upper(p); proto != want {
					t.Errorf("a packet of protocol %d passes: % x", proto, p)
					continue
				}
				in, err := y.Open(sa, 0, p)
				if err != nil {
					t.Errorf("scapy does not open: %v\n% x", err, p)
					continue
				}
				if _, m := upper(in); len(m) == 1008 && (m[0] == 0 || m[0] == 129) {
					answered++
				}
			}
			if answered != 3 {
				t.Errorf("scapy finds %d answers, want 3", answered)
			}
		})
	}
	na, nb := netip.PrefixFrom(e4.a, 32), netip.PrefixFrom(e4.b, 32)
	there, back := gcm.sa(e4.a, e4.b, "transport", 0x2001), gcm.sa(e4.b, e4.a, "transport", 0x2002)
	a.Protect(there, back, na, nb)
	b.Protect(back, there, nb, na)
	t.Logf("TCP in ESP of AES-128-GCM: %s", carries(a, e4.b))
	start := time.Now()
	server.Stop()
	a.Stop()
	b.Stop()
	t.Logf("the ends take %v", time.Since(start))
}
