package sim_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"ionet/sim"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var (
	oneSeed = flag.Uint64("sim.seed", 0, "run this seed alone, with a trace of every frame")
	seeds   = flag.Int("sim.seeds", 125, "seeds a scenario")
)

// seedsGiven reports whether the number of seeds was asked for.
func seedsGiven() (given bool) {
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "sim.seeds" })
	return given
}

// scenario is one play over a network; it answers what went wrong.
type scenario func(n *sim.Net) error

// play runs a scenario on many seeds, and names the command that replays the
// one that fails.
func play(t *testing.T, s scenario) {
	t.Helper()
	first, last := uint64(1), uint64(*seeds)
	if *oneSeed != 0 {
		first, last = *oneSeed, *oneSeed
	}
	for seed := first; seed <= last; seed++ {
		if _, err := run(s, seed); err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./sim -run '^%s$' -sim.seed=%d", seed, err, t.Name(), seed)
		}
	}
}

func run(s scenario, seed uint64) (trace uint64, err error) {
	n := sim.New(seed)
	if *oneSeed != 0 {
		n.Log = os.Stderr
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	if err := s(n); err != nil {
		return 0, err
	}
	if err := n.Close(); err != nil {
		return 0, err
	}
	return n.Trace(), nil
}

// ills draws the faults of a segment: each of them half the time.
func ills(r *rand.Rand) (f sim.Faults) {
	p := func(max float64) float64 {
		if r.IntN(2) == 0 {
			return 0
		}
		return r.Float64() * max
	}
	f.Loss, f.Duplicate, f.Corrupt, f.Reorder = p(0.2), p(0.2), p(0.1), p(0.3)
	f.Delay = time.Duration(r.Int64N(int64(5 * time.Millisecond)))
	if r.IntN(2) == 0 {
		f.Jitter = time.Duration(r.Int64N(int64(5 * time.Millisecond)))
	}
	return f
}

// payload is size octets that say which message they are, and whose damage
// shows.
func payload(seq uint32, size int) []byte {
	b := make([]byte, size)
	x := uint64(seq)*0x9e3779b97f4a7c15 + uint64(size)
	for i := range b {
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = byte(x >> 56)
	}
	if size >= 4 {
		binary.BigEndian.PutUint32(b, seq)
	}
	return b
}

var sizes = []int{0, 1, 4, 7, 8, 64, 1471, 1472, 1473, 1480, 2952, 9000, 32768, 65507}

func size(r *rand.Rand) int {
	if r.IntN(2) == 0 {
		return sizes[r.IntN(len(sizes))]
	}
	return r.IntN(3000)
}

func two(n *sim.Net, f sim.Faults) (a, b *sim.Node) {
	lan := n.Segment(f)
	a, b = n.Stack("a"), n.Stack("b")
	n.Attach(a, lan, "10.0.0.1/24")
	n.Attach(b, lan, "10.0.0.2/24")
	return a, b
}

// A stubborn sender always gets through a lossy link, knows its neighbour
// afterwards, and forgets it when nothing more is said.
func resolution(n *sim.Net) error {
	a, b := two(n, sim.Faults{Loss: 0.3, Duplicate: 0.2, Reorder: 0.2, Delay: time.Millisecond, Jitter: time.Millisecond})
	srv, c := b.UDP("10.0.0.2:7"), a.UDP("")
	for try := 0; ; try++ {
		if try == 200 {
			return fmt.Errorf("no datagram came through in %d seconds", try)
		}
		_ = c.SendTo("10.0.0.2:7", []byte("hello")) // EHOSTDOWN after maxtries
		n.Run(time.Second)
		if m, ok := srv.Recv(); ok {
			if string(m.Data) != "hello" {
				return fmt.Errorf("got %q", m.Data)
			}
			break
		}
	}
	if es := a.Neighbours(); len(es) != 1 || !es[0].Known {
		return fmt.Errorf("a knows %v", es)
	}
	n.Run(1300 * time.Second)
	for _, nd := range []*sim.Node{a, b} {
		for _, e := range nd.Neighbours() {
			if e.Known && e.Expire < n.Now() {
				return fmt.Errorf("%s still knows %v, which expired", nd.Name, e)
			}
		}
	}
	return nil
}

func TestResolutionUnderLoss(t *testing.T) { play(t, resolution) }

// exchange sends datagrams of all sizes both ways over an ill link: what
// arrives is whole, was sent, and comes once unless the wire made two of it.
func exchange(n *sim.Net) error {
	r := n.Rand()
	f := ills(r)
	a, b := two(n, f)
	sa, sb := a.UDP("10.0.0.1:5"), b.UDP("10.0.0.2:6")
	for _, s := range []*sim.Socket{sa, sb} {
		s.Flag(socket.SORcvBuf, 200000)
		s.Flag(socket.SOSndBuf, 65535)
	}
	sent := map[string]int{}
	check := func(s *sim.Socket) error {
		for {
			m, ok := s.Recv()
			if !ok {
				return nil
			}
			k := string(m.Data)
			c, ok := sent[k]
			switch {
			case !ok:
				return fmt.Errorf("%d octets arrived that nobody sent", len(k))
			case c == 0 && f.Duplicate == 0:
				return fmt.Errorf("%d octets arrived twice on a wire that duplicates nothing", len(k))
			}
			if c > 0 {
				sent[k]--
			}
		}
	}
	for i := range 24 {
		p := payload(uint32(i), size(r))
		s, to := sa, "10.0.0.2:6"
		if r.IntN(3) == 0 {
			s, to = sb, "10.0.0.1:5"
		}
		if s.SendTo(to, p) == nil {
			sent[string(p)]++
		}
		n.Run(time.Duration(r.Int64N(int64(20 * time.Millisecond))))
		if r.IntN(2) == 0 { // or let the buffers fill up
			if err := check(sa); err != nil {
				return err
			}
			if err := check(sb); err != nil {
				return err
			}
		}
	}
	n.Run(time.Minute)
	if err := check(sa); err != nil {
		return err
	}
	return check(sb)
}

func TestExchange(t *testing.T) { play(t, exchange) }

// pings of every size: the answer is what was asked.
func pings(n *sim.Net) error {
	r := n.Rand()
	f := ills(r)
	f.Loss /= 4
	a, _ := two(n, f)
	c := a.Echo()
	for range 60 { // a large datagram is more than ARP holds: resolve first
		_ = c.Ping("10.0.0.2", 999, nil)
		n.Run(time.Second)
		if _, ok := c.Recv(); ok {
			break
		}
	}
	n.Run(time.Minute)
	for _, ok := c.Recv(); ok; _, ok = c.Recv() {
	}
	asked := map[uint16][]byte{}
	got := map[uint16]int{}
	receive := func() error {
		for {
			m, ok := c.Recv()
			if !ok {
				return nil
			}
			h, ok := packet.CheckICMP(m.Data)
			if !ok || h.Type() != packet.ICMPEchoReply || !h.ChecksumOK() {
				return fmt.Errorf("got % x", m.Data[:min(len(m.Data), 32)])
			}
			if !bytes.Equal(h.Payload(), asked[h.Seq()]) {
				return fmt.Errorf("the reply to %d, %d octets, is not what was asked, %d octets", h.Seq(), len(h.Payload()), len(asked[h.Seq()]))
			}
			if got[h.Seq()]++; got[h.Seq()] > 1 && f.Duplicate == 0 {
				return fmt.Errorf("reply %d came twice on a wire that duplicates nothing", h.Seq())
			}
		}
	}
	for seq := range uint16(16) {
		asked[seq] = payload(uint32(seq), size(r))
		_ = c.Ping("10.0.0.2", seq, asked[seq])
		n.Run(300 * time.Millisecond)
		if err := receive(); err != nil {
			return err
		}
	}
	n.Run(time.Minute)
	if err := receive(); err != nil {
		return err
	}
	if f.Loss == 0 && f.Corrupt == 0 && len(got) != len(asked) {
		return fmt.Errorf("%d of %d echoes were answered on a wire that loses nothing", len(got), len(asked))
	}
	return nil
}

func TestPings(t *testing.T) { play(t, pings) }

// Nobody reads: what does not fit is dropped and counted, and the storage that
// a socket holds stays within twice its buffer.
func flood(n *sim.Net) error {
	r := n.Rand()
	a, b := two(n, sim.Faults{})
	srv, c := b.UDP(":7"), a.UDP("")
	srv.Flag(socket.SORcvBuf, 2000+r.IntN(8000))
	const total = 300
	for range total {
		if err := c.SendTo("10.0.0.2:7", payload(0, r.IntN(1400)>>r.IntN(11))); err != nil {
			return err
		}
		n.Run(time.Millisecond)
	}
	if full, got := b.Count("udp", "full socket buffer"), b.Count("udp", "delivered"); full == 0 || full+got != total {
		return fmt.Errorf("%d delivered and %d dropped of %d", got, full, total)
	}
	if m := b.SocketMemory(); m > 20000 {
		return fmt.Errorf("%d octets are held", m)
	}
	return nil
}

func TestFlood(t *testing.T) { play(t, flood) }

// On a sound wire everything comes through, in every size, to every kind of
// address, lo0 and broadcast included.
func sound(n *sim.Net) error {
	a, b := two(n, sim.Faults{})
	srv, c := b.UDP(":7"), a.UDP(":8")
	self := a.UDP("127.0.0.1:9")
	for _, s := range []*sim.Socket{srv, c, self} {
		s.Flag(socket.SORcvBuf, 400000)
		s.Flag(socket.SOSndBuf, 65535)
		s.Flag(socket.SOBroadcast, 1)
	}
	for i, k := range sizes {
		for _, x := range []struct {
			to  string
			at  []*sim.Socket
			max int
		}{
			{"10.0.0.2:7", []*sim.Socket{srv}, 65507},
			{"127.0.0.1:9", []*sim.Socket{self}, 65507},
			{"10.0.0.1:8", []*sim.Socket{c}, 65507},
			{"10.0.0.255:7", []*sim.Socket{srv}, 9000},
			{"255.255.255.255:8", []*sim.Socket{c}, 9000}, // our own broadcast comes to us too
		} {
			p := payload(uint32(i), min(k, x.max))
			if err := c.SendTo(x.to, p); err != nil {
				return fmt.Errorf("%d octets to %s: %v", len(p), x.to, err)
			}
			n.Run(100 * time.Millisecond)
			for _, s := range x.at {
				m, ok := s.Recv()
				if !ok {
					return fmt.Errorf("%d octets to %s did not arrive", len(p), x.to)
				}
				if !bytes.Equal(m.Data, p) {
					return fmt.Errorf("%d octets to %s arrived as %d others", len(p), x.to, len(m.Data))
				}
				if _, ok := s.Recv(); ok {
					return fmt.Errorf("%d octets to %s arrived twice", len(p), x.to)
				}
			}
		}
	}
	return nil
}

func TestSoundWire(t *testing.T) {
	if _, err := run(sound, 1); err != nil {
		t.Fatal(err)
	}
}

// routed is two segments with a router between them, of different MTU.
func routed(n *sim.Net, f, g sim.Faults, mtu int) (a, r, b *sim.Node) {
	left, right := n.Segment(f), n.Segment(g)
	a, r, b = n.Stack("a"), n.Stack("r"), n.Stack("b")
	n.Attach(a, left, "10.0.1.2/24")
	n.Attach(r, left, "10.0.1.1/24")
	far := n.Attach(r, right, "10.0.2.1/24")
	n.Attach(b, right, "10.0.2.2/24")
	r.Sysctl("net.inet.ip.forwarding", "1")
	if err := r.SetMTU(far, mtu, 1500); err != nil {
		panic(err)
	}
	a.Route("default", "10.0.1.1")
	b.Route("default", "10.0.2.1")
	return a, r, b
}

func forwarding(n *sim.Net) error {
	r := n.Rand()
	f, g := ills(r), ills(r)
	f.Loss, g.Loss = f.Loss/4, g.Loss/4
	a, _, b := routed(n, f, g, 296+8*r.IntN(150))
	srv, c := b.UDP("10.0.2.2:7"), a.UDP("10.0.1.2:8")
	for _, s := range []*sim.Socket{srv, c} {
		s.Flag(socket.SORcvBuf, 400000)
	}
	sent, got := map[string]bool{}, map[string]int{}
	dup := f.Duplicate+g.Duplicate > 0
	for i := range 12 {
		p := payload(uint32(i), r.IntN(6000))
		if i == 0 { // the pieces of a large one are more than ARP holds
			p = p[:min(len(p), 100)]
		}
		if c.SendTo("10.0.2.2:7", p) == nil {
			sent[string(p)] = true
		}
		n.Run(200 * time.Millisecond)
	}
	n.Run(40 * time.Second)
	for {
		m, ok := srv.Recv()
		if !ok {
			break
		}
		k := string(m.Data)
		if got[k]++; !sent[k] || got[k] > 1 && !dup {
			return fmt.Errorf("%d octets arrived, sent: %v, so often: %d", len(k), sent[k], got[k])
		}
	}
	if f.Loss+g.Loss+f.Corrupt+g.Corrupt == 0 && len(got) != len(sent) {
		return fmt.Errorf("%d of %d datagrams arrived over wires that lose nothing", len(got), len(sent))
	}
	return nil
}

func TestForwarding(t *testing.T) { play(t, forwarding) }

// chaos changes everything while traffic runs: addresses, interfaces, routes,
// settings, memory. Nothing is promised but the books.
func chaos(n *sim.Net) error {
	r := n.Rand()
	lan := n.Segment(ills(r))
	var nodes []*sim.Node
	var socks []*sim.Socket
	for i := range 4 {
		nd := n.Stack(fmt.Sprint("s", i))
		if i == 3 {
			nd.Sysctl("kern.mbuf.memory", "1048576")
		}
		nd.Sysctl("net.inet.ip.dad_count", fmt.Sprint(r.IntN(4)))
		nd.Sysctl("net.inet.ip.forwarding", fmt.Sprint(r.IntN(2)))
		n.Attach(nd, lan, fmt.Sprintf("10.0.0.%d/24", i+1))
		nodes = append(nodes, nd)
		s, e := nd.UDP(":7"), nd.Echo()
		s.Flag(socket.SOBroadcast, 1)
		socks = append(socks, s, e)
	}
	group := []byte{239, 1, 2, 3, 0, 0, 0, 0}
	for range 150 {
		nd := nodes[r.IntN(len(nodes))]
		ifp := nd.Env.Ifs.ByName("en0")
		switch r.IntN(14) {
		case 0:
			_ = nd.SetFlags(ifp, 0, 1)
		case 1, 2:
			_ = nd.SetFlags(ifp, 1, 0)
		case 3:
			_ = nd.AddAddr(ifp, spec(fmt.Sprintf("10.0.0.%d/%d", 1+r.IntN(8), 8+r.IntN(20))))
		case 4:
			if as := ifp.Addrs(); len(as) > 1 {
				_ = nd.DelAddr(ifp, as[r.IntN(len(as))].Addr)
			}
		case 5:
			_ = nd.DeleteNeighbour(sim.Addr(fmt.Sprintf("10.0.0.%d", 1+r.IntN(8))).IP)
		case 6:
			_ = nd.SetMTU(ifp, 576+r.IntN(900), 1500)
		case 7:
			s := socks[2*r.IntN(len(nodes))]
			_ = s.Set(0, 12+r.IntN(2), group)
		case 8:
			e := socks[2*r.IntN(len(nodes))+1]
			_ = e.Ping(fmt.Sprintf("10.0.0.%d", r.IntN(9)), 1, payload(1, size(r)))
		default:
			s := socks[2*r.IntN(len(nodes))]
			to := []string{"10.0.0.1:7", "10.0.0.2:7", "10.0.0.3:7", "10.0.0.4:7", "10.0.0.5:7", "255.255.255.255:7", "239.1.2.3:7", "10.0.0.2:9", "127.0.0.1:7", "0.0.0.0:7"}
			_ = s.SendTo(to[r.IntN(len(to))], payload(2, r.IntN(9000)))
		}
		n.Run(time.Duration(r.Int64N(int64(400 * time.Millisecond))))
		if r.IntN(4) == 0 {
			for _, s := range socks {
				for _, ok := s.Recv(); ok; _, ok = s.Recv() {
				}
			}
		}
	}
	for _, nd := range nodes {
		if r.IntN(2) == 0 {
			if err := nd.RemoveInterface(nd.Env.Ifs.ByName("en0")); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestChaos(t *testing.T) { play(t, chaos) }

// A run is its seed: two runs send the same frames at the same times.
func TestReplay(t *testing.T) {
	for name, s := range map[string]scenario{"resolution": resolution, "exchange": exchange, "pings": pings, "forwarding": forwarding, "chaos": chaos, "streams": streams, "secured": secured} {
		traces := map[uint64]bool{}
		for seed := uint64(1); seed <= 5; seed++ {
			var logs [2]strings.Builder
			var sums [2]uint64
			for i := range sums {
				n := sim.New(seed)
				n.Log = &logs[i]
				if err := s(n); err != nil {
					t.Fatal(err)
				}
				sums[i] = n.Trace()
			}
			if sums[0] != sums[1] || logs[0].String() != logs[1].String() {
				t.Errorf("%s, seed %d: two runs differ", name, seed)
			}
			traces[sums[0]] = true
		}
		if len(traces) != 5 {
			t.Errorf("%s: five seeds give %d different runs", name, len(traces))
		}
	}
}
