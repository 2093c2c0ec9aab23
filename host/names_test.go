package host_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"ionet/driver/wire"
	"ionet/host"
)

// nameServer answers, on a stack's port 53, that peer.test. is addr.
func nameServer(t *testing.T, h *host.Stack, addr string) {
	pc, err := h.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	up := make(chan struct{})
	srv := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		switch {
		case q.Question[0].Name != "peer.test.":
			m.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			rr, _ := dns.NewRR("peer.test. 60 IN A " + addr)
			m.Answer = []dns.RR{rr}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { _ = srv.Shutdown(); <-done })
}

// A name is asked of the stack's own servers, over the stack; the first does
// not answer.
func TestNamesAreAskedOverTheStack(t *testing.T) {
	seg := wire.NewSegment()
	conf := host.Config{NameServers: []netip.AddrPort{
		netip.MustParseAddrPort("10.0.0.2:54"), netip.MustParseAddrPort("10.0.0.2:53")}}
	a, b := stationOf(t, seg, 1, conf), station(t, seg, 2)
	nameServer(t, b, "10.0.0.2")
	srv, err := b.ListenPacket("udp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	c, err := a.Dial("udp", "peer.test.:7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.RemoteAddr().String(); got != "10.0.0.2:7" {
		t.Errorf("peer.test. is %s", got)
	}
	if _, err := c.Write([]byte("by name")); err != nil {
		t.Fatal(err)
	}
	srv.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, _, err := srv.ReadFrom(make([]byte, 100)); n != 7 || err != nil {
		t.Errorf("%d octets, %v", n, err)
	}
	_, err = a.Dial("udp", "nobody.test.:7")
	if e, ok := errors.AsType[*net.DNSError](err); !ok || !e.IsNotFound {
		t.Errorf("%v, want that there is no such host", err)
	}
}

func TestDialErrors(t *testing.T) {
	a := station(t, wire.NewSegment(), 1)
	for _, tc := range []struct{ network, address, says string }{
		{"udp", "10.0.0.2", "dial udp: address 10.0.0.2: missing port in address"},
		{"tcp", "10.0.0.2:nonsense", "dial tcp: lookup tcp/nonsense: unknown port"},
		{"unix", "/x", "dial unix: unknown network unix"},
		{"udp", "99.0.0.1:7", "dial udp 99.0.0.1:7: connect: network is unreachable"},
	} {
		if _, err := a.Dial(tc.network, tc.address); err == nil || err.Error() != tc.says {
			t.Errorf("%s %s: %v, want %s", tc.network, tc.address, err, tc.says)
		}
	}
	if _, err := a.ListenPacket("udp", "10.9.9.9:7"); err == nil || err.Error() != "listen udp 10.9.9.9:7: bind: cannot assign requested address" {
		t.Error(err)
	}
	if _, err := a.ListenPacket("tcp", ":7"); err == nil || err.Error() != "listen tcp: unknown network tcp" {
		t.Error(err)
	}
}
