package route

import (
	"errors"
	"net/netip"
	"sync"
	"syscall"
)

// Type is a message's type (BSD's RTM_*).
type Type uint8

const (
	MsgAdd      Type = 1
	MsgDelete   Type = 2
	MsgChange   Type = 3
	MsgGet      Type = 4
	MsgLosing   Type = 5
	MsgRedirect Type = 6
	MsgMiss     Type = 7
	MsgLock     Type = 8
	MsgResolve  Type = 11
)

// Message tells of a change, or of a request that failed.
type Message struct {
	Type   Type
	Number uint64 // counts all messages of the table from 1: a gap is a loss
	Route  Route
	Err    syscall.Errno // 0: done
	PID    int32         // the requester's, from the Op
	Seq    int32         // the requester's, from the Op
	Author netip.Addr    // who sent a redirect
}

// news is the table's list of subscribers. Its lock is a leaf.
type news struct {
	mu   sync.Mutex
	last uint64
	next int
	subs []subscriber
}

type subscriber struct {
	id    int
	f     func(Message)
	wants func(pid int32) bool // nil: everything
}

// watched says whether anybody wants to hear of the requests of pid.
func (n *news) watched(pid int32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.subs {
		if s.wants == nil || s.wants(pid) {
			return true
		}
	}
	return false
}

func (n *news) publish(m Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	m.Number = n.last
	for _, s := range n.subs {
		s.f(m)
	}
}

// Subscribe has f called with every message, in order, after the change can
// be seen. f must not block and must not call the table: it queues. The
// answer ends it.
//
// wants, if not nil, is asked under the table's lock before a batch whether
// the messages of a requester are of use, so that a table that nobody watches
// does not make any; f may be called regardless. It must not call the table.
func (t *Table) Subscribe(f func(Message), wants func(pid int32) bool) (cancel func()) {
	n := &t.news
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	id := n.next
	n.subs = append(n.subs, subscriber{id, f, wants})
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for i := range n.subs {
			if n.subs[i].id == id {
				n.subs = append(n.subs[:i:i], n.subs[i+1:]...)
				return
			}
		}
	}
}

// Publish passes on what others have to tell of a route: a miss, a losing
// gateway. It may be called inside an epoch.
func (t *Table) Publish(m Message) { t.news.publish(m) }

func message(op *Op, e *edit, err error) Message {
	m := Message{Type: Type(op.Kind), PID: op.PID, Seq: op.Seq}
	switch {
	case err != nil:
		m.Route.Spec = op.Spec
		if !errors.As(err, &m.Err) {
			m.Err = syscall.EINVAL
		}
		return m
	case e.came != nil:
		m.Route = e.came.route(e.dst)
		if e.gone != nil {
			m.Route.Use = e.gone.use.Load()
		}
		if e.new != e.came {
			m.Route.Flags |= FlagMPath
		}
	default:
		m.Route = e.gone.route(e.dst)
		if e.old != e.gone {
			m.Route.Flags |= FlagMPath
		}
	}
	m.Route.Flags |= FlagDone
	return m
}
