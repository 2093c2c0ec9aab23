package stackd

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/socket"
)

var nodeTCPDrop = mib.String(protocol.SysctlTCPDrop, "", "Breaks off the connection between the two ends that are written to it: address:port of ours, address:port of the other (tcpdrop).")

// tcpDrop breaks off the connection between the two ends that value has.
func (s *server) tcpDrop(value string) error {
	var ends [2]socket.Addr
	words := strings.Fields(value)
	if len(words) != len(ends) {
		return errf(unix.EINVAL, "%s: two ends would be right, such as \"10.0.0.163:22 10.0.0.1:4021\"", protocol.SysctlTCPDrop)
	}
	for i, w := range words {
		a, err := netip.ParseAddrPort(w)
		if err != nil || a.Port() == 0 {
			return errf(unix.EINVAL, "%s: %q is no address with a port", protocol.SysctlTCPDrop, w)
		}
		ends[i] = socket.Addr{IP: a.Addr().Unmap().WithZone(""), Port: a.Port()}
		if zone := a.Addr().Zone(); zone != "" {
			ifp := s.eng.Engine().Env.Ifs.ByName(zone)
			if ifp == nil {
				return errf(unix.ENXIO, "%s: there is no interface %s", protocol.SysctlTCPDrop, zone)
			}
			ends[i].Scope = ifp.Index
		}
	}
	var err error
	s.eng.Call(func(w *netif.Work) { err = s.eng.Engine().TCP.Drop(w, ends[0], ends[1]) })
	return err
}

// tcpInfo is the row of the table of that name: the connection whose control
// block is pcb.
func (c *conn) tcpInfo(pcb string) ([]any, error) {
	id, err := strconv.ParseUint(pcb, 16, 64)
	if err != nil {
		return nil, errf(unix.EINVAL, "%q is no name of a control block", pcb)
	}
	eng := c.s.eng.Engine()
	rows := eng.SocketTable()
	at := slices.IndexFunc(rows, func(r stack.SocketInfo) bool { return r.ID == id && r.Proto == "tcp" })
	if at < 0 || id == 0 {
		return nil, errf(unix.ENOENT, "no TCP control block at %x", id)
	}
	if !c.super && rows[at].Cred.UID != int(c.credentials.Uid) {
		return nil, errf(unix.EPERM, "only the superuser and the owner of a connection may see its control block")
	}
	i, ok := eng.TCP.InfoOf(id)
	if !ok {
		return nil, errf(unix.ENOENT, "the connection of the control block at %x has ended", id)
	}
	now := c.s.eng.Now()
	age := func(t int64) int64 {
		if t == 0 {
			return 0
		}
		return max((now-t)/1e6, 1)
	}
	return []any{protocol.TCPInfo{
		State: i.State, Congestion: i.Congestion, Phase: i.Phase,
		Timestamps: i.Timestamps, SACK: i.SACK, WScale: i.WScale, ECN: i.ECN, SndScale: i.SndScale, RcvScale: i.RcvScale,
		MSS: i.MSS, RcvMSS: i.RcvMSS, PeerMSS: i.PeerMSS, MTU: i.MTU,
		ISS: i.ISS, SndUna: i.SndUna, SndNxt: i.SndNxt, SndWnd: i.SndWnd, IRS: i.IRS, RcvNxt: i.RcvNxt, RcvAdv: i.RcvAdv, RcvWnd: i.RcvWnd,
		Cwnd: i.Cwnd, SSThresh: i.SSThresh, InFlight: i.InFlight, Lost: i.Lost, SACKed: i.SACKed,
		SRTT: i.SRTT / 1e3, RTTVar: i.RTTVar / 1e3, MinRTT: i.MinRTT / 1e3, RTO: i.RTO / 1e3, Backoff: i.Backoff,
		SendQ: i.SendQ, SendBuf: i.SendBuf, RecvQ: i.RecvQ, RecvBuf: i.RecvBuf, OutOfOrder: i.OutOfOrder,
		LastSent: age(i.LastSent), LastReceived: age(i.LastReceived),
	}}, nil
}
