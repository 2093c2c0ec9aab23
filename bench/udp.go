package main

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// udpMeasure has the peer work as its own benchmarks do: one goroutine calls
// both stacks, packet by packet, checksums computed and verified. Ionet is
// held to the bar one by one too, which is the same work. The larger datagrams
// fill a frame of 1500 octets.
func udpMeasure() error {
	for _, full := range []bool{false, true} {
		size := func(v *version) int {
			if full {
				return v.full
			}
			return 64
		}
		kinds := []struct {
			name string
			run  func(v *version, d time.Duration) (rate, allocs float64)
		}{
			{"ionet, bursts of 32", func(v *version, d time.Duration) (float64, float64) { return ionetUDP(v, size(v), 32, d) }},
			{"ionet, one by one", func(v *version, d time.Duration) (float64, float64) { return ionetUDP(v, size(v), 1, d) }},
			{"gVisor, one by one", func(v *version, d time.Duration) (float64, float64) { return gvisorUDP(v, size(v), d) }},
		}
		var contenders []func(time.Duration) float64
		allocs := make([]float64, len(versions)*len(kinds))
		for _, v := range versions {
			for _, k := range kinds {
				i := len(contenders)
				contenders = append(contenders, func(d time.Duration) (rate float64) {
					rate, allocs[i] = k.run(v, d)
					return rate
				})
			}
		}
		r := rates(contenders...)
		for i := range contenders {
			v, k := versions[i/len(kinds)], i%len(kinds)
			l := fmt.Sprintf("  %4d bytes, %s: %-20s %8.0f/s, %.3f allocations a packet", size(v), v.name, kinds[k].name, r.median(i), allocs[i])
			if gvisor := i - k + 2; i != gvisor {
				l += fmt.Sprintf(", ratio to gVisor %.1f  (%s; %s)", r.ratio(i, gvisor),
					verdict(r.ratio(i, gvisor) >= 5, "at least 5"), verdict(allocs[i] < 0.001, "no allocation"))
				if v == v6 {
					l += ofIPv4(r.ratio(i, k))
				}
			}
			fmt.Println(l)
		}
	}
	return nil
}

