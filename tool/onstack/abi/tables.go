package abi

import (
	"syscall"

	"ionet/tool/onstack/netlink"
)

// Tables is what is asked of the stack's interfaces; netlink.Tables has it.
// They may change between two calls.
type Tables interface {
	Interfaces() ([]netlink.Interface, error)
	Addrs() ([]netlink.Addr, error)
}

// byIndex is the interface with that index.
func (s *Sock) byIndex(index int) (netlink.Interface, bool) {
	return findInterface(s.Tables, func(i *netlink.Interface) bool { return i.Index == index })
}

// byName is the interface of that name.
func (s *Sock) byName(name string) (netlink.Interface, bool) {
	return findInterface(s.Tables, func(i *netlink.Interface) bool { return i.Name == name })
}

// findInterface is the first interface that is.
func findInterface(t Tables, is func(*netlink.Interface) bool) (netlink.Interface, bool) {
	if t == nil {
		return netlink.Interface{}, false
	}
	all, err := t.Interfaces()
	if err != nil {
		return netlink.Interface{}, false
	}
	for i := range all {
		if is(&all[i]) {
			return all[i], true
		}
	}
	return netlink.Interface{}, false
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
