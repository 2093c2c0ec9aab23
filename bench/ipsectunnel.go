package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Two kernel hosts, each behind a gateway, and a veth between the gateways: four
// network namespaces. The hosts are those of forward-io, and inside sends. Their routes
// take packets of tunnelMTU octets, which fit into all tunnels.
const (
	tunnelMTU   = 1400
	tunnelFlows = 8 // of the measure with several
)

// tunnelOuter is the address of the gateway of a side on the link between the two.
func tunnelOuter(v *version, side int) netip.Prefix {
	if v == v4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(1 + side)}), 24)
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 9, 15: byte(1 + side)}), 64)
}

// tunnelLink is the name of a gateway's end of that link.
func tunnelLink(side int) string { return [2]string{"outer0", "outer1"}[side] }

// tunnelKind is a pair of gateways.
type tunnelKind struct {
	name  string
	v     *version
	role  []string
	ours  bool
	clear int // the kind that does the same without protection
}

var tunnelKinds = []tunnelKind{
	{name: "ionet, TAP", v: v4, role: []string{"tunnel-ionet", "tap", "esp"}, ours: true, clear: 3},
	{name: "ionet, packet", v: v4, role: []string{"tunnel-ionet", "packet", "esp"}, ours: true, clear: 4},
	{name: "ionet, TAP, ESP in UDP", v: v4, role: []string{"tunnel-ionet", "tap", "udp"}, ours: true, clear: 3},
	{name: "ionet, TAP, in clear", v: v4, role: []string{"tunnel-ionet", "tap", "clear"}},
	{name: "ionet, packet, in clear", v: v4, role: []string{"tunnel-ionet", "packet", "clear"}},
	{name: "ionet, TAP", v: v6, role: []string{"tunnel-ionet", "tap", "esp"}, ours: true, clear: 6},
	{name: "ionet, TAP, in clear", v: v6, role: []string{"tunnel-ionet", "tap", "clear"}},
	{name: "wireguard-go", v: v4, role: []string{"tunnel-wireguard"}},
	{name: "strongSwan libipsec", v: v4, role: []string{"tunnel-strongswan"}},
}

// tunnelBars are the kinds that others are held to, and how many times of theirs it takes.
var tunnelBars = []struct {
	kind int
	bar  float64
}{{7, 2}, {8, 5}}

// ipsecTunnelMeasure has iperf3 send from host to host through each pair of gateways.
func ipsecTunnelMeasure() error {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return fmt.Errorf("%w (Debian's iperf3)", err)
	}
	sender, own := processors()
	fmt.Printf("  iperf3 (cubic), packets of %d octets: the client on processor %d, the server on processor %d, the gateways on both\n", tunnelMTU, sender, own)
	fields := make([]*tunnelField, len(tunnelKinds))
	for i, k := range tunnelKinds {
		if k.role[0] == "tunnel-strongswan" {
			if missing := strongSwanMissing(); missing != nil {
				fmt.Printf("  %s: NOT measured, %v\n", k.name, missing)
				continue
			}
		}
		f, err := newTunnel(k, []int{sender, own})
		if err != nil {
			return fmt.Errorf("%s, %s: %w", k.name, k.v.name, err)
		}
		defer f.stop()
		fields[i] = f
	}
	for _, flows := range []int{1, tunnelFlows} {
		r := make([][]tunnelled, len(fields))
		for round := range *runs {
			for i, f := range fields {
				if f == nil {
					continue
				}
				if round == 0 {
					if _, err := f.run(1, 1); err != nil { // neighbours, path MTUs
						return fmt.Errorf("%s, %s: %w", f.name, f.v.name, err)
					}
				}
				x, err := f.run(flows, max(1, int(perRun.Round(time.Second)/time.Second)))
				if err != nil {
					return fmt.Errorf("%s, %s, %d flows: %w", f.name, f.v.name, flows, err)
				}
				r[i] = append(r[i], x)
			}
		}
		tunnelTable(flows, r)
	}
	return nil
}

