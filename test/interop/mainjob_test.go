package interop

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ionet/test/play"
)

// io-net -i1 -ptcpip prefix=/alt
// SOCK=/alt ifconfig -a
func TestMainJobSecondStack(t *testing.T) {
	u := play.NewUser(t)
	alt := filepath.Join(u.Dir, "alt")
	u.Ionet(alt, "-i1", "-ptcpip", "prefix="+alt)
	out := u.At(alt).Must("ifconfig", "-a")
	want := "lo0: flags=8009<UP,LOOPBACK,MULTICAST> mtu 33228\n\tinet 127.0.0.1 netmask 0xff000000\n" +
		"\tinet6 ::1 prefixlen 128\n\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x1\n"
	if out != want {
		t.Errorf("ifconfig -a:\n%swant\n%s", out, want)
	}
	if !play.Exists(filepath.Join(alt, "dev/io-net1")) {
		t.Error("-i1 made no dev/io-net1")
	}
}

// io-net -dne2000 -ptcpip ipsec,forward
// ifconfig en0 10.163
// route add default 10.25
func TestMainJobGateway(t *testing.T) {
	u := play.NewUser(t)
	prefix := filepath.Join(u.Dir, "ionet")
	r := u.Ionet(prefix, "-dne2000", "-ptcpip", "ipsec,forward")
	play.WantLines(t, "standard error of io-net", r.Err, "en0: ne2000 simulated on segment 0")
	u.Must("ifconfig", "en0", "10.163")
	if got, want := u.Must("route", "add", "default", "10.25"), "add net default: gateway 10.25\n"; got != want {
		t.Errorf("route add: %q, want %q", got, want)
	}
	out := u.Must("ifconfig", "en0")
	play.WantLines(t, "ifconfig en0", out,
		"en0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> mtu 1500\n\taddress: ",
		"\tinet 10.0.0.163 netmask 0xff000000 broadcast 10.255.255.255\n")
	out = u.Must("netstat", "-rn")
	for _, re := range []string{
		`(?m)^default +10\.0\.0\.25 +UGS +0 +0 +- +en0$`,
		`(?m)^10 +link#2 +UC +\d+ +0 +- +en0$`,
		`(?m)^127\.0\.0\.1 +127\.0\.0\.1 +UH `,
	} {
		if !regexp.MustCompile(re).MatchString(out) {
			t.Errorf("netstat -rn lacks %s:\n%s", re, out)
		}
	}
	if got, want := u.Must("sysctl", "net.inet.ip.forwarding"), "net.inet.ip.forwarding = 1\n"; got != want {
		t.Errorf("forward: %q, want %q", got, want)
	}
	if r := u.Try("route", "add", "default", "10.25"); r.Status == 0 || !strings.Contains(r.Out+r.Err, "File exists") {
		t.Errorf("a second default route: status %d, %q", r.Status, r.Out+r.Err)
	}
}

// io-net -ptcpip forward,fastforward=0
// ifconfig en0 10.0.0.1 ; netstat -rn ; sysctl -w net.inet.ip.forwarding=1
func TestMainJobSlowForwarding(t *testing.T) {
	u := play.NewUser(t)
	prefix := filepath.Join(u.Dir, "ionet")
	u.Ionet(prefix, "-ptcpip", "forward,fastforward=0")
	// No driver was given, so there is no en0: the command says so and fails.
	r := u.Try("ifconfig", "en0", "10.0.0.1")
	if r.Status != 1 || !strings.Contains(r.Err, "ifconfig: SIOCGIFFLAGS en0: Device not configured") {
		t.Errorf("ifconfig of a missing interface: status %d, %q", r.Status, r.Err)
	}
	u.Must("mount", "-T", "io-net", "-o", "lan=0", "devn-ne2000.so")
	u.Must("ifconfig", "en0", "10.0.0.1")
	play.WantLines(t, "netstat -rn", u.Must("netstat", "-rn"), "Routing tables\n\nInternet:\n",
		"Destination        Gateway            Flags     Refs     Use    Mtu  Interface\n")
	if got, want := u.Must("sysctl", "-w", "net.inet.ip.forwarding=1"), "net.inet.ip.forwarding: 1 -> 1\n"; got != want {
		t.Errorf("sysctl -w: %q, want %q", got, want)
	}
}

// Options of the protocol act on the node that they name, and a module that cannot be loaded says so.
func TestProtocolOptionsAct(t *testing.T) {
	u := play.NewUser(t)
	prefix := filepath.Join(u.Dir, "ionet")
	if r := u.Ionet(prefix, "-ptcpip", "forward,fastforward=0,strict_rfc"); strings.Contains(r.Err, "no effect") {
		t.Errorf("io-net says %q", r.Err)
	}
	for node, want := range map[string]string{"net.inet.ip.maxflows": "0", "net.inet6.ip6.maxflows": "0", "net.inet.ip.forwarding": "1", "net.inet.tcp.strict_rfc": "1"} {
		if got := u.Must("sysctl", "-n", node); got != want+"\n" {
			t.Errorf("%s is %q, want %s", node, got, want)
		}
	}
	play.WantLines(t, "netstat -s", u.Must("netstat", "-s", "-p", "ip"), "\t0 packets forwarded (0 packets fast forwarded)\n")
	u.Must("mount", "-Ttcpip", "lsm-ipfilter.so")
	if r := u.Try("mount", "-Ttcpip", "lsm-ipfilter.so"); r.Status != 1 || !strings.Contains(r.Err, "the packet filter is loaded already") {
		t.Errorf("mount: status %d, %q", r.Status, r.Err)
	}
	u.Must("umount", "/dev/io-net/ipfilter0")
}

func TestFourStacksOnOneWire(t *testing.T) {
	u := play.NewUser(t)
	wire := filepath.Join(u.Dir, "w")
	var socks []string
	for _, n := range []string{"1", "2", "3", "4"} {
		p := filepath.Join(u.Dir, "s"+n)
		u.Ionet(p, "-d", "wire", "path="+wire, "-p", "tcpip", "prefix="+p)
		u.At(p).Must("ifconfig", "en0", "10.0.0."+n)
		socks = append(socks, p)
	}
	for i, p := range socks {
		for j, n := range []string{"1", "2", "3", "4"} {
			if i == j {
				continue
			}
			out := u.At(p).Must("ping", "-n", "-c", "2", "-i", "0.1", "10.0.0."+n)
			play.WantLines(t, "ping", out, "PING 10.0.0."+n+" (10.0.0."+n+"): 56 data bytes\n",
				"----10.0.0."+n+" PING Statistics----\n2 packets transmitted, 2 packets received, 0.0% packet loss\n")
		}
	}
	// One leaves: the others notice at once, and miss nobody else.
	u.At(socks[3]).Must("io-net", "--stop")
	if r := u.At(socks[0]).Try("ping", "-c", "1", "-w", "1", "10.0.0.4"); r.Status != 2 {
		t.Errorf("ping of a stack that has gone: status %d\n%s%s", r.Status, r.Out, r.Err)
	}
	u.At(socks[0]).Must("ping", "-c", "1", "10.0.0.3")
	play.WantLines(t, "ionet ps", u.Must("ionet", "ps"), socks[0], socks[1], socks[2], "10.0.0.2")
}
