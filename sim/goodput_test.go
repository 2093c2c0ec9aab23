package sim_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/sim"
	"ionet/stack/netif"
	"ionet/stack/socket"
)

var update = flag.Bool("sim.update", false, "write testdata/goodput.txt anew")

// What congestion control reaches over a bottleneck is held in a table, so
// that nobody makes it worse unseen. A figure is of a fixed seed and exact; one
// that is worse than its line by more than a slack is an error, one that is
// better is told, and written by
//
//	go test ./sim -run TestGoodput -sim.update
const (
	goodputFile = "testdata/goodput.txt"
	// What a small change of timing makes of one seed is not yet worse.
	slackGoodput, slackFairness = 0.15, 0.1
	slackResent                 = 2 // percent
)

// cell is a line of the table: flows share a way from one node to another.
type cell struct {
	name  string
	link  sim.Faults
	flows int
	algs  []string // of the flows in turn; none: cubic
	set   []string // nodes of both stacks, "name=value"
	late  bool     // the flows begin one after the other; fairness is of what follows
}

const mbit = 1_000_000

// way is a bottleneck of so many Mbit/s with a round trip of rtt and a queue
// of so many times what the path holds.
func way(rate int64, rtt time.Duration, queue float64) sim.Faults {
	hold := float64(rate*mbit) / 8 * rtt.Seconds()
	return sim.Faults{Rate: rate * mbit, Delay: rtt / 2, Queue: max(int(hold*queue), 3*1538)}
}

func with(f sim.Faults, change func(f *sim.Faults)) sim.Faults {
	change(&f)
	return f
}

func cells() []cell {
	loss := func(p float64) func(*sim.Faults) { return func(f *sim.Faults) { f.Loss = p } }
	usual := way(10, 20*time.Millisecond, 1)
	return []cell{
		{name: "one", link: usual, flows: 1},
		{name: "one-newreno", link: usual, flows: 1, algs: []string{"newreno"}},
		{name: "one-shallow", link: way(10, 20*time.Millisecond, 0.1), flows: 1},
		{name: "one-deep", link: way(10, 20*time.Millisecond, 8), flows: 1},
		{name: "one-long", link: way(10, 200*time.Millisecond, 1), flows: 1},
		{name: "one-slow", link: way(1, 40*time.Millisecond, 4), flows: 1},
		{name: "one-nosack", link: usual, flows: 1, set: []string{"net.inet.tcp.sack=0"}},
		{name: "one-nostamps", link: usual, flows: 1, set: []string{"net.inet.tcp.timestamps=0"}},
		{name: "loss-0.1%", link: with(usual, loss(0.001)), flows: 1},
		{name: "loss-1%", link: with(usual, loss(0.01)), flows: 1},
		{name: "loss-5%", link: with(usual, loss(0.05)), flows: 1},
		{name: "loss-1%-nosack", link: with(usual, loss(0.01)), flows: 1, set: []string{"net.inet.tcp.sack=0"}},
		{name: "reorder-2%", link: with(usual, func(f *sim.Faults) { f.Reorder = 0.02 }), flows: 1},
		{name: "jitter", link: with(usual, func(f *sim.Faults) { f.Jitter = 2 * time.Millisecond }), flows: 1},
		{name: "twice-5%", link: with(usual, func(f *sim.Faults) { f.Duplicate = 0.05 }), flows: 1},
		{name: "marks", link: with(usual, func(f *sim.Faults) { f.Mark = f.Queue / 2 }), flows: 4},
		{name: "two", link: usual, flows: 2},
		{name: "four", link: usual, flows: 4},
		{name: "sixteen", link: way(40, 40*time.Millisecond, 1), flows: 16},
		{name: "sixty-four", link: way(40, 40*time.Millisecond, 1), flows: 64},
		{name: "newreno-four", link: usual, flows: 4, algs: []string{"newreno"}},
		{name: "mixed-four", link: usual, flows: 4, algs: []string{"cubic", "newreno"}},
		{name: "late-three", link: usual, flows: 3, late: true},
	}
}

// result is what a cell came to.
type result struct {
	goodput  float64 // Mbit/s of all flows together
	fairness float64 // Jain's index: 1 is all the same
	resent   float64 // of the data segments, percent
}

func (r result) String() string {
	return fmt.Sprintf("%8.2f %6.3f %6.2f", r.goodput, r.fairness, r.resent)
}

