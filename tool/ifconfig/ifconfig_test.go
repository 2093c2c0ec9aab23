package ifconfig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

// fake notes what it is asked to do. refuse are the calls that fail.
type fake struct {
	calls     []string
	refuse    map[string]error
	tentative int // looks for which an address of en1 is tentative
}

func (f *fake) do(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	f.calls = append(f.calls, call)
	return f.refuse[call]
}

func (f *fake) Interfaces(name string) ([]protocol.InterfaceRow, error) {
	f.tentative--
	rows := []protocol.InterfaceRow{
		{Name: "lo0", Index: 1, Type: protocol.IFTLoopback, Flags: 0x8009, MTU: 33228, LinkUp: true, Addresses: []protocol.AddressRow{
			{Family: "inet", Address: "127.0.0.1", Bits: 8, Destination: "127.0.0.1"},
			{Family: "inet6", Address: "::1", Bits: 128},
			{Family: "inet6", Address: "fe80::1%lo0", Bits: 64},
		}},
		{Name: "en0", Index: 2, Type: protocol.IFTEthernet, Flags: 0x8843, MTU: 1500, Link: "00:50:da:c8:2f:96", LinkUp: true,
			Media: "Ethernet autoselect (100baseTX full-duplex)", InPackets: 7, Addresses: []protocol.AddressRow{
				{Family: "inet", Address: "10.0.0.163", Bits: 8, Broadcast: "10.255.255.255"},
				{Family: "inet6", Address: "fe80::250:daff:fec8:2f96%en0", Bits: 64},
				{Family: "inet", Address: "10.0.0.164", Bits: 8, Broadcast: "10.255.255.255", Alias: true},
				{Family: "inet6", Address: "2001:db8::1", Bits: 64, Flags: 0x1 | 0x8 | 0x10 | 0x40 | 0x80},
			}},
		{Name: "en1", Index: 3, Type: protocol.IFTEthernet, Flags: 0x8802, MTU: 1500, Metric: 3, Link: "02:00:00:00:00:01",
			Media: "Ethernet autoselect", Addresses: []protocol.AddressRow{}},
		{Name: "ppp0", Index: 4, Type: protocol.IFTPPP, Flags: 0x8051, MTU: 576, LinkUp: true, Addresses: []protocol.AddressRow{
			{Family: "inet", Address: "192.168.3.1", Bits: 32, Destination: "192.168.3.2"},
			{Family: "inet", Address: "192.168.3.9", Bits: 32, Destination: "192.168.3.2", Alias: true, Duplicated: true},
			{Family: "inet6", Address: "fe80::7%ppp0", Bits: 128, Destination: "fe80::8%ppp0"},
		}},
		{Name: "gif0", Index: 5, Type: protocol.IFTGif, Flags: 0x8051, MTU: 1280, LinkUp: true, TunnelSrc: "10.0.0.1", TunnelDst: "10.0.0.2", Addresses: []protocol.AddressRow{
			{Family: "inet6", Address: "2001:db8::1", Bits: 128, Destination: "2001:db8::2"},
		}},
		{Name: "gif1", Index: 6, Type: protocol.IFTGif, Flags: 0x8051, MTU: 1280, LinkUp: true, TunnelSrc: "fe80::1%en0", TunnelDst: "fe80::2%en0", Addresses: []protocol.AddressRow{}},
		{Name: "vlan0", Index: 7, Type: protocol.IFTL2VLAN, Flags: 0x8843, MTU: 1500, Link: "00:50:da:c8:2f:96", LinkUp: true, VLAN: 5, VLANParent: "en0", Addresses: []protocol.AddressRow{
			{Family: "inet", Address: "10.5.0.1", Bits: 24, Broadcast: "10.5.0.255"},
		}},
	}
	if f.tentative > 0 {
		rows[2].Addresses = append(rows[2].Addresses, protocol.AddressRow{Family: "inet", Address: "10.9.9.9", Bits: 8, Tentative: true, Broadcast: "10.255.255.255"})
	}
	if name == "" {
		return rows, f.refuse["interfaces"]
	}
	for _, r := range rows {
		if r.Name == name {
			return []protocol.InterfaceRow{r}, nil
		}
	}
	return nil, &protocol.Error{Errno: syscall.ENXIO}
}

