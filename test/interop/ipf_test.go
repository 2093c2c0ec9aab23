package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ionet/test/play"
)

// filtered are two stacks on a wire, 10.0.0.1 and 10.0.0.2, of which the second has a
// packet filter. write puts a file of rules into the second one's folder.
func filtered(t *testing.T) (peer, u *play.User, write func(name, rules string)) {
	t.Helper()
	all := play.NewUser(t)
	wire := filepath.Join(all.Dir, "w")
	stack := func(n string) *play.User {
		prefix := filepath.Join(all.Dir, "s"+n)
		all.Ionet(prefix, "-d", "wire", "path="+wire, "-ptcpip", "prefix="+prefix)
		u := all.At(prefix)
		u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
		u.Must("ifconfig", "en0", "10.0.0."+n+"/24")
		u.Must("ifconfig", "en0", "inet6", "2001:db8::"+n+"/64")
		return u
	}
	peer, u = stack("1"), stack("2")
	if r := u.Try("ipf", "-Fa"); r.Status != 1 || !strings.Contains(r.Err, "mount -Ttcpip lsm-ipfilter.so") {
		t.Errorf("ipf without a filter: status %d, %q", r.Status, r.Err)
	}
	u.Must("mount", "-Ttcpip", "lsm-ipfilter.so")
	return peer, u, func(name, rules string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(all.Dir, name), []byte(rules), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// reaches wants a ping to be answered, or not to be.
func reaches(t *testing.T, u *play.User, command, to string, want bool) {
	t.Helper()
	args := []string{"-n", "-c", "1", to}
	if command == "ping" {
		args = append([]string{"-w", "1"}, args...)
	}
	if r := u.Try(command, args...); (r.Status == 0) != want {
		t.Errorf("%s %s: answered %v, want %v\n%s%s", command, to, r.Status == 0, want, r.Out, r.Err)
	}
}

// TestRulesAct: what ipf loads decides, all of a command line or nothing.
func TestRulesAct(t *testing.T) {
	peer, u, write := filtered(t)
	reaches(t, peer, "ping", "10.0.0.2", true)
	write("no.conf", "block in proto icmp from any to any icmp-type echo\n")
	write("yes.conf", "# one host is well known\nblock in all\npass in quick proto icmp from 10.0.0.1 to any\n")
	write("bad.conf", "pass in all\nblock in from any port = 7 to any\nblok in all\n")
	write("twice.conf", "pass in all\npass out all\npass in all\n")

	if r := u.Try("ipfstat", "-io"); r.Status != 0 || r.Out != "" || r.Err != "empty list for ipfilter(out)\nempty list for ipfilter(in)\n" {
		t.Errorf("ipfstat -io without rules: %+v", r)
	}
	u.Must("ipf", "-f", "no.conf")
	reaches(t, peer, "ping", "10.0.0.2", false)
	reaches(t, peer, "ping6", "2001:db8::2", true)
	before := u.Must("ipfstat", "-hion")
	if want := "1 @1 block in proto icmp from any to any icmp-type echo\n"; before != want {
		t.Errorf("ipfstat -hion: %q, want %q", before, want)
	}

	// Files with faults, and rules that are refused, change nothing.
	r := u.Try("ipf", "-Fa", "-f", "yes.conf", "-f", "bad.conf")
	play.WantLines(t, "ipf", r.Err, "bad.conf:2:19: ", "bad.conf:3:1: ", "nothing was changed")
	if r.Status != 1 {
		t.Errorf("status %d", r.Status)
	}
	r = u.Try("ipf", "-Fa", "-f", "twice.conf")
	if r.Status != 1 || r.Err != "twice.conf:3: pass in all: there is such a rule already\nipf: nothing was changed\n" {
		t.Errorf("status %d, %q", r.Status, r.Err)
	}
	if after := u.Must("ipfstat", "-hion"); after != before {
		t.Errorf("ipfstat -hion behind changes that were refused:\n%sbefore them:\n%s", after, before)
	}
	reaches(t, peer, "ping", "10.0.0.2", false)
	play.WantLines(t, "ipfstat", u.Must("ipfstat"), " input packets:\t\tblocked 2 passed ", "output packets:\t\tblocked 0 passed ")

	u.Must("ipf", "-Fa", "-f", "yes.conf")
	reaches(t, peer, "ping", "10.0.0.2", true)
	if got, want := u.Must("ipf", "-z", "-f", "yes.conf"), "hits 1 bytes 84 block in all\nhits 1 bytes 84 pass in quick proto icmp from 10.0.0.1/32 to any\n"; got != want {
		t.Errorf("ipf -z: %q, want %q", got, want)
	}
	if got, want := u.Must("ipf", "-z", "-f", "yes.conf"), "hits 0 bytes 0 block in all\nhits 0 bytes 0 pass in quick proto icmp from 10.0.0.1/32 to any\n"; got != want {
		t.Errorf("ipf -z once more: %q, want %q", got, want)
	}

	// Another set is made ready, comes into force, and goes again.
	u.Must("ipf", "-I", "-f", "no.conf")
	reaches(t, peer, "ping", "10.0.0.2", true)
	u.Must("ipf", "-s")
	reaches(t, peer, "ping", "10.0.0.2", false)
	no, yes := "block in proto icmp from any to any icmp-type echo\n", "block in all\npass in quick proto icmp from 10.0.0.1/32 to any\n"
	if active, inactive := u.Must("ipfstat", "-i"), u.Must("ipfstat", "-Ii"); active != no || inactive != yes {
		t.Errorf("the sets are %q and %q, want %q and %q", active, inactive, no, yes)
	}
	play.WantLines(t, "ipf -V", u.Must("ipf", "-V"), "Running: yes\n", "Active list: 1\n")
	u.Must("ipf", "-s")
	reaches(t, peer, "ping", "10.0.0.2", true)

	// Rules of IPv6 beside them.
	write("six.conf", "block in all\npass in proto ipv6-icmp from any to any icmp-type neighborsol\npass in proto ipv6-icmp from any to any icmp-type neighadvert\n")
	u.Must("ipf", "-6", "-f", "six.conf")
	reaches(t, peer, "ping6", "2001:db8::2", false)
	u.Must("ipf", "-6", "-Fa")
	reaches(t, peer, "ping6", "2001:db8::2", true)

	u.Must("ipf", "-Fa", "-f", "no.conf")
	u.Must("ipf", "-D")
	reaches(t, peer, "ping", "10.0.0.2", true)
	play.WantLines(t, "ipf -V", u.Must("ipf", "-V"), "Running: no\n", "Default: pass all")
	u.Must("ipf", "-E")
	reaches(t, peer, "ping", "10.0.0.2", false)
	u.Must("ipf", "-Z", "-l", "block")
	reaches(t, peer, "ping", "10.0.0.2", false)
	play.WantLines(t, "ipf -Z", u.Must("ipf", "-Z", "-l", "block"), " input packets logged:\tblocked 1 passed 0\n", "Packet log flags set: (0x20000000)\n\tpackets blocked\n")
	play.WantLines(t, "ipfstat", u.Must("ipfstat"), " input packets logged:\tblocked 0 passed 0\n", "Packet log flags set: (0x0)\n\tnone\n")
	u.Must("ipf", "-rf", "no.conf")
	reaches(t, peer, "ping", "10.0.0.2", true)
	u.Must("ipf", "-T", "fr_pass=0")
	reaches(t, peer, "ping", "10.0.0.2", false)
}

// TestStatesAreShown: what ipfstat has of states, in text and on a terminal.
func TestStatesAreShown(t *testing.T) {
	peer, u, write := filtered(t)
	write("ipf.conf", "block in all\npass in quick proto icmp from any to any icmp-type echo keep state keep frags\npass in quick proto ipv6-icmp from any to any keep state\n")
	u.Must("ipf", "-f", "ipf.conf")
	reaches(t, peer, "ping", "10.0.0.2", true)
	reaches(t, peer, "ping6", "2001:db8::2", true)
	peer.Must("ping", "-n", "-c", "1", "-s", "3000", "10.0.0.2")
	play.WantLines(t, "ipfstat -fl", u.Must("ipfstat", "-fl"), "inet 10.0.0.1 -> 10.0.0.2 id ", " pr 1 in")
	play.WantLines(t, "ipfstat -s", u.Must("ipfstat", "-s"), "IP states added:\n\t0 TCP\n\t0 UDP\n", "\t0 evicted\n")
	play.WantLines(t, "ipfstat -sl", u.Must("ipfstat", "-sl"), "10.0.0.1 -> 10.0.0.2 ttl ", "\tforward: pkts in 1 bytes in 84 pkts out 0 bytes out 0\n",
		"\tbackward: pkts in 0 bytes in 0 pkts out 1 bytes out 84\n", "\tpass in quick proto icmp from any to any icmp-type echo keep state keep frags\n", "\tinterfaces: in en0,- out -,en0\n", "2001:db8::1 -> 2001:db8::2 ")
	page := u.Must("ipfstat", "-t", "-P", "icmp")
	if !regexp.MustCompile(`(?m)^10\.0\.0\.1 +10\.0\.0\.2 +0/0 icmp +1 +84 +0:\d\d$`).MatchString(page) {
		t.Errorf("ipfstat -t:\n%s", page)
	}

	c := newTerminal(u)
	if err := unix.IoctlSetWinsize(int(c.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: 90}); err != nil {
		t.Fatal(err)
	}
	c.types("ipfstat -t; stty -a; echo en\"\"ded\n")
	c.says(`state top`)
	c.says(`Sorted by: # bytes`)
	c.says(`10\.0\.0\.1 +10\.0\.0\.2 +0/0 icmp +1 +84 +0:\d\d`)
	c.types("s")
	c.says(`Sorted by: ttl`)
	c.types("R")
	c.says(`Sorted by: ttl \(reverse\)`)
	if err := unix.IoctlSetWinsize(int(c.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 5, Col: 30}); err != nil {
		t.Fatal(err)
	}
	c.says(`Src: any, Dest: any, Proto: an\x1b`) // cut where the line ends
	c.types("q")
	c.says(`(?s)\x1b\[\?1049l.* icanon.*ended`) // the terminal is as it was
	c.types("ipfstat -t\n")
	c.says(`(?s)\x1b\[\?1049h.*Src: any`)
	c.types(keyINT)
	c.says(`\x1b\[\?1049l`)
}

// TestRulesAreReadBack: what ipf has loaded ipfstat prints, and ipf takes it out again.
func TestRulesAreReadBack(t *testing.T) {
	_, u, write := filtered(t)
	text, err := os.ReadFile("testdata/rules.ipf")
	if err != nil {
		t.Fatal(err)
	}
	write("rules.ipf", string(text))
	lines := func(text string) []string {
		all := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return l == "" || l[0] == '#' })
		slices.Sort(all)
		return all
	}
	for range 2 { // loaded, and loaded anew in one step
		u.Must("ipf", "-Fa", "-f", "rules.ipf")
		if d := cmp.Diff(lines(string(text)), lines(u.Must("ipfstat", "-io")+u.Must("ipfstat", "-6io"))); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
	play.WantLines(t, "ipfstat -in", u.Must("ipfstat", "-in"), "head 100\n# Group 100\n@1 pass in proto tcp from any to any port = 22 group 100\n@2 block in from 10.0.0.0/8 to any head web group 100\n# Group web\n@1 pass")
	play.WantLines(t, "ipfstat -g", u.Must("ipfstat", "-g"), "Filter groups (active):\n100\t(in, inet)\nweb\t(in, inet)\nsix\t(out, inet6)\nFilter groups (inactive):\n")
	u.Must("ipf", "-rf", "rules.ipf")
	if out := u.Must("ipfstat", "-io") + u.Must("ipfstat", "-6io"); out != "" {
		t.Errorf("rules are left:\n%s", out)
	}
}

// TestRulesAreChecked: ipf -n needs no stack.
func TestRulesAreChecked(t *testing.T) {
	u := play.NewUser(t)
	if err := os.WriteFile(filepath.Join(u.Dir, "bad.conf"), []byte("pass in all\nblok in all\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := u.Try("ipf", "-n", "-f", "bad.conf", "-f", "absent.conf")
	if want := "bad.conf:2:1: \"blok\" where an action is expected; did you mean \"block\"?\nipf: absent.conf: No such file or directory\n"; r.Status != 1 || r.Err != want {
		t.Errorf("status %d, %q, want %q", r.Status, r.Err, want)
	}
	if r := u.Try("ipf", "-f", "bad.conf"); r.Status != 1 {
		t.Errorf("status %d", r.Status)
	}
}
