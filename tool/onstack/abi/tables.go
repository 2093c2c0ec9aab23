package abi

import (
	"net"
	"net/netip"
	"syscall"
)

// Tables is what is asked of the stack's interfaces. They may change between
// two calls.
type Tables interface {
	Interfaces() ([]Interface, error)
	Addrs() ([]Addr, error)
}

// Interface is an interface of the stack.
type Interface struct {
	Index   int
	Name    string           // at most 15 octets
	Type    uint16           // ARPHRD_*
	Flags   uint32           // IFF_* as Linux numbers them
	MTU     int              // octets
	TxQueue int              // packets
	HW      net.HardwareAddr // none: empty
}

// Addr is an address of an interface.
type Addr struct {
	Index     int          // of the interface
	Prefix    netip.Prefix // the address, host part included, with the length of its network
	Peer      netip.Addr   // the other end, if it has one; Prefix's length then counts there
	Broadcast netip.Addr   // IPv4 only
}

// byIndex is the interface with that index.
func (s *Sock) byIndex(index int) (Interface, bool) {
	return find1(s.Tables, func(i *Interface) bool { return i.Index == index })
}

// byName is the interface of that name.
func (s *Sock) byName(name string) (Interface, bool) {
	return find1(s.Tables, func(i *Interface) bool { return i.Name == name })
}

// find1 is the first interface that is.
func find1(t Tables, is func(*Interface) bool) (Interface, bool) {
	if t == nil {
		return Interface{}, false
	}
	all, err := t.Interfaces()
	if err != nil {
		return Interface{}, false
	}
	for i := range all {
		if is(&all[i]) {
			return all[i], true
		}
	}
	return Interface{}, false
}

// addrOf is an IPv4 address that names the interface with that index to the
// stack; 0.0.0.0 for index 0, which is any. ENODEV: there is none.
func (s *Sock) addrOf(index int) (ip [4]byte, err error) {
	if index == 0 {
		return ip, nil
	}
	if s.Tables != nil {
		addrs, err := s.Tables.Addrs()
		if err != nil {
			return ip, syscall.ENODEV
		}
		for _, a := range addrs {
			if a.Index == index && a.Prefix.Addr().Is4() {
				return a.Prefix.Addr().As4(), nil
			}
		}
	}
	return ip, syscall.ENODEV
}
