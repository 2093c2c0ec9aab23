package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/wire"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// wireBurst is how many frames a sender passes on at once, on both sides of
// the comparison.
const wireBurst = 64

// flow is the outcome of one run.
type flow struct {
	rate       float64 // frames/s received
	send, recv float64 // ns of processor time a received frame, each side
	dropped    float64 // part of the frames offered
}

// wireMeasure sends one way between two processes, each with all its threads
// on a processor of its own where there are two.
func wireMeasure() error {
	a, b := processors()
	fmt.Printf("  sender on processor %d, receiver on processor %d, bursts of %d, one way\n", a, b, wireBurst)
	for _, size := range []int{64, 1514} {
		kinds := []string{"wire", "relay"}
		flows := map[string][]flow{}
		var errs []error
		run := func(kind string) func(time.Duration) float64 {
			return func(d time.Duration) float64 {
				f, err := wireFlow(kind, size, d)
				errs = append(errs, err)
				flows[kind] = append(flows[kind], f)
				return f.rate
			}
		}
		r := rates(run(kinds[0]), run(kinds[1]))
		if err := errors.Join(errs...); err != nil {
			return err
		}
		fmt.Printf("  %4d bytes: wire %9.0f frames/s, bare stream relay %9.0f frames/s; ratio %.2f  (%s)\n",
			size, r.median(0), r.median(1), r.ratio(0, 1), verdict(r.ratio(0, 1) >= 0.6, "at least 0.60"))
		for _, k := range kinds {
			part := func(f func(flow) float64) float64 {
				var v []float64
				for _, x := range flows[k] {
					v = append(v, f(x))
				}
				return median(v)
			}
			fmt.Printf("              %-5s %4.0f ns of processor a frame sending, %4.0f receiving; %.1f%% of what was offered found no room\n", k,
				part(func(f flow) float64 { return f.send }), part(func(f flow) float64 { return f.recv }),
				100*part(func(f flow) float64 { return f.dropped }))
		}
	}
	return nil
}

func wireFlow(kind string, size int, d time.Duration) (f flow, err error) {
	dir, err := os.MkdirTemp("", "ionet-bench")
	if err != nil {
		return f, err
	}
	defer os.RemoveAll(dir)
	a, b := processors()
	path := filepath.Join(dir, "s")
	to, err := spawn(placement{cpus: []int{b}}, kind+"-receive", path, strconv.Itoa(size))
	if err != nil {
		return f, err
	}
	defer to.kill()
	addr, err := to.line()
	if err != nil {
		return f, err
	}
	from, err := spawn(placement{cpus: []int{a}}, kind+"-send", path, addr, strconv.Itoa(size), d.String())
	if err != nil {
		return f, err
	}
	defer from.kill()
	var got, offered, lost, took, sendCPU, recvCPU float64
	if err := from.ask(&offered, &lost, &took, &sendCPU); err != nil {
		return f, err
	}
	to.finish()
	if err := to.ask(&got, &recvCPU); err != nil {
		return f, err
	}
	if err := errors.Join(from.wait(), to.wait()); err != nil {
		return f, err
	}
	return flow{rate: got / took * 1e9, send: sendCPU / got, recv: recvCPU / got, dropped: lost / offered}, nil
}

// counter is a sink that counts frames and gives them back.
type counter struct {
	pool *packet.Pool
	n    *atomic.Uint64
}

func (c *counter) Pool() *packet.Pool { return c.pool }
func (c *counter) Input(burst []*packet.Buf) {
	c.n.Add(uint64(len(burst)))
	packet.FreeBurst(burst)
}
func (c *counter) Dropped(int)            {}
func (c *counter) Receiving()             {}
func (c *counter) Malformed(int)          {}
func (c *counter) LinkState(bool)         {}
func (c *counter) Verbose(string, ...any) {}

func member(path, seed string, lan int) (driver.Driver, *packet.Pool, *atomic.Uint64, error) {
	d, err := wire.Open(driver.Options{Lan: lan, Seed: seed, Args: []driver.Arg{{Name: "path", Value: path}}})
	if err != nil {
		return nil, nil, nil, err
	}
	pool, n := packet.NewPool(64<<20), new(atomic.Uint64)
	go d.Run(&counter{pool, n}) //nolint:errcheck // Close ends it
	return d, pool, n, nil
}

