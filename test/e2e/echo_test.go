package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/ping"
)

// nobodys is a client of an ordinary user's.
func (d *daemon) nobodys() (s *client.Stack) {
	d.t.Helper()
	asNobody(d.t, func() {
		var err error
		if s, err = client.Open(d.prefix); err != nil {
			d.t.Fatal(err)
		}
	})
	d.t.Cleanup(func() { _ = s.Close() })
	return s
}

// behindRouter is a stack with 10.0.0.1/24, on a wire with its default router
// 10.0.0.2 and 10.0.0.3, which are one and know no way on.
func behindRouter(t *testing.T) *daemon {
	t.Helper()
	wire := "path=" + t.TempDir()
	d, router := start(t, "-dwire", wire), start(t, "-dwire", wire)
	addr := func(d *daemon, a string) {
		t.Helper()
		if err := d.open().AddAddr("en0", protocol.AliasReq{Addr: inet(a), Mask: protocol.MaskAddr(protocol.AFInet, 24)}); err != nil {
			t.Fatal(err)
		}
	}
	addr(d, "10.0.0.1")
	addr(router, "10.0.0.2")
	addr(router, "10.0.0.3")
	for _, name := range []string{"net.inet.ip.forwarding", "net.inet.icmp.bmcastecho"} {
		if _, err := router.open().SetSysctl(name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	m := protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFUp | protocol.RTFGateway, Gateway: inet("10.0.0.2")}
	m.SetPrefix(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	if _, err := d.route().Request(m); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestEchoSocket: what an ordinary user does with one.
func TestEchoSocket(t *testing.T) {
	d := behindRouter(t)
	s := d.nobodys()
	if _, err := s.Socket(protocol.SockRaw, protocol.ProtoICMP); !errors.Is(err, syscall.EACCES) {
		t.Errorf("a raw socket: %v, want EACCES", err)
	}
	k, err := s.Socket(protocol.SockDgram, protocol.ProtoICMP)
	if err != nil {
		t.Fatal(err)
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("bind", k.Bind(inet("0.0.0.0:4711")))
	for _, name := range []int{protocol.IPRecvTTL, protocol.IPRecvDstAddr, protocol.IPRecvIf} {
		must("option", k.SetInt(protocol.ProtoIP, name, 1))
	}
	must("SO_TIMESTAMP", k.SetInt(protocol.SolSocket, protocol.SoTimestamp, 1))
	if a, err := k.LocalAddr(); err != nil || a != inet("0.0.0.0:4711") {
		t.Errorf("getsockname: %v, %v", a, err)
	}
	want := protocol.SocketRow{Proto: "icmp", Family: "inet", Local: "*", LPort: 4711, Foreign: "*", UID: 65534}
	rows, err := client.Table[protocol.SocketRow](s, protocol.TableSockets, "")
	if err == nil && len(rows) == 1 {
		rows[0].PCB, rows[0].PID = "", 0
	}
	if err != nil || len(rows) != 1 || rows[0] != want {
		t.Errorf("sockets %+v, %v; want %+v", rows, err, want)
	}

	request := []byte{8, 0, 0, 0, 0, 0, 0, 7, 'h', 'i'}
	_, err = k.Send(protocol.Msg{Addr: inet("10.0.0.1:0"), Data: request})
	must("send", err)
	_ = k.SetReadDeadline(time.Now().Add(20 * time.Second))
	m, err := k.Recv(100, 0)
	must("recv", err)
	a, err := protocol.ParseAncillary(m.Control)
	must("control", err)
	if len(m.Data) != 10 || string(m.Data[:2]) != "\x00\x00" || string(m.Data[4:]) != "\x12\x67\x00\x07hi" || m.Addr != inet("10.0.0.1:0") {
		t.Errorf("received % x from %v", m.Data, m.Addr)
	}
	if a.TTL != 255 || a.Dst != netip.MustParseAddr("10.0.0.1") || a.If.Name != "lo0" || time.Since(a.Time).Abs() > time.Minute {
		t.Errorf("with %+v", a)
	}
	if _, err := k.Send(protocol.Msg{Addr: inet("10.0.0.1:0"), Data: m.Data}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("sending a reply: %v, want EINVAL", err)
	}
	if _, err := k.Send(protocol.Msg{Addr: inet("10.0.0.255:0"), Data: request}); !errors.Is(err, syscall.EACCES) {
		t.Errorf("sending to all: %v, want EACCES", err)
	}

	must("connect", k.Connect(inet("99.0.0.1:0")))
	_, err = k.Send(protocol.Msg{Data: request})
	must("send", err)
	if _, err := k.Recv(100, 0); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("nobody is there: %v, want ENETUNREACH", err)
	}
	must("close", k.Close())
}

// pings runs ping with a user's right, and answers what it prints with other
// figures for the times.
func pings(d *daemon, nobody bool, line string) (out, errs string, status int) {
	d.t.Helper()
	var o, e strings.Builder
	c, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	run := func() {
		status = ping.Command.Exec(&cli.Context{Stdout: &o, Stderr: &e, Env: func(string) string { return "" }, Ctx: c, Sock: d.prefix}, strings.Fields(line))
	}
	if nobody {
		asNobody(d.t, run)
	} else {
		run()
	}
	times := regexp.MustCompile(`time=[0-9.]+|= [0-9.]+/[0-9.]+/[0-9.]+/[0-9.]+ ms|"time": [0-9.e-]+|"(min|avg|max|stddev)": [0-9.e-]+`)
	return times.ReplaceAllString(o.String(), "T"), e.String(), status
}

// TestPingIsAnybodys: an ordinary user's ping prints what the superuser's does.
func TestPingIsAnybodys(t *testing.T) {
	d := behindRouter(t)
	for _, line := range []string{
		"-n -c 2 127.0.0.1", "-n -c 1 -s 65507 10.0.0.1", "-n -c 1 -s 4 10.0.0.1", "-n -c 1 -p ff -T 9 10.0.0.1", "-q -n -c 1 -I 10.0.0.1 127.0.0.1",
		"-n -c 1 0.0.0.0", "-n -c 1 10.0.0.3",
	} {
		want, _, status := pings(d, false, line)
		got, errs, status2 := pings(d, true, line)
		if got != want || status != status2 || status != 0 || errs != "" {
			t.Errorf("ping %s: status %d\n%s%swant %d\n%s", line, status2, got, errs, status, want)
		}
	}
}

// TestPingOfMany: whoever answers is heard, a request to all or along a source
// route.
func TestPingOfMany(t *testing.T) {
	d := behindRouter(t)
	for to, from := range map[string]string{"10.0.0.255": "10.0.0.2: icmp_seq=0 ttl=255 ", "224.0.0.1": "10.0.0.2: icmp_seq=0 ttl=255 ",
		"-g 10.0.0.2 10.0.0.3": "10.0.0.3: icmp_seq=0 ttl=254 "} {
		out, errs, status := pings(d, true, "-n -c 1 "+to)
		if want := "64 bytes from " + from; status != 0 || !strings.Contains(out, want) || errs != "" {
			t.Errorf("ping %s: status %d\n%s%swant %q", to, status, out, errs, want)
		}
	}
}

// TestPingTellsErrors: an ordinary user's ping tells what ICMP errors come to,
// and what it may not.
func TestPingTellsErrors(t *testing.T) {
	d := behindRouter(t)
	for to, want := range map[string]string{
		"-w 2 99.0.0.1":    "ping: recvfrom: Network is unreachable\n",
		"-r -w 1 99.0.0.1": "ping: sendto: Network is unreachable\n",
	} {
		out, errs, status := pings(d, true, "-n -c 1 "+to)
		if status != 2 || errs != want || !strings.Contains(out, "100.0% packet loss") {
			t.Errorf("ping %s: status %d\n%s%swant %q", to, status, out, errs, want)
		}
	}
	for opt, what := range map[string]string{"-f": "-f", "-l 3": "-l", "-R": "-R", "-i 0.5": "< 1 sec ping interval"} {
		_, errs, status := pings(d, true, opt+" -c 1 127.0.0.1")
		if want := fmt.Sprintf("ping: Must be superuser to use %s\n", what); status != 1 || errs != want {
			t.Errorf("%s: status %d, %q, want %q", opt, status, errs, want)
		}
	}
}
