package inet6

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

type groups struct {
	mu  sync.Mutex
	n   map[gk]int
	set atomic.Pointer[map[gk]int]
}
type gk struct {
	i uint32
	g netip.Addr
}

func (g *groups) init(in *Inet6)                     { g.n = map[gk]int{}; g.set.Store(&map[gk]int{}) }
func (g *groups) joined(i uint32, a netip.Addr) bool { return (*g.set.Load())[gk{i, a}] > 0 }
func (g *groups) pub() {
	m := map[gk]int{}
	for k, v := range g.n { // map order: into a map
		m[k] = v
	}
	g.set.Store(&m)
}
func (g *groups) attach(w *netif.Work, ifp *netif.Interface) {
	g.join(w, ifp, packet.Scoped(allNodes, ifp.Index), nil)
}
func (g *groups) detach(ifp *netif.Interface) {}
func (g *groups) join(w *netif.Work, ifp *netif.Interface, a netip.Addr, o any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n[gk{ifp.Index, a}]++
	if ifp.Type == netif.TypeEther {
		ifp.JoinGroup(netif.GroupMAC(a))
	}
	g.pub()
}
func (g *groups) leave(w *netif.Work, ifp *netif.Interface, a netip.Addr, o any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n[gk{ifp.Index, a}]--; g.n[gk{ifp.Index, a}] <= 0 {
		delete(g.n, gk{ifp.Index, a})
	}
	if ifp.Type == netif.TypeEther {
		ifp.LeaveGroup(netif.GroupMAC(a))
	}
	g.pub()
}
func (g *groups) input(w *netif.Work, ifp *netif.Interface, p *packet.Buf) { p.Free() }
func extLen(*socket.Ext6) int                                              { return 0 }
func putExt(b []byte, x *socket.Ext6, next uint8) uint8                    { return next }

type opts struct{}

func (in *Inet6) NewOptions(so *socket.Socket) socket.NetOptions { return opts{} }
func (opts) Set(w *netif.Work, level, name int, value []byte) error {
	return syscall.ENOPROTOOPT
}
func (opts) Get(level, name int) ([]byte, error)              { return nil, syscall.ENOPROTOOPT }
func (opts) Fill(f *socket.Flow)                              {}
func (opts) Accepts(dst, src netip.Addr, ifindex uint32) bool { return true }
func (opts) Close(w *netif.Work)                              {}
func (opts) Control(f *socket.Flow, c []socket.Cmsg) error    { return nil }
func (opts) Describe(pkt *packet.Buf, m *socket.Msg)          {}
func (opts) TooBig(w *netif.Work, dst socket.Addr, mtu int)   {}
