package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

// through is what two hops look like.
func through(first, second string) *regexp.Regexp {
	ms := `( +[0-9.]+ ms){3}`
	return regexp.MustCompile(`(?m)^ 1  ` + regexp.QuoteMeta(first) + ms + `\n 2  ` + regexp.QuoteMeta(second) + ms + `$`)
}

// TestTracerouteThroughAStack: three stacks in a row, of which the one in the
// middle forwards.
func TestTracerouteThroughAStack(t *testing.T) {
	u := play.NewUser(t)
	at := func(name string, wires ...string) *play.User {
		p := filepath.Join(u.Dir, name)
		var args []string
		for _, w := range wires {
			args = append(args, "-d", "wire", "path="+filepath.Join(u.Dir, w))
		}
		u.Ionet(p, append(args, "-p", "tcpip", "prefix="+p)...)
		return u.At(p)
	}
	a, r, b := at("a", "w1"), at("r", "w1", "w2"), at("b", "w2")
	a.Must("ifconfig", "en0", "10.1.0.2/24")
	r.Must("ifconfig", "en0", "10.1.0.1/24")
	r.Must("ifconfig", "en1", "10.2.0.1/24")
	b.Must("ifconfig", "en0", "10.2.0.2/24")
	a.Must("route", "add", "default", "10.1.0.1")
	b.Must("route", "add", "default", "10.2.0.1")
	r.Must("sysctl", "-w", "net.inet.ip.forwarding=1")

	for _, how := range []string{"-n", "-nI", "-nF", "-nx"} {
		got := a.Try("traceroute", how, "10.2.0.2")
		if got.Status != 0 || !through("10.1.0.1", "10.2.0.2").MatchString(got.Out) {
			t.Errorf("traceroute %s: status %d\n%s%s", how, got.Status, got.Out, got.Err)
		}
		play.WantLines(t, "the header", got.Err, "traceroute to 10.2.0.2 (10.2.0.2), 30 hops max, 40 byte packets\n")
	}
	// A net that the router has no route to.
	play.WantLines(t, "to nowhere", a.Must("traceroute", "-n", "-q", "1", "10.9.0.1"), " ms !")
	// A narrow link behind the router is found.
	r.Must("ifconfig", "en1", "mtu", "1300")
	got := a.Must("traceroute", "-n", "-P", "-q", "1", "10.2.0.2")
	play.WantLines(t, "traceroute -P", got, "message too big, trying new MTU = 1300\n 2  10.2.0.2 ")
	// By a source route the long way round, if those in the middle allow it.
	b.Must("sysctl", "-w", "net.inet.ip.forwarding=1")
	for _, x := range []*play.User{r, b} {
		x.Must("sysctl", "-w", "net.inet.ip.forwsrcrt=1")
		x.Must("sysctl", "-w", "net.inet.ip.allowsrcrt=1")
	}
	got = a.Must("traceroute", "-n", "-q", "1", "-g", "10.1.0.1", "10.2.0.2")
	play.WantLines(t, "traceroute -g", got, " 1  10.1.0.1 ", " 2  10.2.0.2 ")
	// JSON says the same.
	play.WantLines(t, "--json", a.Must("traceroute", "--json", "-n", "10.2.0.2"), `"reached": true`, `"from": "10.1.0.1"`, `"ttl": 2`)
	// Nobody else may.
	if os.Geteuid() == 0 {
		other := *a
		other.Wrap = []string{need.Command(t, "setpriv", "util-linux"), "--reuid=65533", "--regid=65533", "--clear-groups", "--"}
		if err := os.Chmod(u.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if got := other.Try("traceroute", "10.2.0.2"); got.Status != 1 || got.Err != "traceroute: icmp socket: only the superuser of the stack may make one\n" {
			t.Errorf("somebody else: status %d, %q", got.Status, got.Err)
		}
	}
}

// TestKernelTracesThroughAStack: what Debian's traceroute reads of us.
func TestKernelTracesThroughAStack(t *testing.T) {
	theirs := need.Command(t, "traceroute", "traceroute")
	ns, u, _ := play.KernelHost(t)
	wire := filepath.Join(u.Dir, "w")
	u.Must("mount", "-T", "io-net", "-o", "path="+wire, "devn-wire.so")
	u.Must("ifconfig", "en1", "10.2.0.1/24")
	u.Must("sysctl", "-w", "net.inet.ip.forwarding=1")
	p := filepath.Join(u.Dir, "far")
	u.Ionet(p, "-d", "wire", "path="+wire, "-ptcpip", "prefix="+p)
	far := u.At(p)
	far.Must("ifconfig", "en0", "10.2.0.2/24")
	far.Must("route", "add", "default", "10.2.0.1")
	ns.Exec("ip", "route", "add", "10.2.0.0/24", "via", "10.0.0.2")
	for _, how := range []string{"-U", "-I"} {
		// By itself it gives a probe up after three times what another one took.
		out, err := ns.Try(theirs, "-n", "-w", "5,9999,9999", how, "10.2.0.2")
		if err != nil || !through("10.0.0.2", "10.2.0.2").MatchString(out) {
			t.Errorf("traceroute %s of the kernel: %v\n%s", how, err, out)
		}
	}
	ns.Exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
	if out := far.Must("traceroute", "-n", "10.0.0.1"); !through("10.2.0.1", "10.0.0.1").MatchString(out) {
		t.Errorf("traceroute to the kernel:\n%s", out)
	}
}
