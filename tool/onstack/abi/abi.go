// Package abi is the translation between what a Linux program says to its
// kernel about an internet socket and what a stack understands: socket
// addresses, options, message flags, control messages and ioctls. Everything
// is a function over octets; who reads them from a program's memory and asks
// the stack is the caller's matter.
//
// Numbers and layouts are those of Linux on amd64 and arm64, which agree about
// sockets. Errors are syscall.Errno, as the program gets them.
//
// A program's AF_INET6 socket is one of the stack's, which begins as Linux has
// it ([Sock.Begin]): IPV6_V6ONLY is off, and it meets IPv4 by mapped addresses.
package abi

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// le is native order on both machines.
var le = binary.LittleEndian

// Option names an option: level and name in Linux's numbers.
type Option struct{ Level, Name int }

// Sock is what the caller knows of a program's socket. Descriptors that share
// the socket share the Sock, and whoever answers for two of them at once locks
// it.
type Sock struct {
	Family    int    // unix.AF_INET or unix.AF_INET6, as the program made it
	Type      int    // unix.SOCK_STREAM, SOCK_DGRAM or SOCK_RAW, without flags
	Protocol  int    // as the program made it; 0: the type's own
	Bound     bool   // it has a local address: bind, connect or a send has succeeded
	Listening bool   // listen has succeeded
	Cookie    uint64 // SO_COOKIE: a number that no other socket has

	// Tables is asked where an option names an interface by index; nil: there
	// are no interfaces.
	Tables Tables

	// Zone is the interface, by index in decimal, that a peer's address of one
	// link is on which does not say it: that of the socket's own; "": none.
	Zone string

	// kept are the values of options that are remembered here.
	kept map[Option]int
}

// StackFamily is the stack's number of the socket's family.
func (s *Sock) StackFamily() int {
	if s.Family == unix.AF_INET6 {
		return protocol.AFInet6
	}
	return protocol.AFInet
}

// Begin is what a new socket of the stack is told, that begins otherwise than one
// of Linux. A raw socket has nothing to do with IPv4 in either.
func (s *Sock) Begin() []protocol.SockOpt {
	if s.Family != unix.AF_INET6 || s.Type == unix.SOCK_RAW {
		return nil
	}
	return []protocol.SockOpt{call(ip6Option(protocol.IPv6V6Only), 0)}
}

// Kept is the value that the program has given the option o; ok is false if it
// has not, or if the stack keeps the option.
func (s *Sock) Kept(o Option) (value int, ok bool) {
	value, ok = s.kept[o]
	return value, ok
}

// Keep notes what the request r, which [Set] has made and the stack has
// granted, leaves behind here.
func (s *Sock) Keep(r Request) {
	for _, k := range r.keep {
		if s.kept == nil {
			s.kept = map[Option]int{}
		}
		s.kept[k.option] = k.value
	}
}

// Accepted is the Sock of a connection that came to the listener s: it
// inherits the options.
func (s *Sock) Accepted(cookie uint64) *Sock {
	c := *s
	c.Listening, c.Cookie, c.kept = false, cookie, nil
	for o, v := range s.kept {
		c.Keep(Request{keep: []kept{{o, v}}})
	}
	return &c
}

// protocol is the number of the protocol that the socket speaks.
func (s *Sock) protocol() int {
	switch {
	case s.Protocol != 0:
		return s.Protocol
	case s.Type == unix.SOCK_STREAM:
		return unix.IPPROTO_TCP
	case s.Type == unix.SOCK_DGRAM:
		return unix.IPPROTO_UDP
	}
	return 0
}

// on says that the option of that level and name was given a value other than 0.
func (s *Sock) on(level, name int) bool { return s.kept[Option{level, name}] != 0 }
