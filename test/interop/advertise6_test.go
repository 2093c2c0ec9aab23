package interop

import (
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/test/need"
	"ionet/test/play"
)

// eventually polls another program until what it says matches.
func eventually(t *testing.T, what, re string, say func() string) string {
	t.Helper()
	return polled(t, what+" never matches "+re, say, regexp.MustCompile(re).MatchString)
}

// gone polls another program until what it says matches no more.
func gone(t *testing.T, what, re string, say func() string) {
	t.Helper()
	r := regexp.MustCompile(re)
	polled(t, what+" always matches "+re, say, func(s string) bool { return !r.MatchString(s) })
}

func polled(t *testing.T, complaint string, say func() string, ok func(string) bool) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // polls another process
		got := say()
		if ok(got) {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s:\n%s", complaint, got)
		}
	}
}

// routerBeside is a stack that is a router, with the kernel as the host on its
// link, not up yet.
func routerBeside(t *testing.T) (ns *need.NS, u *play.User, prefix string) {
	t.Helper()
	need.File(t, "/dev/net/tun")
	ns = need.Namespace(t)
	u = play.NewRoot(t, ns)
	prefix = filepath.Join(u.Dir, "s")
	u.Ionet(prefix, "-d", "tap", "name=tap0", "-ptcpip", "prefix="+prefix)
	u = u.At(prefix)
	u.Must("sysctl", "-w", "net.inet6.ip6.forwarding=1")
	u.Must("ifconfig", "en0", "inet6", "2001:db8:1::1", "prefixlen", "64")
	for _, v := range []string{"accept_ra=1", "autoconf=1", "accept_ra_defrtr=1", "accept_ra_rtr_pref=1", "accept_ra_rt_info_max_plen=64"} {
		ns.Exec("sysctl", "-qw", "net.ipv6.conf.tap0."+v)
	}
	return ns, u, prefix
}

// TestKernelIsConfiguredByRtadvd: addresses, default route, more specific route
// and MTU; another prefix; the farewell.
func TestKernelIsConfiguredByRtadvd(t *testing.T) {
	t.Parallel()
	rdisc6 := need.Command(t, "rdisc6", "ndisc6")
	ns, u, prefix := routerBeside(t)
	u.Must("mkdir", "-p", filepath.Join(prefix, "etc"))
	u.Write("s/etc/rtadvd.conf", "en0:mtu#1400:rtime#30000:rtprefix=\"2001:db8:9::\":rtltime#600:rdnss=\"2001:db8:1::53\":dnssl=\"example.org\":raflags=\"h\":\n", 0o644)
	j := u.Begin(nil, "rtadvd", "-fd", "en0")
	ns.Exec("ip", "link", "set", "tap0", "up")
	ip := func(args ...string) func() string {
		return func() string { out, _ := ns.Try("ip", append([]string{"-6"}, args...)...); return out }
	}
	eventually(t, "the kernel's address", `inet6 2001:db8:1:0:[0-9a-f:]+/64 scope global (mngtmpaddr )?dynamic`, ip("addr", "show", "dev", "tap0"))
	routes := eventually(t, "the default route", `(?m)^default via fe80::\S+ dev tap0 proto ra .*pref high`, ip("route", "show"))
	if !regexp.MustCompile(`(?m)^2001:db8:9::/64 via fe80::\S+ dev tap0 proto ra`).MatchString(routes) {
		t.Errorf("no route to 2001:db8:9::/64:\n%s", routes)
	}
	if out := ns.Exec("cat", "/proc/sys/net/ipv6/conf/tap0/mtu"); strings.TrimSpace(out) != "1400" {
		t.Errorf("the kernel's MTU is %s", out)
	}
	out, err := ns.Try(rdisc6, "-1", "tap0")
	if err != nil {
		t.Errorf("rdisc6: %v", err)
	}
	play.WantLines(t, "rdisc6", out, "2001:db8:1::/64", "2001:db8:9::/64", "2001:db8:1::53", "example.org", "1400")
	if !regexp.MustCompile(`Reachable time +: +30000 `).MatchString(out) {
		t.Errorf("rdisc6:\n%s", out)
	}
	// Renumbering: a new prefix comes, the old one is deprecated.
	u.Must("ifconfig", "en0", "inet6", "2001:db8:2::1", "prefixlen", "64", "alias")
	u.Must("ifconfig", "en0", "inet6", "2001:db8:1::1", "delete")
	eventually(t, "the new address", `inet6 2001:db8:2:0:[0-9a-f:]+/64 scope global (mngtmpaddr )?dynamic`, ip("addr", "show", "dev", "tap0"))
	eventually(t, "the old address", `inet6 2001:db8:1:0:[0-9a-f:]+/64 scope global deprecated`, ip("addr", "show", "dev", "tap0"))
	if err := j.Cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(prefix, "var/run/rtadvd.dump")
	got := eventually(t, "the dump", `WITHDRAWN`, func() string { return u.Try("cat", dump).Out })
	play.WantLines(t, "the dump", got, "en0:\n  Status: UP\n", "2001:db8:2::/64(KERNEL, vltime: 2592000, pltime: 604800, flags: LA)", "2001:db8:1::/64(WITHDRAWN")
	// The farewell takes the default route away at once.
	if err := j.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no default route", `\A\z`, ip("route", "show", "default"))
	if status := j.Wait(); status != 0 {
		t.Errorf("rtadvd ends with %d:\n%s", status, j.Err.String())
	}
}
