package bpf

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/net/bpf"

	"ionet/stack/mib"
	"ionet/stack/netif"
)

var testDrop = mib.NewCounter("bpftest", "badsum", "# bad checksum{s}")

func ethernet() *netif.Interface {
	return netif.New(netif.Config{Name: "en0", Type: netif.TypeEther, HdrLen: 14, MTU: 1500})
}

// raw assembles or fails.
func raw(t testing.TB, prog ...bpf.Instruction) []bpf.RawInstruction {
	t.Helper()
	r, err := bpf.Assemble(prog)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// typeIs accepts snap octets of frames of one Ethernet type.
func typeIs(t testing.TB, typ, snap uint32) *Filter {
	t.Helper()
	f, err := NewFilter(raw(t,
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typ, SkipFalse: 1},
		bpf.RetConstant{Val: snap},
		bpf.RetConstant{Val: 0}))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func frame(typ uint16, payload int) []byte {
	f := make([]byte, 14+payload)
	binary.BigEndian.PutUint16(f[12:], typ)
	if payload > 0 {
		f[14] = 0x45
	}
	for i := 15; i < len(f); i++ {
		f[i] = byte(i)
	}
	return f
}

func TestFilterRefusals(t *testing.T) {
	ret := bpf.RawInstruction{Op: 0x6, K: 1}
	long := make([]bpf.RawInstruction, MaxInstructions+1)
	for i := range long {
		long[i] = ret
	}
	for name, prog := range map[string][]bpf.RawInstruction{
		"unknown instruction": {{Op: 0xffff}, ret},
		"no return":           {{Op: 0x80}},
		"jump past the end":   {{Op: 0x05, K: 1}, ret},
		"jump that wraps":     {{Op: 0x05, K: 0xffffffff}, ret},
		"true past the end":   {{Op: 0x15, Jt: 1}, ret},
		"scratch cell 16":     {{Op: 0x60, K: 16}, ret},
		"division by zero":    {{Op: 0x34, K: 0}, ret},
		"negation":            {{Op: 0x84}, ret},
		"too long":            long,
	} {
		if _, err := NewFilter(prog); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if f, err := NewFilter(nil); f != nil || err != nil {
		t.Errorf("empty program: %v, %v", f, err)
	}
}

func TestCaptureRecord(t *testing.T) {
	c := NewCapture(Config{Filter: typeIs(t, 0x0800, 0xffffffff), SnapLen: 20})
	ifp := ethernet()
	ifp.Index = 3
	c.Tap(7, ifp, frame(0x0800, 40), true)
	c.Tap(8, ifp, frame(0x0806, 40), false)
	c.Dropped(9, ifp, frame(0, 30)[14:], testDrop)
	got := c.Read(0)
	if len(got) != 2 {
		t.Fatalf("%d records, want the IPv4 frame and the dropped packet", len(got))
	}
	r := got[0]
	if r.Time != 7 || r.Index != 3 || r.Name != "en0" || !r.Out || r.Link != LinkEthernet || r.OrigLen != 54 || r.Dropped != "" || !bytes.Equal(r.Data, frame(0x0800, 40)[:20]) {
		t.Errorf("frame: %+v", r)
	}
	r = got[1]
	if r.Time != 9 || r.Out || r.Link != LinkRaw || r.OrigLen != 30 || r.Dropped != "badsum" || !bytes.Equal(r.Data, frame(0, 30)[14:34]) {
		t.Errorf("dropped: %+v", r)
	}
	if more := c.Read(0); len(more) != 0 {
		t.Errorf("read twice: %v", more)
	}
	if s := c.Stats(); s != (Stats{Received: 2}) {
		t.Errorf("stats %+v", s)
	}
}

// A filter's snap length counts the header that a dropped packet lacks.
func TestFilterLengthOfDropped(t *testing.T) {
	for _, tc := range []struct{ snap, want uint32 }{{0xffffffff, 30}, {34, 20}, {14, 1}, {3, 1}} {
		c := NewCapture(Config{Filter: typeIs(t, 0x0800, tc.snap)})
		c.Dropped(0, ethernet(), frame(0, 30)[14:], testDrop)
		if got := c.Read(0); len(got) != 1 || len(got[0].Data) != int(tc.want) {
			t.Errorf("filter wants %d octets: %+v, want %d kept", tc.snap, got, tc.want)
		}
	}
}

func TestLoopbackIsRaw(t *testing.T) {
	lo := netif.New(netif.Config{Name: "lo0", Type: netif.TypeLoop, MTU: 32768})
	c := NewCapture(Config{Filter: typeIs(t, 0x0800, 0xffff)})
	c.Tap(1, lo, frame(0, 30)[14:], true)
	if got := c.Read(0); len(got) != 1 || got[0].Link != LinkRaw || len(got[0].Data) != 30 {
		t.Fatalf("%+v", got)
	}
}

func TestReadLimitAndOrder(t *testing.T) {
	c := NewCapture(Config{})
	ifp := ethernet()
	wakes := 0
	c.SetWake(func() { wakes++ })
	var now, want int64
	put := func(n int) {
		for range n {
			now++
			c.Tap(now, ifp, frame(0x0800, int(now)), false)
		}
	}
	take := func(limit, n int) {
		t.Helper()
		got := c.Read(limit)
		if len(got) != n {
			t.Fatalf("Read(%d): %d records, want %d", limit, len(got), n)
		}
		for _, r := range got {
			want++
			if r.Time != want || !bytes.Equal(r.Data, frame(0x0800, int(want))) {
				t.Fatalf("record %d has time %d, %d octets", want, r.Time, len(r.Data))
			}
		}
	}
	put(5)
	take(2, 2)
	put(3)
	take(2, 2)
	take(2, 1)
	take(0, 3)
	take(0, 0)
	if wakes != 1 {
		t.Errorf("woken %d times, want 1: the reader had not run dry", wakes)
	}
	put(1)
	if wakes != 2 {
		t.Errorf("woken %d times, want 2", wakes)
	}
	c.SetWake(func() { wakes += 10 })
	if wakes != 12 {
		t.Errorf("a wake set while a record waits was not called")
	}
	take(0, 1)
}

func TestCaptureFull(t *testing.T) {
	c := NewCapture(Config{Buffer: MinBuffer})
	ifp := ethernet()
	const each = 1000 + recordCost
	for range 100 {
		c.Tap(0, ifp, make([]byte, 1000), false)
	}
	room := MinBuffer / each
	if s := c.Stats(); s.Received != 100 || s.Dropped != uint64(100-room) {
		t.Errorf("stats %+v, room for %d", s, room)
	}
	if got := c.Read(0); len(got) != room {
		t.Errorf("%d records, want %d", len(got), room)
	}
	c.Tap(0, ifp, make([]byte, 1000), false)
	if got := c.Read(0); len(got) != 1 {
		t.Errorf("reading made no room")
	}
}

func TestCaptureAllocates(t *testing.T) {
	f := typeIs(t, 0x0800, 0xffff)
	c := NewCapture(Config{Filter: f})
	ifp, yes, no, drop := ethernet(), frame(0x0800, 1000), frame(0x0806, 46), frame(0, 900)[14:]
	round := func() {
		for range 50 {
			c.Tap(1, ifp, yes, true)
			c.Tap(1, ifp, no, false)
			c.Dropped(1, ifp, drop, testDrop)
		}
		c.Read(0)
	}
	round()
	round() // both buffers have grown
	if n := testing.AllocsPerRun(20, round); n != 0 {
		t.Errorf("%v allocations for 150 packets, want 0", n)
	}
}

func TestCloseAndConcurrency(t *testing.T) {
	c := NewCapture(Config{Filter: typeIs(t, 0x0800, 0xffff)})
	ifp := ethernet()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 500 {
				c.Tap(0, ifp, frame(0x0800, 60), false)
				c.Dropped(0, ifp, frame(0, 60)[14:], testDrop)
			}
		})
	}
	got := 0
	for range 100 {
		got += len(c.Read(10))
	}
	wg.Wait()
	for rs := c.Read(0); len(rs) > 0; rs = c.Read(0) {
		got += len(rs)
	}
	if s := c.Stats(); s.Received != 3000 || uint64(got) != s.Received-s.Dropped {
		t.Errorf("%d read, stats %+v", got, s)
	}
	c.Close()
	c.Tap(0, ifp, frame(0x0800, 60), false)
	if rs := c.Read(0); len(rs) != 0 {
		t.Errorf("closed capture kept %d", len(rs))
	}
}

