package impair

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ionet/driver"
	"ionet/driver/internal/sinktest"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mirror is a device whose link gives back what it is sent.
type mirror struct {
	sink    driver.Sink
	running chan bool
	done    chan bool
	once    sync.Once
	fail    error
	filters int
}

func newMirror() *mirror { return &mirror{running: make(chan bool), done: make(chan bool)} }

func (m *mirror) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	select {
	case <-m.done:
		packet.FreeBurst(burst)
	default:
		m.sink.Input(burst)
	}
}
func (m *mirror) Info() driver.Info {
	return driver.Info{Family: "en", Description: "mirror", MTU: 1500, MaxMTU: 1500, Caps: netif.CapCsum | netif.CapUSO,
		Details: []driver.Detail{{Name: "Silver", Value: "much"}}}
}
func (m *mirror) Run(s driver.Sink) error {
	m.sink = s
	s.Receiving()
	s.LinkState(true)
	close(m.running)
	<-m.done
	return m.fail
}
func (m *mirror) Close() error {
	m.once.Do(func() { close(m.done) })
	return nil
}
func (m *mirror) SetFilter(promisc, allmulti bool, groups []netif.MAC) { m.filters++ }

// run has an impaired mirror at work.
func run(t *testing.T, c Config) (*sinktest.Sink, *Driver, *mirror) {
	t.Helper()
	m := newMirror()
	d, err := New(m, c)
	if err != nil {
		t.Fatal(err)
	}
	s := sinktest.Run(t, d, nil)
	<-m.running
	return s, d, m
}

func frame(id int) []byte { return fmt.Appendf(make([]byte, packet.EtherLen), "frame %04d", id) }

func TestWithoutImpairmentItIsTheDriver(t *testing.T) {
	s, d, m := run(t, Config{})
	s.Send(frame(1))
	s.Until("the frame", func() bool { return len(s.Frames) == 1 })
	if i := d.Info(); i.Caps != m.Info().Caps || i.Description != "Impaired mirror" || i.Rate != 0 {
		t.Errorf("%+v", i)
	}
	d.SetFilter(true, false, nil)
	if m.filters != 1 {
		t.Error("the filter has not come through")
	}
	if in, out := d.Counts(); in != (Counts{}) || out != (Counts{}) {
		t.Errorf("%+v, %+v", in, out)
	}
}

func TestBothWaysAddUp(t *testing.T) {
	s, d, _ := run(t, Config{In: Profile{Delay: 2 * time.Millisecond}, Out: Profile{Delay: time.Millisecond, Rate: 1e9}, Seed: 9})
	const n = 200
	start := time.Now()
	for i := range n {
		s.Send(frame(i))
	}
	s.Until("all frames", func() bool { return len(s.Frames) == n })
	if took := time.Since(start); took < 3*time.Millisecond {
		t.Errorf("there and back in %v", took)
	}
	for i, f := range s.Frames {
		if string(f.Data) != string(frame(i)) {
			t.Fatalf("frame %d is %q", i, f.Data)
		}
	}
	i := d.Info()
	if i.Caps != 0 || i.Rate != 1e9 {
		t.Errorf("%+v", i)
	}
	want := []driver.Detail{
		{Name: "Silver", Value: "much"},
		{Name: "Impairment Seed", Value: "9"},
		{Name: "Impairment In", Value: "delay 2ms"},
		{Name: "Fates In", Value: "200 passed, 0 lost, 0 duplicated, 0 corrupted, 0 reordered, 0 marked, 0 overflowed, 0 without buffer, 0 waiting"},
		{Name: "Impairment Out", Value: "delay 1ms, rate 1000000000 bit/s, queue 1000"},
		{Name: "Fates Out", Value: "200 passed, 0 lost, 0 duplicated, 0 corrupted, 0 reordered, 0 marked, 0 overflowed, 0 without buffer, 0 waiting"},
	}
	if fmt.Sprint(i.Details) != fmt.Sprint(want) {
		t.Errorf("%q", i.Details)
	}
}

func TestOneWayKeepsTheOffloadsOfTheOther(t *testing.T) {
	_, d, m := run(t, Config{In: Profile{Loss: 1}})
	if got := d.Info().Caps; got != m.Info().Caps {
		t.Errorf("caps %#x", got)
	}
}

func TestTheTimerIsFinerThanAMillisecond(t *testing.T) {
	const delay = 300 * time.Microsecond
	s, _, _ := run(t, Config{Out: Profile{Delay: delay}})
	best := time.Hour // the machine may be busy, but not always
	for i := range 50 {
		start := time.Now()
		s.Send(frame(i))
		s.Until("the frame", func() bool { return len(s.Frames) == i+1 })
		took := time.Since(start)
		if took < delay {
			t.Fatalf("delayed by %v", took)
		}
		best = min(best, took)
	}
	if best > delay+500*time.Microsecond {
		t.Errorf("at best delayed by %v", best)
	}
}

func TestManySendersKeepTheirOrder(t *testing.T) {
	s, d, _ := run(t, Config{Out: Profile{Delay: 100 * time.Microsecond, Jitter: 100 * time.Microsecond, Dup: 5}, In: Profile{Loss: 1}})
	const senders, each = 4, 1000
	var wg sync.WaitGroup
	for g := range senders {
		wg.Go(func() {
			for i := range each {
				s.Send(frame(g<<16 | i))
			}
		})
	}
	wg.Wait()
	s.Until("all that is not lost", func() bool {
		in, out := d.Counts()
		return out.Waiting == 0 && out.Passed == senders*each+out.Duplicated && in.Passed+in.Lost == out.Passed && uint64(len(s.Frames)) == in.Passed
	})
	var last [senders]int
	for _, f := range s.Frames {
		var id int
		if _, err := fmt.Sscanf(string(f.Data[packet.EtherLen:]), "frame %d", &id); err != nil {
			t.Fatal(err)
		}
		if g, i := id>>16, id&0xffff; i < last[g] {
			t.Fatalf("frame %d of sender %d comes after %d", i, g, last[g])
		} else {
			last[g] = i
		}
	}
}

