package stackd

import (
	"testing"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

func TestVLANsByTheDoor(t *testing.T) {
	s, _ := on6(t)
	for _, name := range []string{"vlan0", "vlan1"} {
		if made, err := s.CreateInterface(name); made != name || err != nil {
			t.Fatalf("create %s: %s, %v", name, made, err)
		}
	}
	if tag, parent, err := s.VLAN("vlan0"); tag != 0 || parent != "" || err != nil {
		t.Errorf("vlan0 is %d of %q, %v", tag, parent, err)
	}
	if err := s.SetFlags("en0", protocol.IFFUp, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.SetVLAN("vlan0", 5, "en0"); err != nil {
		t.Fatal(err)
	}
	if tag, parent, err := s.VLAN("vlan0"); tag != 5 || parent != "en0" || err != nil {
		t.Errorf("vlan0 is %d of %q, %v", tag, parent, err)
	}
	en0 := row(t, s, "en0")
	if r := row(t, s, "vlan0"); r.VLAN != 5 || r.VLANParent != "en0" || r.MTU != en0.MTU || r.Link != en0.Link || r.Type != protocol.IFTL2VLAN ||
		r.Flags != protocol.IFFUp|protocol.IFFRunning|protocol.IFFBroadcast|protocol.IFFSimplex|protocol.IFFMulticast {
		t.Errorf("vlan0 is %+v", r)
	}
	want(t, s.SetVLAN("vlan1", 5, "en0"), unix.EEXIST)
	want(t, s.SetVLAN("vlan1", 0, "en0"), unix.EINVAL)
	want(t, s.SetVLAN("vlan1", 4095, "en0"), unix.EINVAL)
	want(t, s.SetVLAN("vlan1", 6, "en7"), unix.ENXIO)
	want(t, s.SetVLAN("vlan1", 6, "lo0"), unix.EPROTONOSUPPORT)
	want(t, s.SetVLAN("vlan0", 6, "en0"), unix.EBUSY)
	want(t, s.SetVLAN("en0", 6, "en0"), unix.EINVAL)
	want(t, s.SetVLAN("vlan9", 6, "en0"), unix.ENXIO)
	want(t, s.ClearVLAN("vlan1"), unix.EADDRNOTAVAIL)
	_, _, err := s.VLAN("en0")
	want(t, err, unix.EINVAL)
	want(t, s.SetMTU("vlan0", en0.MTU+1), unix.EINVAL)
	if err := s.ClearVLAN("vlan0"); err != nil {
		t.Error(err)
	}
	if r := row(t, s, "vlan0"); r.VLANParent != "" || r.Link != "" || r.Flags&(protocol.IFFUp|protocol.IFFRunning) != 0 {
		t.Errorf("vlan0 is %+v", r)
	}
}

// What is put on a parent and taken off is not replayed, nor what stood on an
// interface that is gone.
func TestVLANsInTheJournal(t *testing.T) {
	ioctl := func(req uint32, r protocol.IfReq) record {
		return record{recIoctl, append(protocol.AppendU32(nil, req), protocol.AppendIfReq(nil, r)...)}
	}
	set := func(name string, tag uint32, parent string) record {
		return ioctl(protocol.SIOCSETVLAN, protocol.IfReq{Name: name, Value: tag, Text: parent})
	}
	made := func(kind byte, name string) record {
		b := protocol.AppendString(nil, name)
		if kind == recMount {
			b = protocol.AppendString(protocol.AppendMountRequest(nil, protocol.MountRequest{Type: "io-net", Module: "wire"}), name)
		}
		return record{kind, b}
	}
	recs := []record{
		ioctl(protocol.SIOCIFCREATE, protocol.IfReq{Name: "vlan0"}), set("vlan0", 5, "en0"), set("vlan0", 0, ""), set("vlan0", 6, "en0"),
		made(recMount, "en1"), ioctl(protocol.SIOCIFCREATE, protocol.IfReq{Name: "vlan1"}), set("vlan1", 5, "en1"), made(recUmount, "en1"),
	}
	left := compacted(recs)
	if len(left) != 3 || string(left[0].body) != string(recs[0].body) || string(left[1].body) != string(recs[3].body) || string(left[2].body) != string(recs[5].body) {
		t.Errorf("%d records are left: %q", len(left), left)
	}
}
