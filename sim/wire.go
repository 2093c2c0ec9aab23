package sim

import "time"

// Inject puts a frame on the segment, d from now, as a station that nobody knows would: it comes
// as it is to those whom its link address concerns. The frame is the segment's then.
func (s *Segment) Inject(d time.Duration, frame []byte) {
	n := s.net
	n.At(d, func() {
		for _, to := range s.ports {
			if to.concerned(frame) {
				n.note("injected", to, frame)
				n.push(&event{at: n.now, to: to, frame: frame})
			}
		}
	})
}
