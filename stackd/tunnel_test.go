package stackd

import (
	"testing"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

// row is the row of an interface.
func row(t *testing.T, s *client.Stack, name string) protocol.InterfaceRow {
	t.Helper()
	rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, name)
	if err != nil {
		t.Fatal(err)
	}
	return rows[0]
}

func TestTunnelsByTheDoor(t *testing.T) {
	s, _ := on6(t)
	for _, name := range []string{"gif0", "gif1", "stf0"} {
		if made, err := s.CreateInterface(name); made != name || err != nil {
			t.Fatalf("create %s: %s, %v", name, made, err)
		}
	}
	_, err := s.CreateInterface("stf1")
	want(t, err, unix.EBUSY)
	_, _, err = s.Tunnel("gif0")
	want(t, err, unix.EADDRNOTAVAIL)
	for _, e := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"2001:db8::1", "2001:db8::2"}, {"fe80::1%2", "fe80::2%2"}} {
		if err := s.SetTunnel("gif0", inet(e[0]), inet(e[1])); err != nil {
			t.Fatal(err)
		}
		if src, dst, err := s.Tunnel("gif0"); err != nil || src != inet(e[0]) || dst != inet(e[1]) {
			t.Errorf("gif0 leads from %v to %v, %v; want %v", src, dst, err, e)
		}
	}
	if r := row(t, s, "gif0"); r.TunnelSrc != "fe80::1%en0" || r.TunnelDst != "fe80::2%en0" || r.MTU != 1280 ||
		r.Flags != protocol.IFFUp|protocol.IFFRunning|protocol.IFFPointToPoint|protocol.IFFMulticast {
		t.Errorf("gif0 is %+v", r)
	}
	want(t, s.SetTunnel("gif1", inet("fe80::1%2"), inet("fe80::2%2")), unix.EADDRNOTAVAIL)
	want(t, s.SetTunnel("gif1", inet("10.0.0.1"), inet("2001:db8::2")), unix.EINVAL)
	want(t, s.SetTunnel("gif1", inet("10.0.0.1"), protocol.Addr{}), unix.EINVAL)
	want(t, s.SetTunnel("en0", inet("10.0.0.1"), inet("10.0.0.2")), unix.EINVAL)
	want(t, s.SetTunnel("stf0", inet("10.0.0.1"), inet("10.0.0.2")), unix.EINVAL)
	want(t, s.SetTunnel("gif9", inet("10.0.0.1"), inet("10.0.0.2")), unix.ENXIO)
	want(t, s.SetMTU("gif0", 1279), unix.EINVAL)
	want(t, s.DeleteTunnel("gif1"), unix.EADDRNOTAVAIL)
	if err := s.DeleteTunnel("gif0"); err != nil {
		t.Error(err)
	}
	if r := row(t, s, "gif0"); r.TunnelSrc != "" || r.Flags&protocol.IFFRunning != 0 {
		t.Errorf("gif0 is %+v", r)
	}
	six := protocol.AliasReq{Addr: inet("2001:db8::9"), Mask: protocol.MaskAddr(protocol.AFInet6, 16)}
	want(t, s.AddAddr("stf0", six), unix.EINVAL)
	want(t, s.AddAddr("stf0", protocol.AliasReq{Addr: inet("10.0.0.9")}), unix.EAFNOSUPPORT)
	six.Addr = inet("2002:c633:6401::1")
	if err := s.AddAddr("stf0", six); err != nil {
		t.Error(err)
	}
}

// What is made and unmade is not replayed, and what is left is, in order.
func TestTunnelsInTheJournal(t *testing.T) {
	create := func(req uint32, name string) record {
		return record{recIoctl, append(protocol.AppendU32(nil, req), protocol.AppendIfReq(nil, protocol.IfReq{Name: name})...)}
	}
	tunnel := func(name, src, dst string) record {
		return record{recIoctl, append(protocol.AppendU32(nil, protocol.SIOCSIFPHYADDR),
			protocol.AppendAliasReq(nil, protocol.AliasReq{Name: name, Addr: inet(src), Brd: inet(dst)})...)}
	}
	recs := []record{
		create(protocol.SIOCIFCREATE, "gif0"), tunnel("gif0", "10.0.0.1", "10.0.0.2"), create(protocol.SIOCDIFPHYADDR, "gif0"),
		tunnel("gif0", "10.0.0.1", "10.0.0.3"), tunnel("gif0", "10.0.0.1", "10.0.0.4"),
		create(protocol.SIOCIFCREATE, "gif1"), tunnel("gif1", "10.0.0.1", "10.0.0.2"), create(protocol.SIOCIFDESTROY, "gif1"),
	}
	left := compacted(recs)
	if len(left) != 2 || string(left[0].body) != string(recs[0].body) || string(left[1].body) != string(recs[4].body) {
		t.Errorf("%d records are left: %q", len(left), left)
	}
}
