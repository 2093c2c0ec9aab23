package mroute

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// network has packets whose octets are the source's and the group's last, and the hops left.
type network struct{ sent atomic.Int64 }

func (n *network) Read(p *packet.Buf) (src, dst netip.Addr, hops uint8) {
	b := p.Bytes()
	return netip.AddrFrom4([4]byte{10, 0, 0, b[0]}), netip.AddrFrom4([4]byte{239, 0, 0, b[1]}), b[2]
}

func (n *network) SendGroup(_ *netif.Work, p *packet.Buf, _ *netif.Interface) {
	n.sent.Add(1)
	p.Free()
}

// daemon is a routing daemon's socket, which is full now and then.
type daemon struct{ told atomic.Int64 }

func (d *daemon) Told(*netif.Work, Upcall, *packet.Buf) bool { return d.told.Add(1)%5 != 0 }

var cntTest = mib.NewCounter("test", "mroute", "# test{s}")

// TestConcurrent: packets come on several goroutines while the daemon changes its mind, goes and comes. At the end no packet is
// lost or held, and no interface listens to all groups.
func TestConcurrent(t *testing.T) {
	seed := uint32(1)
	env := &netif.Env{Pool: packet.NewPool(1 << 24), MIB: mib.NewValues(), Now: func() int64 { return second }, Rand32: func() uint32 { seed++; return seed }}
	env.Wheel.Init(second, nil)
	var ifs []*netif.Interface
	for i := range 4 {
		ifp := netif.New(netif.Config{Name: fmt.Sprint("en", i), Type: netif.TypeEther, Flags: netif.FlagUp | netif.FlagRunning | netif.FlagMulticast | netif.FlagBroadcast})
		if err := env.Ifs.Add(ifp); err != nil {
			t.Fatal(err)
		}
		ifs = append(ifs, ifp)
	}
	n := &network{}
	c := Counters{}
	for _, p := range []*mib.Counter{&c.Lookups, &c.Misses, &c.Upcalls, &c.Overflow, &c.SockFull, &c.Cleanups, &c.NoRoute, &c.WrongIf, &c.NoMemory} {
		*p = cntTest
	}
	r := New(env, Config{Network: n, Counters: c})
	var wg sync.WaitGroup
	var stop atomic.Bool
	for k := range 4 {
		wg.Go(func() {
			w := env.NewWork()
			for i := 0; !stop.Load(); i++ {
				w.Start(second)
				for j := range 8 {
					p := env.Pool.Get(100)
					copy(p.Append(100), []byte{byte(i % 3), byte(j), byte(i)})
					p.RcvIf = ifs[(i+k)%4].Index
					if r.Active() && r.From(p.RcvIf) {
						w.Turn(r.Forward, p)
					} else {
						p.Free()
					}
				}
				w.Finish()
			}
		})
	}
	one, other := &daemon{}, &daemon{}
	for i := range 3000 {
		w := env.Begin(second + int64(i)*second/1000)
		var u User = one
		if i%2 == 1 {
			u = other
		}
		_ = r.Start(u) // or the other one is there
		_ = r.AddVif(i%4, Vif{If: ifs[i%4]})
		way := Way{Parent: i % 4}
		way.TTLs[(i+1)%4], way.TTLs[(i+2)%4] = 1, 100
		_ = r.AddEntry(w, netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 3)}), netip.AddrFrom4([4]byte{239, 0, 0, byte(i % 8)}), way)
		r.SetAssert(i%3 == 0)
		switch i % 50 {
		case 10:
			_ = r.DelVif(i % 4)
		case 20:
			_ = r.DelEntry(netip.AddrFrom4([4]byte{10, 0, 0, 1}), netip.AddrFrom4([4]byte{239, 0, 0, 2}))
		case 30:
			r.Detach(ifs[i%4])
		case 40:
			r.Stop(w, one)
			r.Stop(w, other)
		}
		env.Wheel.Advance(w.Now, w)
		w.End()
		_, _ = r.Vifs(), r.Entries()
	}
	stop.Store(true)
	wg.Wait()
	w := env.Begin(2 * second)
	r.Stop(w, one)
	r.Stop(w, other)
	w.End()
	if b := env.Pool.Bufs(); b != 0 {
		t.Errorf("%d buffers are left", b)
	}
	if a := env.Wheel.Armed(); a != 0 {
		t.Errorf("%d timers are armed", a)
	}
	for _, ifp := range ifs {
		if ifp.Flags()&netif.FlagAllMulti != 0 {
			t.Errorf("%s still listens to all groups", ifp.Name)
		}
	}
	if told := one.told.Load() + other.told.Load(); n.sent.Load() == 0 || told == 0 || len(r.Entries()) != 0 {
		t.Errorf("%d sent, %d told, %d entries", n.sent.Load(), told, len(r.Entries()))
	}
}
