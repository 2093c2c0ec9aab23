package stackd

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseOptions(t *testing.T) {
	tests := []struct {
		args string
		want Options
		err  string
	}{
		{args: "-i1 -ptcpip prefix=/alt", want: Options{Instance: 1, Modules: []Module{{true, "tcpip", "prefix=/alt"}}}},
		{args: "-dne2000 -ptcpip ipsec,forward", want: Options{Modules: []Module{{false, "ne2000", ""}, {true, "tcpip", "ipsec,forward"}}}},
		{args: "-avms -i 0x2 -C 010 -c 0 -t 5 -f", want: Options{NoConverters: true, Verbose: 1, Multicast: true, Static: true,
			Instance: 2, ContextSize: 8, NoCache: true, Threads: 5, Foreground: true}},
		{args: "-vvi3 -d speedo vid=0x8086,did=0x103a -d /lib/dll/devn-tap.so -p tcpip-v6 -p tcpip", want: Options{Verbose: 2, Instance: 3,
			Modules: []Module{{false, "speedo", "vid=0x8086,did=0x103a"}, {false, "/lib/dll/devn-tap.so", ""}, {true, "tcpip-v6", ""}, {true, "tcpip", ""}}}},
		{args: "--restart --foreground --sock /a -ptcpip", want: Options{Restart: true, Foreground: true, Sock: "/a", Modules: []Module{{true, "tcpip", ""}}}},
		{args: "--stop --sock=/b", want: Options{Stop: true, Sock: "/b"}},
		{args: "-d", err: "-d wants a value"},
		{args: "-x", err: "-x is no option"},
		{args: "-c1", err: "only 0"},
		{args: "-i one", err: "want a number"},
		{args: "-ptcpip a=1 b=2", err: "one word, parted by commas"},
		{args: "--frob", err: "--frob is no option"},
		{args: "--stop=1", err: "takes no value"},
		{args: "-d.so", err: "want the name"},
		{args: "-- x", err: "no arguments"},
	}
	for _, tt := range tests {
		got, err := ParseOptions(strings.Fields(tt.args))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want %q", tt.args, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
		} else if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.args, d)
		}
	}
}

func TestStrtol(t *testing.T) {
	for _, tt := range []struct {
		in   string
		n    int64
		rest string
	}{{"12", 12, ""}, {"0x1F", 31, ""}, {"010", 8, ""}, {"0", 0, ""}, {"-5", -5, ""}, {"12k", 12, "k"}, {"k", 0, "k"},
		{"0x", 0, "x"}, {"", 0, ""}, {"09", 0, "9"}, {"99999999999999999999", 1 << 40, ""}} {
		if n, rest := strtol(tt.in); n != tt.n || rest != tt.rest {
			t.Errorf("strtol(%q) = %d, %q; want %d, %q", tt.in, n, rest, tt.n, tt.rest)
		}
	}
}

