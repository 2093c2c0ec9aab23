package capture

import "ionet/tool/cli"

// Command is ionet capture.
var Command = cli.Command{
	Name:     "capture",
	Word:     true,
	Aliases:  []string{"tcpdump"},
	Synopsis: []string{"[-i interface] [-c count] [-s snaplen] [-w file] [-r file] [-denqStvxX] [filter ...]", "-D"},
	Short:    "show the packets of a stack",
	Long: `Shows what the interfaces of a stack receive and send, a line a packet, until interrupted. Packets that the stack dropped are shown with the reason, which is also the name of a counter of netstat -s.

The filter is an expression of pcap-filter(7), such as "udp port 53", "host 10.0.0.1 and not arp" or "icmp[icmptype] = icmp-echo"; it is compiled here and runs in the stack. "ip broadcast", vlan and gateway are not supported.

The sequence numbers of a TCP connection count from its first packet that was seen; those of a SYN and of that packet are shown as they are, and with -S all. With -v a checksum is partial that the stack has left to whoever puts the packet on a wire: between stacks nobody does.

IPv6 is decoded past its extension headers, each of which is named before the protocol; tests such as "udp port 53" and "icmp6" look at the header that follows IPv6's own, and at what is behind a fragment header, as tcpdump's do: "ip6 proto 0" finds what begins with hop-by-hop options, such as MLD. The scope of an address, %en0, is not in a packet and is taken and left out in filters.

A fragment ends with (frag id:length@offset), "+" when more follow. A packet cut short by the snap length ends in the name of the protocol that it ends in: [|udp].`,
	Options: []cli.Opt{
		{Flags: "-i interface", Text: "Only this interface; else all, and lines begin with the interface and In, Out or Drp."},
		{Flags: "-c count", Text: "End after this many packets."},
		{Flags: "-s snaplen", Text: "Keep so many octets of a packet; 0, the default, keeps all."},
		{Flags: "-w file", Text: "Write pcapng, each packet at once, instead of lines; - is standard output. A dropped packet has its reason as its comment, and an interface block for packets without a link header."},
		{Flags: "-r file", Text: "Read packets from a pcap or pcapng file instead of a stack; - is standard input."},
		{Flags: "-D", Text: "List the interfaces."},
		{Flags: "-d", Text: "Print the filter's program and end."},
		{Flags: "-e", Text: "Show the link header."},
		{Flags: "-n", Text: "Do not look up names of addresses. Ports are always numbers."},
		{Flags: "-q", Text: "Say less."},
		{Flags: "-S", Text: "Show sequence numbers as they are."},
		{Flags: "-t", Text: "No time."},
		{Flags: "-v", Text: "Say more: the IP header, checksums, quoted packets, and a line for each option of neighbour discovery."},
		{Flags: "-x", Text: "Show the octets too, with -e from the link header on."},
		{Flags: "-X", Text: "Show the octets, and as ASCII."},
	},
	JSON: `One object a packet:
	time       string   RFC 3339, UTC, nanoseconds
	interface  string   may be missing in files
	direction  string   "in" or "out"; missing when dropped
	dropped    string   the reason; missing when it went on
	link_type  number   LINKTYPE of the octets: 1 Ethernet, 101 raw IP
	length     number   octets of the packet
	captured   number   octets of it that are here
	summary    string   the line, without time and interface
	data       string   the octets in hexadecimal`,
	Examples: []cli.Item{
		{Name: "ionet capture -n -i en0 icmp or arp", Text: "Watch pings."},
		{Name: "ionet capture -n 'tcp[tcpflags] & (tcp-syn|tcp-rst) != 0'", Text: "Connections that begin, are refused or broken off."},
		{Name: "ionet capture -v 'icmp6[icmp6type] = icmp6-routeradvert'", Text: "Router advertisements, with all they say."},
		{Name: "ionet capture -w - | wireshark -k -i -", Text: "The same, live in Wireshark."},
	},
	SeeAlso: []string{"netstat", "nicinfo"},
	Run:     run,
}
