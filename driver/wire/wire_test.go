package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ionet/driver"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for an event.
const patience = 10 * time.Second

// station is a member with a sink that keeps what it is given.
type station struct {
	t    testing.TB
	d    driver.Driver
	ifp  *netif.Interface
	pool *packet.Pool
	ran  chan error

	mu        sync.Mutex
	cond      *sync.Cond
	frames    [][]byte
	last      *packet.Buf // a copy of what is known about the last frame
	dropped   int
	malformed int
	quiet     bool // count, do not keep
	count     int
	logs      []string
	link      []bool
}

func (s *station) Pool() *packet.Pool { return s.pool }
func (s *station) Input(burst []*packet.Buf) {
	s.mu.Lock()
	for _, b := range burst {
		s.count++
		if !s.quiet {
			s.frames = append(s.frames, append([]byte(nil), b.Bytes()...))
			s.last = &packet.Buf{Csum: b.Csum, GSO: b.GSO, GSOSize: b.GSOSize, CsumOffset: b.CsumOffset}
		}
	}
	s.mu.Unlock()
	s.cond.Broadcast()
	packet.FreeBurst(burst)
}
func (s *station) Dropped(n int) { s.note(func() { s.dropped += n }) }
func (s *station) Receiving()    {}

func (s *station) Malformed(n int) { s.note(func() { s.malformed += n }) }
func (s *station) LinkState(up bool) {
	s.note(func() { s.link = append(s.link, up) })
}
func (s *station) Verbose(msg string, args ...any) {
	s.note(func() { s.logs = append(s.logs, msg+fmt.Sprint(args...)) })
}
func (s *station) note(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	s.cond.Broadcast()
}

// until waits for cond, which is read under the station's lock.
func (s *station) until(what string, cond func() bool) {
	s.t.Helper()
	late := time.AfterFunc(patience, func() { s.note(func() { what = "TIMEOUT " + what }) })
	defer late.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !cond() {
		if strings.HasPrefix(what, "TIMEOUT ") {
			s.t.Fatalf("%s: %d frames, %d dropped, %d malformed, log %q", what, s.count, s.dropped, s.malformed, s.logs)
		}
		s.cond.Wait()
	}
}

func newStation(t testing.TB, d driver.Driver) *station {
	s := &station{t: t, d: d, pool: packet.NewPool(64 << 20), ran: make(chan error, 1)}
	s.cond = sync.NewCond(&s.mu)
	i := d.Info()
	s.ifp = netif.New(netif.Config{Name: "en0", MAC: i.MAC, MTU: i.MTU, Caps: i.Caps, Driver: d})
	return s
}

func (s *station) run() *station {
	go func() { s.ran <- s.d.Run(s) }()
	s.t.Cleanup(s.leave)
	s.until("Run to begin", func() bool { return len(s.link) > 0 })
	return s
}

// leave closes the driver and checks its books.
func (s *station) leave() {
	if err := s.d.Close(); err != nil {
		s.t.Errorf("Close: %v", err)
	}
	if s.ran == nil {
		return
	}
	select {
	case err := <-s.ran:
		if err != nil {
			s.t.Errorf("Run: %v", err)
		}
		s.ran = nil
	case <-time.After(patience):
		s.t.Fatal("Run does not end")
	}
	if n := s.pool.Bufs(); n != 0 {
		s.t.Errorf("%d buffers still out", n)
	}
}

func join(t testing.TB, dir, seed, opts string) *station {
	t.Helper()
	o, err := driver.ParseOptions(opts)
	if err != nil {
		t.Fatal(err)
	}
	o.Seed = seed
	o.Verbose = 1
	if _, given := o.Get("path"); !given {
		o.Args = append(o.Args, driver.Arg{Name: "path", Value: dir})
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return newStation(t, d).run()
}

func (s *station) mac() netif.MAC { return s.d.Info().MAC }

// frame makes a frame from this station.
func (s *station) frame(dst netif.MAC, n int, fill byte) *packet.Buf {
	b := s.pool.Get(n)
	if b == nil {
		return nil
	}
	d := b.Append(n)
	for i := range d {
		d[i] = fill
	}
	copy(d, dst[:])
	src := s.mac()
	copy(d[6:], src[:])
	d[12], d[13] = 8, 0
	return b
}

func (s *station) send(bs ...*packet.Buf) { s.d.Transmit(s.ifp, bs) }

func (s *station) got(n int) {
	s.t.Helper()
	s.until(fmt.Sprintf("%d frames", n), func() bool { return s.count >= n })
}

// known is what is known about the last frame.
func (s *station) known() packet.Buf {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.last
}

// nth is the n-th frame that came.
func (s *station) nth(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frames[n]
}

func (s *station) received() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *station) members() int { return len(s.d.Info().Details) - 2 }

