package ipfilter

import (
	"sync"

	"ionet/ipl"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

var (
	nodeFlags    = mib.Int("net.inet.ipf.fr_flags", 0, "Packets that are logged whatever rules say: 0x10000000 passed, 0x20000000 blocked, 0x40000000 matched by no rule.", mib.Range(0, logEvery))
	nodeStateLog = mib.Int("net.inet.ipf.ipstate_logging", 1, "1: beginning and end of states are logged.", mib.Bool())
	nodeLogAll   = mib.Int("net.inet.ipf.ipl_logall", 0, "1: every record has the first octets of the packet's body, as with `log body`.", mib.Bool())
	nodeLogSize  = mib.Int("net.inet.ipf.logsize", 8192, "Records of each log that wait for ipmon at most; further ones are lost, and counted.", mib.Range(16, 1<<20))
)

// Bits of fr_flags, in IPFilter's numbers (FF_LOGPASS and so on).
const (
	logPassed  = 0x10000000
	logBlocked = 0x20000000
	logNoMatch = 0x40000000
	logEvery   = logPassed | logBlocked | logNoMatch
)

// LogEvent says what a record is about.
type LogEvent uint8

const (
	LogPass LogEvent = iota + 1
	LogBlock
	LogOnly // action log
	LogNew  // a state began
	LogExpired
	LogRemoved
	LogNoMatch // by fr_flags: no rule has matched
)

// logBody is the octets of a packet that a record has with log body.
const logBody = 128

// Record is one entry of a log.
type Record struct {
	Seq    uint64
	Time   int64 // nanoseconds of the stack's clock
	Event  LogEvent
	Out    bool
	If     string
	Group  string
	Rule   int // its line in its list as it was loaded; 0: none
	Level  string
	Tag    int
	Len    int     // of the packet
	Is     uint32  // the packet's pfil.Info.Is
	Keeps  [2]bool // its rule keeps state, fragments
	Anyway bool    // by fr_flags: its rule does not ask for it
	Packet []byte  // its headers, and with log body what follows
	State  StateInfo
}

// Log is a queue of records for who reads them. Owner: the filter. Bound:
// net.inet.ipf.logsize. Full: what is new is lost and counted.
type Log struct {
	env *netif.Env
	mu  sync.Mutex
	of  [2]logQueue // packets, states
}

type logQueue struct {
	all  []Record
	seq  uint64
	lost uint64
	wake func()
}

// Logs.
const (
	PacketLog = 0
	StateLog  = 1
)

func (l *Log) init(env *netif.Env) { l.env = env }

func (l *Log) put(which int, r Record) bool {
	l.mu.Lock()
	q := &l.of[which]
	q.seq++
	r.Seq = q.seq
	if len(q.all) >= int(l.env.MIB.Int(nodeLogSize)) {
		q.lost++
		l.mu.Unlock()
		return false
	}
	q.all = append(q.all, r)
	wake := q.wake
	l.mu.Unlock()
	if wake != nil {
		wake()
	}
	return true
}

// ReadLog takes up to max records from a log, the oldest first, and answers how
// many were lost since the last time.
func (f *Filter) ReadLog(which, max int) (all []Record, lost uint64) {
	l := &f.log
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.of[which]
	n := min(max, len(q.all))
	all = append(all, q.all[:n]...)
	rest := copy(q.all, q.all[n:])
	clear(q.all[rest:])
	q.all = q.all[:rest]
	lost, q.lost = q.lost, 0
	return all, lost
}

// OnLog has wake called, from the packet path, when a record has come; nil ends it.
func (f *Filter) OnLog(which int, wake func()) {
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	f.log.of[which].wake = wake
}

// Waiting is the number of records that wait.
func (f *Filter) Waiting(which int) int {
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	return len(f.log.of[which].all)
}

// logPacket writes down a packet and what r, which may be nil, does with it; false: the log is full.
func (f *Filter) logPacket(w *netif.Work, i *pfil.Info, r *rule, e LogEvent) bool {
	rec := Record{Time: w.Now, Event: e, Out: i.Out, If: i.If.Name, Tag: -1, Len: i.Pkt.Len(), Is: i.Is, Anyway: true}
	b := i.Pkt.Bytes()
	n := i.L4 + headersOf(i)
	body := f.env.MIB.On(nodeLogAll)
	if r != nil {
		rec.Group, rec.Rule, rec.Tag = r.Group, int(r.number.Load()), r.LogTag
		rec.Keeps, rec.Anyway = [2]bool{r.KeepState != nil, r.KeepFrags}, r.Log == nil && r.Action != ipl.Log
		if r.Log != nil {
			rec.Level, body = r.Log.Level, body || r.Log.Body
		}
	}
	if body {
		n += logBody
	}
	rec.Packet = append([]byte(nil), b[:min(n, len(b))]...)
	d := f.stat(i)
	if !f.log.put(PacketLog, rec) {
		d.LogFailed.Add(1)
		return false
	}
	d.Logged.Add(1)
	switch e {
	case LogPass:
		d.LoggedPassed.Add(1)
	case LogBlock:
		d.LoggedBlocked.Add(1)
	}
	return true
}

func passOrBlock(pass bool) LogEvent {
	if pass {
		return LogPass
	}
	return LogBlock
}

// logAnyway writes down a packet that no rule asks to be logged, if fr_flags does. match
// is whether a rule, or a state, has decided.
func (f *Filter) logAnyway(w *netif.Work, i *pfil.Info, r *rule, pass, match bool) {
	switch flags := f.env.MIB.Int(nodeFlags); {
	case flags == 0:
	case flags&logNoMatch != 0 && !match:
		f.logPacket(w, i, r, LogNoMatch)
	case flags&logPassed != 0 && pass, flags&logBlocked != 0 && !pass:
		f.logPacket(w, i, r, passOrBlock(pass))
	}
}

// headersOf is the octets of a transport header that a record keeps.
func headersOf(i *pfil.Info) int {
	switch i.Proto {
	case packet.ProtoTCP:
		return packet.TCPLen
	case packet.ProtoICMP, packet.ProtoICMPv6: // an error with what it quotes
		return packet.ICMPLen + packet.IPv6Len + 8
	}
	return packet.UDPLen
}

func (f *Filter) logState(now int64, s *state, e LogEvent) {
	if !f.env.MIB.On(nodeStateLog) {
		return
	}
	f.log.put(StateLog, Record{Time: now, Event: e, State: s.info(now)})
}
