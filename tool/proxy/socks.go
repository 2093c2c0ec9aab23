package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
)

// SOCKS protocol version 5 (RFC 1928).
const (
	socksVersion = 5

	authNone = 0x00
	authFail = 0xff

	cmdConnect   = 1
	cmdAssociate = 3

	atypIPv4 = 1
	atypName = 3
	atypIPv6 = 4
)

// Replies of SOCKS (RFC 1928 §6).
const (
	repSucceeded       = 0
	repFailure         = 1
	repNetUnreachable  = 3
	repHostUnreachable = 4
	repRefused         = 5
	repTTLExpired      = 6
	repCommand         = 7
	repAddressType     = 8
)

// errAddressType is an ATYP that RFC 1928 does not know.
var errAddressType = errors.New("unknown type of address")

// target is where a client wants to go: a numeric address or a name.
type target struct {
	host string
	port uint16
}

func (t target) String() string { return net.JoinHostPort(t.host, strconv.Itoa(int(t.port))) }

// readGreeting reads the version and the methods of a client (RFC 1928 §3),
// and answers whether one of them is to do without authentication.
func readGreeting(r io.Reader) (bool, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return false, err
	}
	if head[0] != socksVersion {
		return false, fmt.Errorf("version %d instead of %d", head[0], socksVersion)
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(r, methods); err != nil {
		return false, err
	}
	return slices.Contains(methods, authNone), nil
}

// readRequest reads a request (RFC 1928 §4). On errAddressType what follows
// is not known.
func readRequest(r io.Reader) (cmd byte, t target, err error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, t, err
	}
	if head[0] != socksVersion {
		return 0, t, fmt.Errorf("version %d instead of %d", head[0], socksVersion)
	}
	t, err = readTarget(r)
	return head[1], t, err
}

// readTarget reads ATYP, address and port (RFC 1928 §5).
func readTarget(r io.Reader) (t target, err error) {
	var b [257]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return t, err
	}
	size := 0
	switch b[0] {
	case atypIPv4:
		size = 4
	case atypIPv6:
		size = 16
	case atypName:
		if _, err := io.ReadFull(r, b[1:2]); err != nil {
			return t, err
		}
		size = int(b[1])
	default:
		return t, errAddressType
	}
	a := b[:size+2]
	kind := b[0]
	if _, err := io.ReadFull(r, a); err != nil {
		return t, err
	}
	t.port = binary.BigEndian.Uint16(a[size:])
	if kind != atypName {
		ip, _ := netip.AddrFromSlice(a[:size])
		t.host = ip.Unmap().String()
		return t, nil
	}
	t.host = string(a[:size])
	if !hostName(t.host) {
		return t, fmt.Errorf("%q is no name of a host", t.host)
	}
	return t, nil
}

// hostName keeps out what a log or a resolver had better not see. Clients that
// send numeric addresses as names are common.
func hostName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// appendTarget appends ATYP, address and port.
func appendTarget(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().Unmap()
	switch {
	case !ip.IsValid():
		b = append(b, atypIPv4, 0, 0, 0, 0)
	case ip.Is4():
		b = append(append(b, atypIPv4), ip.AsSlice()...)
	default:
		b = append(append(b, atypIPv6), ip.AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(b, a.Port())
}

// appendReply appends a reply (RFC 1928 §6).
func appendReply(b []byte, rep byte, bound netip.AddrPort) []byte {
	return appendTarget(append(b, socksVersion, rep, 0), bound)
}

// replyOf is the reply that says err best.
func replyOf(err error) byte {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return repRefused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ENETDOWN):
		return repNetUnreachable
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN), errors.As(err, &dns):
		return repHostUnreachable
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded):
		return repTTLExpired
	}
	return repFailure
}

// serveSOCKS speaks SOCKS5 with a client until its connection is over.
func (s *server) serveSOCKS(c *conn) error {
	ok, err := readGreeting(c)
	if err != nil {
		return fmt.Errorf("SOCKS5 greeting: %w", err)
	}
	if !ok {
		_, _ = c.Write([]byte{socksVersion, authFail})
		return errors.New("the client insists on authentication, which there is none of")
	}
	if _, err := c.Write([]byte{socksVersion, authNone}); err != nil {
		return err
	}
	cmd, to, err := readRequest(c)
	if err != nil {
		if errors.Is(err, errAddressType) {
			_, _ = c.Write(appendReply(nil, repAddressType, netip.AddrPort{}))
		}
		return fmt.Errorf("SOCKS5 request: %w", err)
	}
	_ = c.SetReadDeadline(never)
	switch cmd {
	case cmdConnect:
		return s.socksConnect(c, to)
	case cmdAssociate:
		return s.socksAssociate(c)
	}
	_, _ = c.Write(appendReply(nil, repCommand, netip.AddrPort{}))
	return fmt.Errorf("SOCKS5 command %d: only CONNECT and UDP ASSOCIATE are served", cmd)
}

func (s *server) socksConnect(c *conn, to target) error {
	up, err := s.dial(s.stack, to.String())
	if err != nil {
		_, _ = c.Write(appendReply(nil, replyOf(err), netip.AddrPort{}))
		return err
	}
	defer up.Close()
	if _, err := c.Write(appendReply(nil, repSucceeded, addrPort(up.LocalAddr()))); err != nil {
		return err
	}
	return s.relay("socks5", c, up, to.String())
}

// addrPort is an address in numbers; invalid when it has none.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return ap
}