func (f *fake) SetFlags(name string, set, clear uint32) error {
	return f.do("flags %s +%x -%x", name, set, clear)
}
func (f *fake) SetMTU(name string, n int) error    { return f.do("mtu %s %d", name, n) }
func (f *fake) SetMetric(name string, n int) error { return f.do("metric %s %d", name, n) }
func (f *fake) SetLinkAddr(name string, hw net.HardwareAddr) error {
	return f.do("link %s %v", name, hw)
}
func (f *fake) AddAddr(name string, a protocol.AliasReq) error {
	return f.do("add %s %v brd=%v mask=%v flags=%x", name, a.Addr, a.Brd, a.Mask, a.Flags)
}
func (f *fake) DelAddr(name string, a protocol.Addr) error { return f.do("delete %s %v", name, a) }
func (f *fake) CreateInterface(name string) (string, error) {
	return name + "0", f.do("create %s", name)
}
func (f *fake) DestroyInterface(name string) error { return f.do("destroy %s", name) }
func (f *fake) SetTunnel(name string, src, dst protocol.Addr) error {
	return f.do("tunnel %s %v %v", name, src, dst)
}
func (f *fake) DeleteTunnel(name string) error { return f.do("deletetunnel %s", name) }
func (f *fake) SetVLAN(name string, tag int, parent string) error {
	return f.do("vlan %s %d %s", name, tag, parent)
}
func (f *fake) ClearVLAN(name string) error { return f.do("-vlan %s", name) }
func (f *fake) Cloners() ([]string, error)  { return []string{"gif", "vlan"}, f.do("cloners") }
func (f *fake) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	if name == "alpha" {
		return []netip.Addr{netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("10.5.5.5")}, nil
	}
	return nil, errors.New("no such host")
}

// exec parses a line as cli hands it on and runs it; usage errors are printed
// like others.
func exec(f *fake, line string) (status int, out string) {
	args, json := strings.CutSuffix(line, " --json")
	var b bytes.Buffer
	o, err := Parse(strings.Fields(args))
	if err != nil {
		return 1, "ifconfig: " + err.Error() + "\n"
	}
	o.JSON = json
	status = Run(context.Background(), f, func(context.Context, time.Duration) error { return nil }, o, &b, &b)
	return status, b.String()
}

func TestShow(t *testing.T) {
	for _, c := range []struct {
		name, args string
		status     int
	}{
		{"all", "-a", 0},
		{"all-inet", "-a inet", 0},
		{"all-inet6", "-a inet6", 0},
		{"all-broadcast", "-ab", 0},
		{"all-down", "-ad", 0},
		{"all-up-connected", "-aus", 0},
		{"all-json", "-a --json", 0},
		{"one", "en0", 0},
		{"one-inet", "en0 inet", 0},
		{"one-inet-none", "en1 inet", 0},
		{"one-media", "-m en0", 0},
		{"one-inet6-json", "en0 inet6 --json", 0},
		{"point-to-point", "ppp0", 0},
		{"tunnel", "gif0", 0},
		{"tunnel6", "gif1", 0},
		{"vlan", "vlan0", 0},
		{"missing", "xx0", 1},
		{"missing-change", "xx0 up", 1},
		{"list", "-l", 0},
		{"list-up", "-lu", 0},
		{"list-json", "-l --json", 0},
		{"cloners", "-C", 0},
		{"cloners-json", "-C --json", 0},
		{"connected", "-s en0", 0},
		{"not-connected", "-s en1", 1},
		{"no-medium", "-s lo0", 0},
		{"deprecated", "-A lo0", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out := exec(&fake{}, c.args)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			golden.Check(t, c.name, out)
		})
	}
}

