package tcp

import "ionet/stack/mib"

// rtt estimates the round-trip time (RFC 6298), in nanoseconds.
type rtt struct {
	srtt, rttvar int64 // 0: no sample yet
	min          int64 // of the last minWindow
	minAt        int64
}

const (
	initialRTO = second // RFC 6298 §2.1
	maxRTO     = 64 * second
	// minWindow is how long a lowest sample counts.
	minWindow = 300 * second
)

// sample takes a measurement that no retransmission has blurred.
func (r *rtt) sample(m, now int64) {
	m = max(m, 1000)
	if r.min == 0 || m <= r.min || now-r.minAt > minWindow {
		r.min, r.minAt = m, now
	}
	if r.srtt == 0 {
		r.srtt, r.rttvar = m, m/2
		return
	}
	d := r.srtt - m
	if d < 0 {
		d = -d
	}
	r.rttvar += (d - r.rttvar) / 4
	r.srtt += (m - r.srtt) / 8
}

// rto is the retransmission timeout without back-off.
func (r *rtt) rto(v *mib.Values) int64 {
	if r.srtt == 0 {
		return initialRTO
	}
	return min(r.srtt+max(4*r.rttvar, v.Int(nodeRTOMin)*millisecond), maxRTO)
}

// backedOff is rto after shift timeouts.
func (r *rtt) backedOff(v *mib.Values, shift uint8) int64 {
	return min(r.rto(v)<<min(shift, 12), maxRTO)
}
