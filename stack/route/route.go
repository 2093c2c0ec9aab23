// Package route is the forwarding table: one route or several equal ones a
// destination, longest prefix match, BSD's flags and errors, and a message for every change. It
// knows no address family: a prefix says its own.
package route

import (
	"net/netip"

	"ionet/stack/mib"
	"ionet/stack/netif"
)

// Route flags (BSD's RTF_*).
const (
	FlagUp        = 0x1
	FlagGateway   = 0x2 // Gateway is a router, not the destination's own link
	FlagHost      = 0x4
	FlagReject    = 0x8 // refuse with an error
	FlagDynamic   = 0x10
	FlagModified  = 0x20
	FlagDone      = 0x40 // of a message: the request was carried out
	FlagMask      = 0x80
	FlagCloning   = 0x100
	FlagXresolve  = 0x200
	FlagLLInfo    = 0x400
	FlagStatic    = 0x800
	FlagBlackhole = 0x1000 // drop silently
	FlagCloned    = 0x2000
	FlagProto2    = 0x4000
	FlagProto1    = 0x8000
	FlagMPath     = 0x40000 // one of several equal routes (OpenBSD); in an Add: beside those there are
)

// Address families, in BSD's numbers.
const (
	AFInet  = 2
	AFInet6 = 24
)

var (
	nodeMaxRoutes = mib.Int("net.inet.ip.maxroutes", 2_000_000, "Most routes the table holds, of every family together (ionet's own).", mib.Range(0, 1<<30))

	_ = mib.Table("net.route", "netstat", "The routing table.")

	cntBadRedirect = mib.NewCounter("route", "badredirect", "# bad routing redirect{s}")
	cntDynamic     = mib.NewCounter("route", "dynamic", "# dynamically created route{s}")
	cntNewGateway  = mib.NewCounter("route", "newgateway", "# new gateway{s} due to redirects")
	cntUnreach     = mib.NewCounter("route", "unreach", "# destination{s} found unreachable")
	cntWildcard    = mib.NewCounter("route", "wildcard", "# use{s} of a wildcard route")
)

// Metrics are a route's measures (BSD's rt_metrics); zero is "not set". A bit
// of Locks keeps the stack from changing that measure by itself.
type Metrics struct {
	Locks    uint32 // RTV_*
	MTU      uint32 // octets
	Hopcount uint32
	Expire   int64  // seconds of the wall clock; informative
	RecvPipe uint64 // octets
	SendPipe uint64 // octets
	SSThresh uint64 // octets
	RTT      uint64 // microseconds
	RTTVar   uint64 // microseconds
}

// Spec is what a route is made from.
type Spec struct {
	Dst  netip.Prefix // host bits are ignored
	Host bool         // a host route (FlagHost); Dst is of full length
	// Gateway is the router with FlagGateway, else an address of the
	// interface or of the link's far end; not valid: the interface itself
	// ("link#N").
	Gateway netip.Addr
	If      *netif.Interface // nil: found from Src or Gateway
	Src     netip.Addr       // the interface's address (rt_ifa); not valid: chosen
	Flags   uint32
	Metrics *Metrics   // nil: none; in a Change: as before
	GenMask netip.Addr // mask for cloning; seldom used
}

// Route is a route as seen from outside: a value, and a copy.
type Route struct {
	Spec
	Use  uint64 // packets sent (rt_use)
	Refs int    // always 0 in the table: users hold a generation, not a reference
}

// Kind says what an [Op] does. Its numbers are those of the messages.
type Kind uint8

const (
	Add    Kind = 1 // EEXIST when there is a route to the destination
	Delete Kind = 2 // ESRCH when there is none; of equal ones that which Spec names, or the first
	Change Kind = 3 // ESRCH when there is none; what Spec leaves out stays; of equal ones that whose gateway Spec names
)

// Op is one wish of a batch. PID and Seq are the requester's, for the message.
type Op struct {
	Kind Kind
	Spec Spec
	PID  int32
	Seq  int32
}

// Hop is where a packet goes next. It is immutable and shared by the routes
// that agree in everything but their destination; it stays valid, if out of
// date, after its last route is gone: compare [Table.Generation].
type Hop struct {
	If      *netif.Interface
	Gateway netip.Addr
	Src     netip.Addr
	Flags   uint32
	MTU     uint32 // of the metrics; 0: the interface's
	Metrics *Metrics
	GenMask netip.Addr

	key      hopKey
	group    *group // of equal routes: see Pick
	wildcard bool
	users    int // routes; the table's lock
}

type hopKey struct {
	ifp          *netif.Interface
	gateway, src netip.Addr
	genmask      netip.Addr
	flags        uint32
	wildcard     bool
	metered      bool
	metrics      Metrics
}

func (h *Hop) spec(dst netip.Prefix) Spec {
	return Spec{Dst: dst, Host: h.Flags&FlagHost != 0, Gateway: h.Gateway, If: h.If, Src: h.Src,
		Flags: h.Flags, Metrics: h.Metrics, GenMask: h.GenMask}
}