func TestChange(t *testing.T) {
	for _, c := range []struct {
		line  string
		calls string // what the stack is asked, parted by "; "
		out   string // with a status of 1, if any
	}{
		{line: "en1 10.163", calls: "add en1 10.0.0.163 brd= mask= flags=0"},
		{line: "en0 10.0.0.163/24", calls: "add en0 10.0.0.163 brd= mask=255.255.255.0 flags=0"},
		{line: "en0 10.0.0.1 netmask 255.255.0.0", calls: "delete en0 10.0.0.163; add en0 10.0.0.1 brd= mask=255.255.0.0 flags=0"},
		{line: "en0 inet 10.0.0.1 netmask 0xffffff00 broadcast 10.0.0.127 up",
			calls: "flags en0 +1 -0; delete en0 10.0.0.163; add en0 10.0.0.1 brd=10.0.0.127 mask=255.255.255.0 flags=0"},
		{line: "en0 alias 10.0.0.2 prefixlen 32", calls: "add en0 10.0.0.2 brd= mask=255.255.255.255 flags=0"},
		{line: "en0 10.0.0.2 alias", calls: "add en0 10.0.0.2 brd= mask= flags=0"},
		{line: "en0 10.0.0.164 delete", calls: "delete en0 10.0.0.164"},
		{line: "en0 -alias 10.0.0.164", calls: "delete en0 10.0.0.164"},
		{line: "en0 delete", calls: "delete en0 10.0.0.163"},
		{line: "en1 delete", out: "SIOCDIFADDR: Can't assign requested address"},
		{line: "en0 netmask 255.255.255.0", calls: "add en0 10.0.0.163 brd= mask=255.255.255.0 flags=0"},
		{line: "en0 broadcast 10.0.0.255", calls: "add en0 10.0.0.163 brd=10.0.0.255 mask=255.0.0.0 flags=0"},
		{line: "en1 netmask 255.0.0.0", out: "SIOCAIFADDR: the interface has no address to change"},
		{line: "en1 alpha", calls: "add en1 10.5.5.5 brd= mask= flags=0"},
		{line: "en0 inet6 2001:db8:1:: prefixlen 64 eui64 alias", calls: "add en0 2001:db8:1:0:250:daff:fec8:2f96 brd= mask=ffff:ffff:ffff:ffff:: flags=0"},
		{line: "en0 inet6 2001:db8:1:: eui64 delete", calls: "delete en0 2001:db8:1:0:250:daff:fec8:2f96"},
		{line: "en0 inet6 2001:db8:1::1 eui64", out: "2001:db8:1::1: eui64 fills the lower half of an IPv6 address, which is not zero here"},
		{line: "en1 inet6 2001:db8:1:: eui64", out: "en1 has no link-local address for eui64 to take the lower half from: it gets one when it comes up"},
		{line: "en1 inet6 alpha", calls: "add en1 2001:db8::5 brd= mask=ffff:ffff:ffff:ffff:: flags=0"},
		{line: "en1 beta", out: "beta: bad value"},
		{line: "en1 inet6 fe80::5%en1 anycast deprecated -deprecated", calls: "add en1 fe80::5%3 brd= mask=ffff:ffff:ffff:ffff:: flags=1"},
		{line: "ppp0 10.0.0.1 10.0.0.2", calls: "delete ppp0 192.168.3.1; add ppp0 10.0.0.1 brd=10.0.0.2 mask= flags=0"},
		{line: "ppp0 inet6 fe80::1%ppp0 fe80::2%ppp0", calls: "add ppp0 fe80::1%4 brd=fe80::2%4 mask=ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff flags=0"},
		{line: "en0 10.0.0.1 10.0.0.2 up", out: "can't set destination address on non-point-to-point link"},
		{line: "en0 up link0 -link1 -arp mtu 1400 metric 2 down debug -promisc arp",
			calls: "flags en0 +1 -0; flags en0 +1000 -0; flags en0 +0 -2000; flags en0 +80 -0; mtu en0 1400; metric en0 2; flags en0 +0 -1; flags en0 +4 -0; flags en0 +0 -100; flags en0 +0 -80"},
		{line: "en0 mtu 9 up", calls: "mtu en0 9", out: "SIOCSIFMTU: Invalid argument (mtu 9: en0 takes 72 to 1500)"},
		{line: "en0 lladdr 02:00:00:00:00:07", calls: "link en0 02:00:00:00:00:07"},
		{line: "en0 media autoselect", calls: ""},
		{line: "en0 media 100baseTX mediaopt full-duplex", calls: ""},
		{line: "en0 media 10baseT", out: "SIOCSIFMEDIA: Operation not supported"},
		{line: "en0 media 10baseX", out: "unknown Ethernet media subtype: 10baseX"},
		{line: "en0 mediaopt fast", out: "unknown Ethernet media option: fast"},
		{line: "en0 -mediaopt full-duplex", out: "SIOCSIFMEDIA: Operation not supported"},
		{line: "en0 media auto instance 1", out: "SIOCSIFMEDIA: Operation not supported"},
		{line: "lo0 media autoselect", out: "SIOCGIFMEDIA: Inappropriate ioctl for device"},
		{line: "gif0 tunnel 10.1 10.2 up", calls: "tunnel gif0 10.0.0.1 10.0.0.2; flags gif0 +1 -0"},
		{line: "gif0 tunnel 2001:db8::1 alpha", calls: "tunnel gif0 2001:db8::1 2001:db8::5"},
		{line: "gif0 tunnel alpha 10.0.0.2", calls: "tunnel gif0 10.5.5.5 10.0.0.2"},
		{line: "gif0 tunnel fe80::1%en0 fe80::2%en0 mtu 1400", calls: "tunnel gif0 fe80::1%2 fe80::2%2; mtu gif0 1400"},
		{line: "gif0 inet6 2001:db8::1 2001:db8::2 tunnel 10.0.0.1 10.0.0.2",
			calls: "tunnel gif0 10.0.0.1 10.0.0.2; add gif0 2001:db8::1 brd=2001:db8::2 mask=ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff flags=0"},
		{line: "gif0 tunnel beta 10.0.0.2", out: "beta: bad value"},
		{line: "gif0 deletetunnel", calls: "deletetunnel gif0"},
		{line: "en0 tunnel 10.0.0.1 10.0.0.2", calls: "tunnel en0 10.0.0.1 10.0.0.2", out: "SIOCSLIFPHYADDR: Invalid argument (en0 is no gif)"},
		{line: "vlan0 vlan 5 vlanif en1", calls: "vlan vlan0 5 en1"},
		{line: "vlan0 vlanif en1 vlan 5", calls: "vlan vlan0 5 en1"},
		{line: "vlan0 -vlanif", calls: "-vlan vlan0"},
		{line: "vlan0 vlan 5", out: "must specify both `vlan' and `vlanif'"},
		{line: "vlan0 vlanif en0", out: "must specify both `vlan' and `vlanif'"},
		{line: "vlan0 vlan 4095 vlanif en0", out: "4095: a VLAN has a number from 1 to 4094"},
		{line: "gif create", calls: "create gif"},
		{line: "gif3 destroy", calls: "destroy gif3"},
		{line: "foo create", calls: "create foo", out: "SIOCIFCREATE: Invalid argument"},
		{line: "en0 10.6.6.6", calls: "delete en0 10.0.0.163; add en0 10.6.6.6 brd= mask= flags=0; add en0 10.0.0.163 brd=10.255.255.255 mask=255.0.0.0 flags=0",
			out: "SIOCAIFADDR: File exists (10.6.6.6 is an address of en1)"},
	} {
		f := &fake{refuse: map[string]error{
			"mtu en0 9":                           &protocol.Error{Errno: syscall.EINVAL, Text: "mtu 9: en0 takes 72 to 1500: invalid argument"},
			"create foo":                          syscall.EINVAL,
			"tunnel en0 10.0.0.1 10.0.0.2":        &protocol.Error{Errno: syscall.EINVAL, Text: "en0 is no gif"},
			"add en0 10.6.6.6 brd= mask= flags=0": &protocol.Error{Errno: syscall.EEXIST, Text: "10.6.6.6 is an address of en1"},
		}}
		status, out := exec(f, c.line)
		want := c.out
		if want != "" {
			want = "ifconfig: " + want + "\n"
		}
		if c.line == "gif create" {
			want = "gif0\n"
		}
		if wrong := c.out != ""; (status != 0) != wrong || out != want {
			t.Errorf("%q: %d %q, want %q", c.line, status, out, want)
		}
		if got := strings.Join(f.calls, "; "); got != c.calls {
			t.Errorf("%q:\n got %s\nwant %s", c.line, got, c.calls)
		}
	}
}