func TestUnicastGoesStraight(t *testing.T) {
	dir := t.TempDir()
	a, b, c := join(t, dir, "/a", ""), join(t, dir, "/b", ""), join(t, dir, "/c", "")
	a.send(a.frame(b.mac(), 60, 1), a.frame(b.mac(), 1514, 2), a.frame(c.mac(), 100, 3), a.frame(b.mac(), 65000, 4))
	b.got(3)
	c.got(1)
	for i, want := range []int{60, 1514, 65000} {
		if n := len(b.nth(i)); n != want {
			t.Errorf("frame %d has %d octets, want %d", i, n, want)
		}
	}
	if c.nth(0)[50] != 3 {
		t.Error("c got another frame than its own")
	}
	b.send(b.frame(a.mac(), 60, 5)) // and back
	a.got(1)
	if c.received() != 1 || b.received() != 3 {
		t.Errorf("b has %d frames, c %d", b.received(), c.received())
	}
}

func TestBroadcastIsACopyEach(t *testing.T) {
	dir := t.TempDir()
	a, b, c, d := join(t, dir, "/a", ""), join(t, dir, "/b", ""), join(t, dir, "/c", ""), join(t, dir, "/d", "")
	a.send(a.frame(netif.BroadcastMAC, 60, 1))
	a.send(a.frame(netif.MAC{1, 0, 0x5e, 0, 0, 1}, 60, 2))
	a.send(a.frame(netif.MAC{2, 9, 9, 9, 9, 9}, 60, 3)) // nobody known
	for _, s := range []*station{b, c, d} {
		s.got(3)
	}
	if a.received() != 0 {
		t.Errorf("a heard itself %d times", a.received())
	}
}

func TestOffloadsCross(t *testing.T) {
	dir := t.TempDir()
	a, b := join(t, dir, "/a", ""), join(t, dir, "/b", "")
	f := a.frame(b.mac(), 20000, 0)
	f.SetPartial(34, 16)
	f.GSO, f.GSOSize = packet.GSOTCPv4, 1448
	a.send(f)
	b.got(1)
	if k := b.known(); k.Csum != packet.CsumPartial || k.GSO != packet.GSOTCPv4 || k.GSOSize != 1448 || k.CsumOffset != 16 {
		t.Errorf("arrived as %+v", k)
	}
	f = a.frame(b.mac(), 60, 0)
	f.Csum = packet.CsumVerified
	a.send(f)
	b.got(2)
	if k := b.known(); k.Csum != packet.CsumVerified {
		t.Errorf("arrived as %+v", k)
	}
}

func TestPromiscuous(t *testing.T) {
	dir := t.TempDir()
	a, b := join(t, dir, "/a", ""), join(t, dir, "/b", "")
	c := join(t, dir, "/c", "promiscuous")
	a.send(a.frame(b.mac(), 60, 1))
	c.got(1)
	c.d.(netif.Filter).SetFilter(false, false, nil)
	if c.d.(*Wire).promisc != true {
		t.Error("the option promiscuous outlives a filter")
	}
	// b turns it on while running: its neighbours hear of it in order.
	b.d.(netif.Filter).SetFilter(true, false, nil)
	b.send(b.frame(a.mac(), 60, 2)) // behind the filter record on the same stream
	a.got(1)
	a.send(a.frame(c.mac(), 60, 3))
	b.got(2)
	b.d.(netif.Filter).SetFilter(false, false, nil)
	b.send(b.frame(a.mac(), 60, 4))
	a.got(2)
	a.send(a.frame(c.mac(), 60, 5), a.frame(b.mac(), 60, 6))
	b.got(3)
	if b.nth(2)[50] != 6 {
		t.Error("b still gets other members' frames")
	}
}

func TestLeaving(t *testing.T) {
	dir := t.TempDir()
	a, b := join(t, dir, "/a", ""), join(t, dir, "/b", "")
	name := memberName(b.mac())
	b.leave()
	if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
		t.Errorf("its name stays: %v", err)
	}
	a.until("b gone", func() bool { return strings.Contains(strings.Join(a.logs, "\n"), "member left") })
	if n := a.members(); n != 0 {
		t.Errorf("a still has %d neighbours", n)
	}
	a.send(a.frame(netif.BroadcastMAC, 60, 1)) // to nobody
	b2 := join(t, dir, "/b", "")
	if b2.mac() != driver.StableMAC("/b", 0, 0) {
		t.Errorf("the address is not stable: %v", b2.mac())
	}
	a.send(a.frame(b2.mac(), 60, 1))
	b2.got(1)
}

