// Package outq is the sending half of a stream that carries records: writers
// queue whole records and never wait, and what they queued leaves in as few
// writes as there can be.
package outq

import (
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rounds is how often a writer goes on with what others queued while it wrote,
// before it leaves the rest to Drain.
const rounds = 4

// A batch of less than worthwhile octets is left to Drain while the other end
// has unread octets waiting: it would gain nothing by being there sooner, and
// by the time Drain runs more has come to leave with it.
const (
	worthwhile = 16 << 10
	unread     = 8 << 10
)

// Queue is the octets waiting for one stream, beside what its socket holds.
// Owner: whoever holds the lock. Bound: as New was told. Full: Room answers
// nil, and the caller drops its record and counts it.
type Queue struct {
	raw   syscall.RawConn
	bound int

	mu    sync.Mutex
	queue []byte
	// sending means that somebody owns out[off:], the records taken from the
	// queue and not yet written: a Flush, or after EAGAIN the Drain that kick
	// wakes. So a record is always finished before the next.
	sending bool
	out     []byte
	off     int
	err     error
	kick    chan struct{}

	tryFn, allFn, vecFn func(fd uintptr) bool

	vec  []unix.Iovec // of the Gather that owns out
	hdr  unix.Msghdr
	sent int
}

// New makes the queue of a non-blocking stream socket.
func New(raw syscall.RawConn, bound int) *Queue {
	q := &Queue{raw: raw, bound: bound, kick: make(chan struct{}, 1)}
	q.tryFn = func(fd uintptr) bool {
		if len(q.out) >= worthwhile || !behind(int(fd)) {
			q.send(int(fd))
		}
		return true
	}
	q.allFn = func(fd uintptr) bool { return q.send(int(fd)) }
	q.vecFn = func(fd uintptr) bool { q.sendVec(fd); return true }
	return q
}

// Lock begins a batch of records, Unlock ends it; Room and Force lie between.
func (q *Queue) Lock() { q.mu.Lock() }

// Unlock ends a batch of records. It does not send them: Flush does.
func (q *Queue) Unlock() { q.mu.Unlock() }

// Room is the place for a record of n octets, or nil when the queue is full.
func (q *Queue) Room(n int) []byte {
	at := len(q.queue)
	if at+n > q.bound {
		return nil
	}
	q.queue = slices.Grow(q.queue, n)[:at+n]
	return q.queue[at:]
}

// Force queues a record that must not be lost, beyond the bound if need be.
func (q *Queue) Force(record []byte) { q.queue = append(q.queue, record...) }

// Flush writes what is queued, as far as the socket takes it without waiting.
func (q *Queue) Flush() {
	q.mu.Lock()
	if q.sending {
		q.mu.Unlock()
		return
	}
	q.sending = true
	q.resume()
}

// resume writes what is queued for who has set sending; mu is held, and not
// any more afterwards.
func (q *Queue) resume() {
	for round := 0; q.take(); round++ {
		if round < rounds && q.raw.Write(q.tryFn) == nil && q.off == len(q.out) {
			q.mu.Lock()
			continue
		}
		q.kick <- struct{}{} // has room: only the owner of out kicks
		return
	}
}

// Gather writes records straight from where they lie, when nothing is queued
// in front of them and nobody else is writing; otherwise it does nothing and
// answers false. What the socket does not take is copied behind the part of a
// record that it did take, as far as the bound allows; lost is the number of
// records that found no room.
func (q *Queue) Gather(records [][]byte) (lost int, done bool) {
	q.mu.Lock()
	if q.sending || len(q.queue) > 0 {
		q.mu.Unlock()
		return 0, false
	}
	q.sending = true
	q.mu.Unlock()
	q.vec, q.sent = q.vec[:0], 0
	for _, r := range records {
		q.vec = append(q.vec, unix.Iovec{Base: &r[0]})
		q.vec[len(q.vec)-1].SetLen(len(r))
	}
	_ = q.raw.Write(q.vecFn) // a closed stream takes nothing, which Drain will find
	clear(q.vec)
	q.out, q.off = q.out[:0], 0
	at := q.sent
	for _, r := range records {
		switch {
		case at >= len(r):
			at -= len(r)
			continue
		case at > 0 || len(q.out)+len(r) <= q.bound:
			q.out = append(q.out, r[at:]...)
		default:
			lost++
		}
		at = 0
	}
	if len(q.out) > 0 {
		q.kick <- struct{}{}
		return lost, true
	}
	q.mu.Lock()
	q.resume()
	return lost, true
}

func (q *Queue) sendVec(fd uintptr) {
	q.hdr = unix.Msghdr{Iov: &q.vec[0]}
	q.hdr.SetIovlen(len(q.vec))
	for {
		n, _, err := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&q.hdr)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if err == 0 {
			q.sent = int(n)
		}
		if err != unix.EINTR {
			return
		}
	}
}

// take moves the queue to out and unlocks; without a queue it ends the sending
// instead.
func (q *Queue) take() bool {
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		q.sending = false
		return false
	}
	q.out, q.queue, q.off = q.queue, q.out[:0], 0
	return true
}

// behind reports whether the other end has not read what was written.
func behind(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	return err == nil && n >= unread
}

// send writes out[off:] until it is done or the socket is full. It reports
// whether there is nothing left to do, because of an error too.
func (q *Queue) send(fd int) bool {
	for q.off < len(q.out) {
		n, err := unix.SendmsgN(fd, q.out[q.off:], nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch err {
		case nil:
			q.off += n
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			q.err = err
			return true
		}
	}
	return true
}

// Drain finishes what Flush could not, until gone is closed or the stream
// fails, which it answers. Nothing is sent afterwards.
func (q *Queue) Drain(gone <-chan struct{}) error {
	for {
		select {
		case <-q.kick:
		case <-gone:
			return nil
		}
		for more := true; more; {
			if err := q.raw.Write(q.allFn); err != nil {
				return err
			}
			if q.err != nil {
				return q.err
			}
			q.mu.Lock()
			more = q.take()
		}
	}
}

// Waiting is the number of octets queued and not yet taken to be written.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}