// Wrong words change nothing and get a sentence.
func TestWrong(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", "an interface, -a, -l or -C is needed"},
		{"-A", "-A is deprecated"},
		{"-z", "illegal option -- z"},
		{"-w", "option requires an argument -- w"},
		{"-w x", "x: -w takes a number of seconds from 1 on"},
		{"-w 5 en0", "-w goes with nothing else"},
		{"-C en0", "-C goes with nothing else"},
		{"-l en0", "-l shows names of interfaces and goes with -b, -d, -u and -s only"},
		{"-al", "-l shows names of interfaces and goes with -b, -d, -u and -s only"},
		{"-a en0", `"en0": -a is followed by inet or inet6 only`},
		{"a-name-of-sixteen", "a-name-of-sixteen: an interface's name has at most 15 letters"},
		{"-m en0 up", "-s, -m and -L show an interface: they do not go with changes to it"},
		{"en0 create up", `"up": create goes with nothing else`},
		{"en0 up create", "create goes with nothing else"},
		{"en0 mtu", "'mtu' requires argument"},
		{"en0 mtu x", "x: bad value"},
		{"en0 metric -1", "-1: bad value"},
		{"en0 netmask", "'netmask' requires argument"},
		{"en0 netmask 255.0.255.0", "255.0.255.0: bad value"},
		{"en0 netmask alpha", "alpha: bad value"},
		{"en0 broadcast 1.2.3.4.5", "1.2.3.4.5: bad value"},
		{"en0 10.0.0.300", "10.0.0.300: bad value"},
		{"en0 10.0.0.1/33", "10.0.0.1/33: bad value"},
		{"en0 10.0.0.1/", "10.0.0.1/: bad value"},
		{"en0 10.0.0.1/+8", "10.0.0.1/+8: bad value"},
		{"en0 10.0.0.1 10.0.0.2 10.0.0.3", "10.0.0.3: bad value"},
		{"en0 fe80::1", "fe80::1: bad value"},
		{"en0 inet6 10.0.0.1", "10.0.0.1: bad value"},
		{"en0 inet6 ::1/129", "::1/129: bad value"},
		{"en0 10.0.0.1/8 netmask 255.0.0.0", "netmask and a prefix length say the same: give one of them"},
		{"en0 10.0.0.1/8 prefixlen 8", "only one prefix length may be given"},
		{"en0 prefixlen 33", "33: bad value"},
		{"en0 alias", "alias needs an address"},
		{"en0 inet6 anycast", "flags of an address need the address"},
		{"en0 10.0.0.1 anycast", "anycast not allowed for the AF"},
		{"en0 10.0.0.1 eui64", "eui64 not allowed for the AF"},
		{"en0 inet6 eui64", "eui64 needs an address whose lower half is left free, as in 2001:db8:1:: prefixlen 64 eui64"},
		{"en0 10.0.0.1 pltime 5", "pltime not allowed for the AF"},
		{"en0 10.0.0.1 10.0.0.2 broadcast 10.0.0.3", "10.0.0.2: an interface has a broadcast address or a destination, not both"},
		{"en0 tunnel 10.0.0.1", "'tunnel' requires argument"},
		{"gif0 tunnel", "'tunnel' requires argument"},
		{"gif0 tunnel 10.0.0.1 2001:db8::2", "source and destination address families do not match"},
		{"gif0 tunnel 10.0.0.1 1.2.3.4.5", "1.2.3.4.5: bad value"},
		{"en0 lladdr 02:00", "02:00: bad value"},
		{"en0 media auto media auto", "only one `media' command may be issued"},
		{"en0 mediaopt full-duplex media auto", "may not issue `media' after `mediaopt' commands"},
		{"en0 mediaopt flag0 mediaopt flag1", "only one `mediaopt' command may be issued"},
		{"en0 media auto instance 1 mediaopt flag0", "may not issue `mediaopt' after `instance'"},
		{"en0 -mediaopt flag0 -mediaopt flag1", "only one `-mediaopt' command may be issued"},
		{"en0 media auto -mediaopt flag0", "may not issue both `media' and `-mediaopt'"},
		{"en0 instance 1", "must specify `media' before `instance'"},
		{"en0 media auto instance x", "invalid media instance: x"},
		{"en0 -foo", "-foo: bad value"},
	} {
		f := &fake{}
		status, out := exec(f, c.line)
		if want := "ifconfig: " + c.want + "\n"; status != 1 || out != want {
			t.Errorf("%q: %d %q, want %q", c.line, status, out, want)
		}
		if len(f.calls) != 0 {
			t.Errorf("%q: asked the stack %q", c.line, f.calls)
		}
	}
}

