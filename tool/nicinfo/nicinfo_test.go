package nicinfo

import (
	"strings"
	"syscall"
	"testing"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

var sample = []protocol.NICRow{
	{Name: "en0", Driver: "wire", Description: "ne2000 simulated on segment 0", MAC: "02:50:da:c8:2f:96", PermanentMAC: "02:50:da:c8:2f:96",
		Rate: 100e6, MTU: 1500, MRU: 1500, Multicast: true, LinkUp: true,
		Details:      []protocol.NICDetail{{Name: "Segment", Value: "/run/user/1000/ionet/wire0"}, {Name: "Members", Value: "02:50:da:c8:2f:96, 02:50:da:c8:2f:97"}},
		InterfaceRow: protocol.InterfaceRow{Name: "en0", Index: 2, OutPackets: 877, OutBytes: 70000, OutMcast: 3, InPackets: 1023, InBytes: 90000, NoProto: 2}},
	{Name: "en1", Driver: "tap", Description: "TAP", PermanentMAC: "", MAC: "02:00:00:00:00:01", MTU: 1500, MRU: 9000, Promiscuous: true,
		LastError: "read tap0: file descriptor in bad state", InterfaceRow: protocol.InterfaceRow{Name: "en1", Index: 3, OutErrors: 1}},
}

func read(name string) ([]protocol.NICRow, error) {
	if name == "" {
		return sample, nil
	}
	for _, r := range sample {
		if r.Name == name {
			return []protocol.NICRow{r}, nil
		}
	}
	return nil, &protocol.Error{Errno: syscall.ENXIO}
}

func TestShow(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var b strings.Builder
		rows, errs := collect(nil, "/alt", read)
		if err := write(&b, rows, asJSON); err != nil || errs != nil {
			t.Fatal(err, errs)
		}
		golden.Check(t, map[bool]string{false: "all", true: "json"}[asJSON], b.String())
	}
	var b strings.Builder
	if write(&b, nil, true); b.String() != "[]\n" {
		t.Errorf("no drivers: %q", b.String())
	}
}

func TestDevices(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"en0", "en0"},
		{"/dev/io-net/en1", "en1"},
		{"/dev/io-net1/en0", "en0"},
		{"/alt/dev/io-net/en0", "en0"},
		{"/alt//dev/io-net/../io-net/en0", "en0"},
		{"en9", "en9: Device not configured: no driver of this name"},
		{"/other/dev/io-net/en0", "/other/dev/io-net/en0 belongs to another stack: this one's files are below /alt/"},
		{"/dev/null", "/dev/null is no device: its file stands in dev/io-net"},
		{"", `"" is no device: a name like en0 or a file like /dev/io-net/en0 belongs there`},
	} {
		rows, errs := collect([]string{c.arg}, "/alt", read)
		got := ""
		if len(rows) == 1 {
			got = rows[0].Name
		}
		if len(errs) == 1 {
			got = strings.TrimPrefix(errs[0].Error(), c.arg+": "+c.arg)
			if strings.HasPrefix(errs[0].Error(), c.arg+": /") || c.arg == "" {
				got = strings.TrimPrefix(errs[0].Error(), c.arg+": ")
			}
		}
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.arg, got, c.want)
		}
	}
}

func FuzzDevice(f *testing.F) {
	f.Add("/alt/dev/io-net0/en0")
	f.Add("en0")
	f.Fuzz(func(t *testing.T, arg string) {
		if name, err := device(arg, "/alt"); err == nil && (name == "" || strings.Contains(name, "/")) {
			t.Errorf("%q names %q", arg, name)
		}
	})
}
