package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/stack"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/packet"
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
	d, err := startStack(dir, "p", placement{cpus: []int{first, last}}, false, "ipsec,", "-dwire", "path="+filepath.Join(dir, "wire"))
	if err != nil {
		return err
	}
	defer d.stop()
	sas, policed, err := sadOctets()
	if err != nil {
		return err
	}
	fmt.Printf("  in memory: an association takes %.0f octets of live heap, a policy %.0f\n", sas, policed)
	for _, kind := range []sadKind{associations, policies} {
		for range min(*runs, 3) {
			if err := kind.measure(d, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// sadOctets is the live heap of an association and of a policy in a stack of this process.
func sadOctets() (sa, policy float64, err error) {
	s, err := stack.New(stack.Config{Now: func() int64 { return 1 }, Rand32: rand.Uint32, IPsec: true})
	if err != nil {
		return 0, 0, err
	}
	grows := func(add func(n int) error) float64 {
		before := heap()
		for n := range sadCount {
			if e := add(n); e != nil && err == nil {
				err = e
			}
		}
		return float64(heap()-before) / sadCount
	}
	sa = grows(func(n int) error {
		_, err := s.IPsec.Add(ipsec.Spec{Proto: packet.ProtoESP, SPI: uint32(0x1000 + n), Mode: ipsec.ModeTunnel, ReqID: 7, Src: sadHere, Dst: sadAddr(n), Ealg: crypt.EalgAESGCM16, Ekey: bytes.Clone(sadKey), Replay: 64})
		return err
	})
	policy = grows(func(n int) error {
		return s.IPsec.AddPolicy(&ipsec.Policy{Dir: ipsec.Out, Kind: ipsec.Protect, Priority: protocol.IPSecPriorityDefault,
			Selector: ipsec.Selector{Src: netip.PrefixFrom(sadHere, 32), Dst: netip.PrefixFrom(sadAddr(n), 32), Proto: ipsec.AnyProto},
			Requests: []ipsec.Request{{Proto: packet.ProtoESP, Mode: ipsec.ModeTunnel, Level: ipsec.Require, Src: sadHere, Dst: sadAddr(n)}}})
	})
	runtime.KeepAlive(s)
	return sa, policy, err
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

// measure fills the database twice and leaves it full.
func (k sadKind) measure(d *daemon, dir string) error {
	if out, err := d.tool("setkey", k.flush).CombinedOutput(); err != nil {
		return fmt.Errorf("setkey %s: %w: %s", k.flush, err, out)
	}
	runtime.GC()
	all := make([]*protocol.KeyMessage, sadCount)
	for n := range all {
		all[n] = k.message(n)
	}
	took, err := k.raw(d.prefix, all)
	if err != nil {
		return err
	}
	raw := sadCount / took.Seconds()
	start := time.Now()
	if out, err := d.tool("setkey", k.flush).CombinedOutput(); err != nil {
		return fmt.Errorf("setkey %s: %w: %s", k.flush, err, out)
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
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := d.tool("setkey", "-c")
	cmd.Stdin = in
	cpu := d.cpu()
	start = time.Now()
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		return fmt.Errorf("setkey -c: %w: %.200s", err, out)
	}
	took = time.Since(start)
	byTool, own := sadCount/took.Seconds(), (d.cpu()-cpu).Seconds()/sadCount*1e6
	rows, dumped, shown, err := k.shown(d)
	if err != nil {
		return err
	}
	fmt.Printf("  %d %s: a key socket adds %.0f/s (%s), setkey -c %.0f/s, %.2f µs of processor in the daemon, %.2f in setkey (%s)\n", sadCount, k.name,
		raw, verdict(raw >= 100_000, "at least 100,000/s"), byTool, own, processorOf(cmd)/sadCount*1e6, verdict(byTool >= 100_000, "at least 100,000/s"))
	fmt.Printf("    setkey %s prints them, %d lines, in %.2f s, %.2f µs of processor in setkey (%s); setkey %s takes %.2f s\n", k.dump, rows, dumped.Seconds(),
		shown/sadCount*1e6, verdict(dumped < 2*time.Second, "below 2 s"), k.flush, flushed.Seconds())
	return nil
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
