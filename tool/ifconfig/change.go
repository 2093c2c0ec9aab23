package ifconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"ionet/protocol"
)

// change does what the words behind an interface say. Flags and numbers are
// set in their order; the address, which may depend on them, comes last. The
// first failure ends it.
func (c *command) change(r protocol.InterfaceRow) error {
	ch := c.o.Change
	for _, h := range []*Host{ch.Addr, ch.Dst, ch.Broadcast} {
		if err := c.resolve(h); err != nil {
			return err
		}
	}
	if ch.Dst != nil && r.Flags&protocol.IFFPointToPoint == 0 {
		return fmt.Errorf("can't set destination address on non-point-to-point link")
	}
	for _, s := range ch.Steps {
		if err := c.step(r, s); err != nil {
			return err
		}
	}
	if ch.EUI64 {
		if err := ch.fill(r); err != nil {
			return err
		}
	}
	switch {
	case ch.Alias < 0:
		return c.remove(r)
	case ch.Addr != nil:
		return c.add(r)
	case ch.Mask != nil || ch.Bits >= 0 || ch.Broadcast != nil:
		return c.amend(r)
	}
	return nil
}

// resolve looks a name up.
func (c *command) resolve(h *Host) error {
	if h == nil || h.Addr.IsValid() {
		return nil
	}
	addrs, err := c.s.LookupHost(c.ctx, h.Text)
	if err != nil {
		return badValue(h.Text)
	}
	want6 := c.o.Family == "inet6"
	i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Unmap().Is4() != want6 })
	if i < 0 {
		return badValue(h.Text)
	}
	h.Addr = addrs[i].Unmap()
	return nil
}

// fill makes the lower half of the address that of the interface's link-local
// one (eui64).
func (ch *Change) fill(r protocol.InterfaceRow) error {
	ip := ch.Addr.Addr.As16()
	if !ch.Addr.Addr.Is6() || [8]byte(ip[8:]) != [8]byte{} {
		return fmt.Errorf("%s: eui64 fills the lower half of an IPv6 address, which is not zero here", ch.Addr.Text)
	}
	for _, row := range r.Addresses {
		if own, err := netip.ParseAddr(row.Address); err == nil && own.Is6() && own.IsLinkLocalUnicast() {
			id := own.As16()
			copy(ip[8:], id[8:])
			ch.Addr.Addr = netip.AddrFrom16(ip).WithZone(ch.Addr.Addr.Zone())
			return nil
		}
	}
	return fmt.Errorf("%s has no link-local address for eui64 to take the lower half from: it gets one when it comes up", r.Name)
}

func (c *command) step(r protocol.InterfaceRow, s Step) error {
	name := c.o.Interface
	switch s.Kind {
	case SetFlags:
		return Request("SIOCSIFFLAGS", c.s.SetFlags(name, s.Set, s.Clear))
	case SetMTU:
		return Request("SIOCSIFMTU", c.s.SetMTU(name, s.Value))
	case SetMetric:
		return Request("SIOCSIFMETRIC", c.s.SetMetric(name, s.Value))
	case SetLink:
		return Request("SIOCSIFLLADDR", c.s.SetLinkAddr(name, s.Link))
	case SetTunnel:
		return c.tunnel(name, s.Ends)
	case DeleteTunnel:
		return Request("SIOCDIFPHYADDR", c.s.DeleteTunnel(name))
	case SetVLAN:
		return Request("SIOCSETVLAN", c.s.SetVLAN(name, s.Value, s.Text))
	case ClearVLAN:
		return Request("SIOCSETVLAN", c.s.ClearVLAN(name))
	case Unsupported:
		return Request(s.Text, syscall.ENOTTY)
	}
	return media(r, s)
}

// Media of Ethernet that the original knows by name.
var (
	mediaNames = []string{"autoselect", "auto", "manual", "none", "10baseT/UTP", "10baseT", "10base2/BNC", "10base2",
		"10base5/AUI", "10base5", "100baseTX", "100baseFX", "100baseT4", "1000baseSX", "1000baseLX", "1000baseTX", "1000baseT"}
	mediaOptions = []string{"full-duplex", "half-duplex", "loopback", "flag0", "flag1", "flag2"}
)

// media judges a word about the medium. A driver here chooses its medium by
// itself, so that asking for what it has anyway succeeds and nothing else does.
func media(r protocol.InterfaceRow, s Step) error {
	if r.Media == "" {
		return Request("SIOCGIFMEDIA", syscall.ENOTTY)
	}
	known := func(names []string, v string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, v) })
	}
	has := true
	switch s.Kind {
	case SetMedia:
		if !known(mediaNames, s.Text) {
			return fmt.Errorf("unknown Ethernet media subtype: %s", s.Text)
		}
		has = known([]string{"autoselect", "auto"}, s.Text) || mentions(r.Media, s.Text)
	case SetMediaOpt, ClearMediaOpt:
		for v := range strings.SplitSeq(s.Text, ",") {
			if !known(mediaOptions, v) {
				return fmt.Errorf("unknown Ethernet media option: %s", v)
			}
			has = has && mentions(r.Media, v) == (s.Kind == SetMediaOpt)
		}
	case SetInstance:
		has = s.Text == "0"
	}
	if !has {
		return Request("SIOCSIFMEDIA", syscall.EOPNOTSUPP)
	}
	return nil
}

