package interop

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ionet/driver/netns"
	"ionet/test/need"
	"ionet/test/play"
)

// TestRouterOverDrivers has a stack route between two kernels over every driver
// of an existing interface: each pings the other, and a stream arrives whole.
func TestRouterOverDrivers(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	for _, driver := range []string{"packet", "packet ring=off", "packet queues=2", "xdp"} {
		t.Run(driver, func(t *testing.T) { routerOverDriver(t, driver) })
	}
}

// routerOverDriver is the test of one driver, named with its options.
func routerOverDriver(t *testing.T, driver string) {
	driver, options, _ := strings.Cut(driver, " ")
	mid := need.Namespace(t)
	u := play.NewRoot(t, mid)
	prefix := filepath.Join(u.Dir, "s")
	var args []string
	var ends [2]*need.NS
	for i := range ends {
		far, near := fmt.Sprint("far", i), fmt.Sprint("near", i)
		ends[i] = need.Namespace(t)
		ends[i].Exec("ip", "link", "add", far, "type", "veth", "peer", "name", near, "netns", mid.Name)
		mid.Exec("ip", "link", "set", near, "up")
		for _, command := range []string{
			"link set " + far + " up", fmt.Sprintf("addr add 10.0.%d.1/24 dev %s", i, far), fmt.Sprintf("route add default via 10.0.%d.2", i),
			fmt.Sprintf("addr add 2001:db8:%d::1/64 dev %s nodad", i, far), fmt.Sprintf("route add default via 2001:db8:%d::2", i),
		} {
			ends[i].Exec("ip", strings.Fields(command)...)
		}
		args = append(args, "-d", driver, strings.TrimSuffix("if="+near+","+options, ","))
	}
	u.Ionet(prefix, append(args, "-p", "tcpip", "forward,forward6,prefix="+prefix)...)
	u = u.At(prefix)
	u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	for i := range ends {
		u.Must("ifconfig", fmt.Sprint("en", i), fmt.Sprintf("10.0.%d.2/24", i))
		u.Must("ifconfig", fmt.Sprint("en", i), "inet6", fmt.Sprintf("2001:db8:%d::2", i), "prefixlen", "64")
	}
	for i, addr := range [][2]string{{"10.0.1.1", "2001:db8:1::1"}, {"10.0.0.1", "2001:db8::1"}} {
		for _, a := range addr {
			for _, size := range []string{"56", "1400", "8000"} {
				out, err := ends[i].Try("/usr/bin/ping", "-n", "-c", "2", "-i", "0.1", "-W", "5", "-s", size, a)
				if err != nil || !strings.Contains(out, " 0% packet loss") {
					t.Errorf("ping of %s octets to %s: %v\n%s", size, a, err, out)
				}
			}
		}
	}
	for _, addr := range []string{"10.0.1.1", "2001:db8:1::1"} {
		streamThrough(t, ends[0], ends[1], addr)
	}
	if out := u.Must("netstat", "-s"); strings.Contains(out, "malformed frame") && !strings.Contains(out, "\t0 malformed frame") {
		t.Errorf("malformed frames:\n%s", out)
	}
}

// streamThrough sends a stream from one kernel to the address of another.
func streamThrough(t *testing.T, from, to *need.NS, addr string) {
	const octets = 32 << 20
	var l net.Listener
	var c net.Conn
	err := netns.Do(to.Name, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := netns.Do(from.Name, func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		return err
	}); err != nil {
		t.Error(err)
		return
	}
	sent, got := sha256.New(), sha256.New()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.Close()
		_, _ = io.CopyN(io.MultiWriter(c, sent), rand.NewChaCha8([32]byte{1}), octets)
	}()
	a, err := l.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	defer a.Close()
	_ = a.SetDeadline(time.Now().Add(30 * time.Second))
	n, err := io.Copy(got, a)
	a.Close() // who still writes is not to wait
	<-done
	if err != nil || n != octets || string(got.Sum(nil)) != string(sent.Sum(nil)) {
		t.Errorf("%d octets of %d to %s arrived: %v", n, octets, addr, err)
	}
}
