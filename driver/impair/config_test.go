package impair

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"ionet/driver"
)

func parse(text string) (string, Config, bool, []driver.Arg, error) {
	o, err := driver.ParseOptions(text)
	if err != nil {
		return "", Config{}, false, nil, err
	}
	return Parse(o.Args)
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text   string
		on     string
		want   Config
		seeded bool
		rest   []driver.Arg
	}{
		{"", "", Config{}, false, nil},
		{"on=tap,name=tap0,queues=2,speed=100", "tap", Config{}, false, []driver.Arg{{Name: "name", Value: "tap0"}, {Name: "queues", Value: "2"}, {Name: "speed", Value: "100"}}},
		{"loss=1,delay=10ms,in.loss=0.1%", "", Config{In: Profile{Loss: 0.1, Delay: 10 * time.Millisecond}, Out: Profile{Loss: 1, Delay: 10 * time.Millisecond}}, false, nil},
		{"in.loss=0.1,loss=1", "", Config{In: Profile{Loss: 0.1}, Out: Profile{Loss: 1}}, false, nil},
		{"out.rate=1.5mbit,out.queue=50,out.ecn=20,seed=0x7", "", Config{Out: Profile{Rate: 1_500_000, Queue: 50, ECN: 20}, Seed: 7}, true, nil},
		{"in.dup=2,in.corrupt=3,in.reorder=4,in.hold=5ms,in.jitter=6us", "", Config{In: Profile{Dup: 2, Corrupt: 3, Reorder: 4, Hold: 5 * time.Millisecond, Jitter: 6 * time.Microsecond}}, false, nil},
		{"rate=64", "", Config{In: Profile{Rate: 64}, Out: Profile{Rate: 64}}, false, nil},
		{"out.rate=2gbit,in.rate=9kbit", "", Config{In: Profile{Rate: 9000}, Out: Profile{Rate: 2_000_000_000}}, false, nil},
	} {
		on, got, seeded, rest, err := parse(c.text)
		if err != nil || on != c.on || got != c.want || seeded != c.seeded || !reflect.DeepEqual(rest, c.rest) {
			t.Errorf("%q: %q %+v %v %v, %v; want %q %+v %v %v", c.text, on, got, seeded, rest, err, c.on, c.want, c.seeded, c.rest)
		}
	}
	for text, says := range map[string]string{
		"loss=101":      "loss=101: want a percentage",
		"loss=":         "want a percentage",
		"dup=NaN":       "want a percentage",
		"in.delay=10":   "in.delay=10: want a time",
		"delay=-1s":     "want a time",
		"delay=2h":      "want a time",
		"rate=0":        "want a rate",
		"rate=1mb":      "want a rate",
		"rate=2000gbit": "want a rate",
		"queue=0":       "number of frames",
		"ecn=x":         "number of frames",
		"seed=x":        "seed=x: want a number",
		"in.seed=1":     `unknown option "in.seed"`,
		"out.colour=1":  `unknown option "out.colour"`,
	} {
		if _, _, _, _, err := parse(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v; want it to say %q", text, err, says)
		}
	}
}

func TestSettle(t *testing.T) {
	p := Profile{Rate: 1, Reorder: 1}
	if err := p.settle(); err != nil || p.Queue != DefaultQueue || p.Hold != DefaultHold {
		t.Errorf("%+v, %v", p, err)
	}
	for says, p := range map[string]Profile{
		"wants reorder":    {Hold: 1},
		"want a rate":      {Queue: 1},
		"loss=-1":          {Loss: -1},
		"jitter=-1ns":      {Jitter: -1},
		"numbers of frame": {Rate: 1, ECN: -1},
		"at most":          {Rate: 1 << 60},
	} {
		if err := p.settle(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v; want it to say %q", p, err, says)
		}
	}
}

func TestProfileSays(t *testing.T) {
	p := Profile{Loss: 0.1, Dup: 1, Corrupt: 2, Reorder: 3, Delay: 10 * time.Millisecond, Jitter: time.Millisecond, Rate: 1e6, ECN: 5}
	if err := p.settle(); err != nil {
		t.Fatal(err)
	}
	if got, want := p.String(), "loss 0.1%, dup 1%, corrupt 2%, reorder 3% by 1ms, delay 10ms, jitter 1ms, rate 1000000 bit/s, queue 1000, ecn 5"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (Profile{}).String(); got != "none" {
		t.Errorf("%q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("on=tap,name=tap0,loss=1,delay=10ms,jitter=2ms,reorder=0.5,dup=0.1,corrupt=0.1,rate=100mbit,queue=1000,seed=7")
	f.Add("in.loss=5%,out.rate=1.5gbit,ecn=3,hold=1h")
	f.Fuzz(func(t *testing.T, text string) {
		_, c, _, rest, err := parse(text)
		if err != nil {
			return
		}
		for _, a := range rest {
			if options[a.Name] != nil || strings.HasPrefix(a.Name, "in.") || strings.HasPrefix(a.Name, "out.") {
				t.Fatalf("%q is left to the inner driver", a.Name)
			}
		}
		for _, p := range []Profile{c.In, c.Out} {
			if q := p; q.settle() == nil && (q.Rate > 0) != (q.Queue > 0) {
				t.Fatalf("%+v settles as %+v", p, q)
			}
		}
	})
}
