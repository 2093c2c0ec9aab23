package proxy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		args string
		want Options
	}{
		{"", Options{Listen: "127.0.0.1:1080", Max: 1000}},
		{"--listen 9050 --max 5 -v", Options{Listen: "127.0.0.1:9050", Max: 5, Verbose: true}},
		{"--listen *:80", Options{Listen: ":80", Max: 1000}},
		{"--listen [::1]:80", Options{Listen: "[::1]:80", Max: 1000}},
		{"--listen none -L 8080:web:80 -L*:0:[::1]:80 -R 80:localhost:8080 -R 10.0.0.1:81:h:82", Options{Max: 1000, Forwards: []Forward{
			{false, "127.0.0.1:8080", "web:80"}, {false, ":0", "[::1]:80"}, {true, ":80", "localhost:8080"}, {true, "10.0.0.1:81", "h:82"}}}},
	} {
		got, err := Parse(strings.Fields(tc.args))
		if err != nil {
			t.Errorf("%q: %v", tc.args, err)
			continue
		}
		if d := cmp.Diff(tc.want, *got); d != "" {
			t.Errorf("%q: %s", tc.args, d)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"x", `"x": proxy takes options only`},
		{"-q", "illegal option -- q"},
		{"--listen none", "--listen none without -L or -R leaves nothing to do"},
		{"--listen host", "--listen host: an address with a port such as 127.0.0.1:1080 would be right, or none"},
		{"--listen host:http", "--listen host:http: an address with a port such as 127.0.0.1:1080 would be right, or none"},
		{"--max 0", "--max 0: a number of connections from 1 on would be right"},
		{"-L 80", "-L 80: it has 1 parts; [bind:]port:host:hostport would be right"},
		{"-L x:h:80", `-L x:h:80: "x" is no port; [bind:]port:host:hostport would be right`},
		{"-R 1:h:0", `-R 1:h:0: "0" is no port; [bind:]port:host:hostport would be right`},
		{"-R 1::80", `-R 1::80: the host is empty; [bind:]port:host:hostport would be right`},
		{"-L [::1:80", `-L [::1:80: a bracket is not closed; [bind:]port:host:hostport would be right`},
		{"-L [::1]80:h:1", `-L [::1]80:h:1: "80:h:1" follows a bracket; [bind:]port:host:hostport would be right`},
		{"-L 1:2:3:4:5", `-L 1:2:3:4:5: it has 5 parts; [bind:]port:host:hostport would be right`},
	} {
		if _, err := Parse(strings.Fields(tc.args)); text(err) != tc.want {
			t.Errorf("%q: %v, want %s", tc.args, err, tc.want)
		}
	}
}

func FuzzParseForward(f *testing.F) {
	for _, s := range []string{"80:h:80", "*:0:[::1]:80", "[::]:1:h:2", ":1:h:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := parseForward(s, false)
		if err == nil && (!strings.Contains(w.Bind, ":") || !strings.Contains(w.To, ":")) {
			t.Fatalf("%q: %+v", s, w)
		}
	})
}
