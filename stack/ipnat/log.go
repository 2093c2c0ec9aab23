package ipnat

import (
	"sync"

	"ionet/stack/mib"
)

var (
	nodeLogging = mib.Int("net.inet.ipf.ipnat_logging", 1, "Sessions that begin and end are logged.", mib.Bool())
	nodeLogSize = mib.Int("net.inet.ipf.ipnat_logsize", 4096, "Records of translations that wait to be read; further ones are lost.", mib.Range(1, 1<<20))
)

// LogEvent is what became of a session.
type LogEvent uint8

const (
	LogNew    LogEvent = iota + 1
	LogExpire          // it was idle
	LogFlush           // it was taken out
	LogEvict           // it made room
)

// String is the word that ipmon has for it.
func (e LogEvent) String() string {
	switch e {
	case LogNew:
		return "NEW"
	case LogExpire:
		return "EXPIRE"
	case LogFlush:
		return "FLUSH"
	case LogEvict:
		return "EVICT"
	}
	return "?"
}

// LogRecord is a session that began or ended (RFC 8158 §5.6).
type LogRecord struct {
	Time  int64 // nanoseconds of the stack's clock
	Event LogEvent
	SessionInfo
}

// natLog is the records that nobody has read.
type natLog struct {
	n    *NAT
	mu   sync.Mutex
	recs []LogRecord
	lost uint64
	wake func()
}

func (l *natLog) put(s *session, e LogEvent) {
	if !l.n.env.MIB.On(nodeLogging) {
		return
	}
	now := l.n.env.Now()
	l.mu.Lock()
	if int64(len(l.recs)) >= l.n.env.MIB.Int(nodeLogSize) {
		l.lost++
		l.mu.Unlock()
		return
	}
	l.recs = append(l.recs, LogRecord{now, e, s.info(now)})
	wake := l.wake
	l.mu.Unlock()
	if wake != nil {
		wake()
	}
}

// OnLog has wake called, from the packet path, when a record has come; nil ends it.
func (n *NAT) OnLog(wake func()) {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	n.log.wake = wake
}

// Waiting is the number of records that wait.
func (n *NAT) Waiting() int {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return len(n.log.recs)
}

// ReadLog takes up to limit records from the log, the oldest first, and answers how
// many were lost since the last call. limit 0: all.
func (n *NAT) ReadLog(limit int) (recs []LogRecord, lost uint64) {
	l := &n.log
	l.mu.Lock()
	defer l.mu.Unlock()
	k := len(l.recs)
	if limit > 0 {
		k = min(k, limit)
	}
	recs, l.recs = l.recs[:k:k], l.recs[k:]
	lost, l.lost = l.lost, 0
	return recs, lost
}
