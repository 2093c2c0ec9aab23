package stackd

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

// streams are the two ends of a connection on lo0.
func streams(t *testing.T, s *client.Stack) (x, y net.Conn) {
	t.Helper()
	l, err := s.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if x, err = s.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if y, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close(); y.Close() })
	for _, c := range []net.Conn{x, y} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return x, y
}

func TestTCPDrop(t *testing.T) {
	s := open(t, daemonFor(t))
	x, y := streams(t, s)
	for _, bad := range []string{"", "127.0.0.1:1", "127.0.0.1:1 127.0.0.1:2 127.0.0.1:3", "127.0.0.1:0 127.0.0.1:2", "localhost:1 127.0.0.1:2"} {
		_, err := s.SetSysctl(protocol.SysctlTCPDrop, bad)
		want(t, err, unix.EINVAL)
	}
	ends := x.LocalAddr().String() + " " + x.RemoteAddr().String()
	if _, err := s.SetSysctl(protocol.SysctlTCPDrop, ends); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("its own end: %v, want ECONNABORTED", err)
	}
	if _, err := y.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other end: %v, want ECONNRESET", err)
	}
	_, err := s.SetSysctl(protocol.SysctlTCPDrop, ends)
	want(t, err, unix.ESRCH)
	if v, err := s.Sysctl(protocol.SysctlTCPDrop); v != "" || err != nil {
		t.Errorf("the node has the value %q, %v", v, err)
	}
	nodes, err := s.SysctlList("net.inet.tcp")
	for _, n := range nodes {
		if n.Name == protocol.SysctlTCPDrop {
			t.Error("sysctl -a shows a node that has no value")
		}
	}
	if err != nil || len(nodes) == 0 {
		t.Error(nodes, err)
	}
}

func TestTCPInfo(t *testing.T) {
	d := daemonFor(t)
	s := open(t, d)
	x, y := streams(t, s)
	if _, err := x.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := y.Read(b); err != nil {
		t.Fatal(err)
	}
	rows, err := client.Table[protocol.SocketRow](s, protocol.TableSockets, "")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[int]string{}
	for _, r := range rows {
		if r.Proto != "tcp" || r.State != "ESTABLISHED" || r.UID != os.Getuid() {
			t.Errorf("%+v, want an ESTABLISHED connection of our own", r)
		}
		ids[r.LPort] = r.PCB
	}
	info := func(c net.Conn) protocol.TCPInfo {
		t.Helper()
		rows, err := client.Table[protocol.TCPInfo](s, protocol.TableTCP, ids[c.LocalAddr().(*net.TCPAddr).Port])
		if err != nil || len(rows) != 1 {
			t.Fatal(rows, err)
		}
		return rows[0]
	}
	i, k := info(x), info(y)
	if i.State != "ESTABLISHED" || k.RcvNxt-k.IRS != 6 || i.SndNxt != k.RcvNxt || i.ISS != k.IRS || i.MSS == 0 || i.RTO == 0 || i.LastSent == 0 || k.LastReceived == 0 {
		t.Errorf("%+v\n%+v", i, k)
	}

	_, err = client.Table[protocol.TCPInfo](s, protocol.TableTCP, "zz")
	want(t, err, unix.EINVAL)
	for _, none := range []string{"0", "ffffffff"} {
		_, err = client.Table[protocol.TCPInfo](s, protocol.TableTCP, none)
		want(t, err, unix.ENOENT)
	}
	// Another user is told nothing.
	c := &conn{s: d.srv, fd: -1, closed: true, greets: true, family: protocol.AFInet}
	c.credentials.Uid = uint32(os.Getuid()) + 1
	ask := protocol.AppendTableRequest(nil, protocol.TableRequest{Name: protocol.TableTCP, Arg: ids[x.LocalAddr().(*net.TCPAddr).Port]})
	_, err = c.tableFrame(ask)
	want(t, err, unix.EPERM)
	c.credentials.Uid--
	page, err := c.tableFrame(ask)
	var got protocol.TCPInfo
	if err != nil || json.Unmarshal(page[8:], &got) != nil || got.ISS != i.ISS {
		t.Errorf("its owner is told %s, %v", page, err)
	}
}
