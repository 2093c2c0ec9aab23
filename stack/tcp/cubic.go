package tcp

import "math"

// cubic is the state of CUBIC (RFC 9438). Windows are in segments there, and
// so here; times are seconds.
type cubic struct {
	epoch   int64 // beginning of the present curve; 0: it begins with the next ACK
	wMax    float64
	k       float64
	wEst    float64
	lastCut float64 // W_max of the reduction before, for fast convergence
}

const (
	cubicC    = 0.4
	cubicBeta = 0.7
)

type cubicAlgorithm struct{}

func (cubicAlgorithm) name() string { return "cubic" }

// avoid is §4.2 to §4.4.
func (cubicAlgorithm) avoid(c *congestion, n, mss uint32, srtt, now int64) {
	q, m := c.curve(), float64(mss)
	w := float64(c.cwnd) / m
	if q.epoch == 0 {
		q.epoch, q.wEst, c.acked = now, w, 0
		if w < q.wMax {
			q.k = math.Cbrt((q.wMax - w) / cubicC)
		} else {
			q.k, q.wMax = 0, w
		}
	}
	t := float64(now-q.epoch) / 1e9
	d := t + float64(srtt)/1e9 - q.k
	target := min(max(q.wMax+cubicC*d*d*d, w), 1.5*w)
	// §4.3: never slower than Reno would be. Its factor is 3(1-β)/(1+β) until
	// the window of the last loss has been reached, then 1.
	alpha := 3 * (1 - cubicBeta) / (1 + cubicBeta)
	if q.wEst >= q.wMax {
		alpha = 1
	}
	q.wEst += alpha * float64(n) / m / w
	grow := (target - w) / w * float64(n) // octets
	if q.wEst > w && q.wEst > q.wMax+cubicC*math.Pow(t-q.k, 3) {
		grow = max(grow, (q.wEst-w)*m)
	}
	c.acked += uint32(grow)
	if c.acked >= mss {
		k := c.acked / mss * mss
		c.acked -= k
		c.cwnd += k
	} else if grow > 0 && grow < 1 {
		c.acked++ // rounding never stands still
	}
}

// reduce is §4.6 and §4.7.
func (cubicAlgorithm) reduce(c *congestion, mss uint32, _ int64) uint32 {
	q, w := c.curve(), float64(c.cwnd)/float64(mss)
	if w < q.lastCut {
		q.wMax = w * (1 + cubicBeta) / 2 // fast convergence
	} else {
		q.wMax = w
	}
	q.lastCut = w
	q.epoch = 0
	return max(uint32(w*cubicBeta*float64(mss)), 2*mss)
}

func (cubicAlgorithm) restart(c *congestion) {
	if c.cubic != nil {
		c.cubic.epoch = 0
	}
}

// curve is what only a connection that has left slow start needs.
func (c *congestion) curve() *cubic {
	if c.cubic == nil {
		c.cubic = &cubic{}
	}
	return c.cubic
}
