package ipl

import "net/netip"

// NATKind is what a translation rule is.
type NATKind uint8

const (
	Map      NATKind = iota + 1 // the source of what goes out of If
	MapBlock                    // the same, every source having a block of ports of its own
	Rdr                         // the destination of what comes in by If
	Bimap                       // one address for one, both ways
	NPT6                        // one IPv6 prefix for one, both ways, without a state (RFC 6296)
	NAT64                       // IPv6 to IPv4 and back (RFC 6146)
)

// NATRule is one line of ipnat.conf.
//
//	map IF NET -> NET [proxy port P NAME/tcp] [portmap tcp/udp LO:HI|auto] [options]
//	map IF from A [port …] to B [port …] -> NET …
//	map IF … -> range A-B …
//	map-block IF NET -> NET [ports N|auto]
//	bimap IF NET -> NET
//	rdr IF NET port P[-P2] -> ADDR[,ADDR] port Q[-Q2] [tcp|udp|tcp/udp|ip] [round-robin] [options]
//	rdr IF from A to B port = P -> ADDR …  ("0/32" among the addresses is the interface's own)
//	nptv6 IF NET6 -> NET6
//	nat64 IF NET6/96 -> NET4 [portmap … ]
//
// options: mssclamp N, frag, age A[/B], sticky, sequential, purge, tag NAME.
type NATRule struct {
	Line                                        int
	Kind                                        NATKind
	If, If2                                     string       // "If,If2"; "*": any; of If2 "": none
	Src, Dst                                    Endpoint     // the form with from and to; Src alone holds the first NET of map and bimap, Dst that of rdr
	FromTo                                      bool         // written with from and to
	To                                          netip.Prefix // where to: of a map that says 0/32, the interface's own address, which changes
	ToEnd                                       netip.Addr   // "range To-ToEnd"; not valid: none
	Proto                                       int          // of rdr, and of a map without portmap: AnyProto, ProtoTCPUDP, or a number
	PortMap                                     *PortMap     // nil: ports stay
	ICMPIDs                                     *PortMap     // icmpidmap
	BlockPorts                                  int          // of map-block: ports a source; 0: auto
	Ports                                       [2]uint16    // of rdr: the ports asked for, both included, those of "to B port" too; 0,0: any
	Targets                                     []netip.Addr // of rdr
	TPorts                                      [2]uint16    // of rdr: the first port, or, with an end, a range of as many
	RoundRobin, Sticky, Sequential, Frag, Purge bool
	Proxy                                       *Proxy
	MSSClamp                                    int    // 0: none
	Age                                         [2]int // seconds; 0: the default
	Tag                                         string
}

// PortMap is "portmap tcp/udp LO:HI" or "auto".
type PortMap struct {
	Proto  int // 6, 17, ProtoTCPUDP; 1 and 58 of icmpidmap
	Auto   bool
	Lo, Hi uint16
}

// Proxy is "proxy port P NAME/tcp" of map, "proxy NAME" of rdr, whose port it has then.
type Proxy struct {
	Port  uint16
	Name  string // "ftp"
	Proto int
}
