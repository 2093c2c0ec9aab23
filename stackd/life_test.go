package stackd

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/test/need"
)

// ioNet runs this test binary as io-net. It is not bound to t.Context, which
// has ended when a test's cleanup stops its stack.
func ioNet(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "IONET_TEST_MAIN=1")
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func TestBackgroundLife(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	prefix := t.TempDir()
	t.Setenv("SOCK", prefix)
	if out, err := ioNet(t, "-dwire", "path="+prefix+"/seg", "-ptcpip", "stacksize=9999,frob=1"); err != nil {
		t.Fatal(err, out)
	} else if !strings.Contains(out, "stacksize has no effect") || !strings.Contains(out, `unrecognized option: "frob=1"`) {
		t.Errorf("warnings: %q", out)
	}
	s, err := client.Open(prefix) // it answers as soon as io-net is back
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if out, err := ioNet(t, "-ptcpip"); err == nil || !strings.Contains(out, "already runs") {
		t.Errorf("a second io-net: %v, %q", err, out)
	}
	if out, err := ioNet(t, "--show"); err != nil || !strings.Contains(out, "ipsec") {
		t.Errorf("--show: %v, %q", err, out)
	}
	if out, err := ioNet(t, "--stop"); err != nil {
		t.Errorf("--stop: %v, %q", err, out)
	}
	for _, p := range []string{"dev/socket/2", "dev/socket/17", "dev/socket/lock", "dev/io-net/en0"} {
		if _, err := os.Lstat(filepath.Join(prefix, p)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", p, err)
		}
	}
	if out, err := ioNet(t, "--stop"); err == nil {
		t.Errorf("--stop of nothing: %q", out)
	}
}

func TestStartErrorsReachTheUser(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("SOCK", t.TempDir())
	for args, want := range map[string]string{
		"-dfrob -ptcpip":   "no driver",
		"-ptcpip-v4 ipsec": "no option ipsec",
		"-dwire":           "no protocol",
		"-ptcpip prefix=/" + strings.Repeat("long/", 25): "bytes too long",
		"-dqemu -ptcpip": "qemu",
	} {
		if out, err := ioNet(t, strings.Fields(args)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %q; want %q", args, err, out, want)
		}
	}
}

