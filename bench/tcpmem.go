package main

import (
	"errors"
	"fmt"
	"time"
)

// tcpMemMeasure sends one stream between two stacks in this process. Without
// offload every segment is cut, summed and verified by the stacks; with
// super-packets the link carries up to 64 KiB whole and nobody sums.
func tcpMemMeasure() error {
	first, last := processors()
	fmt.Printf("  all threads on processors %d to %d, one stream, writes of %d KiB\n", first, last, streamChunk>>10)
	if err := tcpMem("MTU 1500, no offload", 4,
		func() *network { return gvisorPipe(time.Second, clientsOf(false)...) },
		func() *network { return gvisorChannel(false) },
		func() *network { return ionetMemory(false, time.Second, clientsOf(false)...) }); err != nil {
		return err
	}
	return tcpMem("super-packets", 2,
		func() *network { return gvisorChannel(true) },
		func() *network { return ionetMemory(true, time.Second, clientsOf(false)...) })
}

// tcpMem holds ionet to bar times the best of its peers, which come first, with
// both versions of IP.
func tcpMem(what string, bar float64, networks ...func() *network) error {
	contenders := make([]contender, len(versions)*len(networks))
	allocs := make([]float64, len(contenders))
	cpu := make(samples, len(contenders))
	for i := range contenders {
		contenders[i].run = func(d time.Duration) (float64, error) {
			n := networks[i%len(networks)]()
			contenders[i].name = n.name
			r, err := stream(n, versions[i/len(networks)], d)
			allocs[i] = r.allocs
			cpu[i] = append(cpu[i], r.cpu)
			return r.gbps, errors.Join(err, n.close())
		}
	}
	r, err := figures(contenders)
	if err != nil {
		return err
	}
	for i, c := range contenders {
		v, first := versions[i/len(networks)], i-i%len(networks)
		l := fmt.Sprintf("  %-20s %s %-16s %6.2f Gbit/s, %4.0f ns of processor a KiB, %.3f allocations a frame", what, v.name, c.name, r.median(i), cpu.median(i), allocs[i])
		if c.name == "ionet" {
			best := r.best(first, i)
			l += fmt.Sprintf(", ratio to %s %.1f, by processor time %.1f  (%s; %s)", contenders[best].name, r.ratio(i, best), cpu.ratio(best, i),
				verdict(r.ratio(i, best) >= bar, fmt.Sprintf("at least %.0f", bar)), verdict(allocs[i] < 0.01, "none but the runtime's own now and then"))
			if v == v6 {
				l += ofIPv4(r.ratio(i, i-len(networks)))
			}
		}
		fmt.Println(l)
	}
	return nil
}
