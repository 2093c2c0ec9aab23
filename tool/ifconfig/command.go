package ifconfig

import (
	"context"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
)

// Command is ifconfig.
var Command = cli.Command{
	Name:  "ifconfig",
	Short: "show and configure network interfaces",
	Synopsis: []string{
		"interface [address_family] [address[/length] [dest_address]] [parameters]",
		"[-mL] interface [address_family]",
		"-a [-bdLmsu] [address_family]",
		"-l [-bdsu]",
		"-s interface",
		"-C",
		"-w seconds",
		"interface create|destroy",
	},
	Long: "ifconfig shows an interface, or gives it addresses and changes its parameters. An IPv4 address may be short, as " +
		"inet_aton reads it: 10.163 is 10.0.0.163. Without netmask, prefixlen or /length the netmask is that of the address's class " +
		"(IPv6: 64, and 128 with a destination). With a plain address the interface's first one goes (the next becomes the first, " +
		"when there are more); with alias the address is added beside those that are there. Names are looked up as the stack does.\n\n" +
		"All words are read before anything changes. Flags, mtu and metric are then set in the order of the words, addresses last; " +
		"the first failure ends the command with a status other than 0, also where the original went on.\n\n" +
		"A driver here chooses its medium by itself: media and mediaopt succeed for what is there already. Words for hardware that the " +
		"stack does not have (nwid, nwkey) are read, and fail.",
	Options: []cli.Opt{
		{Flags: "-a", Text: "Show all interfaces."},
		{Flags: "-b", Text: "With -a or -l: only those that can broadcast."},
		{Flags: "-C", Text: "Show the kinds of interfaces that create makes."},
		{Flags: "-d", Text: "With -a or -l: only those that are down."},
		{Flags: "-L", Text: "Show lifetimes of IPv6 addresses: seconds left, 0 when past, infty for ever."},
		{Flags: "-l", Text: "Show names of interfaces only."},
		{Flags: "-m", Text: "Show the media that an interface supports."},
		{Flags: "-s", Text: "With -a or -l: only those that are connected. Alone with an interface: end with 1 when it has no carrier."},
		{Flags: "-u", Text: "With -a or -l: only those that are up."},
		{Flags: "-w seconds", Text: "Wait until no address is tentative, at most so long."},
		{Flags: "up, down", Text: "Start or stop the interface. An address starts it by itself."},
		{Flags: "alias", Text: "Add the address beside others."},
		{Flags: "delete, -alias", Text: "Take the address away; without an address, the first one."},
		{Flags: "netmask mask", Text: "The netmask, 255.255.255.0 or 0xffffff00. Without an address it changes the first one's."},
		{Flags: "prefixlen n", Text: "The netmask by the number of its bits."},
		{Flags: "broadcast address", Text: "The broadcast address. Without an address it changes the first one's."},
		{Flags: "metric n, mtu n", Text: "The routing metric; the largest packet in octets."},
		{Flags: "arp, -arp", Text: "Use ARP, or do not."},
		{Flags: "debug, link0, link1, link2, promisc", Text: "Set the flag; with a '-' before it, clear it."},
		{Flags: "lladdr address", Text: "Change the link address."},
		{Flags: "media type, mediaopt options, -mediaopt options, instance n", Text: "Choose the medium."},
		{Flags: "anycast, tentative, deprecated, autoconf", Text: "Flags of an IPv6 address."},
		{Flags: "eui64", Text: "The lower half of the IPv6 address, left zero, is that of the interface's link-local one."},
		{Flags: "pltime n, vltime n", Text: "How many seconds an IPv6 address is preferred, and valid; for ever if not said."},
		{Flags: "create, destroy", Text: "Make or remove an interface of a kind that -C shows: gif is a tunnel, ipsec one whose packets ESP protects (the policies come with it, and setkey -DP shows them; ipsec0 takes associations in transport mode, -u 16384 for IPv4 inside and 16385 for IPv6, ipsec1 the next two), stf is 6to4, of which there is one, vlan is a VLAN of an Ethernet, bridge is for brconfig, enc shows captures and the filter what comes out of IPsec's tunnels while it is up. The address of stf is inet6 " +
			"2002:, a public IPv4 address of this host in eight hexadecimal digits, and prefixlen 16."},
		{Flags: "tunnel source destination", Text: "Have a gif or ipsec lead from an address of this host to another host's. Both are of one family, inet or inet6, whatever is sent through."},
		{Flags: "deletetunnel", Text: "Have it lead nowhere."},
		{Flags: "vlan n vlanif parent", Text: "A vlan interface sends and receives the frames of parent, an Ethernet, that have the tag n, 1 to 4094 (IEEE 802.1Q)."},
		{Flags: "-vlanif", Text: "Take it off its parent. Its addresses stay."},
		{Flags: "link2", Text: "On gif and stf: take packets of the far end by whatever interface, not only by the one that the route to it goes out by."},
	},
	JSON: "One object a line for each interface: name, index, type (IFT_*), flags (IFF_*), mtu, metric, link (the link address), media, link_up, " +
		"tunnel_source, tunnel_destination (of a gif that leads somewhere), vlan, vlan_parent (of a vlan that has one), addresses, in_packets, in_errors, in_bytes, in_mcast, in_drops, the same for out_, collisions, no_proto, last_change (Unix seconds). " +
		"An address: family (\"inet\", \"inet6\"), address (with its scope), prefixlen, broadcast, destination, alias, tentative, duplicated, " +
		"flags (IN6_IFF_*), pltime, vltime (seconds left, -1 for ever), scopeid; what is empty or false from broadcast on is left out. -l prints the same objects; -C prints {\"cloners\": [...]}.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Failure; a sentence on standard error says why. With -s and an interface: it has no carrier. With -w: an address is tentative still."},
	},
	Examples: []cli.Item{
		{Name: "ifconfig en0 10.163", Text: "10.0.0.163, with the netmask of class A."},
		{Name: "ifconfig en0 10.0.0.1/24", Text: "The same as netmask 255.255.255.0."},
		{Name: "ifconfig en0 alias 10.0.0.2 netmask 255.255.255.255", Text: "One more address."},
		{Name: "ifconfig -a", Text: "All interfaces."},
		{Name: "ifconfig gif0 create; ifconfig gif0 tunnel 10.0.0.1 10.0.0.2; ifconfig gif0 inet6 2001:db8::1 2001:db8::2", Text: "IPv6 through IPv4."},
		{Name: "ifconfig vlan0 create; ifconfig vlan0 vlan 5 vlanif en0; ifconfig vlan0 10.5.0.1/24", Text: "VLAN 5 of en0."},
	},
	SeeAlso: []string{"arp(8)", "brconfig(8)", "gifconfig(8)", "io-net(8)", "netstat(1)", "nicinfo(8)", "route(8)", "sysctl(8)"},
	Run:     run,
}

func run(ctx *cli.Context, args []string) int {
	o, err := Parse(args)
	if err != nil {
		return ctx.Refuse(err)
	}
	o.JSON = ctx.JSON
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	c, stop := ctx.Interruptible()
	defer stop()
	return Run(c, remote{s}, wait, o, ctx.Stdout, ctx.Stderr)
}

// remote is a running stack.
type remote struct{ *client.Stack }

func (r remote) Interfaces(name string) ([]protocol.InterfaceRow, error) {
	return client.Table[protocol.InterfaceRow](r.Stack, protocol.TableInterfaces, name)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
