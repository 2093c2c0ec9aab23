package sim

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
	"time"

	"ionet/stack/netif"
)

// pump carries a stream from one socket to another until its end, in virtual
// time.
func pump(t *testing.T, n *Net, from, to *Socket, data []byte, limit time.Duration) []byte {
	t.Helper()
	var got []byte
	buf := make([]byte, 65536)
	rest, shut, end := data, false, false
	turn := func() {
		for len(rest) > 0 {
			k, err := from.Write(rest)
			if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
				t.Fatalf("write: %v", err)
			}
			if rest = rest[k:]; k == 0 {
				break
			}
		}
		if len(rest) == 0 && !shut {
			shut = true
			if err := from.Shutdown(); err != nil {
				t.Fatalf("shutdown: %v", err)
			}
		}
		for {
			k, err := to.Read(buf)
			if errors.Is(err, syscall.EWOULDBLOCK) {
				break
			}
			if err != nil {
				t.Fatalf("read after %d of %d octets: %v", len(got), len(data), err)
			}
			if k == 0 {
				end = true
				break
			}
			got = append(got, buf[:k]...)
		}
	}
	from.SetUpcall(func(*netif.Work) { n.At(0, turn) })
	to.SetUpcall(func(*netif.Work) { n.At(0, turn) })
	turn()
	for deadline := n.Now() + int64(limit); !end && n.Now() < deadline; {
		n.Run(100 * time.Millisecond)
	}
	if !end {
		t.Fatalf("after %v %d of %d octets have come", limit, len(got), len(data))
	}
	from.SetUpcall(nil)
	to.SetUpcall(nil)
	return got
}

func TestStream(t *testing.T) {
	n := New(1)
	lan := n.Segment(Faults{Delay: time.Millisecond})
	a, b := n.Stack("a"), n.Stack("b")
	n.Attach(a, lan, "10.0.0.1/24")
	n.Attach(b, lan, "10.0.0.2/24")
	srv := b.Listen("10.0.0.2:80", 5)
	c := a.TCP()
	if err := c.Connect("10.0.0.2:80"); !errors.Is(err, syscall.EINPROGRESS) {
		t.Fatal(err)
	}
	n.Run(100 * time.Millisecond)
	s := srv.Accept()
	if s == nil {
		t.Fatal("nobody has come")
	}
	want := make([]byte, 3<<20)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	start := n.Now()
	got := pump(t, n, c, s, want, time.Minute)
	if !bytes.Equal(got, want) {
		t.Error("the octets differ")
	}
	t.Logf("%d octets in %v", len(got), time.Duration(n.Now()-start))
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// transfer moves data one way over a segment of the given ills.
func transfer(t *testing.T, seed uint64, f Faults, size int, set func(a, b *Node)) time.Duration {
	t.Helper()
	n := New(seed)
	lan := n.Segment(Faults{Delay: f.Delay})
	a, b := n.Stack("a"), n.Stack("b")
	n.Attach(a, lan, "10.0.0.1/24")
	n.Attach(b, lan, "10.0.0.2/24")
	if set != nil {
		set(a, b)
	}
	srv := b.Listen("10.0.0.2:80", 5)
	c := a.TCP()
	if err := c.Connect("10.0.0.2:80"); !errors.Is(err, syscall.EINPROGRESS) {
		t.Fatal(err)
	}
	n.Run(time.Second)
	s := srv.Accept()
	if s == nil {
		t.Fatal("nobody has come")
	}
	lan.Faults = f
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	start := n.Now()
	got := pump(t, n, c, s, want, time.Hour)
	took := time.Duration(n.Now() - start)
	if !bytes.Equal(got, want) {
		t.Errorf("seed %d: the octets differ", seed)
	}
	if err := n.Close(); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	return took
}

// Where a fifth of all is lost, a segment is lost twelve times in a row for two seeds of a
// thousand, and its connection rightly ends (RFC 9293 §3.8.3, R2): these five have none such.
func TestStreamOverBadLinks(t *testing.T) {
	for _, f := range []Faults{
		{Delay: 5 * time.Millisecond, Loss: 0.001},
		{Delay: 5 * time.Millisecond, Loss: 0.01},
		{Delay: 5 * time.Millisecond, Loss: 0.05},
		{Delay: 5 * time.Millisecond, Loss: 0.2},
		{Delay: 5 * time.Millisecond, Reorder: 0.05},
		{Delay: 5 * time.Millisecond, Duplicate: 0.1},
		{Delay: 5 * time.Millisecond, Corrupt: 0.01},
		{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.02, Duplicate: 0.02, Reorder: 0.02, Corrupt: 0.02},
	} {
		for _, sack := range []string{"1", "0"} {
			var total time.Duration
			for seed := uint64(5); seed < 10; seed++ {
				total += transfer(t, seed, f, 1<<20, func(a, b *Node) { a.Sysctl("net.inet.tcp.sack", sack) })
			}
			t.Logf("%+v sack %s: %v", f, sack, total/5)
		}
	}
}
