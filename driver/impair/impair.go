// Package impair makes a good driver a bad link: a netem in user space. It
// stands in front of any other driver and loses, duplicates, damages, delays
// and reorders frames or bounds their rate, each way by itself, and all of it
// from one seed.
//
// A frame that passes one way meets, in this order: loss, duplication,
// corruption, the queue for the link and its rate, delay with jitter, and being
// held back.
package impair

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"ionet/driver"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Driver is a driver and what is wrong with its link.
type Driver struct {
	inner   driver.Driver
	conf    Config
	in, out *line // nil: every frame passes as it is

	sink driver.Sink // set by Run before any frame comes in
}

// Open answers an Open that impairs the driver of the set that option on names,
// "wire" without it. Options that are not its own are that driver's.
func Open(set driver.Set) driver.Open {
	return func(o driver.Options) (driver.Driver, error) {
		on, c, seeded, rest, err := Parse(o.Args)
		if err != nil {
			return nil, err
		}
		if on == "" {
			on = "wire"
		}
		open, ok := set[on]
		if !ok {
			return nil, fmt.Errorf("driver impair: on=%s: no such driver; want one of %s", on, strings.Join(set.Names(), ", "))
		}
		if !seeded {
			c.Seed = rand.Uint64()
		}
		o.Args = rest
		inner, err := open(o)
		if err != nil {
			return nil, err
		}
		d, err := New(inner, c)
		if err != nil {
			return nil, errors.Join(err, inner.Close())
		}
		return d, nil
	}
}

// New impairs a driver, which it takes over unless it fails.
func New(inner driver.Driver, c Config) (*Driver, error) {
	d := &Driver{inner: inner}
	for stream, way := range []struct {
		p    *Profile
		line **line
		name string
	}{{&c.In, &d.in, "in"}, {&c.Out, &d.out, "out"}} {
		if err := way.p.settle(); err != nil {
			return nil, fmt.Errorf("driver impair: %s: %w", way.name, err)
		}
		if way.p.None() {
			continue
		}
		l, err := newLine(newPipe(*way.p, c.Seed, uint64(stream)))
		if err != nil {
			d.closeLines()
			return nil, fmt.Errorf("driver impair: %w", err)
		}
		*way.line = l
	}
	d.conf = c
	if d.out != nil {
		d.out.deliver = inner.Transmit
	}
	if d.in != nil {
		d.in.deliver = func(_ *netif.Interface, burst []*packet.Buf) { d.sink.Input(burst) }
	}
	return d, nil
}

// Transmit sends a burst over the impaired link. Frames for which its queue
// has no room are counted in the interface's OutDrops; what the link loses is
// not, as nobody would know of it.
func (d *Driver) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	if d.out == nil {
		d.inner.Transmit(ifp, burst)
		return
	}
	if drops := d.out.enter(ifp, burst); drops > 0 && ifp != nil {
		ifp.Stats.OutDrops.Add(uint64(drops))
	}
}

// SetFilter passes on what the interface wants to hear, if the driver can be
// told.
func (d *Driver) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	if f, ok := d.inner.(netif.Filter); ok {
		f.SetFilter(promisc, allmulti, groups)
	}
}

// Info is the inner driver's, with what is wrong and what has come of it. The
// offloads are gone where frames are impaired: a link carries whole frames of
// its own size, each with its checksum.
func (d *Driver) Info() driver.Info {
	i := d.inner.Info()
	i.Description = "Impaired " + i.Description
	if d.out != nil {
		i.Caps = 0
	}
	if d.conf.Out.Rate > 0 {
		i.Rate = d.conf.Out.Rate
	}
	i.Details = append(i.Details, driver.Detail{Name: "Impairment Seed", Value: strconv.FormatUint(d.conf.Seed, 10)})
	for _, way := range []struct {
		name string
		p    Profile
		line *line
	}{{"In", d.conf.In, d.in}, {"Out", d.conf.Out, d.out}} {
		i.Details = append(i.Details, driver.Detail{Name: "Impairment " + way.name, Value: way.p.String()})
		if way.line != nil {
			i.Details = append(i.Details, driver.Detail{Name: "Fates " + way.name, Value: way.line.counts().String()})
		}
	}
	return i
}

func (c Counts) String() string {
	return fmt.Sprintf("%d passed, %d lost, %d duplicated, %d corrupted, %d reordered, %d marked, %d overflowed, %d without buffer, %d waiting",
		c.Passed, c.Lost, c.Duplicated, c.Corrupted, c.Reordered, c.Marked, c.Overflowed, c.NoBuffer, c.Waiting)
}

// Counts are the fates of the frames received and sent.
func (d *Driver) Counts() (in, out Counts) {
	if d.in != nil {
		in = d.in.counts()
	}
	if d.out != nil {
		out = d.out.counts()
	}
	return in, out
}

// Run receives until Close.
func (d *Driver) Run(s driver.Sink) error {
	d.sink = s
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i, l := range []*line{d.in, d.out} {
		if l == nil {
			continue
		}
		wg.Go(func() {
			if l == d.in {
				s.Receiving()
			}
			if errs[i] = driver.Guard(l.run); errs[i] != nil {
				_ = d.Close() // a link that stands still is none
			}
		})
	}
	below := s
	if d.in != nil {
		below = &sink{s, d.in}
	}
	errs[2] = d.inner.Run(below)
	d.closeLines()
	wg.Wait()
	return errors.Join(errs...)
}

// Close ends Run and frees what is on the way.
func (d *Driver) Close() error {
	d.closeLines()
	return d.inner.Close()
}

func (d *Driver) closeLines() {
	for _, l := range []*line{d.in, d.out} {
		if l != nil {
			l.close()
		}
	}
}

// sink is what the inner driver delivers to.
type sink struct {
	driver.Sink
	in *line
}

// Input has a burst arrive over the impaired link.
func (s *sink) Input(burst []*packet.Buf) {
	if drops := s.in.enter(nil, burst); drops > 0 {
		s.Dropped(drops)
	}
}
