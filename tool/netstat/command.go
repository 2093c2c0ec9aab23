package netstat

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"strings"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/services"
)

// Command is netstat.
var Command = cli.Command{
	Name:    "netstat",
	Section: 1,
	Short:   "show sockets, routes, interfaces and counters",
	Synopsis: []string{
		"[-AanTv] [-f address_family]",
		"[-dgiLmnrsTv] [-f address_family]",
		"[-bdnT] [-I interface] [-w wait]",
		"[-T] [-p protocol] [-P pcbaddr]",
		"[-p protocol] [-iT] [-I interface]",
		"[-sT] [-f address_family] [-i] [-I interface]",
	},
	Long: "Without options netstat shows the sockets that have a local address: protocol, octets in the receive and send queues, " +
		"local and foreign address, and the state of a connection. Address and port are parted by a dot, \"*\" is any. " +
		"Raw sockets are shown too, which the original left out.\n\n" +
		"With -r it shows the routing table. A network's octets of zeroes at the end are left out, and its length is shown only " +
		"where it is not that of its class: 10 is 10.0.0.0/8, 192.168.1 is 192.168.1.0/24. The gateway of a network on a link is " +
		"link#N, N the interface's number; neighbours stand in the table with their link addresses. The flags are:\n\n" +
		"\tU up            G gateway       H host          R reject (unreachable)\n" +
		"\tD dynamic       M modified      d done          m mask\n" +
		"\tC cloning       X external      L link level    S static\n" +
		"\tB blackhole     c cloned        1 protocol 1    2 protocol 2\n\tP one of equal routes\n\n" +
		"An L behind the Mtu says that the stack may not change it.\n\n" +
		"With -i it shows the interfaces; a '*' behind the name says that one is down. With -w a line of counters comes every wait " +
		"seconds, first for the interface of -I or the first one, then for all together; every 21 lines there is a banner, and the " +
		"line below it counts from the start.\n\n" +
		"With -g there are two tables a family: the interfaces that a routing daemon such as mproxy has multicast packets forwarded from and to (vifs, mifs), " +
		"and what becomes of the packets of a source to a group: how many there were, the interface they come by, those they leave by, and of IPv4 the " +
		"time to live they need. Hash is a running number. While the daemon is asked, In-Vif is 65535 and In-Mif ---.\n\n" +
		"With -m the percentage is that of the most that the stack may use (kern.mbuf.memory); it knows one kind of buffer, " +
		"never makes a request wait and has no drain routines.\n\n" +
		"The counters of IPsec are there twice: by the version of IP (ipsec, ipsec6), with histograms of the algorithms that protected and opened packets, and by the " +
		"protocol (ah, esp, ipcomp), where TDB is another word for SA. Those of pfkey are about the messages of key sockets. A line of a histogram is shown when it is not 0.\n\n" +
		"Names of hosts are looked up unless -n is given; all look-ups of one command may take one second together, then " +
		"addresses stay numbers. Every failure ends with a status other than 0, also where the original ended with 0.",
	Options: []cli.Opt{
		{Flags: "-A", Text: "Show the name of each socket's control block."},
		{Flags: "-a", Text: "Show servers too: sockets whose local address is any. With -i: the multicast groups of each interface."},
		{Flags: "-b", Text: "With -i: octets instead of packets."},
		{Flags: "-d", Text: "With -i: the packets that found no room in the send queue."},
		{Flags: "-f address_family", Text: "Show only inet, inet6, local (or unix; the stack has none of these), or arp or pfkey (counters)."},
		{Flags: "-g", Text: "Show multicast routing: virtual interfaces and the forwarding cache; with -s: its counters."},
		{Flags: "-I interface", Text: "Show this interface only; implies -i."},
		{Flags: "-i", Text: "Show the interfaces."},
		{Flags: "-L", Text: "With -r: leave out the link level, that is the neighbours."},
		{Flags: "-m", Text: "Show the packet memory."},
		{Flags: "-n", Text: "Show numbers instead of names."},
		{Flags: "-P pcbaddr", Text: "Show the control block of this name (hexadecimal, from -A). That of a TCP connection is for its owner and the superuser."},
		{Flags: "-p protocol", Text: "Show the counters of one protocol."},
		{Flags: "-r", Text: "Show the routing table; with -s: its counters."},
		{Flags: "-s", Text: "Show the counters of all protocols; twice: only those that are not 0."},
		{Flags: "-T", Text: "Taken, as on QNX, and changes nothing."},
		{Flags: "-v", Text: "Cut nothing short; with -r: two lines with the metrics of each route."},
		{Flags: "-w wait", Text: "Show the counters of interfaces every wait seconds."},
	},
	JSON: "One object a line; addresses are always whole.\n\n" +
		"Sockets and -P: proto, family (\"inet\", \"inet6\"), recv_q, send_q, local, lport, foreign, fport (an address \"*\" and a port 0 are any), " +
		"state (of a connection), pcb, pid, uid. -P of a TCP connection adds tcp: state, congestion (\"cubic\", \"newreno\"), phase (\"open\", \"cwr\", \"recovery\", " +
		"\"loss\"), timestamps, sack, wscale, ecn, snd_scale, rcv_scale, mss, rcv_mss, peer_mss, mtu, iss, snd_una, snd_nxt, snd_wnd, irs, rcv_nxt, rcv_adv, rcv_wnd, " +
		"snd_cwnd, snd_ssthresh, in_flight, lost, sacked (octets), srtt, rttvar, rttmin, rto (microseconds), rxtshift, send_q, send_buf, recv_q, recv_buf, " +
		"out_of_order (ranges), last_sent, last_received (milliseconds ago).\n\n" +
		"-r: family, destination (\"10.0.0.0/8\"), gateway (an address, a link address, or \"link#2\"), flags (letters), flag_bits (RTF_*), refs, use, mtu, " +
		"interface, expire (Unix seconds), recvpipe, sendpipe, ssthresh, rtt, rttvar (microseconds), hopcount; what is 0 from mtu on is left out. " +
		"locks: the names of the metrics that may not change.\n\n" +
		"-i, and -w each time: name, index, type (IFT_*), flags (IFF_*), mtu, metric, link, media, link_up, addresses (each: family, address, prefixlen, " +
		"broadcast, destination, alias, tentative, duplicated, flags), in_packets, in_errors, in_bytes, in_mcast, in_drops, and the same for out_, " +
		"collisions, no_proto, last_change (Unix seconds). The counters of -w count from the start.\n\n" +
		"-s, -p, -rs: proto, name, sentence (# is the value; {s}, {es} and {y} are plural endings; a tab begins a part of what is above), heading (of the histogram that it is a line of; only there), value.\n\n" +
		"-m: buffers, octets, limit, denied, socket_octets.\n\n" +
		"-g: first the virtual interfaces: family, vif, interface, threshold, rate_limit, local, in_packets, out_packets, in_bytes, out_bytes; then the " +
		"cache: family, origin, group, parent (a vif; -1 while the daemon is asked), out (each: vif, ttl), packets, bytes, wrong_if, waits.",
	Examples: []cli.Item{
		{Name: "netstat -rn", Text: "The routing table."},
		{Name: "netstat -an", Text: "All sockets."},
		{Name: "netstat -I en0 -w 1", Text: "What en0 carries, every second."},
		{Name: "netstat -ss -p ip", Text: "The counters of IP that are not 0."},
		{Name: "netstat -s -p esp", Text: "What became of packets of ESP."},
	},
	Files:   []cli.Item{{Name: services.File, Text: "Names of ports."}},
	SeeAlso: []string{"arp(8)", "ifconfig(8)", "ping(8)", "route(8)", "sysctl(8)"},
	Run:     run,
}

