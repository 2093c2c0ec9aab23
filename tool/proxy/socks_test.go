package proxy

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
)

func TestReadGreeting(t *testing.T) {
	for _, tc := range []struct {
		in string
		ok bool
		as string // of the error
	}{
		{"\x05\x01\x00", true, ""},
		{"\x05\x02\x02\x00", true, ""},
		{"\x05\x01\x02", false, ""},
		{"\x05\x00", false, ""},
		{"\x05\x02\x00", false, "unexpected EOF"},
		{"\x05", false, "unexpected EOF"},
		{"\x04\x01", false, "version 4 instead of 5"},
	} {
		ok, err := readGreeting(bytes.NewReader([]byte(tc.in)))
		if ok != tc.ok || text(err) != tc.as {
			t.Errorf("%q: %v, %v", tc.in, ok, err)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestReadRequest(t *testing.T) {
	for _, tc := range []struct {
		in, to string
		cmd    byte
		as     string
	}{
		{"\x05\x01\x00\x01\x0a\x00\x00\x19\x00\x50", "10.0.0.25:80", 1, ""},
		{"\x05\x03\x00\x03\x04host\x01\xbb", "host:443", 3, ""},
		{"\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50", "[2001:db8::1]:80", 1, ""},
		{"\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x19\x00\x50", "10.0.0.25:80", 1, ""},
		{"\x05\x01\x00\x03\x00\x00\x50", "", 1, `"" is no name of a host`},
		{"\x05\x01\x00\x03\x04a\r\nb\x00\x50", "", 1, `"a\r\nb" is no name of a host`},
		{"\x05\x01\x00\x02", "", 1, "unknown type of address"},
		{"\x05\x01\x00\x01\x0a\x00", "", 1, "unexpected EOF"},
		{"\x04\x01\x00\x01", "", 0, "version 4 instead of 5"},
	} {
		cmd, to, err := readRequest(bytes.NewReader([]byte(tc.in)))
		if cmd != tc.cmd || text(err) != tc.as || err == nil && to.String() != tc.to {
			t.Errorf("%q: command %d, %v, %v", tc.in, cmd, to, err)
		}
	}
}

func TestReplyOf(t *testing.T) {
	for _, tc := range []struct {
		err error
		rep byte
	}{
		{&net.OpError{Err: syscall.ECONNREFUSED}, repRefused},
		{&net.OpError{Err: syscall.ENETUNREACH}, repNetUnreachable},
		{&net.OpError{Err: syscall.EHOSTUNREACH}, repHostUnreachable},
		{&net.OpError{Err: &net.DNSError{Err: "no such host"}}, repHostUnreachable},
		{&net.OpError{Err: syscall.ETIMEDOUT}, repTTLExpired},
		{&net.OpError{Err: os.ErrDeadlineExceeded}, repTTLExpired},
		{errors.New("?"), repFailure},
	} {
		if got := replyOf(tc.err); got != tc.rep {
			t.Errorf("%v: reply %d, want %d", tc.err, got, tc.rep)
		}
	}
}

func TestParseDatagram(t *testing.T) {
	to, data, err := parseDatagram([]byte("\x00\x00\x00\x03\x01h\x00\x35query"))
	if err != nil || to.String() != "h:53" || string(data) != "query" {
		t.Errorf("%v, %q, %v", to, data, err)
	}
	for in, as := range map[string]string{
		"":                              "unexpected EOF",
		"\x00\x00\x00":                  "EOF",
		"\x00\x00\x01\x01\x00\x00":      "a fragment",
		"\x00\x00\x00\x01\x01\x02\x03":  "unexpected EOF",
		"\x00\x00\x00\x07\x01\x02\x03a": "unknown type of address",
	} {
		if _, _, err := parseDatagram([]byte(in)); text(err) != as {
			t.Errorf("%q: %v, want %s", in, err, as)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, s := range []string{"\x05\x01\x00\x01\x0a\x00\x00\x19\x00\x50", "\x05\x03\x00\x03\x04host\x01\xbb",
		"\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, to, err := readRequest(bytes.NewReader(b))
		if err != nil {
			return
		}
		if !hostName(to.host) {
			t.Fatalf("%q names the host %q", b, to.host)
		}
		ip, err := netip.ParseAddr(to.host)
		if err != nil || b[3] == atypName {
			return
		}
		// What has an address goes there and back.
		again, err := readTarget(bytes.NewReader(appendTarget(nil, netip.AddrPortFrom(ip, to.port))))
		if err != nil || again != to {
			t.Fatalf("%q: %v came back as %v, %v", b, to, again, err)
		}
	})
}

func FuzzReadGreeting(f *testing.F) {
	f.Add([]byte("\x05\x02\x02\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		if ok, err := readGreeting(r); ok && (err != nil || len(b)-r.Len() != 2+int(b[1])) {
			t.Fatalf("%q: took %d octets, %v", b, len(b)-r.Len(), err)
		}
	})
}

func FuzzParseDatagram(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03\x01h\x00\x35query"))
	f.Fuzz(func(t *testing.T, b []byte) {
		to, data, err := parseDatagram(b)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(b, data) || !hostName(to.host) {
			t.Fatalf("%q: %v, %q", b, to, data)
		}
	})
}
