package nc

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ionet/tool/services"
)

func TestParse(t *testing.T) {
	table := services.Read(strings.NewReader(names + "ftp-data 20/tcp\n"))
	for _, c := range []struct {
		args string
		want Options
	}{
		{"10.0.0.25 80", Options{Host: "10.0.0.25", First: 80, Last: 80}},
		{"-v host echo", Options{Verbose: true, Host: "host", First: 7, Last: 7}},
		{"host 80 -v", Options{Verbose: true, Host: "host", First: 80, Last: 80}},
		{"-znw1 host 20-30", Options{Scan: true, Numeric: true, Timeout: time.Second, Host: "host", First: 20, Last: 30}},
		{"-z host 30-20", Options{Scan: true, Host: "host", First: 20, Last: 30}},
		{"host ftp-data", Options{Host: "host", First: 20, Last: 20}},
		{"-u -i .5 -s 10.0.0.1 -p 53 host echo", Options{UDP: true, Interval: time.Second / 2, Source: "10.0.0.1", Port: 53, Host: "host", First: 7, Last: 7}},
		{"-lk 80", Options{Listen: true, Keep: true, First: 80, Last: 80}},
		{"-l -p 80", Options{Listen: true, Port: 80, First: 80, Last: 80}},
		{"-l host 80", Options{Listen: true, Host: "host", First: 80, Last: 80}},
		{"-l -s 10.0.0.1 80", Options{Listen: true, Source: "10.0.0.1", Host: "10.0.0.1", First: 80, Last: 80}},
		{"-6l 80", Options{Listen: true, Family: "6", First: 80, Last: 80}},
		{"-4dN host 80", Options{Family: "4", NoInput: true, Shutdown: true, Host: "host", First: 80, Last: 80}},
	} {
		got, err := Parse(strings.Fields(c.args), table)
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if d := cmp.Diff(c.want, *got); d != "" {
			t.Errorf("%q: %s", c.args, d)
		}
	}
}

func TestParseErrors(t *testing.T) {
	table := services.Read(strings.NewReader(names))
	for _, c := range []struct{ args, want string }{
		{"", "a host and a port are needed"},
		{"host", "a host and a port are needed"},
		{"host 80 90", `"90": one host and one port (or a range, 20-30) are enough`},
		{"host 0", `port "0": a number from 1 to 65535 would be right`},
		{"host 65536", `port "65536": a number from 1 to 65535 would be right`},
		{"host 1-2-3", `port "1-2-3": a number from 1 to 65535 would be right`},
		{"host 1-x", `port "x": a number from 1 to 65535 would be right`},
		{"-n host echo", `port "echo": a number from 1 to 65535 would be right`},
		{"-l", "-l needs a port to listen on"},
		{"-l 1-2", `port "1-2": a number from 1 to 65535 would be right`},
		{"-l -p 80 90", `the port is given twice: -p 80 and "90"`},
		{"-l -s 10.0.0.1 10.0.0.2 90", `the address is given twice: -s 10.0.0.1 and "10.0.0.2"`},
		{"-lz 80", "-l waits for others and -z looks for them: only one of them"},
		{"-k host 80", "-k goes on listening and needs -l"},
		{"-w 0 host 80", "-w 0: a number of seconds above 0 would be right"},
		{"-i x host 80", "-i x: a number of seconds above 0 would be right"},
		{"-s host host 80", "-s host: not a numeric address"},
		{"-7 host 80", "illegal option -- 7"},
		{"-w", "option requires an argument -- w"},
	} {
		if _, err := Parse(strings.Fields(c.args), table); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"-zv\x00host\x001-2", "-l\x0080", "--\x00-x\x001", "host\x0080\x00-v", "-w1\x00-i.5\x00h\x00echo"} {
		f.Add(s)
	}
	table := services.Read(strings.NewReader(names))
	f.Fuzz(func(t *testing.T, line string) {
		o, err := Parse(strings.Split(line, "\x00"), table)
		if err != nil {
			return
		}
		if o.First < 1 || o.Last > 65535 || o.First > o.Last || !o.Listen && o.Host == "" || o.Timeout < 0 || o.Interval < 0 {
			t.Fatalf("%q: %+v", line, o)
		}
	})
}

func TestFamily(t *testing.T) {
	for _, c := range []struct{ family, host, want string }{
		{"4", "::1", "::1 is no address of IPv4"},
		{"6", "127.0.0.1", "127.0.0.1 is no address of IPv6"},
		{"4", "both", "127.0.0.9"},
		{"6", "both", "both has no address of IPv6"},
		{"6", "fe80::1%en0", "fe80::1%en0"},
	} {
		s := &session{ctx: t.Context(), n: loopback{names: map[string]string{"both": "127.0.0.9"}}, o: &Options{Family: c.family, Host: c.host}}
		ips, err := s.addresses()
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = ips[0].String()
		}
		if got != c.want {
			t.Errorf("-%s %s: %s, want %s", c.family, c.host, got, c.want)
		}
	}
	for o, want := range map[Options]string{{}: "tcp", {Family: "6"}: "tcp6", {UDP: true, Family: "4"}: "udp4"} {
		if got := o.dialled(); got != want {
			t.Errorf("%+v: %s, want %s", o, got, want)
		}
	}
}
