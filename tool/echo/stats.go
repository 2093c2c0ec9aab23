package echo

import (
	"math"
	"time"
)

// Stats are the numbers of a run.
type Stats struct {
	Sent, Received, Dups int
	Least, Most          float64 // round trips, seconds
	FirstTx, LastTx      time.Time
	FirstRx, LastRx      time.Time

	sum, squares float64
}

// Add counts the time of a reply that Received or Dups counts already.
func (s *Stats) Add(rtt time.Duration) {
	t := rtt.Seconds()
	if s.Received+s.Dups == 1 {
		s.Least, s.Most = t, t
	}
	s.sum += t
	s.squares += t * t
	s.Least, s.Most = min(s.Least, t), max(s.Most, t)
}

// Deviation answers average and standard deviation in seconds.
func (s *Stats) Deviation() (avg, dev float64) {
	n := float64(s.Received + s.Dups)
	avg = s.sum / n
	if n > 1 {
		dev = math.Sqrt(max(s.squares-n*avg*avg, 0) / (n - 1))
	}
	return avg, dev
}

// Loss is what did not come back, in percent.
func (s *Stats) Loss() float64 {
	if s.Sent == 0 {
		return 0
	}
	return float64(s.Sent-s.Received) * 100 / float64(s.Sent)
}

// RTT are round trip times in milliseconds.
type RTT struct {
	Min    float64 `json:"min"`
	Avg    float64 `json:"avg"`
	Max    float64 `json:"max"`
	StdDev float64 `json:"stddev"`
}

// RTT answers the times; there are some only when a reply came.
func (s *Stats) RTT() RTT {
	avg, dev := s.Deviation()
	return RTT{s.Least * 1000, avg * 1000, s.Most * 1000, dev * 1000}
}
