package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// command is what the program does with arguments:
//
//	encap PORT    takes ESP out of UDP at a port of both families, until it is killed
//	echo PORT     sends back what comes by TCP and UDP at a port of both families, until it is killed
//	pfkey         asks PF_KEY for its algorithms
func command(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "encap":
		port, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil {
			return fmt.Errorf("encap: port %q: %w", args[1], err)
		}
		return encap(int(port))
	case len(args) == 2 && args[0] == "echo":
		return echo(args[1])
	case len(args) == 1 && args[0] == "pfkey":
		return pfkey()
	}
	return fmt.Errorf("%q: want encap PORT, echo PORT or pfkey", args)
}

// echo is the service of RFC 862.
func echo(port string) error {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	u, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	go func() {
		for b := make([]byte, 65536); ; {
			if n, from, err := u.ReadFrom(b); err == nil {
				_, _ = u.WriteTo(b[:n], from) // lost
			}
		}
	}()
	fmt.Fprintln(os.Stderr, "echo: ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

// encap opens the sockets without which the kernel does not take ESP out of UDP
// (RFC 3948).
func encap(port int) error {
	const espInUDP = 2 // UDP_ENCAP_ESPINUDP of linux/udp.h
	for family, any := range map[int]unix.Sockaddr{
		unix.AF_INET:  &unix.SockaddrInet4{Port: port},
		unix.AF_INET6: &unix.SockaddrInet6{Port: port, Addr: netip.IPv6Unspecified().As16()},
	} {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		if family == unix.AF_INET6 {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
				return err
			}
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, espInUDP); err != nil {
			return fmt.Errorf("UDP_ENCAP: %w", err)
		}
		// The policies of the machine are for what comes out of the UDP, not for itself.
		for _, dir := range []byte{1, 2} { // IPSEC_DIR_INBOUND, IPSEC_DIR_OUTBOUND
			bypass := make([]byte, 16) // a struct sadb_x_policy
			binary.NativeEndian.PutUint16(bypass, uint16(len(bypass)/8))
			bypass[2], bypass[4], bypass[6] = 18, 4, dir // SADB_X_EXT_POLICY, IPSEC_POLICY_BYPASS
			level, option := unix.IPPROTO_IP, unix.IP_IPSEC_POLICY
			if family == unix.AF_INET6 {
				level, option = unix.IPPROTO_IPV6, unix.IPV6_IPSEC_POLICY
			}
			if err := unix.SetsockoptString(fd, level, option, string(bypass)); err != nil {
				return fmt.Errorf("IPSEC_POLICY: %w", err)
			}
		}
		if err := unix.Bind(fd, any); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stderr, "encap: ready")
	for {
		_ = unix.Pause()
	}
}

// pfkey registers with PF_KEY for ESP, and prints what the kernel's answer says of
// algorithms (RFC 2367 §3.1.7).
func pfkey() error {
	const version2, register, satypeESP = 2, 7, 3
	const supportedAuth, supportedEncrypt = 14, 15
	fd, err := unix.Socket(unix.AF_KEY, unix.SOCK_RAW, version2)
	if err != nil {
		return fmt.Errorf("PF_KEY: %w", err)
	}
	defer unix.Close(fd)
	m := make([]byte, 16)
	m[0], m[1], m[3] = version2, register, satypeESP
	binary.NativeEndian.PutUint16(m[4:], uint16(len(m)/8))
	binary.NativeEndian.PutUint32(m[8:], 1)
	binary.NativeEndian.PutUint32(m[12:], uint32(os.Getpid()))
	if _, err := unix.Write(fd, m); err != nil {
		return fmt.Errorf("SADB_REGISTER: %w", err)
	}
	b := make([]byte, 65536)
	n, err := unix.Read(fd, b)
	if err != nil {
		return err
	}
	if b = b[:n]; n < 16 || b[1] != register || b[2] != 0 {
		return fmt.Errorf("SADB_REGISTER is answered by % x", b)
	}
	for b = b[16:]; len(b) >= 8; {
		size, kind := int(binary.NativeEndian.Uint16(b))*8, binary.NativeEndian.Uint16(b[2:])
		if size < 8 || size > len(b) {
			return fmt.Errorf("an extension of %d octets in %d", size, len(b))
		}
		name := map[uint16]string{supportedAuth: "auth", supportedEncrypt: "encrypt"}[kind]
		for e := b[8:size]; name != "" && len(e) >= 8; e = e[8:] {
			fmt.Printf("%s %d, key of %d to %d bits\n", name, e[0], binary.NativeEndian.Uint16(e[2:]), binary.NativeEndian.Uint16(e[4:]))
		}
		b = b[size:]
	}
	return nil
}