func TestRestartReplays(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	prefix := t.TempDir()
	t.Setenv("SOCK", prefix)
	if out, err := ioNet(t, "--restart", "-dwire", "path="+prefix+"/seg", "-ptcpip"); err != nil {
		t.Fatal(err, out)
	}
	t.Cleanup(func() {
		if out, err := ioNet(t, "--stop"); err != nil {
			t.Error(err, out)
		}
	})
	s, err := client.Open(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetSysctl("net.inet.ip.ttl", "33"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mount("tcpip", "", "lsm-ipfilter.so"); err != nil {
		t.Fatal(err)
	}
	edit(t, s, protocol.RulesFilter, adds("pass in quick proto tcp from pool/good to any", "block in all")...)
	edit(t, s, protocol.RulesPools, adds("table role = ipf type = tree name = good { 10.1.0.0/16; };")...)
	edit(t, s, protocol.RulesNAT, adds("map en0 10.0.0.0/8 -> 192.0.2.1/32")...)
	r, err := client.OpenRoute(prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m := protocol.RouteMessage{Type: protocol.RTMAdd, Seq: 1, PID: os.Getpid(), Flags: protocol.RTFUp | protocol.RTFGateway | protocol.RTFStatic,
		Dst: inet("20.0.0.0"), Netmask: inet("255.0.0.0"), Gateway: inet("10.0.0.2")}
	if _, err := r.Request(m); err != nil {
		t.Fatal(err)
	}
	pid := int(s.Hello().PID)
	if err := unix.Kill(pid, unix.SIGABRT); err != nil {
		t.Fatal(err)
	}
	// The connection ends with the process; the next stack answers later.
	for deadline := time.Now().Add(30 * time.Second); ; {
		if n, err := client.Open(prefix); err == nil {
			if int(n.Hello().PID) != pid {
				s.Close()
				s = n
				break
			}
			n.Close()
		}
		if time.Now().After(deadline) {
			t.Fatal("the stack did not come back")
		}
	}
	defer s.Close()
	if v, err := s.Sysctl("net.inet.ip.ttl"); v != "33" {
		t.Errorf("ttl %q, %v after the restart", v, err)
	}
	same(t, rules(t, s), []string{"pass in quick proto tcp from pool/good to any", "block in all"})
	same(t, len(tableOf[protocol.PoolEntryRow](t, s, protocol.TablePoolEntries, "good")), 1)
	same(t, len(tableOf[protocol.NATRuleRow](t, s, protocol.TableNATRules, "")), 1)
	found := false
	for m, err := range s.Dump(protocol.DumpRoutes, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		found = found || m.(*protocol.RouteMessage).Gateway.IP == inet("10.0.0.2").IP
	}
	if !found {
		t.Error("the route is gone after the restart")
	}
	rows, err := client.Table[protocol.StackInfo](s, protocol.TableStack, "")
	if err != nil || rows[0].Restarts != 1 {
		t.Errorf("%+v, %v; want one restart", rows, err)
	}
	if log, _ := os.ReadFile(prefix + "/var/log/io-net.log"); !bytes.Contains(log, []byte("SIGABRT")) || !bytes.Contains(log, []byte("goroutine")) {
		t.Errorf("the log does not tell of the crash: %s", log)
	}
}

func TestClaim(t *testing.T) {
	p := paths{prefix: t.TempDir()}
	l, err := p.claim()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.claim(); err == nil {
		t.Error("two claims of one prefix")
	}
	l.f.Close() // as a crash leaves it
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Bind(fd, &unix.SockaddrUnix{Name: p.door(2)})
	unix.Close(fd)
	if l, err = p.claim(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(p.door(2)); !os.IsNotExist(err) {
		t.Error("a dead stack's door is left:", err)
	}
	l.release()
}

func TestForeignFoldersAreRefused(t *testing.T) {
	need.Root(t)
	for _, name := range []string{"", "var", "var/log", "dev/socket"} {
		p := paths{prefix: t.TempDir()}
		theirs := filepath.Join(p.prefix, name)
		if err := os.MkdirAll(theirs, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(theirs, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, err := p.claim(); err == nil || !strings.Contains(err.Error(), theirs+" belongs to somebody else") {
			t.Errorf("%q of another user: %v", name, err)
		}
	}
	p := paths{prefix: t.TempDir()}
	if err := os.Symlink(t.TempDir(), p.prefix+"/var"); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(p.prefix+"/var", 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := p.claim(); err == nil {
		t.Error("another user's link is followed")
	}
}

func TestFilesAreNoLinks(t *testing.T) {
	dir := t.TempDir()
	victim := dir + "/victim"
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if j, err := openJournal(dir+"/link", true, slog.New(slog.DiscardHandler)); err == nil {
		j.close()
		t.Error("the state is written through a link")
	}
	if l, err := takeLock(dir + "/link"); err == nil {
		l.release()
		t.Error("the lock is written through a link")
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Errorf("the file behind the link is %q", b)
	}
}

func TestJournalCompacts(t *testing.T) {
	j, err := openJournal(t.TempDir()+"/state", true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	route := func(typ int, dst string) {
		m := protocol.RouteMessage{Type: typ, Dst: inet(dst), Netmask: inet("255.0.0.0"), Gateway: inet("10.0.0.2")}
		j.route(protocol.AppendMessage(nil, &m))
	}
	j.sysctl("a", "1")
	j.sysctl("a", "2")
	route(protocol.RTMAdd, "20.0.0.0")
	route(protocol.RTMAdd, "30.0.0.0")
	route(protocol.RTMDelete, "20.0.0.0")
	route(protocol.RTMDelete, "40.0.0.0") // of something the command line made
	j.mount(protocol.MountRequest{Module: "wire"}, "en1")
	j.ioctl(protocol.SIOCSIFMTU, protocol.AppendIfReq(nil, protocol.IfReq{Name: "en1", Value: 1400}))
	j.umount("en1")
	recs, err := j.read()
	if err != nil || len(recs) != 9 {
		t.Fatal(len(recs), err)
	}
	var kinds []byte
	for _, r := range compacted(recs) {
		kinds = append(kinds, r.kind)
	}
	if !bytes.Equal(kinds, []byte{recSysctl, recRoute, recRoute}) {
		t.Errorf("left %v", kinds)
	}
	if err := j.compact(); err != nil {
		t.Fatal(err)
	}
	if again, _ := j.read(); len(again) != 3 {
		t.Errorf("%d records in the compacted file", len(again))
	}
}

func TestJournalKeepsNumbersAndGroups(t *testing.T) {
	j, err := openJournal(t.TempDir()+"/state", true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	j.mount(protocol.MountRequest{Module: "wire"}, "en1")
	j.mount(protocol.MountRequest{Module: "wire", Options: "mtu=1400"}, "en2")
	j.umount("en1")
	for _, last := range []byte{1, 2} {
		group := protocol.LinkAddrOf(protocol.LinkOf(0, 6, "", []byte{1, 0, 0x5e, 0, 0, last}))
		j.ioctl(protocol.SIOCADDMULTI, protocol.AppendIfReq(nil, protocol.IfReq{Name: "en2", Addr: group}))
	}
	recs, err := j.read()
	if err != nil {
		t.Fatal(err)
	}
	left := compacted(recs)
	if len(left) != 3 {
		t.Fatalf("%d records are left of %d, want a mount and two groups", len(left), len(recs))
	}
	rd := protocol.NewReader(left[0].body)
	if _, options := rd.String(), rd.String(); options != "mtu=1400,lan=2" {
		t.Errorf("en2 is mounted again with %q", options)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, record{recSysctl, []byte{1, 0, 'a', 1, 0, 'b'}}), record{recUmount, []byte{3, 0, 'e', 'n', '0'}}))
	f.Add(appendRecord(nil, record{recIoctl, []byte{6}})) // shorter than its number
	f.Fuzz(func(t *testing.T, b []byte) {
		recs := parseRecords(b)
		if got := compacted(recs); len(got) > len(recs) {
			t.Errorf("%d records became %d", len(recs), len(got))
		}
	})
}
