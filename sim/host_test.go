package sim_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"ionet/driver"
	"ionet/driver/wire"
	"ionet/host"
	"ionet/stack/netif"
	"ionet/stack/socket"
)

// station is a living stack on a segment in memory; its books balance at the
// end.
func station(t *testing.T, seg *wire.Segment, i byte) (*host.Stack, *netif.Interface) {
	t.Helper()
	h, err := host.New(host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ifp, err := h.Attach(seg.Attach(netif.MAC{2, 0, 0, 0, 0, i}, 1500), driver.Options{Lan: -1})
	if err == nil {
		err = h.Engine().AddAddr(ifp, spec(fmt.Sprintf("10.0.0.%d/24", i)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return h, ifp
}

func balance(t *testing.T, hs []*host.Stack) {
	t.Helper()
	for _, h := range hs {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	for i, h := range hs {
		e := h.Engine()
		end := h.Now() + int64(2*time.Hour) // the clock has stopped: let what waits for it end
		for at, ok := e.Next(); ok && at < end; at, ok = e.Next() {
			e.Advance(at)
		}
		if n := e.Env.Wheel.Armed(); n != 0 {
			t.Errorf("stack %d: %d timers are still armed", i, n)
		}
		if b, s, m := e.Env.Pool.Bufs(), e.Sockets(), e.SocketMemory(); b != 0 || s != 0 || m != 0 {
			t.Errorf("stack %d: %d buffers, %d sockets and %d octets in them are left", i, b, s, m)
		}
	}
}

// The exchange of the simulated network with real goroutines: every pair of
// stations talks at once, in all sizes, and what arrives is what was sent.
func TestExchangeOnHosts(t *testing.T) {
	seg := wire.NewSegment()
	var hs []*host.Stack
	for i := range byte(3) {
		h, _ := station(t, seg, i+1)
		hs = append(hs, h)
	}
	var talks, echoes sync.WaitGroup
	var servers []net.PacketConn
	for i, h := range hs {
		srv, err := h.ListenPacket("udp", "0.0.0.0:7")
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, srv)
		echoes.Go(func() { // until it is closed
			buf := make([]byte, 65536)
			for {
				n, from, err := srv.ReadFrom(buf)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					_, _ = srv.WriteTo(buf[:n], from)
				}
			}
		})
		for j := range hs {
			talks.Go(func() { talk(t, h, fmt.Sprintf("10.0.0.%d:7", j+1), uint64(i*8+j)) })
		}
	}
	talks.Wait()
	for _, s := range servers {
		s.Close()
	}
	echoes.Wait()
	balance(t, hs)
}

// The chaos of the simulated network with real goroutines: everything changes
// while everybody talks. Under -race it shows what one goroutine cannot.
func TestChaosOnHosts(t *testing.T) {
	seg := wire.NewSegment()
	var hs []*host.Stack
	var changes, talks sync.WaitGroup
	stop := make(chan struct{})
	for i := range byte(3) {
		h, ifp := station(t, seg, i+1)
		hs = append(hs, h)
		e := h.Engine()
		changes.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for range 150 {
				switch r.IntN(8) {
				case 0:
					_ = e.SetFlags(ifp, 0, netif.FlagUp)
					_ = e.SetFlags(ifp, netif.FlagUp, 0)
				case 1:
					_ = e.AddAddr(ifp, spec(fmt.Sprintf("10.0.0.%d/%d", 10*int(i+1)+r.IntN(5), 16+r.IntN(10))))
				case 2:
					if as := ifp.Addrs(); len(as) > 1 {
						_ = e.DelAddr(ifp, as[1+r.IntN(len(as)-1)].Addr)
					}
				case 3:
					_ = e.DeleteNeighbour(netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + r.IntN(3))}))
				case 4:
					_ = e.SetMTU(ifp, 600+r.IntN(900), 1500)
				case 5:
					_, _ = e.Env.MIB.Set("net.inet.ip.dad_count", fmt.Sprint(r.IntN(3)))
				case 6:
					_ = e.Neighbours()
					_ = e.SocketTable()
					_ = e.Groups()
				case 7:
					_ = e.AddNeighbour(ifp, netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + r.IntN(3))}), netif.MAC{2, 0, 0, 0, 0, byte(1 + r.IntN(3))}, 0, 1)
				}
			}
		})
		for k := range 2 {
			talks.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), uint64(3+k)))
				for {
					select {
					case <-stop:
						return
					default:
					}
					c, err := h.ListenPacket("udp", "0.0.0.0:0")
					if err != nil {
						t.Error(err)
						return
					}
					so := c.(*host.Conn).Socket()
					h.Call(func(w *netif.Work) {
						_ = so.SetOption(w, socket.LevelSocket, socket.SOBroadcast, socket.Value32(1))
						_ = so.SetOption(w, 0, 12, []byte{239, 1, 1, byte(r.IntN(3)), 0, 0, 0, 0})
					})
					for range 20 {
						ip := net.IPv4(10, 0, 0, byte(r.IntN(4)))
						if r.IntN(4) == 0 {
							ip = net.IPv4(239, 1, 1, byte(r.IntN(3)))
						}
						_, _ = c.WriteTo(payload(1, r.IntN(4000)), &net.UDPAddr{IP: ip, Port: 1024 + r.IntN(4)})
					}
					c.Close()
				}
			})
		}
	}
	changes.Wait()
	close(stop)
	talks.Wait()
	balance(t, hs)
}

func talk(t *testing.T, h *host.Stack, to string, seed uint64) {
	c, err := h.Dial("udp", to)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	r := rand.New(rand.NewPCG(seed, 1))
	buf := make([]byte, 65536)
	answered := 0
	for k := range 40 {
		p := payload(uint32(k), 4+r.IntN(4000))
		if _, err := c.Write(p); err != nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := c.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) || err != nil {
				break
			}
			if bytes.Equal(buf[:n], p) {
				answered++
				break
			}
		}
	}
	if answered < 30 {
		t.Errorf("%s answered %d of 40 datagrams on a wire that loses nothing", to, answered)
	}
}
