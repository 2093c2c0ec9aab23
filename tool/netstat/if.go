package netstat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"ionet/protocol"
)

// interfaceRows are all interfaces, or the one of -I.
func (c *command) interfaceRows() ([]protocol.InterfaceRow, error) {
	rows, err := c.s.Interfaces()
	if err != nil || c.o.Interface == "" {
		return rows, err
	}
	rows = slices.DeleteFunc(rows, func(r protocol.InterfaceRow) bool { return r.Name != c.o.Interface })
	if len(rows) == 0 {
		return nil, c.unknownInterface()
	}
	return rows, nil
}

func (c *command) unknownInterface() error {
	return fmt.Errorf("%s: unknown interface", c.o.Interface)
}

// interfaceStats is -s with -i: no protocol here keeps counters for each
// interface.
func (c *command) interfaceStats() error {
	return errors.New("no protocol keeps counters for each interface: use -i or -s alone")
}

// interfaces shows the interfaces and their counters.
func (c *command) interfaces() error {
	rows, err := c.interfaceRows()
	if err != nil {
		return err
	}
	if c.o.JSON {
		for _, r := range rows {
			if err := c.json(r); err != nil {
				return err
			}
		}
		return nil
	}
	var groups []protocol.GroupRow
	if c.o.All {
		if groups, err = c.s.Groups(); err != nil {
			return err
		}
	}
	b := []byte("Name  Mtu   Network       Address           ")
	if c.o.Bytes {
		b = append(b, "    Ibytes     Obytes"...)
	} else {
		b = append(b, "   Ipkts Ierrs    Opkts Oerrs Colls"...)
	}
	if c.o.Drops {
		b = append(b, " Drops"...)
	}
	b = append(b, '\n')
	for _, r := range rows {
		b = c.appendInterface(b, r, groups)
	}
	_, err = c.out.Write(b)
	return err
}

// appendInterface appends a line for the link level and one for each address,
// all with the same counters.
func (c *command) appendInterface(b []byte, r protocol.InterfaceRow, groups []protocol.GroupRow) []byte {
	cut := !c.o.Verbose
	line := func(network, address string, more []string) {
		name := r.Name
		if r.Flags&protocol.IFFUp == 0 {
			name += "*"
		}
		b = left(b, name, 5, cut)
		b = append(b, ' ')
		b = left(b, strconv.Itoa(r.MTU), 5, false)
		b = append(b, ' ')
		b = left(b, network, 13, cut)
		b = append(b, ' ')
		b = left(b, address, 17, cut)
		b = append(b, ' ')
		for _, g := range more {
			b = append(b, '\n')
			b = pad(b, 26)
			b = left(b, g, 17, cut)
			b = append(b, ' ')
		}
		b = c.appendCounters(b, r)
	}
	line("<Link>", r.Link, nil)
	seen := map[string]bool{}
	for _, a := range r.Addresses {
		if !c.o.has(a.Family) {
			continue
		}
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			continue
		}
		var more []string
		if !seen[a.Family] { // groups belong to the first address of their family
			seen[a.Family] = true
			for _, g := range groups {
				if ga, err := netip.ParseAddr(g.Group); err == nil && g.Interface == r.Name && ga.Is4() == ip.Is4() {
					more = append(more, c.host(ga))
				}
			}
		}
		line(network(ip, a.Bits), c.interfaceAddr(ip), more)
	}
	return b
}

// interfaceAddr is an address as -i shows it: there is too little width for a
// scope unless -v lifts it, and inet6 addresses stay numbers.
func (c *command) interfaceAddr(ip netip.Addr) string {
	if ip.Is4() {
		return c.host(ip)
	}
	if !c.o.Verbose {
		ip = ip.WithZone("")
	}
	return ip.String()
}

// network is the network of an address as -i shows it.
func network(ip netip.Addr, bits int) string {
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return "none"
	}
	if ip.Is4() {
		return string(appendNet4(nil, p.Addr(), protocol.MaskAddr(protocol.AFInet, bits), bits))
	}
	return p.String()
}

func (c *command) appendCounters(b []byte, r protocol.InterfaceRow) []byte {
	if c.o.Bytes {
		b = right(b, r.InBytes, 10)
		b = append(b, ' ')
		b = right(b, r.OutBytes, 10)
	} else {
		for i, n := range [...]uint64{r.InPackets, r.InErrors, r.OutPackets, r.OutErrors, r.Collisions} {
			if i > 0 {
				b = append(b, ' ')
			}
			b = right(b, n, [...]int{8, 5, 8, 5, 5}[i])
		}
	}
	if c.o.Drops {
		b = append(b, ' ')
		b = right(b, r.OutDrops, 5)
	}
	return append(b, '\n')
}

