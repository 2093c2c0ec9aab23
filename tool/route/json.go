package route

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"ionet/protocol"
)

// Route is one route as get --json and show --json print it.
type Route struct {
	Family      string   `json:"family"`      // "inet", "inet6"
	Destination string   `json:"destination"` // always a complete prefix: "0.0.0.0/0", "10.0.0.25/32", "fe80::%en0/64"
	Gateway     string   `json:"gateway,omitempty"`
	Interface   string   `json:"interface,omitempty"`
	Local       string   `json:"local,omitempty"`  // the address packets leave with
	Flags       []string `json:"flags"`            // "UP", "GATEWAY", ...
	MTU         uint64   `json:"mtu"`              // 0: the interface's
	Expire      *int64   `json:"expire,omitempty"` // seconds left
	Use         uint64   `json:"use"`
	Metrics     *Metrics `json:"metrics,omitempty"` // get only
}

// Metrics are the others of a route's numbers; rtt and rttvar in microseconds.
type Metrics struct {
	RecvPipe uint64   `json:"recvpipe"`
	SendPipe uint64   `json:"sendpipe"`
	SSThresh uint64   `json:"ssthresh"`
	RTT      uint64   `json:"rtt"`
	RTTVar   uint64   `json:"rttvar"`
	Hopcount uint64   `json:"hopcount"`
	Locks    []string `json:"locks"`
}

// Event is one message as monitor --json prints it, an object a line.
type Event struct {
	Time      string   `json:"time"` // RFC 3339, with nanoseconds
	Type      string   `json:"type"` // "RTM_ADD", ...
	PID       int      `json:"pid,omitempty"`
	Seq       int      `json:"seq,omitempty"`
	Error     string   `json:"error,omitempty"`
	Interface string   `json:"interface,omitempty"`
	Index     int      `json:"index,omitempty"`
	What      string   `json:"what,omitempty"` // RTM_IFANNOUNCE: "arrival", "departure"
	Flags     []string `json:"flags,omitempty"`
	Address   string   `json:"address,omitempty"`   // RTM_NEWADDR, RTM_DELADDR: "10.0.0.1/8"
	Broadcast string   `json:"broadcast,omitempty"` // or the destination of a point-to-point interface
	Lost      uint32   `json:"lost,omitempty"`      // RTM_DESYNC: messages
	Route     *Route   `json:"route,omitempty"`
}

func (t *tool) encode(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	t.out.Write(b)
	return t.out.WriteByte('\n')
}

// showJSON prints an array, a route a line, as it reads them.
func (t *tool) showJSON(tab table, family int) error {
	open := "["
	for m, err := range tab.Dump(protocol.DumpRoutes, family, 0) {
		if err != nil {
			return fmt.Errorf("reading the routing table: %w", err)
		}
		r, ok := t.zones.named(m).(*protocol.RouteMessage)
		if !ok {
			continue
		}
		row := routeJSON(r, t.now().Unix())
		row.Metrics = nil
		b, err := json.Marshal(row)
		if err != nil {
			return err
		}
		t.out.WriteString(open + "\n")
		t.out.Write(b)
		open = ","
	}
	if open == "[" {
		t.out.WriteString("[")
	}
	_, err := t.out.WriteString("\n]\n")
	return err
}

func addressJSON(a protocol.Addr) string {
	if a.Family == protocol.AFLink && a.Link.Len == 0 && a.Link.Name != "" {
		return a.Link.Name
	}
	return a.String()
}

func routeJSON(m *protocol.RouteMessage, now int64) *Route {
	r := &Route{Family: "inet", Gateway: addressJSON(m.Gateway), Interface: m.Ifp.Link.Name, Local: m.Ifa.String(),
		Flags: routeFlags.names(m.Flags), MTU: m.Metrics.MTU, Use: m.Use}
	if m.Dst.Family == protocol.AFInet6 {
		r.Family = "inet6"
	}
	switch p := m.Prefix(); {
	case p.IsValid():
		r.Destination = p.String()
		if m.Dst.IP.Zone() != "" { // which a netip.Prefix has not
			r.Destination = fmt.Sprintf("%s/%d", m.Dst.IP, p.Bits())
		}
	default:
		r.Destination = m.Dst.String()
		if m.Netmask.IP.IsValid() {
			r.Destination += "/" + m.Netmask.IP.String()
		}
	}
	x := &m.Metrics
	if x.Expire != 0 {
		left := int64(x.Expire) - now
		r.Expire = &left
	}
	r.Metrics = &Metrics{RecvPipe: x.Rpipe, SendPipe: x.Spipe, SSThresh: x.Ssthresh, RTT: x.RTT, RTTVar: x.RTTVar, Hopcount: x.Hopcount,
		Locks: metricNames.names(uint32(x.Locks))}
	return r
}

func messageJSON(m protocol.Message, now time.Time) *Event {
	name, _, _ := strings.Cut(messageTexts[m.RTMType()], ":")
	e := &Event{Time: now.Format(time.RFC3339Nano), Type: name}
	switch m := m.(type) {
	case *protocol.RouteMessage:
		e.PID, e.Seq = m.PID, m.Seq
		if m.Errno != 0 {
			e.Error = protocol.Strerror(m.Errno)
		}
		e.Route = routeJSON(m, now.Unix())
		e.Route.Metrics = nil
	case *protocol.IfMessage:
		e.Index, e.Interface, e.Flags = m.Index, m.Name, interfaceFlags.names(m.Flags)
	case *protocol.AddrMessage:
		e.Index, e.Interface, e.Flags, e.Broadcast = m.Index, m.Ifp.Link.Name, routeFlags.names(m.Flags), m.Brd.String()
		e.Address = m.Addr.String()
		if m.Bits >= 0 {
			e.Address = netip.PrefixFrom(m.Addr.IP.WithZone(""), m.Bits).String()
		}
	case *protocol.AnnounceMessage:
		e.Index, e.Interface, e.What = m.Index, m.Name, whatText(m.What)
	case *protocol.DesyncMessage:
		e.Lost = m.Lost
	}
	return e
}
