package ipsec

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ionet/client"
	"ionet/driver/netns"
	"ionet/protocol"
	"ionet/test/need"
	"ionet/test/play"
	"ionet/test/vm"
)

// vpn is two gateways with a network behind each, and a kernel in it, in a namespace of its own on a TAP: 10.1.0.2 and
// 2001:db8:1::2 behind 192.0.2.1 and 2001:db8:9::1, and 2 in the place of 1.
type vpn struct {
	t     testing.TB
	ns    [2]*need.NS
	hosts [2]*play.User // superusers there
	gw    [2]*play.User
	s     [2]*client.Stack // of the gateways
	encap *vm.Encap        // how ESP rides UDP; nil: it does not
}

// newVPN makes one. Its gateways have those options beside ipsec, and the drivers between them; none: a wire.
func newVPN(t testing.TB, options string, between ...[]string) *vpn {
	t.Helper()
	need.File(t, "/dev/net/tun")
	v := &vpn{t: t}
	dir := play.ShortDir(t)
	for i := range v.gw {
		v.ns[i] = need.Namespace(t)
		u := play.NewRoot(t, v.ns[i])
		prefix := filepath.Join(u.Dir, "s")
		drivers := []string{"-d", "wire", "path=" + filepath.Join(dir, "w")}
		if len(between) > 0 {
			drivers = between[i]
		}
		u.Ionet(prefix, append(append([]string{"-d", "tap", "name=tap0"}, drivers...), "-ptcpip", "ipsec,forward,forward6,prefix="+prefix+options)...)
		v.hosts[i], v.gw[i] = u, u.At(prefix)
		v.s[i] = v.gw[i].Open()
		v.gw[i].Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
		v.ns[i].Exec("ip", "link", "set", "tap0", "up")
		for _, v6 := range []bool{false, true} {
			family, inside, outside := map[bool]string{false: "inet", true: "inet6"}[v6], "/24", "/24"
			if v6 {
				inside, outside = "/64", "/64"
			}
			v.gw[i].Must("ifconfig", "en0", family, v.router(i, v6).String()+inside)
			v.gw[i].Must("ifconfig", "en1", family, v.outer(i, v6).String()+outside)
			add := []string{"addr", "add", v.host(i, v6).String() + inside, "dev", "tap0"}
			if v6 {
				add = append(add, "nodad")
			}
			v.ns[i].Exec("ip", add...)
			v.ns[i].Exec("ip", "route", "add", "default", "via", v.router(i, v6).String())
		}
	}
	for i := range v.gw { // as one does for whom the other network is somewhere out there
		v.gw[i].Must("route", "add", "default", v.outer(1-i, false).String())
		v.gw[i].Must("route", "add", "-inet6", "default", v.outer(1-i, true).String())
	}
	return v
}

func pick(v6 bool, a4, a6 string, a ...any) netip.Addr {
	if v6 {
		a4 = a6
	}
	return netip.MustParseAddr(fmt.Sprintf(a4, a...))
}

// The addresses of side i: of the kernel, and of the gateway inside and outside.
func (v *vpn) host(i int, v6 bool) netip.Addr {
	return pick(v6, "10.%d.0.2", "2001:db8:%d::2", i+1)
}
func (v *vpn) router(i int, v6 bool) netip.Addr {
	return pick(v6, "10.%d.0.1", "2001:db8:%d::1", i+1)
}
func (v *vpn) outer(i int, v6 bool) netip.Addr {
	return pick(v6, "192.0.2.%d", "2001:db8:9::%d", i+1)
}

// network is the one behind gateway i.
func (v *vpn) network(i int, v6 bool) netip.Prefix {
	bits := 24
	if v6 {
		bits = 64
	}
	return netip.PrefixFrom(v.host(i, v6), bits).Masked()
}

// key has the networks of a family joined by a tunnel of another, and nothing else.
func (v *vpn) key(inner6, outer6 bool, s suite) {
	v.t.Helper()
	for i := range v.gw {
		v.gw[i].Must("setkey", "-f", v.gw[i].Write("setkey.conf", "flush; spdflush;\n"+v.conf(i, inner6, outer6, s), 0o600))
	}
}

