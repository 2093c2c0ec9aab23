package abi

import (
	"bytes"
	"cmp"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/tool/onstack/netlink"
)

// IfreqLen is the length of a struct ifreq: char[16] name, 24 octets of union.
const IfreqLen = 40

// Class says who answers an ioctl on an internet socket.
type Class int

// Classes of ioctls.
const (
	// ClassDescriptor: the kernel, about the descriptor itself (FIONBIO,
	// FIOASYNC, FIOCLEX, owners of signals).
	ClassDescriptor Class = iota
	// ClassSocket: the caller, who knows the socket's queues and times
	// (FIONREAD, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK, SIOCGSTAMP*).
	ClassSocket
	// ClassIfreq: [Ioctl], with a struct ifreq in and out.
	ClassIfreq
	// ClassIfconf: [Ifconf], with a struct ifconf: i32 length, pad, pointer.
	ClassIfconf
	// ClassRefused: [Ioctl] with any argument, for its error.
	ClassRefused
)

// Requests that package unix leaves out.
const (
	fioSetOwn         = 0x8901
	fioGetOwn         = 0x8903
	siocGetStampNew   = 0x80108906
	siocGetStampNSNew = 0x80108907
	siocGetARP        = 0x8954
	siocSetIfTxQLen   = 0x8943
)

// Classify says who answers the request req. What the headers of sockets do
// not have (a terminal's, say) is the descriptor's, whose kernel says ENOTTY.
func Classify(req uint32) Class {
	switch req {
	case unix.SIOCINQ, unix.SIOCOUTQ, unix.SIOCOUTQNSD, unix.SIOCATMARK,
		unix.SIOCGSTAMP_OLD, unix.SIOCGSTAMPNS_OLD, siocGetStampNew, siocGetStampNSNew:
		return ClassSocket
	case fioSetOwn, unix.SIOCSPGRP, fioGetOwn, unix.SIOCGPGRP:
		return ClassDescriptor
	case unix.SIOCGIFCONF:
		return ClassIfconf
	}
	if _, ok := getters[req]; ok {
		return ClassIfreq
	}
	if req>>8 == 0x89 || req>>8 == 0x8b { // SOCK_IOC_TYPE, and wireless
		return ClassRefused
	}
	return ClassDescriptor
}

// getters fill the union of an ifreq, 24 octets of zeros.
var getters = map[uint32]func(i *netlink.Interface, a *netlink.Addr, union []byte) error{
	unix.SIOCGIFINDEX: func(i *netlink.Interface, _ *netlink.Addr, u []byte) error {
		le.PutUint32(u, uint32(i.Index))
		return nil
	},
	unix.SIOCGIFNAME: nil, // the other way round: see Ioctl
	unix.SIOCGIFFLAGS: func(i *netlink.Interface, _ *netlink.Addr, u []byte) error {
		le.PutUint16(u, uint16(i.Flags))
		return nil
	},
	unix.SIOCGIFMTU: func(i *netlink.Interface, _ *netlink.Addr, u []byte) error {
		le.PutUint32(u, uint32(i.MTU))
		return nil
	},
	unix.SIOCGIFMETRIC: func(*netlink.Interface, *netlink.Addr, []byte) error { return nil }, // 0 in Linux, always
	unix.SIOCGIFMAP:    func(*netlink.Interface, *netlink.Addr, []byte) error { return nil }, // no memory, no interrupt
	unix.SIOCGIFTXQLEN: func(i *netlink.Interface, _ *netlink.Addr, u []byte) error {
		le.PutUint32(u, uint32(i.TxQueue))
		return nil
	},
	unix.SIOCGIFHWADDR: func(i *netlink.Interface, _ *netlink.Addr, u []byte) error {
		le.PutUint16(u, i.Type)
		copy(u[2:16], i.HW)
		return nil
	},
	unix.SIOCGIFADDR: address(func(_ *netlink.Interface, a *netlink.Addr) netip.Addr { return a.Prefix.Addr() }),
	unix.SIOCGIFNETMASK: address(func(_ *netlink.Interface, a *netlink.Addr) netip.Addr {
		return protocol.MaskAddr(protocol.AFInet, a.Prefix.Bits()).IP
	}),
	unix.SIOCGIFBRDADDR: address(func(_ *netlink.Interface, a *netlink.Addr) netip.Addr { return a.Broadcast }),
	unix.SIOCGIFDSTADDR: address(func(_ *netlink.Interface, a *netlink.Addr) netip.Addr {
		if a.Peer.IsValid() {
			return a.Peer
		}
		return a.Prefix.Addr() // as Linux has it where there is no other end
	}),
}

// address makes a getter of a sockaddr_in; EADDRNOTAVAIL without an address.
// An address that is missing beside it is 0.0.0.0.
func address(pick func(*netlink.Interface, *netlink.Addr) netip.Addr) func(*netlink.Interface, *netlink.Addr, []byte) error {
	return func(i *netlink.Interface, a *netlink.Addr, u []byte) error {
		if a == nil {
			return syscall.EADDRNOTAVAIL
		}
		ip := pick(i, a)
		if !ip.Is4() {
			ip = netip.IPv4Unspecified()
		}
		AppendSockaddr(u[:0], protocol.Addr{Family: protocol.AFInet, IP: ip})
		return nil
	}
}