func TestWait(t *testing.T) {
	for _, c := range []struct {
		tentative, status int
		out               string
	}{
		{0, 0, ""},
		{8, 0, ""},
		{100, 1, "ifconfig: still tentative after 2 seconds: 10.9.9.9 on en1\n"},
	} {
		if status, out := exec(&fake{tentative: c.tentative}, "-w 2"); status != c.status || out != c.out {
			t.Errorf("%d looks: %d %q", c.tentative, status, out)
		}
	}
	status, out := exec(&fake{refuse: map[string]error{"interfaces": &protocol.Error{Errno: syscall.EPERM}}}, "-w 2")
	if status != 1 || out != "ifconfig: SIOCGIFCONF: Operation not permitted\n" {
		t.Errorf("%d %q", status, out)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"en0\x0010.163", "-a\x00inet", "en0\x00inet6\x00fe80::1/64\x00anycast", "en0\x00media\x00auto\x00instance\x001",
		"-w\x005", "en0\x00up\x00mtu\x0072", "gif\x00create", "-lbd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		o, err := Parse(strings.Split(line, "\x00"))
		if err == nil && o == nil {
			t.Fatal("nothing")
		}
		if err != nil {
			return
		}
		o.Wait = min(o.Wait, 1)
		if o.Deprecated {
			o.Deprecated = false
		}
		var b bytes.Buffer
		Run(context.Background(), &fake{}, func(context.Context, time.Duration) error { return nil }, o, &b, &b)
	})
}