// tunnelTable prints a line a kind that was measured.
func tunnelTable(flows int, r [][]tunnelled) {
	gbps, cost := make(samples, len(r)), make(samples, len(r))
	for i := range r {
		for _, x := range r[i] {
			gbps[i] = append(gbps[i], x.gbps)
			cost[i] = append(cost[i], x.cost[0]+x.cost[1])
		}
	}
	mid := func(i int, f func(x tunnelled) float64) float64 {
		var all []float64
		for _, x := range r[i] {
			all = append(all, f(x))
		}
		return median(all)
	}
	for i, k := range tunnelKinds {
		if len(r[i]) == 0 {
			continue
		}
		l := fmt.Sprintf("  %s, %d %-6s %-24s %5.2f Gbit/s, %4.0f sent again; processor s/Gbit of the gateways %.3f and %.3f, %.2f processors",
			k.v.name, flows, plural(flows, "flow"), k.name, gbps.median(i), mid(i, func(x tunnelled) float64 { return x.again }),
			mid(i, func(x tunnelled) float64 { return x.cost[0] }), mid(i, func(x tunnelled) float64 { return x.cost[1] }),
			mid(i, func(x tunnelled) float64 { return x.busy }))
		if k.ours {
			l += fmt.Sprintf("; %.2f of the path in clear", gbps.ratio(i, k.clear))
			for _, b := range tunnelBars {
				if len(r[b.kind]) > 0 {
					x := gbps.ratio(i, b.kind)
					l += fmt.Sprintf("; %.1f times %s, whose gateways take %.1f times the processor  (%s)", x, tunnelKinds[b.kind].name,
						cost.ratio(b.kind, i), verdict(x >= b.bar, fmt.Sprintf("at least %.0f", b.bar)))
				}
			}
			if k.v == v6 {
				l += ofIPv4(gbps.ratio(i, 0))
			}
		}
		fmt.Println(l)
	}
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// tunnelled is what one run gave.
type tunnelled struct {
	gbps, again float64
	cost        [2]float64 // seconds of processor a Gbit that each gateway's process took
	busy        float64    // processors that both of them kept busy
}

// tunnelField is a pair of gateways between two hosts.
type tunnelField struct {
	name  string
	v     *version
	cpus  []int
	hosts [2]*process
	gates [2]*process
	pids  [2]int // whose processor time a gateway takes
	serve *process
}

// newTunnel makes the namespaces, has the gateways set up what is between them,
// and waits until the hosts reach each other.
func newTunnel(k tunnelKind, cpus []int) (f *tunnelField, err error) {
	f = &tunnelField{name: k.name, v: k.v, cpus: cpus}
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	for side, cpu := range f.cpus {
		if f.hosts[side], err = spawn(placement{cpus: []int{cpu}, newNet: true}, "forward-io-kernel", strconv.Itoa(side)); err != nil {
			return f, err
		}
		if _, err := f.hosts[side].line(); err != nil {
			return f, err
		}
	}
	for side := range f.gates {
		args := append(slices.Clone(k.role), strconv.Itoa(side), strconv.Itoa(f.hosts[side].cmd.Process.Pid))
		if side == 1 { // who makes the link between them
			args = append(args, strconv.Itoa(f.gates[0].cmd.Process.Pid))
		}
		if f.gates[side], err = spawn(placement{cpus: cpus, newNet: true}, args...); err != nil {
			return f, err
		}
		if _, err := f.gates[side].line(); err != nil {
			return f, err
		}
	}
	for side, g := range f.gates {
		if _, err := fmt.Fprintln(g.in, "go"); err != nil {
			return f, err
		}
		if err := g.ask(&f.pids[side]); err != nil {
			return f, err
		}
	}
	for side, h := range f.hosts {
		if _, err := fmt.Fprintln(h.in, "up"); err != nil {
			return f, err
		}
		if _, err := h.line(); err != nil {
			return f, err
		}
		to := ioPrefix(k.v, 1-side, 0)
		cmd := exec.Command("ip", "route", "change", to.String(), "via", ioAddr(k.v, side, 2).String(), "mtu", strconv.Itoa(tunnelMTU))
		if out, err := f.in(side).output(cmd); err != nil {
			return f, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	if f.serve, err = spawn(f.in(1), "tunnel-serve"); err != nil {
		return f, err
	}
	return f, f.reached()
}

// in is a place on the host of a side.
func (f *tunnelField) in(side int) placement {
	return placement{cpus: f.cpus[side : side+1], netOf: f.hosts[side].cmd.Process.Pid}
}

// reached waits until one host answers the other's connection.
func (f *tunnelField) reached() (err error) {
	for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(100 * time.Millisecond) {
		if _, err = f.iperf("-n", "1K", "--connect-timeout", "500"); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the far host is not reached: %w", err)
}

// iperfReport is what is wanted of iperf3's.
type iperfReport struct {
	Error string `json:"error"`
	End   struct {
		Sent struct {
			Retransmits float64 `json:"retransmits"`
		} `json:"sum_sent"`
		Received struct {
			Bytes float64 `json:"bytes"`
			Bits  float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
}

// iperf runs iperf3 from inside to outside, as soon as the server has done with the test before.
func (f *tunnelField) iperf(args ...string) (r iperfReport, err error) {
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		r, err = f.iperfOnce(args...)
		if !strings.Contains(r.Error, "busy") || time.Since(start) > 5*time.Second {
			return r, err
		}
	}
}

func (f *tunnelField) iperfOnce(args ...string) (r iperfReport, err error) {
	cmd := exec.Command("iperf3", append([]string{"-c", ioAddr(f.v, 1, 1).String(), "-J", "-C", "cubic"}, args...)...)
	out, err := f.in(0).output(cmd)
	if e := json.Unmarshal(out, &r); e != nil {
		return r, errors.Join(err, fmt.Errorf("iperf3: %s", out))
	}
	if r.Error != "" {
		err = errors.New("iperf3: " + r.Error)
	}
	return r, err
}

// run has a number of flows sent for a number of seconds.
func (f *tunnelField) run(flows, seconds int) (x tunnelled, err error) {
	var before [2]time.Duration
	for i, pid := range f.pids {
		before[i] = cpuOf(pid)
	}
	start := time.Now()
	r, err := f.iperf("-t", strconv.Itoa(seconds), "-P", strconv.Itoa(flows))
	if err != nil {
		return x, err
	}
	took := time.Since(start).Seconds()
	if r.End.Received.Bytes == 0 {
		return x, errors.New("nothing arrives")
	}
	x.gbps, x.again = r.End.Received.Bits/1e9, r.End.Sent.Retransmits
	for i, pid := range f.pids {
		s := (cpuOf(pid) - before[i]).Seconds()
		x.cost[i] = s / (r.End.Received.Bytes * 8 / 1e9)
		x.busy += s / took
	}
	return x, nil
}

func (f *tunnelField) stop() {
	for _, p := range append([]*process{f.serve}, append(f.gates[:], f.hosts[:]...)...) {
		if p != nil {
			p.stop()
		}
	}
}

// tunnelServe is iperf3's server. It ends with this program, whatever ends that.
func tunnelServe([]string) error {
	cmd := exec.Command("iperf3", "-s")
	if err := cmd.Start(); err != nil {
		return err
	}
	untilEnd()
	_ = cmd.Process.Signal(unix.SIGTERM)
	_ = cmd.Wait() // it says that it was ended
	return nil
}
