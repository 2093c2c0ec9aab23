package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ionet/test/play"
)

// translator are three stacks of a user: a host inside, 10.1.0.2, one outside, 192.0.2.2,
// and a router between them that filters and translates, by its interface in and its interface out.
type translator struct {
	t                       *testing.T
	all                     *play.User
	inside, outside, router *play.User
}

func newTranslator(t *testing.T) *translator {
	all := play.NewUser(t)
	n := &translator{t: t, all: all}
	host := func(name, wire, addr, gateway string) *play.User {
		prefix := filepath.Join(all.Dir, name)
		all.Ionet(prefix, "-d", "wire", "path="+filepath.Join(all.Dir, wire), "-ptcpip", "prefix="+prefix)
		u := all.At(prefix)
		u.Must("ifconfig", "en0", addr)
		if gateway != "" {
			u.Must("route", "add", "default", gateway)
		}
		return u
	}
	n.inside = host("in", "wi", "10.1.0.2/24", "10.1.0.1")
	n.outside = host("out", "wo", "192.0.2.2/24", "") // it knows the router alone
	n.all.Write("pool.conf", "table role = all type = tree number = 10 { 10.1.0.0/24; !10.1.0.9; };\n", 0o644)
	return n
}

// start starts the router, as new, and loads its rules. in and out are en0 and en1, or the other way round.
func (n *translator) start(in, out string) {
	n.t.Helper()
	prefix := filepath.Join(n.all.Dir, "r")
	wires := map[string]string{in: "wi", out: "wo"}
	n.all.Ionet(prefix, "-d", "wire", "path="+filepath.Join(n.all.Dir, wires["en0"]), "-d", "wire", "path="+filepath.Join(n.all.Dir, wires["en1"]), "-ptcpip", "prefix="+prefix)
	r := n.all.At(prefix)
	n.router = r
	r.Must("mount", "-Ttcpip", "lsm-ipfilter.so")
	filter := fmt.Sprintf("pass in log first quick on %s proto tcp from pool/10 to any flags S keep state\nblock in log body quick on %[1]s proto tcp\n"+
		"pass in quick on %s proto tcp from any to any port = 8081 flags S keep state\nblock in quick on %[2]s proto tcp\n", in, out)
	nat := fmt.Sprintf("map %s from pool/10 to any -> 0/32 portmap tcp/udp 40000:40099\nmap %[1]s 10.1.0.0/24 -> 0/32\nrdr %[1]s 192.0.2.1/32 port 8080 -> 10.1.0.2 port 8081 tcp\n", out)
	r.Must("ippool", "-f", "pool.conf")
	r.Must("ipf", "-Fa", "-f", n.all.Write("ipf.conf", filter, 0o644))
	r.Must("ipnat", "-CF", "-f", n.all.Write("ipnat.conf", nat, 0o644))
}

// forward has the router do its work.
func (n *translator) forward(in, out string) {
	n.router.Must("sysctl", "-w", "net.inet.ip.forwarding=1")
	n.router.Must("ifconfig", in, "10.1.0.1/24")
	n.router.Must("ifconfig", out, "192.0.2.1/24")
}

// stop stops the router.
func (n *translator) stop() { n.router.Must("io-net", "--stop") }

// talker is one end of a connection: what is written into it goes out, and its job says on standard
// error what comes.
func talker(u *play.User, args ...string) (j *play.Job, write func(string)) {
	u.T.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		u.T.Fatal(err)
	}
	u.T.Cleanup(func() { w.Close() })
	j = u.Begin(r, "sh", append([]string{"-c", `exec "$@" >&2`, "sh", "nc"}, args...)...)
	r.Close()
	return j, func(s string) {
		u.T.Helper()
		if _, err := w.WriteString(s + "\n"); err != nil {
			u.T.Fatal(err)
		}
	}
}

