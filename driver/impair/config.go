package impair

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"ionet/driver"
)

// DefaultQueue and DefaultHold are what [Profile] means by zero.
const (
	DefaultQueue = 1000
	DefaultHold  = time.Millisecond
)

const (
	maxDelay = time.Minute
	maxQueue = 1_000_000
	maxRate  = 1e12
)

// Profile is what happens to frames that go one way. The zero Profile does
// nothing. Loss, Dup, Corrupt and Reorder are percentages of the frames, from
// 0 to 100; fractions are allowed.
type Profile struct {
	// Loss: the frame is gone.
	Loss float64
	// Dup: a copy follows it. A copy is neither lost nor damaged nor held back.
	Dup float64
	// Corrupt: one bit behind the link header is inverted.
	Corrupt float64
	// Reorder: the frame is held back for Hold beyond its delay, and those
	// behind it overtake it.
	Reorder float64
	Hold    time.Duration // 0: DefaultHold
	// Delay is added to every frame, and Jitter, evenly drawn from -Jitter to
	// +Jitter, to that; the sum is never negative. Jitter alone does not change
	// the order: a frame waits for the one before it.
	Delay, Jitter time.Duration
	// Rate is what the link carries, in bit/s of frames from their link header
	// on; 0: no bound.
	Rate uint64
	// Queue is how many frames wait for the link at most when there is a Rate;
	// what finds no room is dropped (tail drop). 0: DefaultQueue.
	Queue int
	// ECN is the number of waiting frames from which on those of IP that are
	// ECN-capable are marked (RFC 3168 §5); 0: never.
	ECN int
}

// None reports whether p lets every frame pass as it is.
func (p Profile) None() bool {
	return p.Loss == 0 && p.Dup == 0 && p.Corrupt == 0 && p.Reorder == 0 && p.Delay == 0 && p.Jitter == 0 && p.Rate == 0
}

func (p Profile) String() string {
	var s []string
	say := func(given bool, format string, a ...any) {
		if given {
			s = append(s, fmt.Sprintf(format, a...))
		}
	}
	say(p.Loss > 0, "loss %g%%", p.Loss)
	say(p.Dup > 0, "dup %g%%", p.Dup)
	say(p.Corrupt > 0, "corrupt %g%%", p.Corrupt)
	say(p.Reorder > 0, "reorder %g%% by %v", p.Reorder, p.Hold)
	say(p.Delay > 0, "delay %v", p.Delay)
	say(p.Jitter > 0, "jitter %v", p.Jitter)
	say(p.Rate > 0, "rate %d bit/s, queue %d", p.Rate, p.Queue)
	say(p.ECN > 0, "ecn %d", p.ECN)
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}

// settle puts the defaults in and says what is wrong.
func (p *Profile) settle() error {
	for _, x := range []struct {
		name  string
		value float64
	}{{"loss", p.Loss}, {"dup", p.Dup}, {"corrupt", p.Corrupt}, {"reorder", p.Reorder}} {
		if !(x.value >= 0 && x.value <= 100) {
			return fmt.Errorf("%s=%g: want a percentage from 0 to 100", x.name, x.value)
		}
	}
	for _, x := range []struct {
		name  string
		value time.Duration
	}{{"hold", p.Hold}, {"delay", p.Delay}, {"jitter", p.Jitter}} {
		if x.value < 0 || x.value > maxDelay {
			return fmt.Errorf("%s=%v: want a time from 0 to %v", x.name, x.value, maxDelay)
		}
	}
	switch {
	case p.Rate > maxRate:
		return fmt.Errorf("rate=%d: want at most %.0f bit/s", p.Rate, float64(maxRate))
	case p.Rate == 0 && (p.Queue != 0 || p.ECN != 0):
		return fmt.Errorf("queue and ecn want a rate: without one nothing waits for the link")
	case p.Queue < 0 || p.Queue > maxQueue || p.ECN < 0 || p.ECN > maxQueue:
		return fmt.Errorf("queue=%d, ecn=%d: want numbers of frames up to %d", p.Queue, p.ECN, maxQueue)
	case p.Hold != 0 && p.Reorder == 0:
		return fmt.Errorf("hold=%v wants reorder: nothing else is held back", p.Hold)
	}
	if p.Hold == 0 && p.Reorder > 0 {
		p.Hold = DefaultHold
	}
	if p.Queue == 0 && p.Rate > 0 {
		p.Queue = DefaultQueue
	}
	return nil
}

