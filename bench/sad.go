package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"ionet/client"
	"ionet/protocol"
)

// sadCount is how many associations, and how many policies, there are.
const sadCount = 100_000

// sadMeasure fills both databases of IPsec through a key socket and by setkey, and has setkey print them.
func sadMeasure() error {
	dir, err := os.MkdirTemp("", "ionet-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	first, last := processors()
	d, err := startStack(dir, "p", placement{cpus: []int{first, last}}, true, "ipsec,", "-dwire", "path="+filepath.Join(dir, "wire"))
	if err != nil {
		return err
	}
	defer d.stop()
	base, rss := d.heap(), d.status("VmRSS")
	for _, kind := range []sadKind{associations, policies} {
		var live float64
		for range min(*runs, 3) {
			if live, err = kind.measure(d, dir); err != nil {
				return err
			}
		}
		fmt.Printf("    %.0f octets of live heap each; resident memory has grown by %.0f\n", (live-base)/sadCount, (d.status("VmRSS")-rss)/sadCount)
		base = live
	}
	return nil
}

// heap is the daemon's live heap after a collection.
func (d *daemon) heap() float64 {
	seen := len(d.collections(0))
	for start := time.Now(); time.Since(start) < 30*time.Second; {
		if live := d.collections(seen); len(live) > 0 {
			return slices.Min(live)
		}
		must(d.stir())
	}
	return 0
}

// sadKind is one of the databases.
type sadKind struct {
	name         string
	flush, dump  string // of setkey
	flushMessage uint8
	message      func(n int) *protocol.KeyMessage
	statement    func(b *bufio.Writer, n int)
}

func sadAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

var (
	sadHere = netip.MustParseAddr("192.0.2.1")
	sadKey  = []byte("sixteen octets!!salt")

	associations = sadKind{"associations", "-F", "-D", protocol.SADBFlush, func(n int) *protocol.KeyMessage {
		return &protocol.KeyMessage{Type: protocol.SADBAdd, SAType: protocol.SADBSATypeESP, Src: sadEnd(sadHere), Dst: sadEnd(sadAddr(n)),
			SA: &protocol.KeySA{SPI: uint32(0x1000 + n), Encrypt: protocol.SADBEalgAESGCM16, Replay: 8}, SA2: &protocol.KeySA2{Mode: protocol.IPSecModeTunnel, ReqID: 7},
			EncryptKey: &protocol.Key{Bits: 160, Octets: sadKey}}
	}, func(b *bufio.Writer, n int) {
		fmt.Fprintf(b, "add %v %v esp %#x -m tunnel -u 7 -r 8 -E aes-gcm-16 0x%x;\n", sadHere, sadAddr(n), 0x1000+n, sadKey)
	}}
	policies = sadKind{"policies", "-FP", "-DP", protocol.SADBXSPDFlush, func(n int) *protocol.KeyMessage {
		p, err := protocol.ParseIPSecPolicy(fmt.Sprintf("out ipsec esp/tunnel/%v-%v/require", sadHere, sadAddr(n)))
		must(err)
		return &protocol.KeyMessage{Type: protocol.SADBXSPDAdd, Src: sadEnd(sadHere), Dst: sadEnd(sadAddr(n)), Policy: p}
	}, func(b *bufio.Writer, n int) {
		fmt.Fprintf(b, "spdadd %v %v any -P out ipsec esp/tunnel/%v-%v/require;\n", sadHere, sadAddr(n), sadHere, sadAddr(n))
	}}
)

func sadEnd(ip netip.Addr) *protocol.KeyAddress {
	return &protocol.KeyAddress{IP: ip, Bits: uint8(ip.BitLen()), Proto: protocol.IPSecProtoAny}
}

// measure fills the database twice and leaves it full. It answers the live heap that was seen then.
func (k sadKind) measure(d *daemon, dir string) (live float64, err error) {
	if out, err := d.tool("setkey", k.flush).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("setkey %s: %w: %s", k.flush, err, out)
	}
	runtime.GC()
	all := make([]*protocol.KeyMessage, sadCount)
	for n := range all {
		all[n] = k.message(n)
	}
	took, err := k.raw(d.prefix, all)
	if err != nil {
		return 0, err
	}
	raw := sadCount / took.Seconds()
	start := time.Now()
	if out, err := d.tool("setkey", k.flush).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("setkey %s: %w: %s", k.flush, err, out)
	}
	flushed := time.Since(start)
	var script bytes.Buffer
	w := bufio.NewWriter(&script)
	for n := range sadCount {
		k.statement(w, n)
	}
	w.Flush()
	path := filepath.Join(dir, "script")
	if err := os.WriteFile(path, script.Bytes(), 0o600); err != nil {
		return 0, err
	}
	in, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	cmd := d.tool("setkey", "-c")
	cmd.Stdin = in
	cpu := d.cpu()
	start = time.Now()
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		return 0, fmt.Errorf("setkey -c: %w: %.200s", err, out)
	}
	took = time.Since(start)
	byTool, own := sadCount/took.Seconds(), (d.cpu()-cpu).Seconds()/sadCount*1e6
	seen := len(d.collections(0))
	rows, dumped, shown, err := k.shown(d)
	if err != nil {
		return 0, err
	}
	fmt.Printf("  %d %s: a key socket adds %.0f/s (%s), setkey -c %.0f/s, %.2f µs of processor in the daemon, %.2f in setkey (%s)\n", sadCount, k.name,
		raw, verdict(raw >= 100_000, "at least 100,000/s"), byTool, own, processorOf(cmd)/sadCount*1e6, verdict(byTool >= 100_000, "at least 100,000/s"))
	fmt.Printf("    setkey %s prints them, %d lines, in %.2f s, %.2f µs of processor in setkey (%s); setkey %s takes %.2f s\n", k.dump, rows, dumped.Seconds(),
		shown/sadCount*1e6, verdict(dumped < 2*time.Second, "below 2 s"), k.flush, flushed.Seconds())
	for live = d.heap(); len(d.collections(seen)) > 0; seen++ {
		live = min(live, d.collections(seen)[0])
	}
	return live, nil
}

func processorOf(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}

// raw adds all through one key socket, and answers the time from the first message to the last reply.
func (k sadKind) raw(sock string, all []*protocol.KeyMessage) (time.Duration, error) {
	s, err := client.OpenKey(sock)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	var failed error
	start := time.Now()
	b := s.Batch(func(n int, err error) {
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s %d: %w", k.name, n, err)
		}
	})
	for n, m := range all {
		if err := b.Send(m, n); err != nil {
			return 0, err
		}
	}
	if err := b.Flush(); err != nil {
		return 0, err
	}
	return time.Since(start), failed
}

// shown has setkey print all into a pipe.
func (k sadKind) shown(d *daemon) (rows int, took time.Duration, cpu float64, err error) {
	var times []float64
	for range min(*runs, 3) {
		cmd := d.tool("setkey", k.dump)
		rows, took, err = throughPipe(cmd)
		if err != nil || rows < sadCount {
			return rows, took, 0, fmt.Errorf("setkey %s: %d lines, %w", k.dump, rows, err)
		}
		times, cpu = append(times, took.Seconds()), processorOf(cmd)
	}
	return rows, time.Duration(median(slices.Clone(times)) * 1e9), cpu, nil
}
