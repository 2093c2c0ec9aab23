package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	idleEndpoints = 200_000
	manyEndpoints = 1_000_000
	idleSample    = 1_000 // connections that must still answer
)

// tcpIdleMeasure has processes open connections between two stacks in memory
// and leave them alone. Each connection is two endpoints.
func tcpIdleMeasure() error {
	first, last := processors()
	fmt.Printf("  both ends of each connection in one process, from %d addresses; %d connections each carry an octet both ways afterwards\n", clientAddrs, idleSample)
	ipv4 := map[int]float64{} // octets of ionet's endpoints, by their number
	for _, c := range []struct {
		name, role string
		v          *version
		endpoints  int
		bar        bool
	}{
		{"gVisor", "idle-gvisor", v4, idleEndpoints, false},
		{"ionet", "idle-ionet", v4, idleEndpoints, true},
		{"ionet", "idle-ionet", v4, manyEndpoints, true},
		{"gVisor", "idle-gvisor", v6, idleEndpoints, false},
		{"ionet", "idle-ionet", v6, idleEndpoints, true},
		{"ionet", "idle-ionet", v6, manyEndpoints, true},
	} {
		p, err := spawn(placement{cpus: []int{first, last}}, c.role, c.v.name, strconv.Itoa(c.endpoints))
		if err != nil {
			return err
		}
		var heap, objects, rss, seconds float64
		err = p.ask(&heap, &objects, &rss, &seconds)
		p.kill()
		if err != nil {
			return err
		}
		l := fmt.Sprintf("  %s %-7s %9d endpoints: %5.0f octets of live heap and %4.1f objects each, peak resident %5.2f GiB, opened at %.0f/s, the sample answered",
			c.v.name, c.name, c.endpoints, heap, objects, rss/(1<<30), float64(c.endpoints)/2/seconds)
		if c.bar {
			l += fmt.Sprintf("  (%s)", verdict(heap <= 1000, "at most 1,000 octets"))
			if c.v == v4 {
				ipv4[c.endpoints] = heap
			} else {
				l += ofIPv4(ipv4[c.endpoints] / heap)
			}
		}
		fmt.Println(l)
	}
	return nil
}

// idle is what a role for this measure can do: open connection i, and send an
// octet there and back on one.
type idle struct {
	open func(i int) error
	echo func(i int) error
}

// measureIdle opens connections and prints octets of live heap and objects an
// endpoint, the peak of resident memory in octets, and the seconds it took.
func measureIdle(args []string, start func(v *version) idle) error {
	v, err := versionNamed(args[0])
	if err != nil {
		return err
	}
	endpoints, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	n := endpoints / 2
	d := start(v)
	before, began := liveMemory(), time.Now()
	for i := range n {
		if err := d.open(i); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	took := time.Since(began)
	after := liveMemory()
	for k := range idleSample {
		if err := d.echo(k * (n / idleSample)); err != nil {
			return fmt.Errorf("connection %d of %d does not answer: %w", k*(n/idleSample), n, err)
		}
	}
	each := float64(2 * n)
	fmt.Println(float64(after.HeapAlloc-before.HeapAlloc)/each, float64(after.HeapObjects-before.HeapObjects)/each, peakMemory(), took.Seconds())
	return nil
}

// liveMemory is what the heap holds after a collection; the second one frees
// what finalizers kept in the first.
func liveMemory() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

// peakMemory is the most octets of this process that were resident at once.
func peakMemory() float64 {
	var r unix.Rusage
	must(unix.Getrusage(unix.RUSAGE_SELF, &r))
	return float64(r.Maxrss) * 1024
}

// idleGvisor opens connections between two netstacks on a pipe.
func idleGvisor(args []string) error {
	return measureIdle(args, func(v *version) idle {
		l0, l1 := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", 1500)
		clients := v.clients()
		a, b := gvisorTCP(l0, time.Second, clients...), gvisorTCP(l1, time.Second, v.server)
		var wq waiter.Queue
		l, terr := b.NewEndpoint(tcp.ProtocolNumber, gvisorVersion(v.server), &wq)
		gmust(terr)
		gmust(l.Bind(gvisorAddr(v.server, streamPort)))
		gmust(l.Listen(1000))
		entry, pending := waiter.NewChannelEntry(waiter.ReadableEvents)
		wq.EventRegister(&entry)
		var from, to []gvisorEnd
		return idle{
			open: func(i int) error {
				c := gvisorEnd{wq: new(waiter.Queue)}
				if c.ep, terr = a.NewEndpoint(tcp.ProtocolNumber, gvisorVersion(v.server), c.wq); terr != nil {
					return errors.New(terr.String())
				}
				if err := c.ep.Bind(gvisorAddr(clients[i%len(clients)], 0)); err != nil {
					return errors.New(err.String())
				}
				entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
				c.wq.EventRegister(&entry)
				if err := c.ep.Connect(gvisorAddr(v.server, streamPort)); err != nil {
					if _, ok := err.(*tcpip.ErrConnectStarted); !ok {
						return errors.New(err.String())
					}
				}
				<-ready
				c.wq.EventUnregister(&entry)
				from = append(from, c)
				for {
					ep, wq, err := l.Accept(nil)
					if err == nil {
						to = append(to, gvisorEnd{ep, wq})
						return nil
					}
					if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
						return errors.New(err.String())
					}
					<-pending
				}
			},
			// One after the other: the other end of a connection has the same number.
			echo: func(i int) error { return errors.Join(from[i].pass(to[i]), to[i].pass(from[i])) },
		}
	})
}

// gvisorEnd is an endpoint and what waits for it.
type gvisorEnd struct {
	ep tcpip.Endpoint
	wq *waiter.Queue
}

// pass sends an octet to the other end and waits for it.
func (e gvisorEnd) pass(to gvisorEnd) error {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	to.wq.EventRegister(&entry)
	defer to.wq.EventUnregister(&entry)
	if _, err := e.ep.Write(bytes.NewReader([]byte{1}), tcpip.WriteOptions{}); err != nil {
		return errors.New(err.String())
	}
	for {
		_, err := to.ep.Read(io.Discard, tcpip.ReadOptions{})
		if err == nil {
			return nil
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			return errors.New(err.String())
		}
		select {
		case <-ready:
		case <-time.After(streamPatience):
			return os.ErrDeadlineExceeded
		}
	}
}