// TestConnectionOutlivesTheTranslator: the tools show and log what the router does for a
// connection, and with what ipfs has saved it goes on through a router that is started anew,
// also one whose interfaces have changed places.
func TestConnectionOutlivesTheTranslator(t *testing.T) {
	n := newTranslator(t)
	n.start("en0", "en1")
	log := filepath.Join(n.all.Dir, "ipmon.log")
	n.router.Must("ipmon", "-D", "-a", "-b", log)
	n.forward("en0", "en1")
	reaches(t, n.inside, "ping", "192.0.2.2", true)

	server, answer := talker(n.outside, "-v", "-l", "7777")
	server.Says("Listening on|listening on")
	client, ask := talker(n.inside, "-v", "192.0.2.2", "7777")
	talk := func(word string) {
		t.Helper()
		ask("ask " + word)
		server.Says("(?m)^ask " + word + "$")
		answer("answer " + word)
		client.Says("(?m)^answer " + word + "$")
	}
	talk("first")
	port := func() string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^MAP 10\.1\.0\.2 +\d+ +<- -> 192\.0\.2\.1 +(40\d\d\d) \[192\.0\.2\.2 7777\]\n\tttl 7\d\d\d age \d+ idle \d+ pr tcp established\n\tifp en\d bytes \d+/\d+ pkts \d+/\d+$`).FindStringSubmatch(n.router.Must("ipnat", "-lv"))
		if m == nil {
			t.Fatalf("no session of the connection:\n%s", n.router.Must("ipnat", "-lv"))
		}
		return m[1]
	}
	was := port()

	// A host that the pool excepts, and one that has no state, go nowhere; a redirection leads in.
	back, _ := talker(n.inside, "-v", "-l", "8081")
	back.Says("Listening on|listening on")
	_, call := talker(n.outside, "-v", "192.0.2.1", "8080")
	call("let me in")
	back.Says("(?m)^let me in$")
	play.WantLines(t, "ipnat -l", n.router.Must("ipnat", "-l"), "RDR 10.1.0.2        8081  <- -> 192.0.2.1       8080  [192.0.2.2 ")
	n.inside.Must("ifconfig", "en0", "10.1.0.9/24", "alias")
	if r := n.inside.Try("nc", "-s", "10.1.0.9", "-w", "1", "192.0.2.2", "7777"); r.Status == 0 {
		t.Errorf("the host that the pool excepts connects:\n%+v", r)
	}
	play.WantLines(t, "ippool -lv", n.router.Must("ippool", "-lv"), "# 2 entries, ", "table role = all type = tree number = 10\n\t{ 10.1.0.0/24; !10.1.0.9/32; };\n")

	// What the daemon has written.
	var text string
	settles(t, func() error {
		b, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		text = string(b)
		for _, want := range []string{
			` en0 @0:1 p 10\.1\.0\.2,\d+ -> 192\.0\.2\.2,7777 PR tcp len 20 \d+ -S(EC)? K-S IN\n`,
			` en0 @0:2 b 10\.1\.0\.9,\d+ -> 192\.0\.2\.2,7777 PR tcp len 20 \d+ -S(EC)? IN\n`,
			` STATE:NEW 10\.1\.0\.2,\d+ -> 192\.0\.2\.2,7777 PR tcp\n`,
			` @1 NAT:MAP 10\.1\.0\.2,\d+ <- -> 192\.0\.2\.1,` + was + ` \[192\.0\.2\.2,7777 PR tcp\]\n`,
			` @3 NAT:RDR 10\.1\.0\.2,8081 <- -> 192\.0\.2\.1,8080 \[192\.0\.2\.2,\d+ PR tcp\]\n`,
			` @2 NAT:MAP 10\.1\.0\.2,\d+ <- -> 192\.0\.2\.1,\d+ \[192\.0\.2\.2 PR icmp\]\n`,
		} {
			if !regexp.MustCompile(`(?m)^\d\d/\d\d/\d{4} \d\d:\d\d:\d\d\.\d{6}` + want).MatchString(text) {
				return fmt.Errorf("no %s in\n%s", want, text)
			}
		}
		return nil
	})

	for _, change := range []struct {
		name    string
		in, out string
		rename  []string
	}{{"a new router", "en0", "en1", nil}, {"a router whose interfaces have changed places", "en1", "en0", []string{"en0,x9", "en1,en0", "x9,en1"}}} {
		n.router.Must("ipfs", "-W")
		n.stop()
		n.start(change.in, change.out)
		for _, names := range change.rename {
			n.router.Must("ipfs", "-i", names)
		}
		if out := n.router.Must("ipfs", "-vR"); strings.Count(out, "have come back") != 2 || strings.Contains(out, ": 0 ") {
			t.Errorf("%s: ipfs -vR:\n%s", change.name, out)
		}
		if is := port(); is != was {
			t.Errorf("%s: the connection's outer port is %s, was %s", change.name, is, was)
		}
		n.forward(change.in, change.out)
		talk("through " + change.name)
	}

	// ipmon has ended with the stack that it read, and ends with the filter.
	settles(t, func() error {
		b, _ := os.ReadFile(log)
		if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); !strings.Contains(lines[len(lines)-1], "has gone") {
			return fmt.Errorf("the last line is %q", lines[len(lines)-1])
		}
		return nil
	})
	reaches(t, n.inside, "ping", "192.0.2.2", true)
	last := n.router.Serves("NAT:MAP .* PR icmp", "ipmon", "-a")
	n.router.Must("umount", "ipfilter0")
	last.Says("(?m)^ipmon: no packet filter in this stack")
	if status := last.Wait(); status != 1 {
		t.Errorf("ipmon behind umount: status %d", status)
	}
}
