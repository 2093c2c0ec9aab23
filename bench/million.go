package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

// addBatch is how many messages the client passes on at once; the routing
// socket packs them into as few frames as it can. At most addWindow batches
// are without reply: a routing socket that does not read loses messages.
const (
	addBatch  = 256
	addWindow = 8
)

// tableRates are routes a second that are added and printed, and octets each.
type tableRates struct{ add, dump, octets float64 }

// routesMeasure adds a million routes through one routing socket and has
// netstat -rn print them, over IPv4 beside the kernel's table and ip.
func routesMeasure(d *daemon, dir string, v *version) (r tableRates, err error) {
	ps := prefixes(v)
	runtime.GC()
	seen := len(d.collections(0))
	base := 0.0
	if seen > 0 {
		base = d.collections(seen - 1)[0]
	}
	rss, cpu := d.status("VmRSS"), d.cpu()
	own := cpuTime()
	took, err := addRoutes(d.prefix, ps)
	if err != nil {
		return r, err
	}
	n := float64(len(ps))
	rate := n / took.Seconds()
	fmt.Printf("  1,000,000 routes of %s through one routing socket: %.0f/s; %.2f µs of processor a route in the daemon, %.2f in the client  (%s)\n",
		v.name, rate, (d.cpu()-cpu).Seconds()/n*1e6, (cpuTime()-own).Seconds()/n*1e6, verdict(rate >= 300_000, "at least 300,000/s"))
	after := len(d.collections(0))
	cpu = d.cpu()
	var dumps, toolCPU []float64
	for range min(*runs, 3) {
		cmd := d.tool("netstat", "-rn")
		rows, took, err := throughPipe(cmd)
		if err != nil || rows < len(ps) {
			return r, fmt.Errorf("netstat -rn: %d lines, %w", rows, err)
		}
		dumps = append(dumps, float64(rows)/took.Seconds())
		toolCPU = append(toolCPU, (cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()).Seconds()/n*1e6)
	}
	dump := median(dumps)
	fmt.Printf("  netstat -rn of them into a pipe: %.0f rows/s start to finish; %.2f µs of processor a row in the daemon, %.2f in netstat  (%s)\n",
		dump, (d.cpu()-cpu).Seconds()/n/float64(len(dumps))*1e6, median(toolCPU), verdict(dump >= 500_000, "at least 500,000/s"))
	rss = d.status("VmRSS") - rss
	live := d.collections(after)
	for start := time.Now(); len(live) == 0 && time.Since(start) < 30*time.Second; live = d.collections(after) {
		if err := d.stir(); err != nil {
			return r, err
		}
	}
	r = tableRates{rate, dump, rss / n}
	if len(live) == 0 {
		fmt.Printf("  live heap: the daemon has not collected; its resident memory grew by %.0f octets a route\n", rss/n)
	} else {
		per := (slices.Min(live) - base) / n
		r.octets = per
		fmt.Printf("  live heap of the daemon after a collection: %.0f octets a route; resident memory grew by %.0f  (%s)\n",
			per, rss/n, verdict(per <= 200, "at most 200 octets of live heap"))
	}
	if v == v4 {
		err = kernelRoutes(ps, dir)
	}
	return r, err
}

// stir has the daemon make garbage until it collects.
func (d *daemon) stir() error {
	s, err := client.Open(d.prefix)
	if err != nil {
		return err
	}
	defer s.Close()
	seen := len(d.collections(0))
	for range 20_000 {
		if _, err := s.Sysctl("kern.hostname"); err != nil {
			return err
		}
		if len(d.collections(0)) > seen {
			break
		}
	}
	return nil
}

// addRoutes answers the time from the first message to the last reply.
func addRoutes(sock string, ps []netip.Prefix) (time.Duration, error) {
	rs, err := client.OpenRoute(sock)
	if err != nil {
		return 0, err
	}
	defer rs.Close()
	if err := rs.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return 0, err
	}
	window := make(chan bool, addWindow)
	replies := make(chan error, 1)
	go func() { replies <- countReplies(rs, len(ps), window) }()
	batch := make([]protocol.RouteMessage, addBatch)
	msgs := make([]protocol.Message, addBatch)
	for i := range batch {
		msgs[i] = &batch[i]
	}
	gateways := versionOf(ps[0].Addr()).clients()
	start := time.Now()
	seq := 0
	for c := range slices.Chunk(ps, addBatch) {
		for i, p := range c {
			seq++
			batch[i] = protocol.RouteMessage{
				Type: protocol.RTMAdd, Seq: seq, Flags: protocol.RTFUp | protocol.RTFGateway | protocol.RTFStatic,
				Dst:     protocol.AddrFrom(p.Addr(), 0),
				Gateway: protocol.AddrFrom(gateways[seq%8], 0),
				Netmask: protocol.MaskAddr(protocol.AddrFrom(p.Addr(), 0).Family, p.Bits()),
			}
		}
		select {
		case window <- true:
		case err := <-replies:
			return 0, err
		}
		if err := rs.Write(msgs[:len(c)]...); err != nil {
			return 0, err
		}
	}
	err = <-replies
	return time.Since(start), err
}

// countReplies reads replies, and makes room in the window for each batch of
// them.
func countReplies(rs *client.RouteSocket, want int, window <-chan bool) error {
	var m protocol.RouteMessage
	for n := 0; n < want; {
		frame, err := rs.ReadRaw()
		if err != nil {
			return fmt.Errorf("after %d replies: %w", n, err)
		}
		for len(frame) > 0 {
			if frame, err = m.Decode(frame); err != nil { // RTM_DESYNC is no route: replies were lost
				return fmt.Errorf("after %d replies: %w", n, err)
			}
			if m.Errno != 0 {
				return fmt.Errorf("route %d: %w", m.Seq, m.Errno)
			}
			if n++; n%addBatch == 0 {
				<-window
			}
		}
	}
	return nil
}

// kernelCount is how many routes ip adds: it takes a message and a reply each.
const kernelCount = 200_000

// kernelRoutes prints what ip and the kernel take for the same work, in a
// network namespace of its own.
func kernelRoutes(ps []netip.Prefix, dir string) error {
	var b bytes.Buffer
	b.WriteString("link set lo up\naddr add 10.0.0.1/8 dev lo\n")
	for i, p := range ps[:kernelCount] {
		fmt.Fprintf(&b, "route add %v via 10.0.1.%d\n", p, 1+i%8)
	}
	script := filepath.Join(dir, "routes")
	if err := os.WriteFile(script, b.Bytes(), 0o600); err != nil {
		return err
	}
	b = bytes.Buffer{}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with its namespace
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("a network namespace: %w (it takes root)", err)
			}
			start := time.Now()
			if out, err := exec.Command("ip", "-batch", script).CombinedOutput(); err != nil {
				return fmt.Errorf("ip -batch: %w: %.200s", err, out)
			}
			added := time.Since(start)
			rows, dumped, err := throughPipe(exec.Command("ip", "-4", "route"))
			fmt.Printf("  beside it, the kernel's table with %d of them: ip -batch adds %.0f/s, ip route prints %.0f rows/s\n", kernelCount,
				kernelCount/added.Seconds(), float64(rows)/dumped.Seconds())
			return err
		}()
	}()
	err := <-result
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, unix.EPERM) {
		fmt.Printf("  the kernel's table: not measured: %v\n", err)
		return nil
	}
	return err
}