func TestLifetimes(t *testing.T) {
	got := string(appendAddress(nil, protocol.InterfaceRow{Name: "en0", Index: 2},
		protocol.AddressRow{Family: "inet6", Address: "fe80::1%en0", Bits: 64, Preferred: 0, Valid: -1}, true))
	if want := "\tinet6 fe80::1%en0 prefixlen 64 scopeid 0x2 pltime 0 vltime infty\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for line, want := range map[string][3]uint32{
		"en0 inet6 2001:db8::9 pltime 60 vltime 120": {1, 60, 120},
		"en0 inet6 2001:db8::9 vltime 120":           {1, 120, 120},
		"en0 inet6 2001:db8::9 pltime 60":            {1, 60, protocol.LifetimeInfinite},
		"en0 inet6 2001:db8::9":                      {},
	} {
		f := &timed{}
		o, err := Parse(strings.Fields(line))
		if err != nil {
			t.Fatal(err)
		}
		if status := Run(context.Background(), f, nil, o, &bytes.Buffer{}, &bytes.Buffer{}); status != 0 {
			t.Errorf("%s: status %d", line, status)
		}
		on := uint32(0)
		if f.req.Timed {
			on = 1
		}
		if got := [3]uint32{on, f.req.Preferred, f.req.Valid}; got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
	if _, err := Parse(strings.Fields("en0 inet6 2001:db8::9 pltime 5 vltime 4")); err == nil {
		t.Error("preferred for longer than valid")
	}
}

// timed keeps the last address.
type timed struct {
	fake
	req protocol.AliasReq
}

func (f *timed) AddAddr(_ string, a protocol.AliasReq) error {
	f.req = a
	return nil
}
