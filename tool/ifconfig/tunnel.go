package ifconfig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"ionet/protocol"
)

// Ends are the addresses of a tunnel as they were typed.
type Ends struct {
	Family   string // "inet", "inet6", or "": whichever they are of
	Src, Dst Host
}

// ParseEnds reads the source and the destination of a tunnel: addresses of one
// family, or names.
func ParseEnds(family, src, dst string) (*Ends, error) {
	e := &Ends{Family: family}
	for i, text := range [...]string{src, dst} {
		h, err := parseEnd(family, text)
		if err != nil {
			return nil, err
		}
		if *[...]*Host{&e.Src, &e.Dst}[i] = h; h.Addr.IsValid() && e.Family == "" {
			e.Family = familyOf(h.Addr)
		}
	}
	for _, a := range [...]netip.Addr{e.Src.Addr, e.Dst.Addr} {
		if a.IsValid() && familyOf(a) != e.Family {
			return nil, errors.New("source and destination address families do not match")
		}
	}
	return e, nil
}

func familyOf(a netip.Addr) string {
	if a.Is4() {
		return "inet"
	}
	return "inet6"
}

func parseEnd(family, s string) (Host, error) {
	families := []string{family}
	if family == "" {
		families = []string{"inet", "inet6"}
	}
	for _, f := range families {
		if h, err := (&parser{family: f}).host(s); err == nil {
			return *h, nil
		}
	}
	return Host{}, badValue(s)
}

// Lookup is what is asked to find the addresses.
type Lookup interface {
	Interfaces(name string) ([]protocol.InterfaceRow, error)
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
}

// Resolve looks the names among the ends up, and answers both as the protocol has
// them.
func (e *Ends) Resolve(ctx context.Context, l Lookup) (src, dst protocol.Addr, err error) {
	family := e.Family
	for i, h := range [...]*Host{&e.Src, &e.Dst} {
		a := h.Addr
		if !a.IsValid() {
			addrs, err := l.LookupHost(ctx, h.Text)
			if err != nil {
				return src, dst, badValue(h.Text)
			}
			at := slices.IndexFunc(addrs, func(a netip.Addr) bool { return family == "" || familyOf(a.Unmap()) == family })
			if at < 0 {
				return src, dst, fmt.Errorf("%s has no address of %s, which the other end is of", h.Text, family)
			}
			a = addrs[at].Unmap()
		}
		family = familyOf(a)
		*[...]*protocol.Addr{&src, &dst}[i] = numbered(a, l)
	}
	return src, dst, nil
}

// numbered is an address with its scope as the protocol has it: the interface's
// number.
func numbered(a netip.Addr, l interface {
	Interfaces(name string) ([]protocol.InterfaceRow, error)
}) protocol.Addr {
	if zone := a.Zone(); zone != "" {
		if rows, err := l.Interfaces(zone); err == nil && len(rows) == 1 {
			a = a.WithZone(fmt.Sprint(rows[0].Index))
		}
	}
	return protocol.AddrFrom(a, 0)
}
