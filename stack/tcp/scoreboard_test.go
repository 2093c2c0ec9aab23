package tcp

import "testing"

// A peer that selects single octets of what is in flight cuts the board into
// records only so far.
func TestScoreboardIsBounded(t *testing.T) {
	s := &scoreboard{}
	const flight = 1 << 20
	for q := seq(0); q < flight; q += 1 << 15 {
		s.push(q, q+1<<15, int64(q), 0)
	}
	news := uint32(0)
	for q := seq(0); q < flight; q += 2 {
		news += s.sack(q, q+1, func(*record) {})
	}
	if n := s.len(); n > maxRecords+2 {
		t.Errorf("%d records", n)
	}
	if s.sacked != news {
		t.Errorf("%d octets are marked, %d were news", s.sacked, news)
	}
	// Whole records still count, and an acknowledgement takes all away.
	s.sack(0, flight, func(*record) {})
	if s.sacked != flight {
		t.Errorf("%d octets of %d are marked", s.sacked, flight)
	}
	s.ack(flight, func(*record) {})
	if s.len() != 0 || s.sacked != 0 || s.lost != 0 {
		t.Errorf("%d records, %d sacked, %d lost are left", s.len(), s.sacked, s.lost)
	}
}