// totals are the counters of a line of -w.
type totals struct{ ip, ib, ie, op, ob, oe, co, dr uint64 }

func (t *totals) add(r protocol.InterfaceRow) {
	t.ip, t.ib, t.ie = t.ip+r.InPackets, t.ib+r.InBytes, t.ie+r.InErrors
	t.op, t.ob, t.oe = t.op+r.OutPackets, t.ob+r.OutBytes, t.oe+r.OutErrors
	t.co, t.dr = t.co+r.Collisions, t.dr+r.OutDrops
}

// since is what was added after old. An interface that went away takes its
// counters with it; that counts as nothing.
func (t totals) since(old totals) totals {
	sub := func(a, b uint64) uint64 {
		if a < b {
			return 0
		}
		return a - b
	}
	return totals{sub(t.ip, old.ip), sub(t.ib, old.ib), sub(t.ie, old.ie), sub(t.op, old.op),
		sub(t.ob, old.ob), sub(t.oe, old.oe), sub(t.co, old.co), sub(t.dr, old.dr)}
}

// bannerLines is how many lines stand under each banner of -w.
const bannerLines = 21

// sideways shows a line of counters every few seconds, for one interface and
// for all together. The first line under a banner counts from the start of the
// stack, the others from the line before.
func (c *command) sideways() error {
	var old, oldAll totals
	for line := 0; ; line++ {
		all, err := c.s.Interfaces()
		if err != nil {
			return err
		}
		var now, sum totals
		name := c.o.Interface
		for i, r := range all {
			sum.add(r)
			if name == "" && i == 0 {
				name = r.Name
			}
			if r.Name == name {
				now = totals{}
				now.add(r)
			}
		}
		if !slices.ContainsFunc(all, func(r protocol.InterfaceRow) bool { return r.Name == name }) {
			if name == "" {
				return errors.New("the stack has no interface")
			}
			return fmt.Errorf("%s: unknown interface", name)
		}
		if c.o.JSON {
			for _, r := range all {
				if c.o.Interface == "" || r.Name == name {
					if err := c.json(r); err != nil {
						return err
					}
				}
			}
		} else {
			if line%bannerLines == 0 {
				c.sidewaysBanner(name)
				old, oldAll = totals{}, totals{}
			}
			b := c.appendTotals(nil, now.since(old))
			b = append(b, "  "...)
			b = c.appendTotals(b, sum.since(oldAll))
			c.out.Write(append(b, '\n'))
		}
		old, oldAll = now, sum
		if err := c.out.Flush(); err != nil {
			return err
		}
		if c.h.Wait(c.ctx, time.Duration(c.o.Wait)*time.Second) != nil {
			return nil // the user has seen enough
		}
	}
}

func (c *command) sidewaysBanner(name string) {
	var b []byte
	for i, of := range [...]string{name, "total"} {
		if i > 0 {
			b = append(b, "  "...)
		}
		if c.o.Bytes {
			b = fmt.Appendf(b, "%7.7s in %8.8s %6.6s out %5.5s", of, " ", of, " ")
		} else {
			b = fmt.Appendf(b, "%5.5s in %5.5s%5.5s out %5.5s %5.5s", of, " ", of, " ", " ")
		}
		if c.o.Drops {
			b = append(b, "      "...)
		}
	}
	b = append(b, '\n')
	for i := range 2 {
		if i > 0 {
			b = append(b, "  "...)
		}
		if c.o.Bytes {
			b = fmt.Appendf(b, "%10.10s %8.8s %10.10s %5.5s", "bytes", " ", "bytes", " ")
		} else {
			b = fmt.Appendf(b, "%8.8s %5.5s %8.8s %5.5s %5.5s", "packets", "errs", "packets", "errs", "colls")
		}
		if c.o.Drops {
			b = append(b, " drops"...)
		}
	}
	c.out.Write(append(b, '\n'))
}

func (c *command) appendTotals(b []byte, t totals) []byte {
	if c.o.Bytes {
		b = right(b, t.ib, 10)
		b = pad(b, 10)
		b = right(b, t.ob, 10)
		b = pad(b, 6)
	} else {
		b = right(b, t.ip, 8)
		b = append(b, ' ')
		b = right(b, t.ie, 5)
		b = append(b, ' ')
		b = right(b, t.op, 8)
		b = append(b, ' ')
		b = right(b, t.oe, 5)
		b = append(b, ' ')
		b = right(b, t.co, 5)
	}
	if c.o.Drops {
		b = append(b, ' ')
		b = right(b, t.dr, 5)
	}
	return b
}
