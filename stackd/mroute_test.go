package stackd

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

// A routing daemon at the door: what it says is in the tables, it is asked, and with it everything goes.
func TestMulticastRoutingByTheDoor(t *testing.T) {
	s, _ := on6(t)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	addr := netip.MustParseAddr
	ok(s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}))
	add6(t, s, "2001:db8::1/64")
	en0 := row(t, s, "en0").Index

	four, err := s.SocketFamily(protocol.AFInet, protocol.SockRaw, protocol.ProtoIGMP)
	ok(err)
	vif := protocol.AppendVifCtl(nil, protocol.VifCtl{Threshold: 1, Local: addr("10.0.0.1")})
	want(t, four.SetOption(protocol.ProtoIP, protocol.MRTAddVif, vif), unix.ENOPROTOOPT)
	ok(four.SetInt(protocol.ProtoIP, protocol.MRTInit, 1))
	ok(four.SetOption(protocol.ProtoIP, protocol.MRTAddVif, vif))
	six, err := s.SocketFamily(protocol.AFInet6, protocol.SockRaw, protocol.ProtoICMPv6)
	ok(err)
	ok(six.SetInt(protocol.ProtoIPv6, protocol.MRT6Init, 1))
	ok(six.SetOption(protocol.ProtoIPv6, protocol.MRT6AddMif, protocol.AppendMifCtl(nil, 3, en0)))

	for _, c := range []struct {
		router                       *client.Socket
		level, hops, add             int
		from, src, dst               string
		parse                        func([]byte) (protocol.McastUpcall, bool)
		vif                          int
		vifCount, entryCount, family uint32
	}{
		{four, protocol.ProtoIP, protocol.IPMulticastTTL, protocol.MRTAddMFC, "10.0.0.1", "10.0.0.1", "239.1.2.3", protocol.ParseUpcall, 0,
			protocol.SIOCGETVIFCNT, protocol.SIOCGETSGCNT, protocol.AFInet},
		{six, protocol.ProtoIPv6, protocol.IPv6MulticastHops, protocol.MRT6AddMFC, "2001:db8::1", "2001:db8::1", "ff0e::5", protocol.ParseUpcall6, 3,
			protocol.SIOCGETMIFCNTIN6, protocol.SIOCGETSGCNTIN6, protocol.AFInet6},
	} {
		u, err := s.SocketFamily(int(c.family), protocol.SockDgram, 0)
		ok(err)
		ok(u.Bind(protocol.AddrFrom(addr(c.from), 0)))
		ok(u.SetInt(c.level, c.hops, 5))
		if _, err := u.Send(protocol.Msg{Addr: protocol.AddrFrom(addr(c.dst), 9), Data: []byte("hello")}); err != nil {
			t.Fatal(err)
		}
		m, err := c.router.Recv(100, 0)
		ok(err)
		up, is := c.parse(m.Data)
		if !is || up != (protocol.McastUpcall{Kind: protocol.UpcallNoCache, Vif: c.vif, Source: addr(c.src), Group: addr(c.dst)}) {
			t.Errorf("%+v %v from % x", up, is, m.Data)
		}
		entry := protocol.MFCCtl{Origin: up.Source, Group: up.Group, Parent: c.vif}
		entry.TTLs[9] = 1
		ok(c.router.SetOption(c.level, c.add, protocol.AppendMFCCtl(nil, entry)))
		b, err := s.Ioctl(c.vifCount, protocol.AppendVifCount(nil, protocol.VifCount{Vif: c.vif}))
		ok(err)
		if v, err := protocol.ParseVifCount(b); err != nil || v.InPackets != 1 || v.InBytes == 0 {
			t.Errorf("%+v %v", v, err)
		}
		b, err = s.Ioctl(c.entryCount, protocol.AppendSGCount(nil, protocol.SGCount{Source: up.Source, Group: up.Group}))
		ok(err)
		if e, err := protocol.ParseSGCount(b); err != nil || e.Packets != 1 || e.Source != up.Source {
			t.Errorf("%+v %v", e, err)
		}
		_, err = s.Ioctl(c.vifCount, protocol.AppendVifCount(nil, protocol.VifCount{Vif: 31}))
		want(t, err, unix.EINVAL)
		_, err = s.Ioctl(c.entryCount, protocol.AppendSGCount(nil, protocol.SGCount{Source: up.Group, Group: up.Group}))
		want(t, err, unix.EADDRNOTAVAIL)
	}
	_, err = s.Ioctl(protocol.SIOCGETSGCNT, protocol.AppendSGCount(nil, protocol.SGCount{Source: addr("::1"), Group: addr("ff0e::5")}))
	want(t, err, unix.EINVAL)

	vifs, err := client.Table[protocol.VifRow](s, protocol.TableVifs, "")
	ok(err)
	for i := range vifs {
		vifs[i].InBytes = 0
	}
	if d := cmp.Diff(vifs, []protocol.VifRow{{Family: "inet", Interface: "en0", Threshold: 1, Local: "10.0.0.1", InPackets: 1},
		{Family: "inet6", Vif: 3, Interface: "en0", Threshold: 1, InPackets: 1}}); d != "" {
		t.Error(d)
	}
	mfc, err := client.Table[protocol.MFCRow](s, protocol.TableMFC, "")
	ok(err)
	for i := range mfc {
		mfc[i].Bytes = 0
	}
	out := []protocol.MFCOut{{Vif: 9, TTL: 1}}
	if d := cmp.Diff(mfc, []protocol.MFCRow{{Family: "inet", Origin: "10.0.0.1", Group: "239.1.2.3", Out: out, Packets: 1},
		{Family: "inet6", Origin: "2001:db8::1", Group: "ff0e::5", Parent: 3, Out: out, Packets: 1}}); d != "" {
		t.Error(d)
	}
	if row(t, s, "en0").Flags&protocol.IFFAllMulti == 0 {
		t.Error("en0 does not listen to all groups")
	}
	ok(four.Close())
	ok(six.Close())
	if vifs, err := client.Table[protocol.VifRow](s, protocol.TableVifs, ""); err != nil || len(vifs) != 0 {
		t.Error(vifs, err)
	}
}
