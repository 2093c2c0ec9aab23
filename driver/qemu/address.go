package qemu

import (
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// address is where a socket listens or connects to.
type address struct {
	network string // unix or tcp; for datagrams unixgram or udp
	text    string
}

func (a address) String() string { return a.text }

func (a address) unix() bool { return strings.HasPrefix(a.network, "unix") }

// parseAddress reads PATH or host:port. What has a slash or no colon is a path;
// without a host the port is one on loopback.
func parseAddress(option, s string, dgram bool) (address, error) {
	network := map[bool]string{false: "unix", true: "unixgram"}
	if strings.Contains(s, "/") || !strings.Contains(s, ":") {
		if limit := len(unix.RawSockaddrUnix{}.Path) - 1; s == "" || len(s) > limit {
			return address{}, fmt.Errorf("%s=%s: want the path of a socket, at most %d octets, or host:port", option, s, limit)
		}
		return address{network[dgram], s}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || port == "" {
		return address{}, fmt.Errorf("%s=%s: want the path of a socket, or host:port", option, s)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	network = map[bool]string{false: "tcp", true: "udp"}
	return address{network[dgram], net.JoinHostPort(host, port)}, nil
}