// timed calls round until d has passed. It answers packets a second and
// allocations a packet, when each round is n packets.
func timed(d time.Duration, n int, round func()) (rate, allocs float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rounds := 0
	start := time.Now()
	for time.Since(start) < d {
		for range 64 {
			round()
		}
		rounds += 64
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	total := float64(rounds * n)
	return total / took.Seconds(), float64(after.Mallocs-before.Mallocs) / total
}

// pair is two stacks in one goroutine, joined by queues of frames.
type pair struct {
	now  int64
	seed uint32
	s    [2]*stack.Stack
	ifp  [2]*netif.Interface
	w    [2]*netif.Work
	line [2][]*packet.Buf
}

type lineEnd struct {
	p  *pair
	to int
}

func (e *lineEnd) Transmit(_ *netif.Interface, burst []*packet.Buf) {
	e.p.line[e.to] = append(e.p.line[e.to], burst...)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newPair() *pair {
	p := &pair{now: 1, seed: 1}
	for i := range p.s {
		s, err := stack.New(stack.Config{
			Now:    func() int64 { return p.now },
			Rand32: func() uint32 { p.seed = p.seed*1664525 + 1013904223; return p.seed },
		})
		must(err)
		p.s[i], p.w[i] = s, s.Env.NewWork()
		p.ifp[i] = netif.New(netif.Config{
			Name: "en0", MTU: 1500, MAC: netif.MAC{2, 0, 0, 0, 0, byte(1 + i)},
			Flags:  netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning,
			Driver: &lineEnd{p, 1 - i}, // no offload: checksums are computed, as gVisor's are
		})
		must(s.AddInterface(p.ifp[i]))
		_, err = s.Env.MIB.Set("net.inet6.ip6.dad_count", "0")
		must(err)
		for _, v := range versions {
			must(s.AddAddr(p.ifp[i], stack.AddrSpec{Addr: v.end(i), Bits: v.bits}))
		}
	}
	p.deliver()
	return p
}

func (p *pair) deliver() {
	for len(p.line[0])+len(p.line[1]) > 0 {
		for i := range p.line {
			burst := p.line[i]
			p.line[i] = nil
			if len(burst) > 0 {
				p.s[i].Input(p.w[i], p.now, p.ifp[i], burst)
				p.line[i] = append(burst[:0], p.line[i]...)
			}
		}
	}
}

// socket is one of stack i, bound to its address.
func (p *pair) socket(v *version, i int, port uint16) *socket.Socket {
	w := p.s[i].Env.Begin(p.now)
	defer w.End()
	so, err := p.s[i].Socket(w, v.family(), socket.Dgram, 0, socket.Cred{Super: true})
	must(err)
	must(so.SetOption(w, socket.LevelSocket, socket.SORcvBuf, socket.Value32(1<<20)))
	must(so.Bind(w, socket.Addr{IP: v.end(i), Port: port}))
	return so
}

// ionetUDP sends datagrams one way for d, burst at a time.
func ionetUDP(v *version, size, burst int, d time.Duration) (rate, allocs float64) {
	p := newPair()
	a, b := p.socket(v, 0, 5000), p.socket(v, 1, 7)
	w := p.w[0]
	w.Start(p.now)
	must(a.Connect(w, socket.Addr{IP: v.server, Port: 7}))
	w.Finish()
	payload, buf := make([]byte, size), make([]byte, 2048)
	var m socket.Msg
	round := func(burst int) {
		w.Start(p.now)
		for range burst {
			m = socket.Msg{Data: payload}
			if _, err := a.Send(w, &m); err != nil {
				panic(err)
			}
		}
		w.Finish()
		p.deliver()
		for range burst {
			m = socket.Msg{Data: buf}
			if err := b.Recv(nil, &m); err != nil || len(m.Data) != size {
				panic(fmt.Sprint("received ", len(m.Data), " octets, ", err))
			}
		}
	}
	round(1)     // ARP, or its like
	round(burst) // the queues grow to their size
	return timed(d, burst, func() { round(burst) })
}

// gvisorUDP does the same work with two netstacks joined by their pipe link.
func gvisorUDP(v *version, size int, d time.Duration) (rate, allocs float64) {
	// The pipe's limit counts the Ethernet header: 1514 is an MTU of 1500.
	l0, l1 := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", 1514)
	a := gvisorStack(ethernet.New(l0), v.client)
	b := gvisorStack(ethernet.New(l1), v.server)
	defer a.Close()
	defer b.Close()
	var wqA, wqB waiter.Queue
	from, terr := a.NewEndpoint(udp.ProtocolNumber, gvisorVersion(v.client), &wqA)
	gmust(terr)
	to, terr := b.NewEndpoint(udp.ProtocolNumber, gvisorVersion(v.server), &wqB)
	gmust(terr)
	to.SocketOptions().SetReceiveBufferSize(1<<20, true)
	dst := tcpip.FullAddress{Addr: tcpip.AddrFromSlice(v.server.AsSlice()), Port: 7}
	gmust(to.Bind(dst))
	gmust(from.Connect(dst))
	payload := make([]byte, size)
	var rd bytes.Reader
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	wqB.EventRegister(&entry)
	round := func() {
		rd.Reset(payload)
		for {
			n, err := from.Write(&rd, tcpip.WriteOptions{})
			if _, ok := err.(*tcpip.ErrWouldBlock); ok {
				continue
			}
			gmust(err)
			if int(n) != size {
				panic("short write")
			}
			break
		}
		for {
			res, err := to.Read(io.Discard, tcpip.ReadOptions{})
			if _, ok := err.(*tcpip.ErrWouldBlock); ok {
				<-ready
				continue
			}
			gmust(err)
			if res.Count != size {
				panic("short read")
			}
			return
		}
	}
	round()
	return timed(d, 1, round)
}
