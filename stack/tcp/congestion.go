package tcp

import (
	"fmt"
	"syscall"
)

// Phases of congestion control.
const (
	open       = iota // growing
	reducing          // a window's worth after congestion experienced (RFC 3168 §6.1.2)
	recovering        // fast recovery (RFC 6675, RFC 6937)
	losing            // after a timeout
)

// congestion is a connection's congestion state, whatever the algorithm.
// Windows are octets.
type congestion struct {
	cwnd, ssthresh uint32
	phase          uint8
	limited        bool // the window was what kept us from sending more
	undoable       bool // what is below may be put back
	undoCWR        bool // the peer had to be told of another reduction
	point          seq  // the phase ends when this is acknowledged
	undoCwnd       uint32
	undoThresh     uint32
	undoRexmt      uint32 // octets sent again that no DSACK has called needless

	prrDelivered, prrOut, prrFlight uint32 // RFC 6937

	alg     uint8  // index of algorithms
	unheard bool   // the peer has not heard of the last reduction yet, for all we know (RFC 3168)
	acked   uint32 // octets acknowledged and not yet turned into growth
	hs      hystart
	cubic   *cubic // nil while slow start has never ended
}

// algorithm is a way to grow and to shrink the window.
type algorithm interface {
	name() string
	// avoid grows the window beyond ssthresh for n octets acknowledged.
	avoid(c *congestion, n, mss uint32, srtt, now int64)
	// reduce answers the window after a loss.
	reduce(c *congestion, mss uint32, now int64) uint32
	// restart is told that the window was set from outside.
	restart(c *congestion)
}

var algorithms = [...]algorithm{cubicAlgorithm{}, newReno{}}

func (c *congestion) algorithm() algorithm { return algorithms[c.alg] }

// algorithmOf is the index of an algorithm.
func algorithmOf(name string) (uint8, error) {
	for i, a := range algorithms {
		if a.name() == name {
			return uint8(i), nil
		}
	}
	return 0, fmt.Errorf("no congestion control %q; there are cubic and newreno: %w", name, syscall.ENOENT)
}

const infinite = 1 << 30

func (c *congestion) init(alg string) {
	c.alg, _ = algorithmOf(alg)
	c.ssthresh = infinite
}

// begin sets the initial window (RFC 6928).
func (c *congestion) begin(segments int64, mss uint32) {
	c.cwnd = uint32(segments) * mss
	c.hs.round = false
}

// slowStart reports whether the window grows exponentially.
func (c *congestion) slowStart() bool { return c.cwnd < c.ssthresh }

// grow is told of n octets acknowledged outside of recovery.
func (c *congestion) grow(n, mss uint32, srtt, now int64, max uint32) {
	if !c.limited {
		return // RFC 7661: no growth that was not made use of
	}
	if c.slowStart() {
		k := min(n, c.ssthresh-c.cwnd)
		if c.hs.css {
			c.cwnd += k / cssDivisor
		} else {
			c.cwnd += k
		}
		n -= k
	}
	if n > 0 && !c.slowStart() {
		c.algorithm().avoid(c, n, mss, srtt, now)
	}
	c.cwnd = min(c.cwnd, max)
}

// newReno is RFC 5681's congestion avoidance.
type newReno struct{}

func (newReno) name() string { return "newreno" }

func (newReno) avoid(c *congestion, n, mss uint32, _, _ int64) {
	c.acked += n
	for c.acked >= c.cwnd {
		c.acked -= c.cwnd
		c.cwnd += mss
	}
}

func (newReno) reduce(c *congestion, mss uint32, _ int64) uint32 {
	return max(c.cwnd/2, 2*mss)
}

func (newReno) restart(c *congestion) { c.acked = 0 }
