package netif

import (
	"ionet/stack/epoch"
	"ionet/stack/mib"
	"ionet/stack/packet"
)

// Waker is told once, at the end of the call that caused it, that something
// it watches has changed. It must not block. It holds no table: what it wants
// to send it puts on the work list ([Work.Turn], [Work.Post]), which is then
// done before the call ends.
type Waker interface{ Wake(w *Work) }

// Flusher is who sends packets that must leave in order although several
// goroutines have cause to send them: a connection. It is on the list of one
// Work at a time, whose owner alone sends for it until Flushed answers false.
type Flusher interface {
	// Flush sends what there is to send.
	Flush(w *Work)
	// Flushed is told that all of it has been transmitted; true: there is more.
	Flushed(w *Work) bool
}

// Work is the list of what a call into the stack has still to do: turns,
// frames to transmit, sockets to wake, counters to publish (laws 2, 3, 7).
// It belongs to one goroutine.
type Work struct {
	Env *Env
	Now int64 // nanoseconds of the stack's clock
	// Local is a filter's, for what it would otherwise have to make for each packet.
	Local any

	reader *epoch.Reader
	turns  []turn
	tx     []txQueue
	flush  []Flusher
	sent   int // flush[:sent] have sent
	wakes  []Waker
	posts  []func(*Work)
	delta  []uint32
	dirty  []mib.Counter
	one    [1]*packet.Buf
	segs   []*packet.Buf // room for what a super-packet is cut into
}

type turn struct {
	fn  func(*Work, *packet.Buf)
	pkt *packet.Buf
}

type txQueue struct {
	ifp    *Interface
	direct bool
	pkts   []*packet.Buf
}

// Start begins a call at time now.
func (w *Work) Start(now int64) {
	w.Now = now
	w.reader.Enter()
}

// Finish does what is left: turns until none is left, then transmission,
// counters, and, after the tables have been let go, posted changes and wakes.
func (w *Work) Finish() {
	for w.finish() {
		w.reader.Enter()
	}
}

// finish is one round; it reports whether the wakes have left work behind.
func (w *Work) finish() (more bool) {
	for {
		for i := 0; i < len(w.turns); i++ { // a turn may append turns
			t := w.turns[i]
			w.turns[i] = turn{}
			t.fn(w, t.pkt)
		}
		w.turns = w.turns[:0]
		if w.flushAll() {
			continue
		}
		if len(w.posts) == 0 {
			break
		}
		w.reader.Exit()
		for i := 0; i < len(w.posts); i++ {
			f := w.posts[i]
			w.posts[i] = nil
			f(w)
		}
		w.posts = w.posts[:0]
		w.reader.Enter()
	}
	w.reader.Exit()
	for _, c := range w.dirty {
		w.Env.MIB.Add(c, uint64(w.delta[c]))
		w.delta[c] = 0
	}
	w.dirty = w.dirty[:0]
	for i := 0; i < len(w.wakes); i++ {
		k := w.wakes[i]
		w.wakes[i] = nil
		k.Wake(w)
	}
	w.wakes = w.wakes[:0]
	return len(w.turns)+len(w.tx)+len(w.flush)+len(w.posts)+len(w.dirty) > 0
}

// flushAll has the flushers send, transmits, and lets go of those who have
// nothing more. It reports that there are turns again, or flushers.
func (w *Work) flushAll() (again bool) {
	for ; w.sent < len(w.flush); w.sent++ {
		w.flush[w.sent].Flush(w)
	}
	if len(w.turns) > 0 {
		return true
	}
	w.flushTx()
	more := w.flush[:0]
	for _, f := range w.flush {
		if f.Flushed(w) {
			more = append(more, f)
		}
	}
	clear(w.flush[len(more):])
	w.flush, w.sent = more, 0
	return len(more) > 0
}

// FlushLater has f send at the end of the call. f sees to it that it is on one
// list only.
func (w *Work) FlushLater(f Flusher) { w.flush = append(w.flush, f) }

// End is Finish for a Work that came from [Env.Begin]; it goes back.
func (w *Work) End() {
	w.Finish()
	e := w.Env
	e.mu.Lock()
	if len(e.idle) < 64 {
		e.idle, w = append(e.idle, w), nil
	}
	e.mu.Unlock()
	if w != nil {
		w.reader.Leave()
	}
}

// Turn puts a packet on the work list: fn takes it over when the present
// walk is done. It is the only way a packet turns around (law 2).
func (w *Work) Turn(fn func(*Work, *packet.Buf), pkt *packet.Buf) {
	w.turns = append(w.turns, turn{fn, pkt})
}

// One is a burst of one packet, for a turn's fn that feeds an Input. It is true
// until the next turn.
func (w *Work) One(pkt *packet.Buf) []*packet.Buf {
	w.one[0] = pkt
	return w.one[:]
}

// Post has f run when the call holds no table any more: the place for a
// change of a table that a packet caused (a redirect), which waits for
// readers and so must not be one.
func (w *Work) Post(f func(*Work)) { w.posts = append(w.posts, f) }

// WakeLater has k woken at the end of the call.
func (w *Work) WakeLater(k Waker) { w.wakes = append(w.wakes, k) }

// Count adds one to a counter at the end of the call.
func (w *Work) Count(c mib.Counter) { w.CountN(c, 1) }

// CountN adds n to a counter at the end of the call.
func (w *Work) CountN(c mib.Counter, n uint32) {
	if w.delta[c] == 0 {
		w.dirty = append(w.dirty, c)
	}
	w.delta[c] += n
}

// Drop ends a packet's walk: it is counted under its reason, shown to the
// captures on its interface, and freed.
func (w *Work) Drop(pkt *packet.Buf, why mib.Counter) {
	w.Count(why)
	if pkt.RcvIf != 0 {
		if ifp := w.Env.Ifs.ByIndex(pkt.RcvIf); ifp != nil {
			ifp.tapDrop(w, pkt, why)
		}
	}
	pkt.Free()
}

// Transmit hands a frame, complete with its link header, to an interface.
func (w *Work) Transmit(ifp *Interface, pkt *packet.Buf) { w.transmit(ifp, false, pkt) }

// TransmitDirect is Transmit past the bridge that the interface is in: for what stands
// on the interface, the bridge itself above all.
func (w *Work) TransmitDirect(ifp *Interface, pkt *packet.Buf) { w.transmit(ifp, true, pkt) }

func (w *Work) transmit(ifp *Interface, direct bool, pkt *packet.Buf) {
	for i := range w.tx {
		if w.tx[i].ifp == ifp && w.tx[i].direct == direct {
			w.tx[i].pkts = append(w.tx[i].pkts, pkt)
			return
		}
	}
	if n := len(w.tx); n < cap(w.tx) { // take up an old queue's memory
		w.tx = w.tx[:n+1]
		w.tx[n].ifp, w.tx[n].direct = ifp, direct
		w.tx[n].pkts = append(w.tx[n].pkts[:0], pkt)
		return
	}
	w.tx = append(w.tx, txQueue{ifp, direct, append(make([]*packet.Buf, 0, 64), pkt)})
}

// flushTx transmits. Who is stacked on other interfaces puts frames for them
// at the end of the list meanwhile.
func (w *Work) flushTx() {
	for i := 0; i < len(w.tx); i++ {
		q := w.tx[i]
		w.tx[i].ifp, w.tx[i].pkts = nil, nil // nothing joins it any more
		q.ifp.transmit(w, q.pkts, q.direct)
		clear(q.pkts)
		w.tx[i].pkts = q.pkts[:0]
	}
	w.tx = w.tx[:0]
}
