package tcpdrop

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ionet/protocol"
	"ionet/tool/services"
)

var names = services.Read(strings.NewReader("ssh 22/tcp\nnot-this 23/udp\n"))

func TestParse(t *testing.T) {
	want := [2]end{{"10.0.0.163", 22}, {"10.0.0.1", 4021}}
	for _, line := range []string{
		"10.0.0.163 22 10.0.0.1 4021", "10.0.0.163 ssh 10.0.0.1 4021", "10.0.0.163:22 10.0.0.1:4021", "10.0.0.163.ssh 10.0.0.1.4021",
		"-- [10.0.0.163]:22 10.0.0.1:4021",
	} {
		l, f, err := parse(strings.Fields(line), names)
		if got := [2]end{l, f}; err != nil || got != want {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
	if l, f, err := parse([]string{"[fe80::1%en0]:22", "fe80::2:23"}, names); err != nil || l != (end{"fe80::1%en0", 22}) || f != (end{"fe80::2", 23}) {
		t.Errorf("IPv6: %v, %v, %v", l, f, err)
	}
	for line, says := range map[string]string{
		"":                          "both ends",
		"10.0.0.163 22":             "22: an address and a port",
		"10.0.0.163 22 10.0.0.1":    "both ends",
		"a b c d":                   `port "b"`,
		"10.0.0.1:0 10.0.0.2:1":     "port 0",
		"10.0.0.1:65536 10.0.0.2:1": `port "65536"`,
		":1 10.0.0.2:1":             "an address is empty",
		"host 10.0.0.2:1":           "an address and a port",
		"a:not-this b:1":            `port "not-this"`,
		"-x a:1 b:1":                "illegal option",
	} {
		if _, _, err := parse(strings.Fields(line), names); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %s", line, err, says)
		}
	}
}

// fake has one connection.
type fake struct {
	has   string
	err   error
	asked []string
}

func (f *fake) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	switch name {
	case "two":
		return []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")}, nil
	case "none":
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	a, err := netip.ParseAddr(name)
	return []netip.Addr{a}, err
}

func (f *fake) SetSysctl(name, value string) (string, error) {
	f.asked = append(f.asked, value)
	switch {
	case name != protocol.SysctlTCPDrop:
		return "", errors.New("what?")
	case f.err != nil:
		return "", f.err
	case value == f.has:
		return "", nil
	}
	return "", &protocol.Error{Errno: syscall.ESRCH}
}

func TestDrop(t *testing.T) {
	f := &fake{has: "10.0.0.1:22 10.0.0.3:99"}
	if l, r, err := drop(t.Context(), f, end{"10.0.0.1", 22}, end{"two", 99}); err != nil || l.String()+" "+r.String() != f.has {
		t.Errorf("%v %v, %v", l, r, err)
	}
	if want := []string{"10.0.0.1:22 10.0.0.2:99", "10.0.0.1:22 10.0.0.3:99"}; !slices.Equal(f.asked, want) {
		t.Errorf("asked %q", f.asked)
	}
	if _, _, err := drop(t.Context(), f, end{"10.0.0.1", 23}, end{"two", 99}); err == nil || err.Error() != "10.0.0.1.23 two.99: no such connection" {
		t.Error(err)
	}
	if _, _, err := drop(t.Context(), f, end{"none", 23}, end{"two", 99}); err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Error(err)
	}
	f = &fake{err: &protocol.Error{Errno: syscall.EPERM}}
	if _, _, err := drop(t.Context(), f, end{"10.0.0.1", 22}, end{"two", 99}); !errors.Is(err, syscall.EPERM) || len(f.asked) != 1 {
		t.Error(err, f.asked)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("10.0.0.163 22 10.0.0.1 4021")
	f.Add("[::1]:22 a.b.c.ssh")
	f.Fuzz(func(t *testing.T, line string) {
		l, r, err := parse(strings.Fields(line), names)
		if err == nil && (l.host == "" || r.host == "" || l.port == 0 || r.port == 0) {
			t.Errorf("%q: %v %v", line, l, r)
		}
	})
}

func TestParseInet6(t *testing.T) {
	l, f, err := parse([]string{"fe80::1%en0.22", "[fe80::2%en0]:4021"}, nil)
	if err != nil || l != (end{"fe80::1%en0", 22}) || f != (end{"fe80::2%en0", 4021}) {
		t.Errorf("%v, %v, %v", l, f, err)
	}
}