func TestDropsForWantOfRoomAreTheInterfaces(t *testing.T) {
	s, d, _ := run(t, Config{Out: Profile{Rate: 1000, Queue: 2}})
	for i := range 5 {
		s.Send(frame(i))
	}
	if n := s.Ifp.Stats.OutDrops.Load(); n != 3 {
		t.Errorf("%d dropped on the way out", n)
	}
	if _, out := d.Counts(); out.Overflowed != 3 || out.Waiting != 2 {
		t.Errorf("%+v", out)
	}
	s, _, _ = run(t, Config{In: Profile{Rate: 1000, Queue: 2}})
	for i := range 5 {
		s.Send(frame(i))
	}
	s.Until("drops on the way in", func() bool { return s.Lost == 3 })
}

func TestCloseFreesWhatIsOnTheWay(t *testing.T) {
	s, d, _ := run(t, Config{In: Profile{Delay: time.Minute}, Out: Profile{Loss: 0.001}})
	for i := range 10 {
		s.Send(frame(i))
	}
	s.Close() // which checks the books
	s.Send(frame(11))
	if n := s.Ifp.Stats.OutDrops.Load(); n != 1 {
		t.Errorf("%d dropped after Close", n)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	never, err := New(newMirror(), Config{Out: Profile{Delay: time.Second}}) // is closed and never run
	if err != nil {
		t.Fatal(err)
	}
	if err := never.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheDriversEndIsOurs(t *testing.T) {
	m := newMirror()
	m.fail = errors.New("the mirror is broken")
	d, err := New(m, Config{In: Profile{Loss: 1}, Out: Profile{Loss: 1}})
	if err != nil {
		t.Fatal(err)
	}
	s := sinktest.Run(t, d, nil)
	<-m.running
	m.Close()
	s.Until("Run to fail", func() bool { return s.Ended })
	if !errors.Is(s.Err, m.fail) {
		t.Errorf("Run: %v", s.Err)
	}
}

// angry is a mirror that panics when it is sent something.
type angry struct{ *mirror }

func (a angry) Transmit(*netif.Interface, []*packet.Buf) { panic("angry") }

func TestPanicOfTheDriverEndsTheDevice(t *testing.T) {
	m := newMirror()
	d, err := New(angry{m}, Config{Out: Profile{Delay: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error)
	pool := packet.NewPool(1 << 20)
	go func() { ran <- d.Run(nowhere{}) }()
	<-m.running
	d.Transmit(nil, []*packet.Buf{pool.Get(60)})
	if err := <-ran; err == nil || !strings.Contains(err.Error(), "angry") {
		t.Errorf("Run: %v", err)
	}
}

func TestOpen(t *testing.T) {
	var got driver.Options
	set := driver.Set{
		"wire":   func(o driver.Options) (driver.Driver, error) { got = o; return newMirror(), nil },
		"broken": func(driver.Options) (driver.Driver, error) { return nil, errors.New("broken") },
	}
	open := func(text string) (driver.Driver, error) {
		o, err := driver.ParseOptions(text)
		if err != nil {
			t.Fatal(err)
		}
		return Open(set)(o)
	}
	d, err := open("loss=1,path=/x,mtu=1400,seed=5")
	if err != nil {
		t.Fatal(err)
	}
	if got.MTU != 1400 || len(got.Args) != 1 || got.Args[0].Name != "path" || d.(*Driver).conf.Seed != 5 {
		t.Errorf("%+v, %+v", got, d)
	}
	d.Close()
	seeds := map[uint64]bool{}
	for range 3 {
		d, err := open("on=wire")
		if err != nil {
			t.Fatal(err)
		}
		seeds[d.(*Driver).conf.Seed] = true
		d.Close()
	}
	if len(seeds) != 3 {
		t.Errorf("seeds of their own: %v", seeds)
	}
	for text, says := range map[string]string{
		"on=impair": "on=impair: no such driver; want one of broken, wire",
		"on=broken": "broken",
		"queue=5":   "in: queue and ecn want a rate",
		"loss=x":    "want a percentage",
	} {
		if _, err := open(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	m := newMirror()
	d, err := New(m, Config{In: Profile{Loss: 1, Rate: 1e12}, Out: Profile{Loss: 1, Reorder: 1, Hold: time.Nanosecond}})
	if err != nil {
		t.Fatal(err)
	}
	s := sinktest.Run(t, d, nil)
	<-m.running
	d.sink = nowhere{} // nobody keeps what comes back
	var burst [8]*packet.Buf
	send := func() {
		s.Pool().GetBurst(burst[:], 60)
		for _, b := range burst {
			b.Append(60)
		}
		d.Transmit(nil, burst[:])
	}
	for range 100 {
		send()
	}
	if n := testing.AllocsPerRun(100, send); n != 0 {
		t.Errorf("%.1f allocations for 8 frames", n)
	}
}

// nowhere is a sink that keeps nothing.
type nowhere struct{ driver.Sink }

func (nowhere) Input(burst []*packet.Buf) { packet.FreeBurst(burst) }
func (nowhere) Receiving()                {}
func (nowhere) LinkState(bool)            {}