// worse says in what r falls behind a line of the table.
func (r result) worse(than result) string {
	switch {
	case r.goodput < than.goodput*(1-slackGoodput):
		return "goodput"
	case r.fairness < than.fairness-slackFairness:
		return "fairness"
	case r.resent > than.resent*1.25+slackResent:
		return "retransmissions"
	}
	return ""
}

// bulk has c.flows senders send as much as goes for the time of the cell.
func (c *cell) bulk() (r result, err error) {
	const lasts, begins = 5 * time.Second, 2 * time.Second
	n := sim.New(1)
	lan := n.Segment(sim.Faults{Delay: c.link.Delay})
	a, b := n.Stack("a"), n.Stack("b")
	n.Attach(a, lan, "10.0.0.1/24")
	n.Attach(b, lan, "10.0.0.2/24")
	for _, s := range c.set {
		name, value, _ := strings.Cut(s, "=")
		a.Sysctl(name, value)
		b.Sysctl(name, value)
	}
	if c.link.Mark == 0 {
		a.Sysctl("net.inet.tcp.ecn", "0")
	}
	srv := b.Listen(":80", 128)
	got := make([]int, c.flows)
	accept := func() {
		for so := srv.Accept(); so != nil; so = srv.Accept() {
			i := int(so.Peer().Port) - 1000
			buf := make([]byte, 1<<18)
			take := func() {
				for k, _ := so.Read(buf); k > 0; k, _ = so.Read(buf) {
					got[i] += k
				}
			}
			so.SetUpcall(func(*netif.Work) { n.At(0, take) })
		}
	}
	srv.SetUpcall(func(*netif.Work) { n.At(0, accept) })
	data := make([]byte, 1<<18)
	dial := func(i int) {
		if len(c.algs) > 0 {
			a.Sysctl("net.inet.tcp.congctl.selected", c.algs[i%len(c.algs)])
		}
		so := a.TCP()
		if e := so.Bind(fmt.Sprintf("10.0.0.1:%d", 1000+i)); e != nil {
			err = errors.Join(err, e)
		}
		if e := so.Connect("10.0.0.2:80"); e != syscall.EINPROGRESS {
			err = errors.Join(err, e)
		}
		give := func() {
			for so.Poll()&socket.Writable != 0 {
				if _, e := so.Write(data); e != nil {
					err = errors.Join(err, e)
					return
				}
			}
		}
		so.SetUpcall(func(*netif.Work) { n.At(0, give) })
	}
	n.Run(3 * time.Second) // addresses are announced
	lan.Faults = c.link
	for i := range c.flows {
		at := time.Duration(i) * 10 * time.Millisecond
		if c.late {
			at = time.Duration(i) * begins
		}
		n.At(at, func() { dial(i) })
	}
	before := make([]int, c.flows)
	if c.late {
		n.Run(time.Duration(c.flows) * begins)
		copy(before, got)
	}
	n.Run(lasts)
	var sum, squares float64
	for i := range got {
		x := float64(got[i] - before[i])
		sum += x
		squares += x * x
	}
	r.goodput = sum * 8 / lasts.Seconds() / mbit
	r.fairness = sum * sum / (float64(c.flows) * squares)
	r.resent = 100 * float64(a.Count("tcp", "retransmitted")) / float64(a.Count("tcp", "data sent"))
	return r, err
}

// TestGoodput compares every cell with its line.
func TestGoodput(t *testing.T) {
	want := map[string]result{}
	if f, err := os.Open(goodputFile); err == nil {
		for s := bufio.NewScanner(f); s.Scan(); {
			var name string
			var r result
			if k, _ := fmt.Sscan(s.Text(), &name, &r.goodput, &r.fairness, &r.resent); k == 4 {
				want[name] = r
			}
		}
		f.Close()
	} else if !*update {
		t.Fatal(err)
	}
	var table strings.Builder
	fmt.Fprintf(&table, "# cell            Mbit/s   Jain  resent %%  (TestGoodput; written with -sim.update)\n")
	for _, c := range cells() {
		r, err := c.bulk()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		fmt.Fprintf(&table, "%-15s %v\n", c.name, r)
		w, ok := want[c.name]
		switch what := r.worse(w); {
		case *update:
		case !ok:
			t.Errorf("%s is not in %s", c.name, goodputFile)
		case what != "":
			t.Errorf("%s is worse in %s:\n  now  %v\n  was  %v", c.name, what, r, w)
		case w.worse(r) != "":
			t.Logf("%s is better in %s:\n  now  %v\n  was  %v", c.name, w.worse(r), r, w)
		}
	}
	if *update {
		if err := os.WriteFile(goodputFile, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("\n%s", table.String())
}
