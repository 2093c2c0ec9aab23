package netstat

import (
	"fmt"
	"slices"

	"ionet/protocol"
)

// multicast shows the multicast routing tables (-g).
func (c *command) multicast() error {
	vifs, err := c.s.Vifs()
	if err != nil {
		return err
	}
	mfc, err := c.s.MFC()
	if err != nil {
		return err
	}
	vifs = slices.DeleteFunc(vifs, func(v protocol.VifRow) bool { return !c.o.has(v.Family) })
	mfc = slices.DeleteFunc(mfc, func(m protocol.MFCRow) bool { return !c.o.has(m.Family) })
	if c.o.JSON {
		for _, v := range vifs {
			if err := c.json(v); err != nil {
				return err
			}
		}
		for _, m := range mfc {
			if err := c.json(m); err != nil {
				return err
			}
		}
		return nil
	}
	// cut is a printf width that cuts what is longer, or with -v does not.
	cut := func(n int) string {
		if c.o.Verbose {
			return fmt.Sprintf("%%-%ds", n)
		}
		return fmt.Sprintf("%%-%d.%ds", n, n)
	}
	if c.o.has("inet") {
		c.multicast4(vifs, mfc, cut)
	}
	if c.o.has("inet6") {
		c.multicast6(vifs, mfc, cut)
	}
	return nil
}

// incomplete is the parent of an entry that the routing daemon is still asked for, as a vifi_t.
const incomplete = 65535

func (c *command) multicast4(vifs []protocol.VifRow, mfc []protocol.MFCRow, cut func(int) string) {
	n := 0
	for _, v := range vifs {
		if v.Family != "inet" {
			continue
		}
		if n++; n == 1 {
			c.out.WriteString("\nVirtual Interface Table\n Vif  Thresh  Limit  Local-Address    Remote-Address   Pkt_in  Pkt_out\n")
		}
		fmt.Fprintf(c.out, " %3d     %3d  %5d  "+cut(15)+"  %-15s  %6d  %7d\n", v.Vif, v.Threshold, v.RateLimit, v.Local, "", v.InPackets, v.OutPackets)
	}
	if n == 0 {
		c.out.WriteString("\nVirtual Interface Table is empty\n")
	}
	n = 0
	for _, m := range mfc {
		if m.Family != "inet" {
			continue
		}
		if n++; n == 1 {
			c.out.WriteString("\nMulticast Forwarding Cache\n Hash  Origin           Mcastgroup       Traffic  In-Vif  Out-Vifs/Forw-ttl\n")
		}
		parent := m.Parent
		if parent < 0 {
			parent = incomplete
		}
		fmt.Fprintf(c.out, "  %3d  "+cut(15)+"  "+cut(15)+"  %7s     %3d ", n-1, m.Origin, m.Group, scale(m.Packets), parent)
		for _, o := range m.Out {
			fmt.Fprintf(c.out, " %d/%d", o.Vif, o.TTL)
		}
		c.out.WriteByte('\n')
	}
	if n == 0 {
		c.out.WriteString("\nMulticast Forwarding Cache is empty\n\n")
		return
	}
	fmt.Fprintf(c.out, "\nTotal no. of entries in cache: %d\n\n", n)
}

func (c *command) multicast6(vifs []protocol.VifRow, mfc []protocol.MFCRow, cut func(int) string) {
	n := 0
	for _, v := range vifs {
		if v.Family != "inet6" {
			continue
		}
		if n++; n == 1 {
			c.out.WriteString("\nIPv6 Multicast Interface Table\n Mif   Rate   PhyIF   Pkts-In   Pkts-Out\n")
		}
		fmt.Fprintf(c.out, "  %2d   %4d   %5s %9d  %9d\n", v.Vif, v.RateLimit, v.Interface, v.InPackets, v.OutPackets)
	}
	if n == 0 {
		c.out.WriteString("\nIPv6 Multicast Interface Table is empty\n")
	}
	n = 0
	for _, m := range mfc {
		if m.Family != "inet6" {
			continue
		}
		if n++; n == 1 {
			fmt.Fprintf(c.out, "\nIPv6 Multicast Forwarding Cache\n %-29s %-16s   Packets Waits In-Mif  Out-Mifs\n", "Origin", "Group")
		}
		fmt.Fprintf(c.out, " "+cut(29)+" "+cut(16)+" %9d   %3d", m.Origin, m.Group, m.Packets, m.Waits)
		if m.Parent < 0 {
			c.out.WriteString("  ---   ")
		} else {
			fmt.Fprintf(c.out, "  %3d   ", m.Parent)
		}
		for _, o := range m.Out {
			fmt.Fprintf(c.out, " %d", o.Vif)
		}
		c.out.WriteByte('\n')
	}
	if n == 0 {
		c.out.WriteString("\nIPv6 Multicast Routing Table is empty\n")
	}
	c.out.WriteByte('\n')
}

// scale is a number of packets in the room of a few digits.
func scale(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d ", n)
	case n < 1<<20:
		return fmt.Sprintf("%dk", n>>10)
	}
	return fmt.Sprintf("%dm", n>>20)
}

// multicastStats shows the counters of multicast forwarding (-gs).
func (c *command) multicastStats() error {
	for _, p := range []string{"mroute", "mroute6"} {
		if !c.o.has(statFamily(p)) {
			continue
		}
		rows, err := c.s.Counters(p)
		if err != nil {
			return err
		}
		if err := c.counters(p, rows); err != nil {
			return err
		}
	}
	return nil
}
