package netlink

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/test/need"
)

// kernel is rtnetlink of a network namespace that is configured like sample.
type kernel struct {
	t  *testing.T
	do chan func()
}

// newKernel makes the namespace; it ends with its thread at the test's end.
func newKernel(t *testing.T) *kernel {
	t.Helper()
	need.Netns(t)
	k := &kernel{t, make(chan func())}
	made, gone := make(chan error), make(chan bool)
	go func() {
		defer close(gone)
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range k.do {
			f()
		}
	}()
	err := <-made
	t.Cleanup(func() { close(k.do); <-gone })
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(`
link set lo up
link add en0 index 3 type veth peer name en1 index 2
link set en0 address 02:00:00:00:00:01 addrgenmode none mtu 1400
link set en1 address 02:00:00:00:00:02 addrgenmode none
link set en0 up
link set en1 up
addr add 10.0.0.1/24 brd + dev en0
addr add 10.0.1.1 peer 10.0.1.2 dev en0
addr add fd00::1/64 dev en0 nodad
addr add fd04::1 peer fd04::2 dev en0 nodad
route add default via 10.0.0.254
route add throw 10.5.0.0/16
route add prohibit 10.6.0.0/16
route add unreachable 10.7.0.0/16
route add blackhole 10.8.0.0/16
route add 10.9.0.0/16 via 10.0.0.2 metric 5 mtu 1300
-6 route add fd01::/64 via fd00::2 metric 5 mtu 1300
-6 route add default via fd00::99
neigh add 10.0.0.2 lladdr 02:00:00:00:00:09 dev en0 nud permanent
neigh add fd00::2 lladdr 02:00:00:00:00:09 dev en0 nud permanent router
neigh add proxy 10.0.0.66 dev en0`), "\n") {
		k.ip(line)
	}
	return k
}

// in runs f in the namespace.
func (k *kernel) in(f func() error) {
	k.t.Helper()
	done := make(chan error)
	k.do <- func() { done <- f() }
	if err := <-done; err != nil {
		k.t.Fatal(err)
	}
}

// ip runs an "ip" command there.
func (k *kernel) ip(line string) (out string) {
	k.t.Helper()
	k.in(func() error {
		b, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %v: %s", line, err, b)
		}
		out = string(b)
		return nil
	})
	return out
}

// answer asks the kernel, and reads until a NLMSG_NOOP that is sent behind the
// question is acknowledged.
func (k *kernel) answer(strict bool, q []byte) (datagrams [][]byte, pid uint32) {
	k.t.Helper()
	k.in(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if strict {
			for _, o := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK} {
				if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, o, 1); err != nil {
					return err
				}
			}
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		pid = sa.(*unix.SockaddrNetlink).Pid
		const last = 99
		noop := ask(unix.NLMSG_NOOP, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		ne.PutUint32(noop[8:], last)
		for _, m := range [][]byte{q, noop} {
			if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				return err
			}
		}
		b := make([]byte, 64<<10)
		// A dump goes on as it is read, so that the end of it and the noop's
		// acknowledgement come in either order.
		multi, acked := false, false
		for !acked || multi {
			n, err := unix.Read(fd, b)
			if err != nil {
				return err
			}
			if ne.Uint32(b[8:]) == last {
				acked = true
				continue
			}
			datagrams = append(datagrams, bytes.Clone(b[:n]))
			for m := b[:n]; len(m) > 0; m = m[align(int(ne.Uint32(m))):] {
				multi = ne.Uint16(m[6:])&unix.NLM_F_MULTI != 0 && ne.Uint16(m[4:]) != unix.NLMSG_DONE
			}
		}
		return nil
	})
	return datagrams, pid
}

// More attributes that package unix does not name.
const (
	iflaProtoDown = 0x27
	ifaProto      = 0xb
)

// moreOfKernel are attributes that only the kernel sends: what a link has of
// devices, and of IPv6 what depends on its version.
var moreOfKernel = map[uint16][]uint16{
	unix.RTM_NEWLINK: {unix.IFLA_MAP, unix.IFLA_LINK, unix.IFLA_LINKINFO, unix.IFLA_NUM_TX_QUEUES, unix.IFLA_NUM_RX_QUEUES,
		unix.IFLA_AF_SPEC, unix.IFLA_CARRIER_CHANGES, iflaProtoDown, unix.IFLA_GSO_MAX_SEGS, unix.IFLA_GSO_MAX_SIZE, unix.IFLA_XDP,
		unix.IFLA_CARRIER_UP_COUNT, unix.IFLA_CARRIER_DOWN_COUNT, unix.IFLA_LINK_NETNSID},
	unix.RTM_NEWADDR:  {ifaProto},
	unix.RTM_NEWROUTE: {unix.RTA_UID},
}

// newest is the first attribute of a link that came after Linux 5.0; only the
// kernel sends those.
const newest = 50

// counted are attributes whose values are the machine's own.
var counted = map[uint16][]uint16{
	unix.RTM_NEWLINK:  {unix.IFLA_STATS, unix.IFLA_STATS64},
	unix.RTM_NEWADDR:  {unix.IFA_CACHEINFO},
	unix.RTM_NEWROUTE: {unix.RTA_CACHEINFO},
	unix.RTM_NEWNEIGH: {unix.NDA_CACHEINFO, unix.NDA_PROBES},
}