// Any program on any frame: refused or run, and never more octets than there are.
func FuzzFilter(f *testing.F) {
	enc := func(p []bpf.RawInstruction) (b []byte) {
		for _, i := range p {
			b = binary.LittleEndian.AppendUint16(b, i.Op)
			b = append(b, i.Jt, i.Jf)
			b = binary.LittleEndian.AppendUint32(b, i.K)
		}
		return b
	}
	prog := enc(raw(f, bpf.LoadMemShift{Off: 14}, bpf.LoadIndirect{Off: 14, Size: 2}, bpf.ALUOpX{Op: bpf.ALUOpDiv},
		bpf.StoreScratch{Src: bpf.RegA, N: 15}, bpf.LoadScratch{Dst: bpf.RegX, N: 15}, bpf.TXA{},
		bpf.JumpIfX{Cond: bpf.JumpGreaterThan, SkipTrue: 1}, bpf.RetA{}, bpf.LoadExtension{Num: bpf.ExtLen}, bpf.RetA{}))
	f.Add(prog, frame(0x0800, 60))
	f.Add(prog, []byte{})
	f.Add([]byte{0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 6, 0, 0, 0, 1, 0, 0, 0}, []byte{1, 2, 3})
	// Real frames, where the collection is at hand.
	if dir := os.Getenv("IONET_CAPTURES"); dir != "" {
		files, _ := filepath.Glob(filepath.Join(dir, "*.pcap"))
		for _, name := range files {
			if b, err := os.ReadFile(name); err == nil && len(b) > 40 {
				f.Add(prog, b[40:min(len(b), 1540)])
			}
		}
	}
	ifp := ethernet()
	f.Fuzz(func(t *testing.T, prog, frame []byte) {
		var p []bpf.RawInstruction
		for ; len(prog) >= 8; prog = prog[8:] {
			p = append(p, bpf.RawInstruction{Op: binary.LittleEndian.Uint16(prog), Jt: prog[2], Jf: prog[3], K: binary.LittleEndian.Uint32(prog[4:])})
		}
		flt, err := NewFilter(p)
		if err != nil {
			return
		}
		if n := flt.Match(frame); n < 0 || n > len(frame) {
			t.Fatalf("match %d of %d", n, len(frame))
		}
		c := NewCapture(Config{Filter: flt})
		c.Tap(0, ifp, frame, false)
		c.Dropped(0, ifp, frame, testDrop)
		for _, r := range c.Read(0) {
			if len(r.Data) > r.OrigLen {
				t.Fatalf("%d octets of %d", len(r.Data), r.OrigLen)
			}
		}
	})
}
