package play

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"ionet/client"
	"ionet/test/need"
)

// Pair are two stacks of a user on a wire, 10.0.0.1 and 10.0.0.2.
func Pair(t testing.TB) (a, b *User) {
	t.Helper()
	return PairOf(NewUser(t))
}

// PairOf is Pair for a user that is there.
func PairOf(u *User) (a, b *User) {
	u.T.Helper()
	var side [2]*User
	for i := range side {
		p := filepath.Join(u.Dir, fmt.Sprint("s", i+1))
		u.Ionet(p, "-d", "wire", "path="+filepath.Join(u.Dir, "w"), "-p", "tcpip", "prefix="+p)
		side[i] = u.At(p)
		side[i].Must("ifconfig", "en0", fmt.Sprintf("10.0.0.%d/24", i+1))
	}
	return side[0], side[1]
}

// KernelHost is a Linux kernel with address 10.0.0.1 in a namespace of its
// own, and a stack with 10.0.0.2 on the TAP between them.
func KernelHost(t testing.TB) (ns *need.NS, u *User, prefix string) {
	need.File(t, "/dev/net/tun")
	ns = need.Namespace(t)
	u = NewRoot(t, ns)
	prefix = filepath.Join(u.Dir, "s")
	u.Ionet(prefix, "-d", "tap", "name=tap0", "-ptcpip", "prefix="+prefix)
	ns.Exec("ip", "addr", "add", "10.0.0.1/24", "dev", "tap0")
	ns.Exec("ip", "link", "set", "tap0", "up")
	u = u.At(prefix)
	u.Must("ifconfig", "en0", "10.0.0.2/24")
	return ns, u, prefix
}

// SpeakIPv6 gives the ends of [KernelHost] 2001:db8::1 and 2001:db8::2 too, good
// at once.
func SpeakIPv6(ns *need.NS, u *User) {
	u.T.Helper()
	ns.Exec("ip", "addr", "add", "2001:db8::1/64", "dev", "tap0", "nodad")
	u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	u.Must("ifconfig", "en0", "inet6", "2001:db8::2", "prefixlen", "64")
}

// Open is a client of the user's stack.
func (u *User) Open() *client.Stack {
	u.T.Helper()
	s, err := client.Open(strings.TrimPrefix(u.Env[len(u.Env)-1], "SOCK="))
	if err != nil {
		u.T.Fatal(err)
	}
	u.T.Cleanup(func() { _ = s.Close() })
	return s
}