func run(ctx *cli.Context, args []string) int {
	o, err := Parse(args)
	if err != nil {
		return ctx.Refuse(err)
	}
	o.JSON = ctx.JSON
	o.Verbose = o.Verbose || ctx.Verbose
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	c, stop := ctx.Interruptible()
	defer stop()
	return Run(c, remote{s}, host(), o, ctx.Stdout, ctx.Stderr)
}

// remote is a running stack.
type remote struct{ s *client.Stack }

func (r remote) Interfaces() ([]protocol.InterfaceRow, error) {
	return client.Table[protocol.InterfaceRow](r.s, protocol.TableInterfaces, "")
}

func (r remote) Sockets() ([]protocol.SocketRow, error) {
	return client.Table[protocol.SocketRow](r.s, protocol.TableSockets, "")
}

func (r remote) TCP(pcb string) (protocol.TCPInfo, error) {
	rows, err := client.Table[protocol.TCPInfo](r.s, protocol.TableTCP, pcb)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("the stack sent %d rows about a control block, not 1", len(rows))
	}
	if err != nil {
		return protocol.TCPInfo{}, err
	}
	return rows[0], nil
}

func (r remote) Counters(proto string) ([]protocol.CounterRow, error) {
	return client.Table[protocol.CounterRow](r.s, protocol.TableCounters, proto)
}

func (r remote) Mbuf() ([]protocol.MbufRow, error) {
	return client.Table[protocol.MbufRow](r.s, protocol.TableMbuf, "")
}

func (r remote) Groups() ([]protocol.GroupRow, error) {
	return client.Table[protocol.GroupRow](r.s, protocol.TableGroups, "")
}

func (r remote) Vifs() ([]protocol.VifRow, error) {
	return client.Table[protocol.VifRow](r.s, protocol.TableVifs, "")
}

func (r remote) MFC() ([]protocol.MFCRow, error) {
	return client.Table[protocol.MFCRow](r.s, protocol.TableMFC, "")
}

func (r remote) DumpRaw(what, family int, flags uint32) iter.Seq2[[]byte, error] {
	return r.s.DumpRaw(what, family, flags)
}

func (r remote) LookupAddr(ctx context.Context, a netip.Addr) (string, error) {
	return r.s.LookupAddr(ctx, a)
}

// host is the host that netstat runs on.
func host() Host {
	h := Host{Wait: wait}
	if name, err := os.Hostname(); err == nil {
		_, h.Domain, _ = strings.Cut(name, ".")
	}
	h.Service = func(port int, proto string) string { return services.Host().Name(port, proto) }
	return h
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