func TestDeadName(t *testing.T) {
	dir := t.TempDir()
	for _, seed := range []string{"/a", "/dead"} { // its own old name and another's
		name := memberName(driver.StableMAC(seed, 0, 0))
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		ln.Close()
	}
	a := join(t, dir, "/a", "")
	if a.mac() != driver.StableMAC("/a", 0, 0) {
		t.Errorf("a dead member keeps %v", driver.StableMAC("/a", 0, 0))
	}
	if names, _ := a.d.(*Wire).seg.names(); len(names) != 1 {
		t.Errorf("left in the folder: %q", names)
	}
}

func TestSameStackTwiceOnOnePath(t *testing.T) {
	dir := t.TempDir()
	a, b := join(t, dir, "/a", ""), join(t, dir, "/a", "")
	if a.mac() == b.mac() {
		t.Fatal("one address twice")
	}
	a.send(a.frame(netif.BroadcastMAC, 60, 1))
	b.got(1)
	if a.received() != 0 {
		t.Error("a hears itself")
	}
	o, _ := driver.ParseOptions("path=" + dir + ",mac=" + memberName(a.mac()))
	if d, err := Open(o); err == nil {
		d.Close()
		t.Error("a live member's mac= was taken")
	} else if !strings.Contains(err.Error(), "live member") {
		t.Error(err)
	}
}

func TestFullQueueCostsOnlyThatPeer(t *testing.T) {
	dir := t.TempDir()
	a, b := join(t, dir, "/a", ""), join(t, dir, "/b", "")
	o, _ := driver.ParseOptions("path=" + dir)
	o.Seed = "/stuck"
	stuck, err := Open(o) // joined, and never runs
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	b.note(func() { b.quiet = true })
	sent := 0
	for a.ifp.Stats.OutDrops.Load() < 100 { // more than the socket and the queue hold
		a.send(a.frame(stuck.Info().MAC, 60000, 0), a.frame(b.mac(), 60, 0))
		if sent++; sent > 10000 {
			t.Fatal("the queue has no bound")
		}
	}
	b.got(sent)
	if n := a.pool.Bufs(); n != 0 {
		t.Errorf("%d buffers wait in a queue", n)
	}
}

// TestPartialWrites has two goroutines send to a reader that is slow to
// begin: every record must still be whole.
func TestPartialWrites(t *testing.T) {
	dir := t.TempDir()
	a := join(t, dir, "/a", "")
	o, _ := driver.ParseOptions("path=" + dir)
	o.Seed = "/slow"
	slow, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s := newStation(t, slow)
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			for i := range 40 {
				f := a.frame(slow.Info().MAC, 30000+i, byte(g))
				binary.BigEndian.PutUint32(f.Bytes()[20:], uint32(30000+i))
				a.send(f)
			}
		})
	}
	wg.Wait()
	s.run()
	s.got(80 - int(a.ifp.Stats.OutDrops.Load()))
	for _, f := range s.frames {
		if n := binary.BigEndian.Uint32(f[20:]); int(n) != len(f) {
			t.Fatalf("a frame of %d octets says %d", len(f), n)
		}
		for _, c := range f[24:] {
			if c != f[24] {
				t.Fatal("two frames in one")
			}
		}
	}
}

