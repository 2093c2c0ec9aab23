package main

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// ioKind is a router of the measure.
type ioKind struct {
	name, link string
	role       []string
	group      int  // what it is held against is in its group
	ours, peer bool // a stack on a driver; gVisor
	bare       bool
	kernel     bool
}

var ioKinds = []ioKind{
	{name: "ionet", link: "TAP", role: []string{"forward-io-ionet", "tap"}, ours: true},
	{name: "bare loop", link: "TAP", role: []string{"forward-io-bare", "tap", "flood"}, bare: true},
	{name: "gVisor", link: "TAP", role: []string{"forward-io-gvisor", "tap"}, peer: true},
	{name: "ionet", link: "packet", role: []string{"forward-io-ionet", "packet"}, group: 1, ours: true},
	{name: "bare loop", link: "packet", role: []string{"forward-io-bare", "packet", "flood"}, group: 1, bare: true},
	{name: "gVisor, recvmmsg", link: "packet", role: []string{"forward-io-gvisor", "recvmmsg"}, group: 1, peer: true},
	{name: "gVisor, ring", link: "packet", role: []string{"forward-io-gvisor", "ring"}, group: 1, peer: true},
	{name: "ionet", link: "xdp", role: []string{"forward-io-ionet", "xdp"}, group: 2, ours: true},
	{name: "bare loop", link: "xdp", role: []string{"forward-io-bare", "xdp", "flood"}, group: 2, bare: true},
	{name: "kernel", link: "veth", role: []string{"forward-io-router", "here"}, group: 3, kernel: true},
	{name: "kernel, spread", link: "veth", role: []string{"forward-io-router", "spread"}, group: 3, kernel: true},
}

// forwardIOMeasure floods each router with 64-byte frames. The bars are the
// ratio to gVisor on the same link (to the better one), and the share of the
// kernel's, spread or not, whichever is more.
func forwardIOMeasure() error {
	sender, own := processors()
	fmt.Printf("  frames of %d octets; the sending process on processor %d, the router on processor %d, where the receiver's kernel discards them\n", ioFrame, sender, own)
	fmt.Println("  kernel: forwards within the sender's system call, on its processor; spread: on the router's processor (RPS)")
	var fields []*ioField
	for _, k := range ioKinds {
		f, err := newField(k.name, []int{own}, k.role...)
		if err != nil {
			return fmt.Errorf("%s on %s: %w", k.name, k.link, err)
		}
		defer f.stop()
		fields = append(fields, f)
	}
	type run struct {
		kind int
		v    *version
	}
	var all []run
	for _, v := range versions {
		for i := range ioKinds {
			all = append(all, run{i, v})
		}
	}
	rate, sent := make(samples, len(all)), make(samples, len(all))
	for round := range *runs {
		for i, r := range all {
			f := fields[r.kind]
			if round == 0 {
				if _, _, err := f.flood(r.v, ioWarmUp); err != nil {
					return fmt.Errorf("%s on %s, %s: %w", f.name, ioKinds[r.kind].link, r.v.name, err)
				}
			}
			x, y, err := f.flood(r.v, *perRun)
			if err != nil {
				return fmt.Errorf("%s on %s, %s: %w", f.name, ioKinds[r.kind].link, r.v.name, err)
			}
			rate[i], sent[i] = append(rate[i], x), append(sent[i], y)
		}
	}
	// others are the runs over the same version that hold for one.
	others := func(i int, which func(k ioKind) bool) (best int) {
		best = -1
		for j, r := range all {
			if r.v == all[i].v && which(ioKinds[r.kind]) && (best < 0 || rate.median(j) > rate.median(best)) {
				best = j
			}
		}
		return best
	}
	for i, r := range all {
		k := ioKinds[r.kind]
		l := fmt.Sprintf("  %s %-6s %-16s %9.0f/s of %9.0f/s sent", r.v.name, k.link, k.name, rate.median(i), sent.median(i))
		if k.ours {
			kernel := rate.ratio(i, others(i, func(o ioKind) bool { return o.kernel }))
			l += fmt.Sprintf(", %.2f of the bare loop, %.2f of the kernel  (%s", rate.ratio(i, others(i, func(o ioKind) bool { return o.bare && o.group == k.group })), kernel,
				verdict(kernel >= 0.7, "at least 0.7 of the kernel"))
			if peer := others(i, func(o ioKind) bool { return o.peer && (o.group == k.group || k.link == "xdp" && o.group == 1) }); peer >= 0 {
				x := rate.ratio(i, peer)
				l += fmt.Sprintf("; ratio to gVisor %.1f, %s", x, verdict(x >= 4, "at least 4"))
			}
			l += ")"
			if r.v == v6 {
				l += ofIPv4(rate.ratio(i, i-len(ioKinds)))
			}
		}
		fmt.Println(l)
	}
	return nil
}

// forwardTCPMeasure sends one TCP stream through each router that passes
// super-packets whole. The bar is the share of the kernel's.
func forwardTCPMeasure() error {
	sender, own := processors()
	fmt.Printf("  one TCP stream (cubic): the sending process on processor %d, the receiving one on processor %d, the router on both\n", sender, own)
	kinds := []ioKind{
		{name: "ionet", link: "TAP", role: []string{"forward-io-ionet", "tap"}, ours: true},
		{name: "bare loop", link: "TAP", role: []string{"forward-io-bare", "tap", "stream"}},
		{name: "ionet", link: "packet", role: []string{"forward-io-ionet", "packet"}, ours: true},
		{name: "bare loop", link: "packet", role: []string{"forward-io-bare", "packet", "stream"}},
		{name: "kernel", link: "veth", role: []string{"forward-io-router", "here"}},
	}
	var contenders []contender
	for _, v := range versions {
		for _, k := range kinds {
			f, err := newField(k.name, []int{sender, own}, k.role...)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", k.name, k.link, err)
			}
			defer f.stop()
			drain, err := spawn(placement{cpus: []int{own}, netOf: f.outside.cmd.Process.Pid}, "forward-io-drain")
			if err != nil {
				return err
			}
			defer drain.stop()
			if _, err := drain.line(); err != nil {
				return err
			}
			contenders = append(contenders, contender{fmt.Sprintf("%s %-6s %-9s", v.name, k.link, k.name), kernelTo(v, f.inside, []int{sender}, "in", ioAddr(v, 1, 1).String())})
		}
	}
	r, err := figures(contenders)
	if err != nil {
		return err
	}
	for i, c := range contenders {
		l := fmt.Sprintf("  %s %6.2f Gbit/s", c.name, r.median(i))
		if at := i % len(kinds); kinds[at].ours {
			kernel := i - at + len(kinds) - 1
			l += fmt.Sprintf(", %.2f of the bare loop, %.2f of the kernel  (%s)", r.ratio(i, i+1), r.ratio(i, kernel), verdict(r.ratio(i, kernel) >= 0.7, "at least 0.7"))
			if i >= len(kinds) {
				l += ofIPv4(r.ratio(i, i-len(kinds)))
			}
		}
		fmt.Println(l)
	}
	return nil
}

// ioDrain receives streams.
func ioDrain([]string) error {
	for _, v := range versions {
		l, err := net.Listen("tcp", netip.AddrPortFrom(ioAddr(v, 1, 1), uint16(streamPort)).String())
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				must(err)
				go func() {
					_ = drain(c, new(atomic.Uint64)) // the sender leaves when it has seen enough
					c.Close()
				}()
			}
		}()
	}
	fmt.Println("ready")
	untilEnd()
	return nil
}
