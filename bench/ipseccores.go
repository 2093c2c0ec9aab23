package main

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	coresFlows  = 8
	coresRound  = 2048 // packets of a round, which the window of an association holds
	coresWindow = 4096
)

// ipsecCoresMeasure has every processor bring packets to the same gateway at once, and then what left it to the
// other one. What processors take of a packet, and whether they wait for each other, says how far they multiply, on a
// machine that others use too.
func ipsecCoresMeasure() error {
	n := runtime.GOMAXPROCS(0)
	if n == 1 {
		fmt.Println("  NOT measured, there is one processor")
		return nil
	}
	fmt.Printf("  a tunnel of ESP, AES-128-GCM, window %d, UDP of %d octets in bursts of %d, forwarded twice, on 1 and on %d processors\n", coresWindow, ipsecLarge, forwardBurst, n)
	for _, v := range versions {
		for _, sas := range []int{1, coresFlows} {
			vpn, err := newVPNWindow(v, ipsecLarge, sas, coresWindow)
			if err != nil {
				return err
			}
			c := newCores(vpn, n)
			cost, waits := make(samples, 2), make([]float64, 0, *runs)
			for range *runs {
				one, _ := c.cost(1, *perRun/2)
				all, wait := c.cost(n, *perRun/2)
				cost[0], cost[1] = append(cost[0], one), append(cost[1], all)
				waits = append(waits, wait)
			}
			gain := cost.ratio(0, 1) * (1 - median(waits))
			fmt.Printf("  %s: %d %-12s each way: protect and open %5.0f ns of a processor alone, %5.0f ns of %d at once, of which %.3f of the time wait for locks; all do %.2f times as much as one  (%s)\n",
				v.name, sas, plural(sas, "association"), cost.median(0), cost.median(1), n, median(waits), gain*float64(n), verdict(gain >= 0.8, fmt.Sprintf("at least %.1f", 0.8*float64(n))))
		}
	}
	return nil
}

// cores is processors at work on one pair of gateways.
type cores struct {
	*vpn
	works [][2]*netif.Work // of each processor, at each gateway
	sent  []*packet.Buf    // what left the first gateway in this round
	n     atomic.Int64
}

func newCores(v *vpn, n int) *cores {
	c := &cores{vpn: v, sent: make([]*packet.Buf, coresRound)}
	for range n {
		c.works = append(c.works, [2]*netif.Work{v.gw[0].Env.NewWork(), v.gw[1].Env.NewWork()})
	}
	v.take = func(ifp *netif.Interface, burst []*packet.Buf) {
		at := c.n.Add(int64(len(burst)))
		if ifp == v.out[0] {
			copy(c.sent[at-int64(len(burst)):], burst)
			return
		}
		packet.FreeBurst(burst)
	}
	return c
}

// cost is the processor time of a packet at both gateways, in ns, of so many processors at once, and the share of
// their time that they wait for locks.
func (c *cores) cost(processors int, d time.Duration) (ns, waits float64) {
	var spent atomic.Int64
	packets := 0
	before := lockWait()
	start := time.Now()
	for time.Since(start) < d {
		c.now += 1000
		c.round(processors, &spent, func(k, i int, burst []*packet.Buf) {
			f := c.frames[(i+k)%len(c.frames)]
			if c.gw[0].Env.Pool.GetBurst(burst, len(f)) < len(burst) {
				panic("no packet")
			}
			for _, b := range burst {
				copy(b.Append(len(f)), f)
			}
		}, 0)
		for _, b := range c.sent {
			b.Flags = 0 // as it would come from a wire
		}
		c.round(processors, &spent, func(_, i int, burst []*packet.Buf) { copy(burst, c.sent[i*forwardBurst:]) }, 1)
		packets += coresRound
	}
	wait, busy := lockWait()-before, float64(spent.Load())
	return busy / float64(packets), wait / (wait + busy/1e9)
}

// round has the processors bring coresRound packets to gateway g, in bursts that make fills.
func (c *cores) round(processors int, spent *atomic.Int64, fill func(k, i int, burst []*packet.Buf), g int) {
	ifp := c.inside[0]
	if g == 1 {
		ifp = c.out[1]
	}
	c.n.Store(0)
	var wg sync.WaitGroup
	for k := range processors {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			burst := make([]*packet.Buf, forwardBurst)
			took := time.Duration(0)
			for i := k; i < coresRound/forwardBurst; i += processors {
				fill(k, i, burst)
				start := threadTime()
				c.gw[g].Input(c.works[k][g], c.now, ifp, burst)
				took += since(start)
			}
			spent.Add(int64(took))
		})
	}
	wg.Wait()
	if n := c.n.Load(); n != coresRound {
		panic(fmt.Sprintf("%d packets of %d left gateway %d", n, coresRound, g))
	}
}

// lockWait is how long goroutines have waited for locks, in seconds.
func lockWait() float64 {
	s := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64()
}
