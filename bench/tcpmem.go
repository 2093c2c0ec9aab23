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
		func() *network { return gvisorPipe(time.Second, clientAddr) },
		func() *network { return gvisorChannel(false) },
		func() *network { return ionetMemory(false, time.Second, clientAddr) }); err != nil {
		return err
	}
	return tcpMem("super-packets", 2,
		func() *network { return gvisorChannel(true) },
		func() *network { return ionetMemory(true, time.Second, clientAddr) })
}

// tcpMem holds ionet to bar times the best of its peers, which come first.
func tcpMem(what string, bar float64, networks ...func() *network) error {
	contenders := make([]contender, len(networks))
	allocs := make([]float64, len(networks))
	cpu := make(samples, len(networks))
	for i, open := range networks {
		contenders[i].run = func(d time.Duration) (float64, error) {
			n := open()
			contenders[i].name = n.name
			r, err := stream(n, d)
			allocs[i] = r.allocs
			cpu[i] = append(cpu[i], r.cpu)
			return r.gbps, errors.Join(err, n.close())
		}
	}
	r, err := figures(contenders)
	if err != nil {
		return err
	}
	best := r.best(len(contenders) - 1)
	for i, c := range contenders {
		l := fmt.Sprintf("  %-20s %-16s %6.2f Gbit/s, %4.0f ns of processor a KiB, %.3f allocations a frame", what, c.name, r.median(i), cpu.median(i), allocs[i])
		if c.name == "ionet" {
			l += fmt.Sprintf(", ratio to %s %.1f, by processor time %.1f  (%s; %s)", contenders[best].name, r.ratio(i, best), cpu.ratio(best, i),
				verdict(r.ratio(i, best) >= bar, fmt.Sprintf("at least %.0f", bar)), verdict(allocs[i] < 0.01, "none but the runtime's own now and then"))
		}
		fmt.Println(l)
	}
	return nil
}
