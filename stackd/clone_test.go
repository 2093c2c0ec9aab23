package stackd

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

func TestCreateEnc(t *testing.T) {
	_, err := open(t, daemonFor(t)).CreateInterface("enc0")
	want(t, err, unix.EINVAL)
	s := open(t, daemonWith(t, "ipsec,"))
	for range 2 {
		if name, err := s.CreateInterface("enc"); err != nil || name != "enc0" {
			t.Fatalf("create enc: %q, %v", name, err)
		}
		_, err = s.CreateInterface("enc1")
		want(t, err, unix.EBUSY)
		if err := s.DestroyInterface("enc0"); err != nil {
			t.Error(err)
		}
	}
}

func TestCreateAndDestroy(t *testing.T) {
	s := open(t, daemonFor(t))
	if kinds, err := s.Cloners(); err != nil || !slices.Equal(kinds, []string{"bridge", "en", "enc", "gif", "ipsec", "lo", "stf", "vlan"}) {
		t.Errorf("cloners %v, %v", kinds, err)
	}
	for _, c := range []struct{ ask, get, addr string }{{"lo", "lo1", "127.0.1.1"}, {"en3", "en3", "10.0.0.1"}, {"en", "en0", "11.0.0.1"}, {"gif", "gif0", "12.0.0.1"}, {"gif7", "gif7", "12.0.1.1"}} {
		name, err := s.CreateInterface(c.ask)
		if err != nil || name != c.get {
			t.Fatalf("create %s: %q, %v; want %s", c.ask, name, err, c.get)
		}
		if err := s.AddAddr(name, protocol.AliasReq{Addr: inet(c.addr)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if f, err := s.Flags(name); err != nil || f&protocol.IFFUp == 0 {
			t.Errorf("%s has flags %#x, %v", name, f, err)
		}
	}
	_, err := s.CreateInterface("en3")
	want(t, err, unix.EEXIST)
	_, err = s.CreateInterface("ppp0")
	want(t, err, unix.EINVAL)
	want(t, s.DestroyInterface("lo0"), unix.EBUSY)
	for _, name := range []string{"lo1", "en3", "en0", "gif0", "gif7"} {
		if err := s.DestroyInterface(name); err != nil {
			t.Errorf("destroy %s: %v", name, err)
		}
		want(t, s.DestroyInterface(name), unix.ENXIO)
	}
}