// Ioctl answers the request req, whose argument is the octets of a struct
// ifreq, by the ifreq that goes back. A request of [ClassRefused] needs no
// argument. Errors: ENODEV (no such interface), EADDRNOTAVAIL (it has no IPv4
// address), EINVAL (too short an argument), EPERM (what would change
// something: that is for ifconfig, route and arp), ENXIO (no ARP entry is
// shown this way), EOPNOTSUPP (ethtool, the drivers' own, wireless), ENOTTY.
func Ioctl(t Tables, req uint32, arg []byte) ([]byte, error) {
	get, ok := getters[req]
	if !ok {
		return nil, refusal(req)
	}
	if len(arg) < IfreqLen {
		return nil, syscall.EINVAL
	}
	out := make([]byte, IfreqLen)
	if req == unix.SIOCGIFNAME {
		index := int(int32(le.Uint32(arg[unix.IFNAMSIZ:])))
		ifp, ok := findInterface(t, func(i *netlink.Interface) bool { return i.Index == index })
		if !ok {
			return nil, syscall.ENODEV
		}
		copy(out[:unix.IFNAMSIZ-1], ifp.Name)
		copy(out[unix.IFNAMSIZ:], arg[unix.IFNAMSIZ:IfreqLen])
		return out, nil
	}
	name := arg[:unix.IFNAMSIZ-1]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	copy(out, name)
	// "en0:1" is en0 for all but its addresses, which may have such labels.
	base, _, _ := strings.Cut(string(name), ":")
	ifp, ok := findInterface(t, func(i *netlink.Interface) bool { return i.Name == base })
	if !ok {
		return nil, syscall.ENODEV
	}
	a, err := addrFor(t, &ifp, string(name), arg[unix.IFNAMSIZ:])
	if err != nil {
		return nil, err
	}
	if err := get(&ifp, a, out[unix.IFNAMSIZ:]); err != nil {
		return nil, err
	}
	return out, nil
}

// addrFor is the IPv4 address of the interface that an ifreq means: of those
// with that label the one that stands in it already, else the first; nil: there
// is none. The label is the interface's name where there is no other.
func addrFor(t Tables, ifp *netlink.Interface, label string, union []byte) (*netlink.Addr, error) {
	all, err := t.Addrs()
	if err != nil {
		return nil, syscall.ENODEV
	}
	asked := netip.Addr{}
	if a, err := ParseSockaddr(union); err == nil && a.Family == protocol.AFInet {
		asked = a.IP
	}
	var first *netlink.Addr
	for i := range all {
		a := &all[i]
		switch {
		case a.Index != ifp.Index || !a.Prefix.Addr().Is4() || cmp.Or(a.Label, ifp.Name) != label:
		case a.Prefix.Addr() == asked:
			return a, nil
		case first == nil:
			first = a
		}
	}
	return first, nil
}

// Ifconf answers SIOCGIFCONF: an ifreq for each IPv4 address, as many as go
// whole into size octets. A program that passes no buffer asks how long they
// all are: size -1.
func Ifconf(t Tables, size int) ([]byte, error) {
	ifs, err := t.Interfaces()
	if err != nil {
		return nil, syscall.ENODEV
	}
	addrs, err := t.Addrs()
	if err != nil {
		return nil, syscall.ENODEV
	}
	var b []byte
	for i := range ifs {
		for _, a := range addrs {
			if a.Index != ifs[i].Index || !a.Prefix.Addr().Is4() {
				continue
			}
			if size >= 0 && len(b)+IfreqLen > size {
				return b, nil
			}
			var name [unix.IFNAMSIZ]byte
			copy(name[:unix.IFNAMSIZ-1], cmp.Or(a.Label, ifs[i].Name))
			b = append(b, name[:]...)
			b = AppendSockaddr(b, protocol.Addr{Family: protocol.AFInet, IP: a.Prefix.Addr()})
			b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		}
	}
	return b, nil
}

// refusal is the error of a request that is not answered.
func refusal(req uint32) error {
	switch req {
	case unix.SIOCADDRT, unix.SIOCDELRT, unix.SIOCSIFFLAGS, unix.SIOCSIFADDR, unix.SIOCSIFDSTADDR,
		unix.SIOCSIFBRDADDR, unix.SIOCSIFNETMASK, unix.SIOCSIFMETRIC, unix.SIOCSIFMTU, unix.SIOCSIFNAME,
		unix.SIOCSIFHWADDR, unix.SIOCSIFMAP, unix.SIOCSIFHWBROADCAST, unix.SIOCSIFSLAVE, unix.SIOCSIFPFLAGS,
		unix.SIOCADDMULTI, unix.SIOCDELMULTI, unix.SIOCDIFADDR, unix.SIOCSIFENCAP, unix.SIOCSIFBR,
		unix.SIOCSARP, unix.SIOCDARP, unix.SIOCSRARP, unix.SIOCDRARP, siocSetIfTxQLen:
		return syscall.EPERM
	case siocGetARP:
		return syscall.ENXIO
	case unix.SIOCETHTOOL, unix.SIOCGMIIPHY, unix.SIOCGMIIREG:
		return syscall.EOPNOTSUPP
	}
	if req>>4 == 0x89f || req>>8 == 0x8b { // SIOCDEVPRIVATE, wireless
		return syscall.EOPNOTSUPP
	}
	return syscall.ENOTTY
}