// wireReceive joins the segment PATH, says its address, and counts frames.
func wireReceive(args []string) error {
	d, _, n, err := member(args[0], "receiver", 1)
	if err != nil {
		return err
	}
	defer d.Close()
	defer profile("wire-receive-" + args[1])()
	fmt.Println(d.Info().MAC)
	untilEnd()
	fmt.Println(n.Load(), cpuTime().Nanoseconds())
	return nil
}

// wireSend sends on the segment PATH to ADDRESS frames of SIZE for TIME. A
// frame that finds no room is lost, as everywhere in the driver; the sender
// then rests for a moment, as a stack would whose socket is full.
func wireSend(args []string) error {
	drv, pool, _, err := member(args[0], "sender", 0)
	if err != nil {
		return err
	}
	defer drv.Close()
	defer profile("wire-send-" + args[2])()
	size, d := sizeAndTime(args[2:])
	hw, err := net.ParseMAC(args[1])
	if err != nil {
		return err
	}
	info := drv.Info()
	ifp := netif.New(netif.Config{Name: "en0", MTU: 1500, MAC: info.MAC, Driver: drv})
	for start := time.Now(); !met(drv, args[1]); time.Sleep(time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			return errors.New("the sender and the receiver have not met")
		}
	}
	// Sleeping by the kernel's timer, to the microsecond: Go's rounds up to
	// a millisecond when a program is otherwise idle.
	must(unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0))
	rest := unix.NsecToTimespec(int64(20 * time.Microsecond))
	burst := make([]*packet.Buf, wireBurst)
	offered, lost := uint64(0), uint64(0)
	cpu, start := cpuTime(), time.Now()
	for time.Since(start) < d {
		k := pool.GetBurst(burst, size)
		for _, b := range burst[:k] {
			packet.PutEther(b.Append(size), [6]byte(hw), info.MAC, 0x88b5)
		}
		drv.Transmit(ifp, burst[:k])
		offered += uint64(k)
		if now := ifp.Stats.OutDrops.Load(); now != lost {
			lost = now
			_ = unix.Nanosleep(&rest, nil)
		}
	}
	fmt.Println(offered, lost, time.Since(start).Nanoseconds(), (cpuTime() - cpu).Nanoseconds())
	return nil
}

func met(d driver.Driver, mac string) bool {
	for _, x := range d.Info().Details {
		if x.Name == "Segment Member" && len(x.Value) >= len(mac) && x.Value[:len(mac)] == mac {
			return true
		}
	}
	return false
}

func sizeAndTime(args []string) (int, time.Duration) {
	size, err := strconv.Atoi(args[0])
	must(err)
	d, err := time.ParseDuration(args[1])
	must(err)
	return size, d
}

// relayReceive is the bare mechanism: it reads a stream and counts the frames
// in it.
func relayReceive(args []string) error {
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	var n atomic.Uint64
	go func() {
		c, err := l.Accept()
		must(err)
		buf := make([]byte, 192<<10)
		have := 0
		for {
			k, err := c.Read(buf[have:])
			if err != nil {
				return
			}
			have += k
			at := 0
			for have-at >= 4 {
				size := int(binary.LittleEndian.Uint32(buf[at:]))
				if have-at < 4+size {
					break
				}
				at += 4 + size
				n.Add(1)
			}
			have = copy(buf, buf[at:have])
		}
	}()
	fmt.Println("ready")
	untilEnd()
	fmt.Println(n.Load(), cpuTime().Nanoseconds())
	return nil
}

// relaySend writes bursts of frames with their lengths, each copied in as a
// relay must.
func relaySend(args []string) error {
	c, err := net.Dial("unix", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	size, d := sizeAndTime(args[2:])
	frame := make([]byte, size)
	buf := make([]byte, 0, wireBurst*(4+size))
	offered := 0
	cpu, start := cpuTime(), time.Now()
	for time.Since(start) < d {
		buf = buf[:0]
		for range wireBurst {
			buf = binary.LittleEndian.AppendUint32(buf, uint32(size))
			buf = append(buf, frame...)
		}
		if _, err := c.Write(buf); err != nil {
			return err
		}
		offered += wireBurst
	}
	fmt.Println(offered, 0, time.Since(start).Nanoseconds(), (cpuTime() - cpu).Nanoseconds())
	return nil
}
