package services

import (
	"strings"
	"testing"
)

const table = `
# comment
echo		7/tcp
http		80/tcp		www	# WorldWideWeb
web		80/tcp
domain		53/udp
rubbish
worse		x/tcp
none		1
big		70000/tcp
`

func TestRead(t *testing.T) {
	s := Read(strings.NewReader(table))
	for _, tc := range []struct {
		port        int
		proto, name string
	}{{7, "tcp", "echo"}, {80, "tcp", "http"}, {53, "udp", "domain"}, {53, "tcp", ""}, {1, "", ""}, {70000, "tcp", ""}} {
		if got := s.Name(tc.port, tc.proto); got != tc.name {
			t.Errorf("Name(%d, %s) is %q, want %q", tc.port, tc.proto, got, tc.name)
		}
	}
	for _, tc := range []struct {
		name string
		port int
		ok   bool
	}{{"http", 80, true}, {"www", 80, true}, {"web", 80, true}, {"domain", 0, false}, {"worse", 0, false}, {"big", 0, false}} {
		if got, ok := s.Port(tc.name, "tcp"); got != tc.port || ok != tc.ok {
			t.Errorf("Port(%s) is %d, %v, want %d, %v", tc.name, got, ok, tc.port, tc.ok)
		}
	}
}

func TestNoTable(t *testing.T) {
	var s *Table
	if _, ok := s.Port("http", "tcp"); ok || s.Name(80, "tcp") != "" {
		t.Error("a table that is not there has names")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(table, "http", uint16(80))
	f.Fuzz(func(t *testing.T, text, name string, port uint16) {
		s := Read(strings.NewReader(text))
		if n, ok := s.Port(name, "tcp"); ok && s.Name(n, "tcp") == "" {
			t.Errorf("%q leads to port %d, which has no name", name, n)
		}
		if n := s.Name(int(port), "tcp"); n != "" {
			if _, ok := s.Port(n, "tcp"); !ok {
				t.Errorf("port %d is called %q, which is no port", port, n)
			}
		}
	})
}
