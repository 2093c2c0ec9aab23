package onstack

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

// difference is where a stack does not answer a program as a kernel does, line
// for line, and why that stays.
type difference struct {
	kernel, stack []string
	why           string
}

var differences = map[string]difference{
	"not connected, unseen": {
		[]string{"poll: OUT HUP", "read: ENOTCONN", "send: EPIPE", "send of a datagram socket: EDESTADDRREQ"},
		[]string{"poll: OUT HUP", "read: EINVAL", "send: ENOTCONN", "send of a datagram socket: 8"},
		"read, write, send and recv ask nobody: a stream answers as a local socket that is not connected, and a datagram socket is one end of a pair already",
	},
	"datagram refused, unseen": {
		[]string{"connect: 0", "send: 1", "poll: ERR", "recv: ECONNREFUSED"},
		[]string{"connect: 0", "send: 1", "poll: IN", "recv: 0"},
		"an error of a datagram socket is told by the calls that ask who has sent, and by SO_ERROR; recv and read see an empty datagram",
	},
	"unreachable later": {
		[]string{"connect: ENETUNREACH", "SO_ERROR: none"},
		[]string{"connect: EINPROGRESS", "SO_ERROR: ENETUNREACH"},
		"a connect that may not wait has not heard the stack yet",
	},
	"interrupted in time": {
		[]string{"accept with SO_RCVTIMEO: EINTR"},
		[]string{"accept with SO_RCVTIMEO: EAGAIN"},
		"seccomp has the kernel restart a call that waits for an answer, whatever the call is",
	},
}

// TestDialogues has programs of testdata talk to a kernel's sockets and to a
// stack's. What they are told has to be the same.
func TestDialogues(t *testing.T) {
	gcc := need.Command(t, "gcc", "gcc")
	// The kernel and the stack have each an address that takes everything and
	// answers nothing: a neighbour that is not there, with an entry that is.
	ns := need.Namespace(t)
	ns.Exec("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	ns.Exec("ip", "addr", "add", "10.9.9.1/24", "dev", "v0")
	ns.Exec("ip", "link", "set", "v0", "up")
	ns.Exec("ip", "link", "set", "v1", "up")
	ns.Exec("ip", "neigh", "add", "10.9.9.9", "lladdr", "02:00:00:00:00:99", "dev", "v0", "nud", "permanent")
	kernel := play.NewUser(t).In(ns)
	ns.Exec("sysctl", "-q", "-w", "net.ipv4.ping_group_range=0 2147483647")
	ns.Exec("ip", "addr", "add", "fd09::1/64", "dev", "v0", "nodad")
	ns.Exec("ip", "neigh", "add", "fd09::9", "lladdr", "02:00:00:00:00:99", "dev", "v0", "nud", "permanent")

	// The stack is root's, and the programs are nobody's, who may not everything.
	root := play.NewRoot(t, nil)
	if err := os.Chmod(root.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(root.Dir, "s")
	root.Ionet(prefix, "-d", "wire", "path="+filepath.Join(root.Dir, "w"), "-ptcpip", "prefix="+prefix)
	root = root.At(prefix)
	root.Must("ifconfig", "en0", "up")
	root.Must("ifconfig", "en0", "10.8.8.1/24")
	root.Must("arp", "-s", "10.8.8.8", "02:00:00:00:00:99")
	six(root, "fd08::1")
	root.Must("ndp", "-s", "fd08::8", "02:00:00:00:00:99")
	nobody := *kernel
	nobody.Wrap = play.Nobody(t)
	stack := side{User: nobody.At(prefix)}
	with := func(u *play.User, black, link string) *play.User {
		v := *u
		v.Env = append([]string{"BLACK=" + black, "LINK=" + link}, u.Env...)
		return &v
	}

	met := map[string]bool{}
	for _, p := range []struct{ program, family, black, theirs string }{
		{"errors", "IPv4", "10.8.8.8", "10.9.9.9"}, {"errors", "IPv6", "fd08::8", "fd09::9"},
		{"process", "IPv4", "10.8.8.8", "10.9.9.9"}, {"process", "IPv6", "fd08::8", "fd09::9"},
		{"six", "IPv6", "", ""},
	} {
		binary := filepath.Join(kernel.Dir, p.program+p.family)
		source := filepath.Join("testdata", p.program+".c")
		build := []string{"-Wall", "-Werror", "-Wno-unused", "-Wno-unused-result", "-pthread", "-o", binary, source}
		if p.family == "IPv6" && p.program != "six" {
			build = append(build, "-DSIX")
		}
		if out, err := exec.Command(gcc, build...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		kernel, stack := with(kernel, p.theirs, "v0"), side{User: with(stack.User, p.black, "en0")}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\{"([^"]+)", [a-z]\w+\}`).FindAllStringSubmatch(string(text), -1) {
			if m[1] == "after exec" {
				continue // a part of exec
			}
			met[m[1]] = true
			t.Run(p.family+"/"+m[1], func(t *testing.T) {
				k, s := kernel.For(t).Try("timeout", "20", binary, m[1]), stack.in(t).tries("timeout", "20", binary, m[1])
				if k.Status != 0 || s.Status != 0 || s.Err != "" {
					t.Errorf("kernel: status %d; stack: status %d, %s", k.Status, s.Status, s.Err)
				}
				want := k.Out
				if d, ok := differences[m[1]]; ok {
					if !slices.Equal(d.kernel, lines(k.Out)) {
						t.Errorf("the kernel is said to answer\n\t%s", strings.Join(d.kernel, "\n\t"))
					}
					want = strings.Join(d.stack, "\n") + "\n"
				}
				if s.Out != want {
					t.Errorf("kernel:\n%sstack:\n%s", indent(k.Out), indent(s.Out))
				}
			})
		}
	}
	for name := range differences {
		if !met[name] {
			t.Errorf("there is no dialogue %q", name)
		}
	}
}

func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

func indent(s string) string { return "\t" + strings.Join(lines(s), "\n\t") + "\n" }
