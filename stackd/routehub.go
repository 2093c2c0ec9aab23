package stackd

import (
	"net/netip"
	"slices"
	"sync"

	"ionet/protocol"
	"ionet/stack"
	"ionet/stack/neigh"
	"ionet/stack/netif"
	"ionet/stack/route"
)

// routeHub carries the table's and the interfaces' news to the routing
// sockets. What the stack calls only queues; one goroutine distributes.
type routeHub struct {
	s *server

	// queue: encoded messages. Owner: the hub. Bound: maxNews, of neighbours
	// maxNeighbourNews. Full: all listeners lose them, and are told by RTM_DESYNC.
	mu         sync.Mutex
	queue      []newsItem
	neighbours int // messages of neighbours in queue
	missed     uint32
	listeners  map[*conn]struct{}
	captures   map[*capture]struct{}
	requester  *conn // whose batch the table carries out
	pid        int32
	named      namedNeighbour
	quiet      func() // ends the news of neighbours, which there are while somebody listens

	updating sync.Mutex // one batch of a routing socket at a time
	signal   chan struct{}
	done     chan struct{}
	ended    sync.WaitGroup
	cancels  []func()
}

type newsItem struct {
	b      []byte
	except *conn // it gets its own reply
}

// namedNeighbour is a neighbour that a client is putting in or taking out, as its
// message has it.
type namedNeighbour struct {
	ip       netip.Addr
	c        *conn
	pid, seq int
}

const maxNews = 1 << 16

// maxNeighbourNews leaves room for other news when a link is flooded with
// neighbours.
const maxNeighbourNews = maxNews / 16

func (r *routeHub) init(s *server) {
	r.s = s
	r.listeners, r.captures = map[*conn]struct{}{}, map[*capture]struct{}{}
	r.signal, r.done = make(chan struct{}, 1), make(chan struct{})
	eng := s.eng.Engine()
	r.cancels = append(r.cancels, eng.Subscribe(r.event), eng.Routes.Subscribe(r.message, r.wanted))
	r.ended.Go(r.distribute)
}

func (r *routeHub) close() {
	for _, f := range r.cancels {
		f()
	}
	r.mu.Lock()
	if r.quiet != nil {
		r.quiet()
		r.quiet = nil
	}
	r.mu.Unlock()
	close(r.done)
	r.ended.Wait()
}

func (r *routeHub) join(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners[c] = struct{}{}
	if r.quiet == nil {
		r.quiet = r.s.eng.Engine().SubscribeNeighbours(r.neighbour)
	}
}

func (r *routeHub) leave(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.listeners, c)
	if len(r.listeners) == 0 && r.quiet != nil {
		r.quiet()
		r.quiet = nil
	}
}

func (r *routeHub) addCapture(cp *capture) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.captures[cp] = struct{}{}
	for _, ifp := range r.s.eng.Engine().Env.Ifs.All() {
		cp.attach(ifp)
	}
}

func (r *routeHub) removeCapture(cp *capture) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.captures, cp)
	for _, ifp := range r.s.eng.Engine().Env.Ifs.All() {
		ifp.RemoveTap(cp.cap)
	}
}

