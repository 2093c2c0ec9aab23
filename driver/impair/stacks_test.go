package impair_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"ionet/driver"
	"ionet/driver/impair"
	"ionet/driver/wire"
	"ionet/host"
	"ionet/stack"
	"ionet/stack/netif"
)

// TestTwoStacksOverABadLink: of numbered datagrams, exactly those arrive that
// the link let pass, none of them damaged, in order and late.
func TestTwoStacksOverABadLink(t *testing.T) {
	const delay = 2 * time.Millisecond
	bad := func(d driver.Driver, c impair.Config) *impair.Driver {
		i, err := impair.New(d, c)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	seg := wire.NewSegment()
	da := bad(seg.Attach(netif.MAC{}, 0), impair.Config{Out: impair.Profile{Loss: 10, Dup: 5, Delay: delay, Jitter: time.Millisecond}, Seed: 3})
	db := bad(seg.Attach(netif.MAC{}, 0), impair.Config{In: impair.Profile{Corrupt: 5}, Seed: 3})
	a, b := start(t, da, "10.0.0.1/24"), start(t, db, "10.0.0.2/24")
	from, err := a.ListenPacket("udp", "10.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := b.ListenPacket("udp", "10.0.0.2:2")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()

	const n = 500
	buf := make([]byte, 1000)
	arrived, last, began := 0, -1, time.Now()
	first := time.Duration(0)
	// The sender repeats itself until a datagram arrives whose number is n or
	// more; ARP is on the bad link too.
	sent := 0
	read := func(wait time.Duration) bool {
		if err := to.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		k, _, err := to.ReadFrom(buf)
		if err != nil {
			return false
		}
		if k != len(buf) {
			t.Fatalf("%d octets arrived", k)
		}
		for i, x := range buf[4:] {
			if x != byte(i) {
				t.Fatalf("octet %d is damaged", i)
			}
		}
		id := int(binary.BigEndian.Uint32(buf))
		if id < last {
			t.Fatalf("datagram %d after %d", id, last)
		}
		if arrived++; arrived == 1 {
			first = time.Since(began)
		}
		last = id
		return true
	}
	out := make([]byte, 1000)
	for i := range out[4:] {
		out[4+i] = byte(i)
	}
	for deadline := time.Now().Add(20 * time.Second); last < n; sent++ {
		if time.Now().After(deadline) {
			t.Fatalf("of %d sent, %d arrived, the last %d", sent, arrived, last)
		}
		binary.BigEndian.PutUint32(out, uint32(sent))
		if _, err := from.WriteTo(out, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.2:2"))); err != nil {
			t.Fatal(err)
		}
		read(100 * time.Microsecond)
	}
	for read(200 * time.Millisecond) {
	}
	if first < delay-time.Millisecond {
		t.Errorf("the first arrived after %v", first)
	}
	_, ca := da.Counts()
	cb, _ := db.Counts()
	if ca.Lost == 0 || ca.Duplicated == 0 || cb.Corrupted == 0 {
		t.Errorf("a sends %+v, b receives %+v", ca, cb)
	}
	if share := float64(arrived) / float64(sent); share < 0.7 || share > 1.1 {
		t.Errorf("%d of %d arrived", arrived, sent)
	}
}

// start makes a stack with one interface.
func start(t *testing.T, d driver.Driver, addr string) *host.Stack {
	t.Helper()
	s, err := host.New(host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ifp, err := s.Attach(d, driver.Options{Lan: -1})
	if err != nil {
		t.Fatal(err)
	}
	e := s.Engine()
	p := netip.MustParsePrefix(addr)
	if err := e.AddAddr(ifp, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := e.Env.Pool.Bufs(); n != 0 {
			t.Errorf("%d buffers are out at the end", n)
		}
	})
	return s
}
