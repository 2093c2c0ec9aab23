// Package ifmcstat is the command ifmcstat: it shows the multicast groups of
// the stack's interfaces.
package ifmcstat

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
)

// Command is ifmcstat.
var Command = cli.Command{
	Name:     "ifmcstat",
	Short:    "show the multicast groups of interfaces",
	Synopsis: []string{"[-v] [-f address_family] [-i interface]"},
	Long: "ifmcstat shows for each interface its addresses, and under the first of each family the groups that are received there: how many have joined (refcnt), " +
		"and the Ethernet group that the link filters by, with the number of groups here that share it (multicnt).",
	Options: []cli.Opt{
		{Flags: "-f address_family", Text: "Show only inet or inet6."},
		{Flags: "-i interface", Text: "Show only this interface."},
		{Flags: "-v", Text: "Show what routers are told of a group (RFC 3376, RFC 3810): the mode, and the sources that are included or excluded."},
	},
	JSON: "One object a line for each group: interface, group (with its scope), refs, mode (\"include\", \"exclude\"), sources.",
	Examples: []cli.Item{
		{Name: "ifmcstat -i en0 -f inet6", Text: "The IPv6 groups of en0."},
	},
	SeeAlso: []string{"ifconfig(8)", "netstat(1)"},
	Run:     run,
}

// options are a command line.
type options struct {
	family, ifname string
	verbose, json  bool
}

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("f:i:v", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	o := &options{}
	for _, f := range flags {
		switch f.Name {
		case "f":
			if f.Value != "inet" && f.Value != "inet6" {
				return nil, fmt.Errorf("%s: unknown address family: inet and inet6 have groups", f.Value)
			}
			o.family = f.Value
		case "i":
			o.ifname = f.Value
		case "v":
			o.verbose = true
		}
	}
	if len(rest) > 0 {
		return nil, cli.Misuse("%q: ifmcstat takes no further arguments", rest[0])
	}
	return o, nil
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	if err != nil {
		return ctx.Refuse(err)
	}
	o.json, o.verbose = ctx.JSON, o.verbose || ctx.Verbose
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	ifs, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "")
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	groups, err := client.Table[protocol.GroupRow](s, protocol.TableGroups, "")
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	if err := show(ctx.Stdout, o, ifs, groups); err != nil {
		return ctx.Errorf("%v", err)
	}
	return 0
}

// familyOf is the family of an address as it is written, and that.
func familyOf(text string) (string, netip.Addr) {
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return "", ip
	case ip.Is4():
		return "inet", ip
	}
	return "inet6", ip
}

// ethernet is the Ethernet group of a group (RFC 1112 §6.4, RFC 2464 §7).
func ethernet(ip netip.Addr) string {
	if ip.Is4() {
		b := ip.As4()
		return fmt.Sprintf("01:00:5e:%02x:%02x:%02x", b[1]&0x7f, b[2], b[3])
	}
	b := ip.As16()
	return fmt.Sprintf("33:33:%02x:%02x:%02x:%02x", b[12], b[13], b[14], b[15])
}

func show(out io.Writer, o *options, ifs []protocol.InterfaceRow, groups []protocol.GroupRow) error {
	if o.ifname != "" {
		ifs = slices.DeleteFunc(ifs, func(r protocol.InterfaceRow) bool { return r.Name != o.ifname })
		if len(ifs) == 0 {
			return fmt.Errorf("%s: no interface of this name", o.ifname)
		}
	}
	var b []byte
	for _, r := range ifs {
		var here []protocol.GroupRow
		shared := map[string]int{}
		for _, g := range groups {
			family, ip := familyOf(g.Group)
			if g.Interface != r.Name || family == "" {
				continue
			}
			shared[ethernet(ip)]++
			if o.family == "" || o.family == family {
				here = append(here, g)
			}
		}
		if o.json {
			for _, g := range here {
				line, err := json.Marshal(g)
				if err != nil {
					return err
				}
				b = append(append(b, line...), '\n')
			}
			continue
		}
		b = append(append(b, r.Name...), ":\n"...)
		for _, family := range [...]string{"inet", "inet6"} {
			if o.family == "" || o.family == family {
				b = appendFamily(b, o, r, family, here, shared)
			}
		}
	}
	_, err := out.Write(b)
	return err
}

// appendFamily appends the addresses of a family, and behind the first one,
// or alone, the groups.
func appendFamily(b []byte, o *options, r protocol.InterfaceRow, family string, groups []protocol.GroupRow, shared map[string]int) []byte {
	first := true
	list := func() {
		for _, g := range groups {
			if f, ip := familyOf(g.Group); f == family {
				b = appendGroup(b, o, r, g, ip, shared)
			}
		}
		first = false
	}
	for _, a := range r.Addresses {
		if a.Family != family {
			continue
		}
		b = fmt.Appendf(b, "\t%s %s\n", family, a.Address)
		if first {
			list()
		}
	}
	if first {
		list()
	}
	return b
}

func appendGroup(b []byte, o *options, r protocol.InterfaceRow, g protocol.GroupRow, ip netip.Addr, shared map[string]int) []byte {
	b = fmt.Appendf(b, "\t\tgroup %s refcnt %d", g.Group, g.Refs)
	if o.verbose && g.Mode != "" {
		b = append(append(b, " mode "...), g.Mode...)
	}
	b = append(b, '\n')
	if o.verbose {
		for _, s := range g.Sources {
			b = fmt.Appendf(b, "\t\t\tsource %s\n", s)
		}
	}
	if (r.Type == protocol.IFTEthernet || r.Type == protocol.IFTL2VLAN) && strings.Contains(r.Link, ":") {
		mac := ethernet(ip)
		b = fmt.Appendf(b, "\t\t\tmcast-macaddr %s multicnt %d\n", mac, shared[mac])
	}
	return b
}