// push queues one message.
func (r *routeHub) push(b []byte, except *conn) {
	if len(r.queue) >= maxNews {
		r.missed++
		return
	}
	r.queue = append(r.queue, newsItem{b, except})
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

// wanted says whether anybody but who asks for them would hear of the changes
// that pid asks for. A listener that joins later asks for the table later.
func (r *routeHub) wanted(pid int32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pid != 0 && pid == r.pid {
		_, listens := r.listeners[r.requester]
		return len(r.listeners) > 1 || len(r.listeners) == 1 && !listens
	}
	return len(r.listeners) > 0
}

// message is told of changes of the table, under its lock.
func (r *routeHub) message(m route.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var except *conn
	if m.PID != 0 && m.PID == r.pid {
		except = r.requester
	}
	if len(r.listeners) == 0 || len(r.listeners) == 1 && except != nil {
		return
	}
	rm := r.s.routeMessage(&m.Route, m.Err == 0)
	rm.Type, rm.PID, rm.Seq, rm.Errno = int(m.Type), int(m.PID), int(m.Seq), m.Err
	rm.Author = sockaddr(m.Author)
	r.push(protocol.AppendMessage(nil, &rm), except)
}

// event is told of changes of interfaces and addresses.
func (r *routeHub) event(e stack.Event) {
	switch e.Kind {
	case stack.IfArrived:
		r.mu.Lock()
		for cp := range r.captures {
			if cp.ifname == "" {
				cp.attach(e.If)
			}
		}
		r.mu.Unlock()
		r.s.entry(e.If.Name, true)
	case stack.IfDeparted:
		r.s.entry(e.If.Name, false)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.listeners) == 0 {
		return
	}
	var m protocol.Message
	switch e.Kind {
	case stack.IfArrived:
		m = &protocol.AnnounceMessage{Index: int(e.If.Index), Name: e.If.Name, What: protocol.IfArrival}
	case stack.IfDeparted:
		m = &protocol.AnnounceMessage{Index: int(e.If.Index), Name: e.If.Name, What: protocol.IfDeparture}
	case stack.IfChanged:
		m = r.s.ifMessage(e.If)
	case stack.AddrAdded:
		m = r.s.addrMessage(protocol.RTMNewAddr, e.If, e.Addr)
	case stack.AddrRemoved:
		m = r.s.addrMessage(protocol.RTMDelAddr, e.If, e.Addr)
	default:
		return
	}
	r.push(protocol.AppendMessage(nil, m), nil)
}

// neighbour is told what has become of a neighbour, as NetBSD tells of those that
// are found, move, are forgotten and stay silent. RTM_RESOLVE is none of these:
// BSD asks with it a program that is to resolve (RTF_XRESOLVE), of which there is none.
// With external_arp the neighbours of IPv4 are no routes, and nothing is told of them.
func (r *routeHub) neighbour(n *stack.Neighbour, c neigh.Change) {
	if n.IP.Is4() && r.s.arpOut {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var as namedNeighbour
	if n.IP == r.named.ip {
		as = r.named
	}
	if len(r.listeners) == 1 && as.c != nil {
		if _, only := r.listeners[as.c]; only {
			return
		}
	}
	if r.neighbours >= maxNeighbourNews {
		r.missed++
		return
	}
	r.neighbours++
	m := r.s.neighbourMessage(n)
	m.PID, m.Seq = as.pid, as.seq
	m.Flags |= protocol.RTFDone
	switch c {
	case neigh.Found:
		m.Type = protocol.RTMAdd
	case neigh.Moved:
		m.Type = protocol.RTMChange
	case neigh.Lost:
		m.Type = protocol.RTMDelete
		m.Flags &^= protocol.RTFUp
	default:
		m.Type = protocol.RTMMiss
		m.Flags &^= protocol.RTFUp | protocol.RTFDone
	}
	m.Ifp = protocol.LinkAddrOf(linkAddr(n.If))
	r.push(protocol.AppendMessage(nil, &m), as.c)
}

// asking carries out what c asks of a neighbour with the message m, of which c does
// not hear by itself.
func (r *routeHub) asking(c *conn, m *protocol.RouteMessage, ip netip.Addr, do func() error) error {
	r.updating.Lock()
	defer r.updating.Unlock()
	r.mu.Lock()
	r.named = namedNeighbour{ip: ip, c: c, pid: int(c.opPID()), seq: m.Seq}
	r.mu.Unlock()
	err := do()
	r.mu.Lock()
	r.named = namedNeighbour{}
	r.mu.Unlock()
	return err
}

// distribute writes what is queued, several messages a frame.
func (r *routeHub) distribute() {
	frame := make([]byte, 0, protocol.MaxFrame)
	for {
		select {
		case <-r.signal:
		case <-r.done:
			return
		}
		r.mu.Lock()
		items, missed := r.queue, r.missed
		r.queue, r.missed, r.neighbours = nil, 0, 0
		to := make([]*conn, 0, len(r.listeners))
		for c := range r.listeners {
			to = append(to, c)
		}
		r.mu.Unlock()
		for _, c := range to {
			frame = frame[:0]
			for _, it := range items {
				if it.except == c {
					continue
				}
				if len(frame)+len(it.b) > maxNewsFrame {
					c.send(frame)
					frame = frame[:0]
				}
				frame = append(frame, it.b...)
			}
			if len(frame) > 0 {
				c.send(frame)
			}
			if missed > 0 {
				c.send(protocol.AppendMessage(nil, &protocol.DesyncMessage{Lost: missed}))
			}
		}
	}
}

// maxNewsFrame keeps a frame of news small enough for simple readers.
const maxNewsFrame = 32 << 10

// update carries out a batch of c, whose own messages c does not hear.
func (r *routeHub) update(c *conn, ops []route.Op) []error {
	r.updating.Lock()
	defer r.updating.Unlock()
	r.mu.Lock()
	r.requester, r.pid = c, ops[0].PID
	r.mu.Unlock()
	errs := r.s.eng.Engine().Routes.Update(ops)
	r.mu.Lock()
	r.requester, r.pid = nil, 0
	r.mu.Unlock()
	return errs
}

// linkAddr is an interface's link address.
func linkAddr(ifp *netif.Interface) protocol.LinkAddr {
	var hw []byte
	if m := ifp.MAC(); m != (netif.MAC{}) {
		hw = m[:]
	}
	return protocol.LinkOf(int(ifp.Index), ifp.Type, ifp.Name, hw)
}

func (s *server) ifMessage(ifp *netif.Interface) *protocol.IfMessage {
	st := &ifp.Stats
	d := protocol.IfData{Type: ifp.Type, HdrLen: uint8(ifp.HdrLen), LinkState: 1, MTU: uint64(ifp.MTU()), Metric: uint64(ifp.Metric()),
		InPackets: st.InPackets.Load(), InErrors: st.InErrors.Load(), OutPackets: st.OutPackets.Load(), OutErrors: st.OutErrors.Load(),
		Collisions: st.Collisions.Load(), InBytes: st.InBytes.Load(), OutBytes: st.OutBytes.Load(), InMcast: st.InMcast.Load(),
		OutMcast: st.OutMcast.Load(), InDrops: st.InDrops.Load(), NoProto: st.NoProto.Load()}
	if ifp.LinkUp() {
		d.LinkState = 2
	}
	if drv := s.eng.Device(ifp.Name); drv != nil {
		d.Baudrate = drv.Info().Rate
	}
	if t := st.LastChange.Load(); t != 0 {
		d.LastChange = s.eng.Wall(t).UnixMicro()
	}
	l := linkAddr(ifp)
	d.AddrLen = l.Len
	return &protocol.IfMessage{Index: int(ifp.Index), Flags: ifp.Flags(), Name: ifp.Name, Type: ifp.Type, LinkAddr: l, Data: d}
}

func (s *server) addrMessage(typ int, ifp *netif.Interface, a *netif.Addr) *protocol.AddrMessage {
	m := &protocol.AddrMessage{Type: typ, Index: int(ifp.Index), Flags: a.Flags, Metric: ifp.Metric(), Ifp: protocol.LinkAddrOf(linkAddr(ifp)),
		Addr: sockaddr(a.Addr), Bits: a.Bits}
	if a.Addr.Is6() {
		m.Flags = flags6(a, s.eng.Now())
	}
	m.Netmask = protocol.MaskAddr(m.Addr.Family, a.Bits)
	switch {
	case a.Dst.IsValid():
		m.Brd = sockaddr(a.Dst)
	case a.Broadcast.IsValid():
		m.Brd = protocol.AddrFrom(a.Broadcast, 0)
	}
	return m
}

// ownLink is the interface whose address r leads to by way of lo0, if that has a
// link address: KAME shows it as the gateway of an address of one's own.
func (s *server) ownLink(r *route.Route) *netif.Interface {
	ip := r.Dst.Addr()
	if r.Flags&route.FlagLLInfo == 0 || r.If == nil || r.If.Flags()&netif.FlagLoopback == 0 || r.Gateway != ip {
		return nil
	}
	for _, ifp := range s.eng.Engine().Env.Ifs.All() {
		if ifp.MAC() != (netif.MAC{}) && slices.ContainsFunc(ifp.Addrs(), func(a *netif.Addr) bool { return a.Addr == ip }) {
			return ifp
		}
	}
	return nil
}

// routeMessage is a route as RTM_GET and a dump show it.
func (s *server) routeMessage(r *route.Route, done bool) protocol.RouteMessage {
	m := protocol.RouteMessage{Type: protocol.RTMGet, Flags: r.Flags | protocol.RTFDone, Use: r.Use, Refs: r.Refs, NetmaskBits: -1}
	if !done {
		m.Flags &^= protocol.RTFDone
	}
	m.Dst = sockaddr(r.Dst.Addr())
	if !r.Host && r.Flags&protocol.RTFHost == 0 {
		m.Netmask, m.NetmaskBits = protocol.MaskAddr(m.Dst.Family, r.Dst.Bits()), r.Dst.Bits()
	}
	if r.If != nil {
		m.Index = int(r.If.Index)
	}
	own := s.ownLink(r)
	switch {
	case own != nil:
		m.Gateway = protocol.LinkAddrOf(linkAddr(own))
	case r.Gateway.IsValid():
		m.Gateway = sockaddr(r.Gateway)
	case r.If != nil:
		m.Gateway = protocol.LinkAddrOf(protocol.LinkAddr{Index: int(r.If.Index), Type: r.If.Type})
	}
	if r.GenMask.IsValid() {
		m.Genmask = protocol.AddrFrom(r.GenMask, 0)
	}
	if x := r.Metrics; x != nil {
		m.Metrics = protocol.RouteMetrics{Locks: uint64(x.Locks), MTU: uint64(x.MTU), Hopcount: uint64(x.Hopcount), Expire: uint64(x.Expire),
			Rpipe: x.RecvPipe, Spipe: x.SendPipe, Ssthresh: x.SSThresh, RTT: x.RTT, RTTVar: x.RTTVar}
		for bit, v := range []uint64{m.Metrics.MTU, m.Metrics.Hopcount, m.Metrics.Expire, m.Metrics.Rpipe, m.Metrics.Spipe, m.Metrics.Ssthresh, m.Metrics.RTT, m.Metrics.RTTVar} {
			if v != 0 {
				m.Inits |= 1 << bit
			}
		}
	}
	m.Metrics.PkSent = r.Use
	return m
}
