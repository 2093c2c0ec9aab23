package tcp

// hystart ends slow start when delay grows (RFC 9406).
type hystart struct {
	round           bool // one is being measured
	css             bool // conservative slow start
	samples         uint8
	cssRounds       uint8
	end             seq    // of the round
	lastMin, curMin uint32 // of the RTT in a round, microseconds
	baseline        uint32
}

const (
	hsMinThresh = 4000 // microseconds
	hsMaxThresh = 16000
	hsSamples   = 8
	cssDivisor  = 4
	cssRounds   = 5
)

// ack is told of every acknowledgement in slow start; rtt is 0 without a
// sample. It answers that slow start is over.
func (h *hystart) ack(una, nxt seq, rtt int64) (over bool) {
	if !h.round || una.gt(h.end) {
		if h.round && h.css {
			if h.cssRounds++; h.cssRounds >= cssRounds {
				h.css, h.round = false, false
				return true
			}
		}
		h.lastMin, h.curMin, h.samples = h.curMin, 0, 0
		h.round, h.end = true, nxt
	}
	if rtt == 0 {
		return false
	}
	us := uint32(min(max(rtt/1000, 1), 1<<31))
	if h.curMin == 0 || us < h.curMin {
		h.curMin = us
	}
	h.samples = min(h.samples+1, 250)
	if h.samples < hsSamples || h.lastMin == 0 {
		return false
	}
	if h.css {
		if h.curMin < h.baseline { // it was a passing thing
			h.css = false
		}
		return false
	}
	if h.curMin >= h.lastMin+min(max(h.lastMin/8, hsMinThresh), hsMaxThresh) {
		h.css, h.cssRounds, h.baseline = true, 0, h.curMin
	}
	return false
}