func TestModuleName(t *testing.T) {
	for in, want := range map[string]string{"tcpip": "tcpip", "npm-tcpip-v6.so": "tcpip-v6", "/lib/dll/devn-ne2000.so": "ne2000",
		"devnp-shim.so": "shim", "./devn-asix.so": "asix"} {
		if got := moduleName(in); got != want {
			t.Errorf("moduleName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseTCPIP(t *testing.T) {
	def := func(f func(*TCPIP)) TCPIP { o := DefaultTCPIP(); f(&o); return o }
	tests := []struct {
		module, list string
		want         TCPIP
		warn         []string
		err          string
	}{
		{"tcpip", "", def(func(o *TCPIP) {}), nil, ""},
		{"npm-tcpip-v6.so", "prefix=/alt", def(func(o *TCPIP) { o.Prefix = "/alt" }), nil, ""},
		{"tcpip", "forward", def(func(o *TCPIP) { o.Forward = true }), nil, ""},
		{"tcpip", "forward,fastforward=0", def(func(o *TCPIP) { o.Forward, o.FastForward = true, false }), nil, ""},
		{"tcpip", "fastforward=0", def(func(o *TCPIP) { o.FastForward = false }), nil, ""},
		{"tcpip", "fastforward=1", def(func(o *TCPIP) { o.Forward = true }), nil, ""},
		{"tcpip", "fastforward", def(func(o *TCPIP) { o.Forward = true }), nil, ""},
		{"tcpip", "ipsec,ipsec,forward", def(func(o *TCPIP) { o.IPsec, o.Forward = true, true }), nil, ""},
		{"tcpip", "threads_min=1,threads_max=2,threads_incr=0", def(func(o *TCPIP) { o.ThreadsMin, o.ThreadsMax, o.ThreadsIncr = 4, 4, 4 }), nil, ""},
		{"tcpip", "threads_max=8,threads_min=30", def(func(o *TCPIP) { o.ThreadsMin, o.ThreadsMax = 15, 15 }), nil, ""},
		{"tcpip", "threads=0x100", def(func(o *TCPIP) { o.ThreadsMax = 256 }), nil, ""},
		{"tcpip", "somaxconn=5", def(func(o *TCPIP) {}), nil, ""},
		{"tcpip", "somaxconn=512", def(func(o *TCPIP) { o.SoMaxConn = 512 }), nil, ""},
		{"tcpip", "recv_ctxt=1", def(func(o *TCPIP) { o.RecvCtxt = 2048 }), nil, ""},
		{"tcpip", "recv_ctxt=5000", def(func(o *TCPIP) { o.RecvCtxt = 4096 }), nil, ""},
		{"tcpip", "recv_ctxt=99999999", def(func(o *TCPIP) { o.RecvCtxt = 512 << 10 }), nil, ""},
		{"tcpip", "rx_prio=99,timer_pulse_prio=-3", def(func(o *TCPIP) { o.RxPrio, o.TimerPrio, o.RxPrioGiven, o.TimerPrioGiven = 63, 1, true, true }), nil, ""},
		{"tcpip", "cache=0,random,reuseport_unicast,external_arp", def(func(o *TCPIP) {
			o.Cache, o.Random, o.ReusePortUnicast, o.ExternalARP = false, true, true, true
		}), nil, ""},
		{"tcpip", "stacksize=1", def(func(o *TCPIP) {}), []string{"stacksize has no effect"}, ""},
		{"tcpip", "somaxconn", def(func(o *TCPIP) {}), []string{"wants a value"}, ""},
		{"tcpip", "random=1", def(func(o *TCPIP) { o.Random = true }), []string{"takes no value"}, ""},
		{"tcpip", "somaxconn=200x", def(func(o *TCPIP) { o.SoMaxConn = 200 }), []string{"read as 200"}, ""},
		{"tcpip", "frob=3,mclbytes=4", def(func(o *TCPIP) {}), []string{`unrecognized option: "frob=3"`, "mclbytes"}, ""},
		{"tcpip-v4", "forward", def(func(o *TCPIP) { o.Module, o.Forward = "tcpip-v4", true }), nil, ""},
		{"tcpip-v4", "ipsec", TCPIP{}, nil, "no option ipsec"},
		{"/lib/dll/npm-tcpip-v4.so", "forward6", TCPIP{}, nil, "no option forward6"},
		{"tcpip-v4", "pfil_ipsec", TCPIP{}, nil, "no option pfil_ipsec"},
		{"qnet", "", TCPIP{}, nil, "qnet is not here"},
		{"foo", "", TCPIP{}, nil, "unknown protocol"},
	}
	for _, tt := range tests {
		got, err := ParseTCPIP(tt.module, tt.list)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s %s: error %v, want %q", tt.module, tt.list, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %v", tt.module, tt.list, err)
			continue
		}
		if len(got.Warnings) != len(tt.warn) {
			t.Errorf("%s %s: warnings %q, want %q", tt.module, tt.list, got.Warnings, tt.warn)
		} else {
			for i, w := range tt.warn {
				if !strings.Contains(got.Warnings[i], w) {
					t.Errorf("%s %s: warning %q, want %q", tt.module, tt.list, got.Warnings[i], w)
				}
			}
		}
		got.Warnings, got.given, tt.want.given = nil, nil, nil
		if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(TCPIP{})); d != "" {
			t.Errorf("%s %s: %s", tt.module, tt.list, d)
		}
	}
}

func TestRowsSayWhatActs(t *testing.T) {
	o, err := ParseTCPIP("tcpip", "stacksize=9999,forward,mclbytes=1")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, r := range o.Rows() {
		switch r.Name {
		case "stacksize", "mclbytes":
			if r.Acts || !r.Given || r.Note == "" {
				t.Errorf("%s: %+v: want given, not acting, with a note", r.Name, r)
			}
			found++
		case "forward":
			if !r.Acts || !r.Given || r.Value != "true" {
				t.Errorf("forward: %+v", r)
			}
			found++
		}
	}
	if found != 3 {
		t.Errorf("found %d of 3 rows", found)
	}
	v4, _ := ParseTCPIP("tcpip-v4", "")
	for _, r := range v4.Rows() {
		if r.Name == "ipsec" {
			t.Error("tcpip-v4 shows ipsec")
		}
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add("-dne2000\x00-ptcpip\x00ipsec,forward,threads_min=0x7")
	f.Add("-i1\x00-p\x00tcpip-v4\x00fastforward=0,prefix=/x")
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOptions(strings.Split(s, "\x00"))
		if err != nil {
			return
		}
		for _, m := range o.Protocols() {
			p, err := ParseTCPIP(m.Name, m.Options)
			if err != nil {
				continue
			}
			if p.ThreadsMin < 4 || p.ThreadsMax < p.ThreadsMin || p.ThreadsIncr < 4 || p.SoMaxConn < defaultSoMaxConn ||
				p.RecvCtxt < minContext || p.RecvCtxt%minContext != 0 || p.RxPrio < 1 || p.RxPrio > maxPrio {
				t.Errorf("%q breaks a clamp: %+v", m.Options, p)
			}
		}
	})
}
