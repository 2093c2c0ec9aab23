package ipnat

import "bytes"

const (
	maxLine  = 512 // octets of a line that is looked at
	maxEdits = 8   // changed lines of a connection that have not been acknowledged
)

// edit is a range of sequence numbers that goes on as another text.
type edit struct {
	at, n uint32
	text  []byte
}

func (e *edit) end() uint32 { return e.at + e.n }

// grows is by how much what follows moves on.
func (e *edit) grows() uint32 { return uint32(len(e.text)) - e.n }

// stream is one direction of a control connection: its lines, and what was changed of them. Sequence
// numbers are the sender's.
type stream struct {
	began bool
	fin   bool
	next  uint32 // what is to come
	line  []byte // the beginning of the line there
	skip  bool   // of which the rest is nobody's concern
	held  bool   // and which waits to be whole: it has not gone on

	edits []edit // that have not been acknowledged, the first one first
	moved uint32 // by how much those before them have moved what follows
}

// start is at the sequence number of a SYN, or wherever a connection is met.
func (d *stream) start(seq uint32) {
	*d = stream{began: true, next: seq, line: d.line[:0], edits: d.edits[:0]}
}

func before(a, b uint32) bool { return int32(a-b) < 0 }

// sent is up to where the stream has gone on.
func (d *stream) sent() uint32 {
	if d.held {
		return d.next - uint32(len(d.line))
	}
	return d.next
}

// mapped is a sequence number as the receiver knows it. Inside of a changed text there is none:
// its beginning.
func (d *stream) mapped(seq uint32) uint32 {
	by := d.moved
	for x := range d.edits {
		e := &d.edits[x]
		if before(seq, e.end()) {
			if before(e.at, seq) {
				seq = e.at
			}
			break
		}
		by += e.grows()
	}
	return seq + by
}

// unmapped is one that the receiver says as the sender knows it; inside of a changed text its beginning,
// or with up its end.
func (d *stream) unmapped(seq uint32, up bool) uint32 {
	by := d.moved
	for x := range d.edits {
		e := &d.edits[x]
		at := e.at + by
		if !before(at, seq) {
			break
		}
		if before(seq, at+uint32(len(e.text))) {
			if up {
				return e.end()
			}
			return e.at
		}
		by += e.grows()
	}
	return seq - by
}

// acknowledged forgets the changes that the receiver, who says ack, has.
func (d *stream) acknowledged(ack uint32) {
	n := 0
	for n < len(d.edits) {
		e := &d.edits[n]
		if before(ack, e.at+d.moved+uint32(len(e.text))) || before(d.mapped(d.sent()), ack) {
			break
		}
		d.moved += e.grows()
		n++
	}
	if n > 0 {
		d.edits = d.edits[:copy(d.edits, d.edits[n:])]
	}
}

// reader is asked about the lines of a stream.
type reader interface {
	// wants reports whether more of a line that begins so is to be read, and whether it
	// waits for its end because it may be changed.
	wants(line []byte) (read, hold bool)
	// whole is a line up to its end. With ok, its octets from at to end go on as text.
	whole(line []byte) (at, end int, text []byte, ok bool)
}

// pass takes in the octets b at seq, with a FIN behind them if fin, and answers what goes on for them:
// b itself, or other octets, at which of the receiver's sequence numbers. false: they are not the
// next ones, or too much has been changed and not acknowledged; nothing has happened then.
func (d *stream) pass(seq uint32, b []byte, fin bool, r reader) (out []byte, at uint32, ok bool) {
	end := seq + uint32(len(b))
	sent := d.sent()
	if len(b) == 0 && !fin {
		if before(sent, seq) && !before(d.next, seq) { // what waits lies before it
			seq = sent
		}
		return b, d.mapped(seq), true
	}
	fresh := before(d.next, end) || fin && !d.fin && end == d.next
	if before(d.next, seq) || fresh && len(d.edits) >= maxEdits {
		return nil, 0, false
	}
	from, all := seq, b
	if before(sent, seq) {
		from = sent
		all = append(append(make([]byte, 0, maxLine+len(b)), d.line[:seq-sent]...), b...)
	}
	if fresh {
		d.take(b[len(b)-int(end-d.next):], r)
		if fin {
			d.next, d.fin, d.held = d.next+1, true, false
		}
	}
	to := end
	if before(d.sent(), end) {
		to = d.sent()
	}
	out, at = d.render(from, to, all)
	return out, at, true
}

// take reads the octets behind next.
func (d *stream) take(b []byte, r reader) {
	for len(b) > 0 {
		part, whole := b, false
		if k := bytes.IndexByte(b, '\n'); k >= 0 {
			part, whole = b[:k+1], true
		}
		b = b[len(part):]
		d.next += uint32(len(part))
		if !d.skip && len(d.line)+len(part) > maxLine {
			d.forget()
		}
		if !d.skip {
			d.line = append(d.line, part...)
		}
		switch {
		case whole && !d.skip:
			if at, end, text, ok := r.whole(d.line); ok && len(d.edits) < 2*maxEdits {
				first := d.next - uint32(len(d.line))
				d.edits = append(d.edits, edit{first + uint32(at), uint32(end - at), text})
			}
			fallthrough
		case whole:
			d.forget()
			d.skip = false
		case !d.skip:
			read, hold := r.wants(d.line)
			if d.held = hold; !read {
				d.forget()
			}
		}
	}
}

// forget lets go of the line.
func (d *stream) forget() { d.line, d.skip, d.held = d.line[:0], true, false }

// render is the sender's octets from from to to, which all begins with, as they go on. A change of
// which they have the beginning goes on whole; one that they begin inside of has gone on before.
func (d *stream) render(from, to uint32, all []byte) (out []byte, at uint32) {
	pos, first, changed := from, from, false
	for x := range d.edits {
		e := &d.edits[x]
		if !before(pos, e.end()) || !before(e.at, to) {
			continue
		}
		if before(e.at, pos) {
			first = e.end()
		} else {
			if !changed {
				out = make([]byte, 0, len(all)+64)
			}
			out = append(append(out, all[pos-from:e.at-from]...), e.text...)
		}
		pos, changed = e.end(), true
	}
	if !before(from, to) {
		return nil, d.mapped(from)
	}
	if !changed {
		return all[:to-from], d.mapped(from)
	}
	if before(pos, to) {
		out = append(out, all[pos-from:to-from]...)
	}
	return out, d.mapped(first)
}