// shape is an answer with what may differ left out, a line a message.
func shape(rs []reply) []string {
	var lines []string
	for _, r := range rs {
		if r.Type == unix.NLMSG_DONE || r.Type == unix.NLMSG_ERROR {
			line := fmt.Sprintf("%d errno %d %q, %x", r.Type, r.Errno, strings.TrimPrefix(strings.TrimPrefix(r.Text, "ipv4: "), "ipv6: "), r.Fixed)
			lines = append(lines, line)
			continue
		}
		var attrs []string
		for _, a := range r.Attrs {
			typ := a.Attr.Type & attrType
			if slices.Contains(moreOfKernel[r.Type], typ) || r.Type == unix.RTM_NEWLINK && typ >= newest {
				continue
			}
			if slices.Contains(counted[r.Type], typ) {
				attrs = append(attrs, fmt.Sprintf("%d[%d]", typ, len(a.Value)))
			} else {
				attrs = append(attrs, fmt.Sprintf("%d=%x", typ, a.Value))
			}
		}
		slices.Sort(attrs) // their order has changed with the versions
		lines = append(lines, fmt.Sprintf("%d %x %s", r.Type, r.Fixed, strings.Join(attrs, " ")))
	}
	return lines
}

// unordered sorts what a dump is made of: the kernel's tables have orders of
// their own.
func unordered(lines []string) []string { slices.Sort(lines); return lines }

// TestKernel puts the same questions to us and to the kernel, and compares the
// answers octet by octet, counters and ages aside.
func TestKernel(t *testing.T) {
	k := newKernel(t)
	s := sample()
	carrier := func() bool {
		datagrams, pid := k.answer(false, ask(unix.RTM_GETLINK, dumpAll, 0))
		for _, r := range replies(t, datagrams, pid) {
			if r.Type == unix.RTM_NEWLINK && r.Fixed[2] == unix.ARPHRD_ETHER && r.attr(unix.IFLA_OPERSTATE)[0] != OperUp {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(20 * time.Second); !carrier(); { // each look is a question to the kernel
		if time.Now().After(end) {
			t.Fatal("the veth pair does not come up")
		}
	}
	compare := func(name string, strict bool, q []byte, more func([]string) []string) {
		t.Helper()
		datagrams, pid := k.answer(strict, q)
		want := more(unordered(shape(replies(t, datagrams, pid))))
		got := unordered(shape(replies(t, Socket{PID: pid, Strict: strict, ExtAck: strict}.Answer(s, q), pid)))
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nthe kernel's answer:\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	same := func(lines []string) []string { return lines }
	for _, d := range dialogues {
		if d.kernel {
			compare(d.name, d.strict, d.ask, same)
		}
	}
	for _, dst := range []string{"10.0.0.9", "10.9.1.1", "8.8.8.8", "10.0.0.1", "10.0.0.255", "127.0.0.1", "224.0.0.5", "fd00::9", "fd01::1", "::1"} {
		compare("to "+dst, false, ask(unix.RTM_GETROUTE, getOne, to(dst, 0)...), same)
		if ip(dst).Is4() {
			compare("to "+dst+", its table", true, ask(unix.RTM_GETROUTE, getOne, to(dst, unix.RTM_F_LOOKUP_TABLE)...), same)
		}
	}
	compare("IPv4 routes", true, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(unix.AF_INET, 0, 0)...), same)
	compare("IPv6 neighbours", true, ask(unix.RTM_GETNEIGH, dumpAll, ndmsg(unix.AF_INET6, 0, 0)...), func(lines []string) []string {
		return slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "1=ff02") }) // groups of the kernel's own
	})
	compare("IPv6 routes", true, ask(unix.RTM_GETROUTE, dumpAll, rtmsg(unix.AF_INET6, 0, 0)...), same)
	compare("rules", true, ask(unix.RTM_GETRULE, dumpAll, rtmsg(unix.AF_INET, 0, 0)...), func(lines []string) []string {
		return slices.DeleteFunc(lines, func(l string) bool { // tables local and default
			return strings.Contains(l, "15=ff000000") || strings.Contains(l, "15=fd000000")
		})
	})
}

// TestIPReads: iproute2 understands what we say as it understands the kernel.
func TestIPReads(t *testing.T) {
	k := newKernel(t)
	read := func(datagrams [][]byte) string {
		var file []byte
		for _, d := range datagrams {
			for m := d; len(m) > 0; m = m[align(int(ne.Uint32(m))):] {
				if n := ne.Uint32(m); ne.Uint16(m[4:]) != unix.NLMSG_DONE {
					file = append(file, m[:n]...)
				}
			}
		}
		path := filepath.Join(t.TempDir(), "messages")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		return k.ip("-d monitor all file " + path)
	}
	for _, q := range []struct {
		name string
		ask  []byte
	}{
		{"addresses", ask(unix.RTM_GETADDR, dumpAll, ifaddr(0, 0)...)},
		{"routes", ask(unix.RTM_GETROUTE, dumpAll, rtmsg(unix.AF_INET, 0, 0)...)},
		{"neighbours", ask(unix.RTM_GETNEIGH, dumpAll, ndmsg(unix.AF_INET, 0, 0)...)},
	} {
		datagrams, _ := k.answer(true, q.ask)
		want := strings.ReplaceAll(read(datagrams), " proto kernel_lo", "")
		if got := read(Socket{Strict: true}.Answer(sample(), q.ask)); !slices.Equal(unordered(strings.Split(got, "\n")), unordered(strings.Split(want, "\n"))) {
			t.Errorf("%s:\n%s\nthe kernel's:\n%s", q.name, got, want)
		}
	}
	got := read(Answer(sample(), ask(unix.RTM_GETLINK, dumpAll, 0), 1))
	for _, want := range []string{
		"1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default",
		"3: en0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400 qdisc noqueue state UP group default",
		"link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
