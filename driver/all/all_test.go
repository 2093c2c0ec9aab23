package all

import (
	"strings"
	"testing"

	"ionet/driver"
	"ionet/stack/netif"
)

func TestLookup(t *testing.T) {
	for _, name := range []string{
		"ne2000", "devn-ne2000.so", "/lib/dll/devn-ne2000.so", "devnp-i82544.so", "./devn-asix.so",
		"ppc800-ads", "devn-via-rhine", "tulip-p5064", "wire", "tap", "packet", "xdp", "qemu", "impair", "devn-tap.so",
	} {
		if _, _, ok := Lookup(name); !ok {
			t.Errorf("%s is not found", name)
		}
	}
	for _, name := range []string{"", "ne3000", "ppc800-", "npm-tcpip-v6.so", "devn-", "/"} {
		if _, _, ok := Lookup(name); ok {
			t.Errorf("%q is found", name)
		}
	}
	if n := len(Drivers.Names()); n != 6+len(hardware) {
		t.Errorf("%d drivers", n)
	}
}

func TestNotice(t *testing.T) {
	t.Setenv(Env, "")
	_, notice, _ := Lookup("devn-ne2000.so")
	if got, want := notice("en0", driver.Options{}), "en0: ne2000 simulated on segment 0; for a real interface use -d packet if=…"; got != want {
		t.Errorf("%q", got)
	}
	if got := notice("en1", driver.Options{Args: []driver.Arg{{Name: "path", Value: "/x"}}}); !strings.Contains(got, "on the segment in /x;") {
		t.Errorf("%q", got)
	}
	t.Setenv(Env, "tap,name=tap0")
	if got := notice("en0", driver.Options{}); got != "en0: ne2000 simulated by tap,name=tap0 (IONET_HARDWARE)" {
		t.Errorf("%q", got)
	}
	if _, notice, _ := Lookup("tap"); notice("en0", driver.Options{}) != "" {
		t.Error("tap is no simulation")
	}
}

func TestStandIn(t *testing.T) {
	t.Setenv(Env, "")
	open, _, _ := Lookup("ne2000")
	d, err := open(driver.Options{Seed: "/a", Args: []driver.Arg{{Name: "ioport", Value: "0x300"}, {Name: "path", Value: t.TempDir()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if i := d.Info(); !strings.HasPrefix(i.Description, "ne2000 simulated on the segment in /") || len(i.Details) == 0 {
		t.Errorf("%+v", i)
	}
	d.(netif.Filter).SetFilter(true, false, nil)

	dir := t.TempDir()
	t.Setenv(Env, "qemu,listen="+dir+"/s,mtu=1400,mac=020000000001")
	q, err := open(driver.Options{MTU: 1300})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if i := q.Info(); i.Description != "ne2000 simulated on qemu" || i.MTU != 1300 || i.MAC != (netif.MAC{2, 0, 0, 0, 0, 1}) {
		t.Errorf("%+v", i)
	}
	for value, says := range map[string]string{
		"ne2000":     `no driver "ne2000"; want one of impair, packet, qemu, tap, wire, xdp`,
		"tap,mtu=no": "IONET_HARDWARE=tap,mtu=no",
	} {
		t.Setenv(Env, value)
		if _, err := open(driver.Options{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", value, err)
		}
	}
}