// conf is what gateway i is told of such a tunnel.
func (v *vpn) conf(i int, inner6, outer6 bool, s suite) string {
	conf := ""
	for from := range v.gw {
		to := 1 - from
		sa := vm.SA{Proto: s.proto, Mode: "tunnel", Src: v.outer(from, outer6), Dst: v.outer(to, outer6), SPI: 0x1000 * uint32(1+from), Enc: s.enc, Auth: s.auth, Encap: v.encap}
		dir := "out"
		if from != i {
			dir = "in"
		}
		conf += cell{}.add(sa) + fmt.Sprintf("spdadd %v %v any -P %s ipsec %s/tunnel/%v-%v/require;\n", v.network(from, inner6), v.network(to, inner6), dir, s.proto, sa.Src, sa.Dst)
	}
	return conf
}

// forget has the kernels forget what they have learnt of paths.
func (v *vpn) forget() {
	for _, ns := range v.ns {
		ns.Exec("ip", "route", "flush", "cache")
		ns.Exec("ip", "-6", "route", "flush", "cache")
	}
}

// pings is what the kernel's ping of side i says of one probe to an address.
func (v *vpn) pings(i int, to netip.Addr, more ...string) string {
	v.t.Helper()
	out, _ := v.ns[i].Try(need.Command(v.t, "ping", "iputils-ping"), append(append([]string{"-n", "-c", "1", "-W", "2"}, more...), to.String())...)
	return out
}

// reaches fails unless that is answered.
func (v *vpn) reaches(i int, to netip.Addr, more ...string) {
	v.t.Helper()
	if out := v.pings(i, to, more...); !strings.Contains(out, " 0% packet loss") {
		v.t.Errorf("side %d, ping %q %v:\n%s", i, more, to, out)
	}
}

// watches answers what interface name of gateway i sends or receives while f runs, and what is not of neighbours.
func (v *vpn) watches(i int, name string, f func()) (frames [][]byte) {
	v.t.Helper()
	c, err := v.s[i].Capture(protocol.CaptureRequest{Interface: name, Buffer: 16 << 20})
	if err != nil {
		v.t.Fatal(err)
	}
	defer c.Close()
	const mark = 333 // octets of an echo request: everything before it has been told
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			all, err := c.Next()
			if err != nil {
				return
			}
			for _, r := range all {
				if r.LinkType == protocol.LinkTypeRaw && len(r.Data) > 0 {
					kind := []byte{0x08, 0x00}
					if r.Data[0]>>4 == 6 {
						kind = []byte{0x86, 0xdd}
					}
					r.Data = append(append(make([]byte, 12), kind...), r.Data...)
				}
				h := headOf(r.Data)
				if h.proto == 58 && len(h.rest) == 8+mark && h.rest[0] == 128 {
					return
				}
				if h.dst.IsValid() && !(h.proto == 58 && len(h.rest) > 0 && h.rest[0] >= 133) && !h.dst.IsMulticast() {
					frames = append(frames, r.Data)
				}
			}
		}
	})
	f()
	switch name {
	case "en0":
		v.gw[i].Must("ping6", "-n", "-c", "1", "-s", fmt.Sprint(mark), v.host(i, true).String())
	case "en1":
		v.gw[i].Must("ping6", "-n", "-c", "1", "-s", fmt.Sprint(mark), v.outer(1-i, true).String())
	default: // there is nobody; what has been there has been told
		time.AfterFunc(time.Second, func() { c.Close() })
	}
	time.AfterFunc(20*time.Second, func() { c.Close() })
	wg.Wait()
	return frames
}

// listen has a listener in the namespace of side i, at which everything is sent back.
func (v *vpn) listen(i int, v6 bool) netip.AddrPort {
	v.t.Helper()
	var l net.Listener
	if err := netns.Do(v.ns[i].Name, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(v.host(i, v6), 0).String())
		return err
	}); err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go sendBack(c)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// dial is a connection from the kernel of side i.
func (v *vpn) dial(i int, to netip.AddrPort) net.Conn {
	v.t.Helper()
	var c net.Conn
	if err := netns.Do(v.ns[i].Name, func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		c, err = new(net.Dialer).DialContext(ctx, "tcp", to.String())
		return err
	}); err != nil {
		v.t.Fatal(err)
	}
	return c
}
