// Package loop is lo0: what goes out comes in, as a turn on the work list.
package loop

import (
	"net/netip"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// MTU is lo0's: BSD's 32 KiB and an mbuf's header room.
const MTU = 33228

// Handler takes over packets of one IP version, windows at the header.
type Handler interface {
	Input(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf)
}

var cntNoProto = mib.NewCounter("loop", "unknown protocol on lo0", "# packet{s} of unknown protocols on lo0")

// New makes a loopback interface; lo0 is the first. v6 may answer nil.
func New(name string, v4, v6 func() Handler) *netif.Interface {
	ifp := netif.New(netif.Config{
		Name:  name,
		Type:  netif.TypeLoop,
		Flags: netif.FlagLoopback | netif.FlagMulticast,
		MTU:   MTU,
	})
	again := func(w *netif.Work, pkt *packet.Buf) { ifp.Input(w, ifp, w.One(pkt)) }
	ifp.Output = func(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf, nexthop netip.Addr) error {
		pkt.RcvIf, pkt.Time = ifp.Index, w.Now
		if _, link := packet.Unscoped(nexthop); link != 0 { // an address of ours there, which means nothing here
			pkt.RcvIf = link
		}
		pkt.Flags |= packet.FlagLoop
		pkt.Flags &^= packet.FlagBroadcast | packet.FlagMulticast
		n := uint64(pkt.Len())
		ifp.Stats.OutPackets.Add(1)
		ifp.Stats.OutBytes.Add(n)
		w.Turn(again, pkt)
		return nil
	}
	ifp.Input = func(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
		ifp.TapIn(w, burst)
		for i, p := range burst {
			ifp.Stats.InPackets.Add(1)
			ifp.Stats.InBytes.Add(uint64(p.Len()))
			h := v4()
			if p.Len() > 0 && p.Bytes()[0]>>4 == 6 {
				h = v6()
			}
			if h == nil {
				w.Drop(p, cntNoProto)
				continue
			}
			h.Input(w, ifp, burst[i:i+1])
		}
	}
	return ifp
}
