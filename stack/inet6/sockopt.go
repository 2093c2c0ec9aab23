package inet6

import (
	"syscall"

	"net/netip"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

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