// Config is what an impaired driver does. In is for the frames that the stack
// receives, Out for those it sends. The same Seed and the same frames in the
// same order have the same fates; a frame's fate depends on its place in the
// order and not on the other impairments.
type Config struct {
	In, Out Profile
	Seed    uint64
}

// options are those of [Parse], less the prefixes "in." and "out.".
var options = map[string]func(p *Profile, value string) error{
	"loss":    func(p *Profile, v string) error { return percent(&p.Loss, v) },
	"dup":     func(p *Profile, v string) error { return percent(&p.Dup, v) },
	"corrupt": func(p *Profile, v string) error { return percent(&p.Corrupt, v) },
	"reorder": func(p *Profile, v string) error { return percent(&p.Reorder, v) },
	"hold":    func(p *Profile, v string) error { return duration(&p.Hold, v) },
	"delay":   func(p *Profile, v string) error { return duration(&p.Delay, v) },
	"jitter":  func(p *Profile, v string) error { return duration(&p.Jitter, v) },
	"rate":    func(p *Profile, v string) error { return rate(&p.Rate, v) },
	"queue":   func(p *Profile, v string) error { return count(&p.Queue, v) },
	"ecn":     func(p *Profile, v string) error { return count(&p.ECN, v) },
}

const known = "on, seed, loss, dup, corrupt, reorder, hold, delay, jitter, rate, queue, ecn, the last ten for one direction with in. or out. before them"

// Parse takes its own options out of args: the name of the driver below ("on",
// or ""), whether a seed is given, and the rest, which is the inner driver's.
// Percentages may end in "%". Times are Go's ("10ms", "1.5s"). Rates are in
// bit/s and may end in bit, kbit, mbit or gbit (powers of 1000). What is given
// for one direction counts there before what is given for both.
func Parse(args []driver.Arg) (on string, c Config, seeded bool, rest []driver.Arg, err error) {
	// Those for both come first, so that their place in the line does not count.
	for _, both := range []bool{true, false} {
		for _, a := range args {
			dir, name, prefixed := strings.Cut(a.Name, ".")
			if prefixed = prefixed && (dir == "in" || dir == "out"); !prefixed {
				dir, name = "", a.Name
			}
			set := options[name]
			switch {
			case prefixed && set == nil:
				return "", c, false, nil, fmt.Errorf("driver impair: unknown option %q (it knows %s)", a.Name, known)
			case prefixed == both:
				continue
			case name == "on" && !prefixed:
				on = a.Value
			case name == "seed" && !prefixed:
				if c.Seed, err = strconv.ParseUint(a.Value, 0, 64); err != nil {
					err = fmt.Errorf("want a number of at most 64 bits")
				}
				seeded = true
			case set == nil:
				rest = append(rest, a)
			default:
				if dir != "out" {
					err = set(&c.In, a.Value)
				}
				if dir != "in" && err == nil {
					err = set(&c.Out, a.Value)
				}
			}
			if err != nil {
				return "", c, false, nil, fmt.Errorf("driver impair: %s=%s: %w", a.Name, a.Value, err)
			}
		}
	}
	return on, c, seeded, rest, nil
}

func percent(to *float64, v string) error {
	f, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
	if err != nil || !(f >= 0 && f <= 100) {
		return fmt.Errorf("want a percentage from 0 to 100, such as 0.1")
	}
	*to = f
	return nil
}

func duration(to *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d > maxDelay {
		return fmt.Errorf("want a time from 0s to %v, such as 10ms", maxDelay)
	}
	*to = d
	return nil
}

var units = []struct {
	suffix string
	bits   float64
}{{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}, {"", 1}}

func rate(to *uint64, v string) error {
	for _, u := range units {
		digits, ok := strings.CutSuffix(v, u.suffix)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(digits, 64)
		if bits := math.Round(f * u.bits); err == nil && bits >= 1 && bits <= maxRate {
			*to = uint64(bits)
			return nil
		}
		break
	}
	return fmt.Errorf("want a rate from 1bit to 1000gbit a second, such as 100mbit")
}

func count(to *int, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxQueue {
		return fmt.Errorf("want a number of frames from 1 to %d", maxQueue)
	}
	*to = n
	return nil
}