// mentions says that the words of a medium's text have v among them.
func mentions(media, v string) bool {
	words := strings.FieldsFunc(media, func(c rune) bool { return c == ' ' || c == '(' || c == ')' || c == ',' })
	return slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, v) })
}

// mask is the netmask that was given, in the family of a; none otherwise.
func (ch *Change) mask(a netip.Addr) protocol.Addr {
	switch {
	case ch.Mask != nil:
		return protocol.AddrFrom(ch.Mask.Addr, 0)
	case ch.Bits >= 0:
		return protocol.MaskAddr(protocol.AddrFrom(a, 0).Family, ch.Bits)
	}
	return protocol.Addr{}
}

// add gives the interface the address: in the place of the first of its
// family, or with alias, and always in inet6, beside those that are there.
func (c *command) add(r protocol.InterfaceRow) error {
	ch := c.o.Change
	req := protocol.AliasReq{Name: r.Name, Addr: c.address(ch.Addr.Addr), Mask: ch.mask(ch.Addr.Addr), Flags: ch.Flags6}
	switch {
	case ch.Broadcast != nil:
		req.Brd = c.address(ch.Broadcast.Addr)
	case ch.Dst != nil:
		req.Brd = c.address(ch.Dst.Addr)
	}
	if req.Addr.Family == protocol.AFInet6 && !req.Mask.IsValid() { // RFC 4291 §2.5.1; a destination is one host
		bits := 64
		if ch.Dst != nil {
			bits = 128
		}
		req.Mask = protocol.MaskAddr(protocol.AFInet6, bits)
	}
	if ch.Preferred != nil || ch.Valid != nil {
		req.Timed, req.Preferred, req.Valid = true, protocol.LifetimeInfinite, protocol.LifetimeInfinite
		if ch.Valid != nil {
			req.Valid = uint32(*ch.Valid)
			req.Preferred = req.Valid
		}
		if ch.Preferred != nil {
			req.Preferred = uint32(*ch.Preferred)
		}
	}
	if req.Addr.Family == protocol.AFInet && ch.Alias == 0 {
		if row, old, err := c.first(r); err == nil && old != ch.Addr.Addr {
			return c.replace(req, row, old)
		}
	}
	return Request("SIOCAIFADDR", c.s.AddAddr(r.Name, req))
}

// replace has the address take the place of old, which comes back when the
// new one is refused.
func (c *command) replace(req protocol.AliasReq, row protocol.AddressRow, old netip.Addr) error {
	was := protocol.AliasReq{Name: req.Name, Addr: c.address(old), Mask: protocol.MaskAddr(protocol.AFInet, row.Bits)}
	for _, text := range [...]string{row.Destination, row.Broadcast} {
		if a, err := netip.ParseAddr(text); err == nil {
			was.Brd = c.address(a)
		}
	}
	if err := c.s.DelAddr(req.Name, was.Addr); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return Request("SIOCDIFADDR", err)
	}
	err := c.s.AddAddr(req.Name, req)
	if err == nil {
		return nil
	}
	if back := c.s.AddAddr(req.Name, was); back != nil {
		c.fail(fmt.Errorf("%v could not be given back: %w", old, Request("SIOCAIFADDR", back)))
	}
	return Request("SIOCAIFADDR", err)
}

// address is a with its scope as the protocol has it: the interface's number.
func (c *command) address(a netip.Addr) protocol.Addr { return numbered(a, c.s) }

// tunnel has a gif lead somewhere.
func (c *command) tunnel(name string, e *Ends) error {
	src, dst, err := e.Resolve(c.ctx, c.s)
	if err != nil {
		return err
	}
	return Request("SIOCSLIFPHYADDR", c.s.SetTunnel(name, src, dst))
}

// first is the first address of the family.
func (c *command) first(r protocol.InterfaceRow) (protocol.AddressRow, netip.Addr, error) {
	family := c.o.Family
	if family == "" {
		family = "inet"
	}
	for _, a := range r.Addresses {
		if a.Family == family {
			ip, err := netip.ParseAddr(a.Address)
			return a, ip, err
		}
	}
	return protocol.AddressRow{}, netip.Addr{}, syscall.EADDRNOTAVAIL
}

// remove takes an address away: the one given, or the first.
func (c *command) remove(r protocol.InterfaceRow) error {
	var ip netip.Addr
	var err error
	if h := c.o.Change.Addr; h != nil {
		ip = h.Addr
	} else if _, ip, err = c.first(r); err != nil {
		return Request("SIOCDIFADDR", err)
	}
	return Request("SIOCDIFADDR", c.s.DelAddr(c.o.Interface, c.address(ip)))
}

// amend changes netmask or broadcast address of the first address.
func (c *command) amend(r protocol.InterfaceRow) error {
	ch := c.o.Change
	row, ip, err := c.first(r)
	if err != nil {
		return Request("SIOCAIFADDR", errors.New("the interface has no address to change"))
	}
	req := protocol.AliasReq{Name: c.o.Interface, Addr: c.address(ip), Mask: ch.mask(ip)}
	if !req.Mask.IsValid() {
		req.Mask = protocol.MaskAddr(req.Addr.Family, row.Bits)
	}
	if ch.Broadcast != nil {
		req.Brd = c.address(ch.Broadcast.Addr)
	} else if d, err := netip.ParseAddr(row.Destination); err == nil {
		req.Brd = c.address(d)
	}
	return Request("SIOCAIFADDR", c.s.AddAddr(c.o.Interface, req))
}