func TestGarbageFromACaller(t *testing.T) {
	dir := t.TempDir()
	a, b := join(t, dir, "/a", ""), join(t, dir, "/b", "")
	greeting := func(mac netif.MAC) []byte {
		return appendControl(nil, kindHello, hello{mac: mac, name: "x"}.body())
	}
	x := netif.MAC{2, 0, 0, 0, 0, 9}
	for i, text := range [][]byte{
		[]byte("GET / HTTP/1.0\r\n\r\n and some more so that it is a header"),
		greeting(a.mac()),
		appendControl(nil, kindFilter, []byte{1}),
		append(greeting(x), 5, 0, 0, 0, 0, 0),
		append(greeting(x), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9),
		append(greeting(x), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		append(greeting(x), greeting(x)...),
		append(append(greeting(x), 14, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 99, 0, 0, 0), make([]byte, 14)...),
	} {
		conn, err := net.Dial("unix", filepath.Join(dir, memberName(a.mac())))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(text); err != nil {
			t.Fatal(err)
		}
		if i == 3 { // half a header, then nothing: not malformed, only gone
			conn.Close()
			continue
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && !ended(err) {
			t.Errorf("case %d: not hung up: %v", i, err)
		}
		conn.Close()
	}
	a.until("the count", func() bool { return a.malformed == 7 })
	a.send(a.frame(b.mac(), 60, 1)) // the others do not notice
	b.got(1)
}

func TestUserSegments(t *testing.T) {
	user := filepath.Join(t.TempDir(), "ionet")
	open := func(seed string, lan int) *station {
		t.Helper()
		d, err := Open(driver.Options{Lan: lan, Seed: seed, User: user})
		if err != nil {
			t.Fatal(err)
		}
		return newStation(t, d).run()
	}
	a0, a1, b0 := open("/a", 0), open("/a", 1), open("/b", 0)
	if a0.members() != 1 || a1.members() != 0 || b0.members() != 1 {
		t.Errorf("members: %d %d %d", a0.members(), a1.members(), b0.members())
	}
	if v := b0.d.Info().Details[2].Value; !strings.Contains(v, "/a en0") || !strings.Contains(v, fmt.Sprint(os.Getpid())) {
		t.Errorf("b0 names its neighbour %q", v)
	}
	for _, s := range []*station{a0, a1, b0} {
		s.leave()
	}
	if entries, _ := os.ReadDir(user); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if err := os.Chmod(user, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(driver.Options{Seed: "/a", User: user}); err == nil || !strings.Contains(err.Error(), "closed to others") {
		t.Errorf("an open folder: %v", err)
	}
	if _, err := Open(driver.Options{Seed: "/a"}); err == nil || !strings.Contains(err.Error(), "path=DIR") {
		t.Errorf("no folder: %v", err)
	}
	if _, err := Open(driver.Options{Seed: "/a", User: user, Args: []driver.Arg{{Name: "colour"}}}); err == nil {
		t.Error("unknown option taken")
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	a, b := join(t, dir, "/a", ""), join(t, dir, "/b", "")
	a.send(a.frame(b.mac(), 60, 1))
	b.got(1)
}

// TestJoinStorm has many members join and leave at once.
func TestJoinStorm(t *testing.T) {
	dir := t.TempDir()
	all := make([]*station, 12)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			for range 3 {
				o := driver.Options{Seed: fmt.Sprint(i), Args: []driver.Arg{{Name: "path", Value: dir}}}
				d, err := Open(o)
				if err != nil {
					t.Error(err)
					return
				}
				if all[i] != nil {
					all[i].d.Close()
				}
				all[i] = newStation(t, d)
			}
		})
	}
	wg.Wait()
	for i := range all {
		all[i].run()
	}
	for i, s := range all {
		to := all[(i+1)%len(all)]
		before := to.received()
		s.send(s.frame(to.mac(), 60, byte(i)))
		to.until("the frame of its neighbour", func() bool { return to.count > before })
	}
}

func TestClosedBeforeRun(t *testing.T) {
	d, err := Open(driver.Options{Args: []driver.Arg{{Name: "path", Value: t.TempDir()}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	b := packet.NewPool(1 << 20).Get(60)
	b.Append(60)
	d.Transmit(nil, []*packet.Buf{b})
}

func FuzzRecords(f *testing.F) {
	p := packet.NewPool(1 << 20)
	b := p.Get(60)
	clear(b.Append(60))
	rec := make([]byte, recordHeader+60)
	putFrame(rec, b)
	b.Free()
	f.Add(append(appendControl(nil, kindHello, hello{mac: netif.MAC{2}, name: "n"}.body()), rec...))
	f.Add(append(rec, appendControl(nil, kindFilter, []byte{1})...))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > readSize {
			return
		}
		s := &station{t: t, pool: packet.NewPool(16 << 20)}
		s.cond = sync.NewCond(&s.mu)
		w := &Wire{}
		w.members.Store(&members{})
		pr := &peer{w: w, in: make([]byte, readSize)}
		pr.name.Store(new(string))
		pr.inW = copy(pr.in, text)
		for b := text; ; {
			rec, err := next(b)
			if rec == nil || err != nil {
				break
			}
			body := rec[recordHeader:]
			if h, err := parseHello(kind(rec), body); err == nil {
				again := appendControl(nil, kindHello, h.body())
				if string(again[recordHeader:]) != string(body) && body[4] <= 1 {
					t.Fatalf("% x became % x", body, again)
				}
			}
			b = b[len(rec):]
		}
		var burst [maxBurst]*packet.Buf
		_ = pr.deliver(s, &burst)
		if n := s.pool.Bufs(); n != 0 {
			t.Fatalf("%d buffers out", n)
		}
	})
}
