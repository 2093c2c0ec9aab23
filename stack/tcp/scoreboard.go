package tcp

// record is a run of octets that was sent at one time. The FIN is an octet
// here.
type record struct {
	seq, end seq
	at       int64 // when it was last sent
	flags    uint8
}

const (
	rSacked = 1 << iota // the peer has it (RFC 2018)
	rLost               // held to be lost, not sent again yet
	rResent             // sent more than once: no RTT sample (Karn)
	rProbe              // of the path's MTU
)

func (r *record) len() uint32 { return uint32(r.end - r.seq) }

// scoreboard is what is in flight, in order of sequence, without gaps from
// sndUna to sndNxt. Owner: the connection. Bound: what the windows let be sent.
type scoreboard struct {
	rec    []record // rec[head:] count
	head   int
	sacked uint32 // octets of records with rSacked
	lost   uint32 // of those with rLost
	fack   seq    // behind the highest octet that the peer has
	rack   rack
	tlpEnd seq    // of the tail loss probe
	rexTS  uint32 // our timestamp on the first retransmission (RFC 3522)
	// firstLost: no record in front of this index (from head) is lost.
	firstLost int
}

func (s *scoreboard) live() []record { return s.rec[s.head:] }

func (s *scoreboard) len() int { return len(s.rec) - s.head }

// push notes what is sent for the first time. What follows the last record at
// the same time becomes a part of it.
func (s *scoreboard) push(from, to seq, at int64, flags uint8) {
	if n := len(s.rec); n > s.head {
		if l := &s.rec[n-1]; l.at == at && l.flags|flags == 0 && l.end == from && uint32(to-l.seq) <= maxSuper {
			l.end = to
			return
		}
	}
	if s.head > 0 && len(s.rec) == cap(s.rec) {
		n := copy(s.rec, s.rec[s.head:])
		s.rec, s.head = s.rec[:n], 0
	}
	s.rec = append(s.rec, record{seq: from, end: to, at: at, flags: flags})
}

// split cuts the record i (from head) before at, which lies inside it.
func (s *scoreboard) split(i int, at seq) {
	i += s.head
	s.rec = append(s.rec, record{})
	copy(s.rec[i+1:], s.rec[i:])
	s.rec[i].end, s.rec[i+1].seq = at, at
}

// find is the index of the record that holds q, or of the first behind it.
func (s *scoreboard) find(q seq) int {
	r := s.live()
	lo, hi := 0, len(r)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if r[m].end.gt(q) {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo
}

// setLost marks record i, which is neither lost nor sacked.
func (s *scoreboard) setLost(i int) {
	r := &s.rec[s.head+i]
	r.flags |= rLost
	s.lost += r.len()
	s.firstLost = min(s.firstLost, i)
}

// resent notes that record i has been sent again.
func (s *scoreboard) resent(i int, at int64) {
	r := &s.rec[s.head+i]
	if r.flags&rLost != 0 {
		s.lost -= r.len()
	}
	r.flags = r.flags&^(rLost|rProbe) | rResent
	r.at = at
}

// nextLost is the index of the first lost record, or -1.
func (s *scoreboard) nextLost() int {
	if s.lost == 0 {
		return -1
	}
	r := s.live()
	for i := s.firstLost; i < len(r); i++ {
		if r[i].flags&rLost != 0 {
			s.firstLost = i
			return i
		}
	}
	return -1
}

// ack drops what lies before una and tells f of it.
func (s *scoreboard) ack(una seq, f func(r *record)) {
	k := 0
	for s.head < len(s.rec) {
		r := &s.rec[s.head]
		if r.seq.geq(una) {
			break
		}
		if r.end.gt(una) { // a part
			whole := *r // a copy of the part would escape through f
			r.end = una
			s.forget(r)
			if r.flags&rSacked == 0 {
				f(r)
			}
			*r = whole
			r.seq = una
			break
		}
		s.forget(r)
		if r.flags&rSacked == 0 {
			f(r)
		}
		s.head++
		k++
	}
	s.firstLost = max(s.firstLost-k, 0)
	if s.head == len(s.rec) {
		s.rec, s.head, s.firstLost = s.rec[:0], 0, 0
	}
}

func (s *scoreboard) forget(r *record) {
	if r.flags&rSacked != 0 {
		s.sacked -= r.len()
	}
	if r.flags&rLost != 0 {
		s.lost -= r.len()
	}
}

// maxRecords bounds what blocks that begin and end anywhere can cut records into
// (CVE-2019-11477 and its kin).
const maxRecords = 8192

// sack marks [from, to), tells f of every record that is new in it, and
// answers the octets of those.
func (s *scoreboard) sack(from, to seq, f func(r *record)) (n uint32) {
	for i := s.find(from); i < s.len(); i++ {
		r := &s.rec[s.head+i]
		if r.seq.geq(to) {
			break
		}
		if r.flags&rSacked != 0 {
			continue
		}
		if (r.seq.lt(from) || r.end.gt(to)) && s.len() >= maxRecords {
			continue // only whole ones
		}
		if r.seq.lt(from) {
			s.split(i, from)
			continue
		}
		if r.end.gt(to) {
			s.split(i, to)
			r = &s.rec[s.head+i]
		}
		f(r)
		if r.flags&rLost != 0 {
			s.lost -= r.len()
		}
		r.flags = r.flags&^rLost | rSacked
		s.sacked += r.len()
		n += r.len()
		if r.end.gt(s.fack) {
			s.fack = r.end
		}
	}
	return n
}

// renege takes back every SACK: the peer may have thrown away what it had
// (RFC 2018 §8).
func (s *scoreboard) renege() {
	r := s.live()
	for i := range r {
		r[i].flags &^= rSacked
	}
	s.sacked = 0
}

// loseAll marks everything that the peer is not known to have as lost; with
// spare, what was sent after that time stays.
func (s *scoreboard) loseAll(spare int64) {
	r := s.live()
	for i := range r {
		if r[i].flags&(rSacked|rLost) == 0 && r[i].at <= spare {
			s.setLost(i)
		}
	}
}

// unlose takes every mark of loss back.
func (s *scoreboard) unlose() {
	r := s.live()
	for i := range r {
		r[i].flags &^= rLost
	}
	s.lost = 0
}
