package interop

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"ionet/client"
	"ionet/protocol"
	"ionet/test/need"
	"ionet/test/play"
)

// radvdConf has radvd advertise prefixes, each with its lifetimes, and the rest.
func radvdConf(prefixes ...string) string {
	var b strings.Builder
	b.WriteString("interface tap0 {\nAdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 60; AdvDefaultPreference high; AdvOtherConfigFlag on; AdvLinkMTU 1400;\n")
	for _, p := range prefixes {
		prefix, rest, _ := strings.Cut(p, " ")
		valid, preferred, _ := strings.Cut(rest, " ")
		fmt.Fprintf(&b, "prefix %s { AdvOnLink on; AdvAutonomous on; AdvValidLifetime %s; AdvPreferredLifetime %s; };\n", prefix, valid, preferred)
	}
	b.WriteString("route 2001:db8:9::/48 { AdvRouteLifetime 600; };\nRDNSS 2001:db8:1::53 { };\nDNSSL example.org { };\n};\n")
	return b.String()
}

// TestRadvdConfiguresAStack: addresses, default and more specific routes, MTU, name
// servers; renumbering; the farewell, and lifetimes that end.
func TestRadvdConfiguresAStack(t *testing.T) {
	t.Parallel()
	radvd := need.Command(t, "radvd", "radvd")
	need.File(t, "/dev/net/tun")
	ns := need.Namespace(t)
	u := play.NewRoot(t, ns)
	prefix := filepath.Join(u.Dir, "s")
	u.Ionet(prefix, "-d", "tap", "name=tap0", "-ptcpip", "prefix="+prefix)
	u = u.At(prefix)
	ns.Exec("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	ns.Exec("ip", "link", "set", "tap0", "up")
	ns.Exec("ip", "-6", "addr", "add", "2001:db8:1::1/64", "dev", "tap0", "nodad")
	conf := u.Write("radvd.conf", radvdConf("2001:db8:1::/64 3600 1800", "2001:db8:3::/64 9 6"), 0o644)
	cmd := ns.Command(t.Context(), radvd, "-n", "-C", conf, "-m", "stderr", "-p", filepath.Join(u.Dir, "radvd.pid"), "-u", "root")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Logf("radvd:\n%s", &said)
		}
	}()

	u.Must("ifconfig", "en0", "up")
	addresses := func() string { return u.Must("ifconfig", "-L", "en0") }
	eventually(t, "ifconfig -L", `inet6 2001:db8:1:0:[0-9a-f:]+ prefixlen 64 autoconf pltime 1[78]\d\d vltime 3[56]\d\d`, addresses)
	eventually(t, "ifconfig -L", `inet6 2001:db8:3:0:[0-9a-f:]+ prefixlen 64 autoconf pltime [0-6] vltime \d\b`, addresses)
	routes := func() string { return u.Must("netstat", "-rnf", "inet6") }
	got := routes()
	for _, re := range []string{`(?m)^default +fe80::\S+%en0 +UG `, `(?m)^2001:db8:9::/48 +fe80::\S+%en0 +UG `, `(?m)^2001:db8:1::/64 +link#2 +UC `} {
		if !regexp.MustCompile(re).MatchString(got) {
			t.Errorf("netstat -rn lacks %s:\n%s", re, got)
		}
	}
	if got := u.Must("ndp", "-rn"); !regexp.MustCompile(`^fe80::\S+%en0 if=en0, flags=O, pref=high, expire=`).MatchString(got) {
		t.Errorf("ndp -r: %s", got)
	}
	play.WantLines(t, "ndp -i", u.Must("ndp", "-i", "en0"), "linkmtu=1400, curhlim=64, ")
	servers, err := client.Table[protocol.ResolverRow](u.Open(), protocol.TableResolver, "")
	if err != nil || fmt.Sprint(servers) != "[{2001:db8:1::53 } { example.org}]" {
		t.Errorf("name servers %v, %v", servers, err)
	}
	play.WantLines(t, "ping6", u.Must("ping6", "-c", "2", "-n", "2001:db8:1::1"), "2 packets received, 0% packet loss")
	mine := regexp.MustCompile(`2001:db8:1:0:[0-9a-f:]+`).FindString(addresses())
	if out, err := ns.Try("ping", "-6", "-n", "-c", "1", "-W", "5", mine); err != nil {
		t.Errorf("ping -6 %s: %v\n%s", mine, err, out)
	}
	// Renumbered: the old address is deprecated, and the new one is spoken from.
	u.Write("radvd.conf", radvdConf("2001:db8:1::/64 3600 0", "2001:db8:2::/64 3600 1800", "2001:db8:3::/64 9 6"), 0o644)
	ns.Exec("ip", "-6", "addr", "add", "2001:db8:2::1/64", "dev", "tap0", "nodad")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new address", `inet6 2001:db8:2:0:[0-9a-f:]+ prefixlen 64 autoconf `, addresses)
	eventually(t, "the old address", `inet6 2001:db8:1:0:[0-9a-f:]+ prefixlen 64 deprecated autoconf `, addresses)
	from := regexp.MustCompile(`(?m)^PING6\(.*\) (\S+) -->`).FindStringSubmatch(u.Must("ping6", "-c", "1", "-n", "2001:db8:2::1"))
	if from == nil || !netip.MustParsePrefix("2001:db8:2::/64").Contains(netip.MustParseAddr(from[1])) {
		t.Errorf("ping6 from %v", from)
	}
	// The farewell ends the default route, time the short-lived address.
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended = true
	if err := cmd.Wait(); err != nil {
		t.Errorf("radvd: %v\n%s", err, &said)
	}
	gone(t, "netstat -rn", `(?m)^default `, routes)
	gone(t, "ifconfig", `inet6 2001:db8:3:`, addresses)
	if got := addresses(); !strings.Contains(got, "inet6 2001:db8:2:") {
		t.Errorf("the farewell of a router has taken an address away:\n%s", got)
	}
}
