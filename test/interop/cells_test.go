package interop

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"ionet/driver/impair"
)

var measure = flag.Duration("measure", 10*time.Second, "how long each measurement of BenchmarkBadLink takes")

// cell is a bad link between two hosts, named as the driver's options, and how many streams at once tell what
// it is like: where chance decides, one alone says little.
type cell struct {
	name    string
	way     impair.Profile
	streams int
}

// cells are loss by delay each way, and then the other ills.
func cells() (all []cell) {
	for _, loss := range []float64{0, 0.1, 1, 5} {
		for _, delay := range []time.Duration{0, 10 * time.Millisecond, 100 * time.Millisecond} {
			c := cell{fmt.Sprintf("loss=%v,delay=%v", loss, delay), impair.Profile{Loss: loss, Delay: delay}, 1}
			if loss >= 1 || loss > 0 && delay > 0 {
				c.streams = 8
			}
			all = append(all, c)
		}
	}
	const ms = time.Millisecond
	return append(all,
		cell{"reorder=1,delay=10ms", impair.Profile{Reorder: 1, Delay: 10 * ms}, 4},
		cell{"reorder=5,delay=10ms", impair.Profile{Reorder: 5, Delay: 10 * ms}, 4},
		cell{"jitter=2ms,delay=10ms", impair.Profile{Jitter: 2 * ms, Delay: 10 * ms}, 4},
		cell{"dup=1,delay=10ms", impair.Profile{Dup: 1, Delay: 10 * ms}, 4},
		cell{"corrupt=0.1,delay=10ms", impair.Profile{Corrupt: 0.1, Delay: 10 * ms}, 8},
		cell{"rate=100mbit,queue=100,delay=10ms", impair.Profile{Rate: 100e6, Queue: 100, Delay: 10 * ms}, 1},
		cell{"rate=100mbit,queue=20,loss=0.1,delay=10ms", impair.Profile{Rate: 100e6, Queue: 20, Loss: 0.1, Delay: 10 * ms}, 1},
	)
}

// goodput is what the streams of a cell carry together in that time, in
// Mbit/s. Every octet that arrives is looked at.
func goodput(t testing.TB, from, to end, address string, streams int, d time.Duration) float64 {
	t.Helper()
	type pair struct{ x, y net.Conn }
	var pairs []pair
	for range streams {
		x, y := connect(t, from, to, address)
		pairs = append(pairs, pair{x, y})
	}
	var sum int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	limit := time.Now().Add(d)
	for _, p := range pairs {
		p.x.SetDeadline(limit)
		p.y.SetDeadline(limit)
		wg.Go(func() {
			if _, err := send(p.x, -1); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s to %s: sending: %v", p.x.LocalAddr(), p.x.RemoteAddr(), err)
			}
		})
		wg.Go(func() {
			n, err := receive(p.y)
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s to %s: %d octets received: %v", p.x.LocalAddr(), p.x.RemoteAddr(), n, err)
			}
			mu.Lock()
			defer mu.Unlock()
			sum += n
		})
	}
	wg.Wait()
	for _, p := range pairs { // unread data resets, so that nothing of it is in the next measurement's way
		p.y.Close()
		p.x.Close()
	}
	return float64(sum) * 8 / d.Seconds() / 1e6
}

// BenchmarkBadLink measures the stack against a kernel beside two kernels with
// CUBIC, through the same bad links, in both families: out is the stack that sends to the kernel,
// in the kernel that sends to the stack. The bar is 0.8 of what the kernels do.
func BenchmarkBadLink(b *testing.B) {
	var below []string
	for i, c := range cells() {
		for _, v := range families {
			name := v.name + "," + c.name
			b.Run(name, func(b *testing.B) {
				conf := impair.Config{In: c.way, Out: c.way, Seed: uint64(i)}
				left, right := kernels(b, conf)
				both := goodput(b, left, right, at(v.two, 0), c.streams, *measure)
				h, k := beside(b, conf)
				out := goodput(b, h, k, at(v.two, 0), c.streams, *measure)
				in := goodput(b, k, h, at(v.one, 0), c.streams, *measure)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(both, "kernels-Mbit/s")
				b.ReportMetric(out, "out-Mbit/s")
				b.ReportMetric(in, "in-Mbit/s")
				b.ReportMetric(out/both, "out/kernels")
				b.ReportMetric(in/both, "in/kernels")
				if out < 0.8*both || in < 0.8*both {
					below = append(below, name) // a row that fails would not be printed
				}
			})
		}
	}
	if below != nil {
		b.Errorf("below 0.8 of two kernels: %s", strings.Join(below, "; "))
	}
}
