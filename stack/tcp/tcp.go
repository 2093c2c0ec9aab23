// Package tcp is the Transmission Control Protocol (RFC 9293), for any network
// layer.
//
// The walk up:
//
//	1 TCP.Input          checksum, header, options                    input.go
//	2 demultiplexing     connection, TIME_WAIT, listener, in order    input.go
//	3 conn.segment       RFC 9293 §3.10.7.4 under the lock            segment.go
//	4 conn.ackInput      what arrived there: scoreboard, RTT, loss    ack.go, rack.go, recovery.go
//	5 conn.dataInput     in order to the socket, else kept            data.go, rcvbuf.go
//	  conn.kick          there is something to send: the connection goes on the Work's list
//
// The walk down, at the end of the call, whoever made it:
//
//	1 conn.Flush         the only one that sends for this connection  flush.go
//	2 conn.fill          what may be sent, as super-packets           output.go
//	3 Network.Output
//
// A segment to a listener walks through syncache.go; one that belongs to
// nobody is answered by reset.go. A connection that is over but for stray
// segments is a few words in timewait.go.
//
// Locks: listener → connection → leaves. Everything of a connection is under
// conn.mu; what it wants to send it sends after that is let go, in order,
// since one Work at a time has it on its list (netif.Flusher).
package tcp

import (
	"sync"
	"sync/atomic"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

const (
	millisecond = int64(1e6)
	second      = int64(1e9)
)

var (
	nodeRFC1323    = mib.Int("net.inet.tcp.rfc1323", 1, "1: ask for window scaling and timestamps (RFC 7323), as far as win_scale and timestamps say.", mib.Bool())
	nodeWinScale   = mib.Int("net.inet.tcp.win_scale", 1, "1: ask for window scaling.", mib.Bool())
	nodeTimestamps = mib.Int("net.inet.tcp.timestamps", 1, "1: ask for timestamps.", mib.Bool())
	nodeSACK       = mib.Int("net.inet.tcp.sack", 1, "1: ask for selective acknowledgements (RFC 2018).", mib.Bool())
	nodeECN        = mib.Int("net.inet.tcp.ecn", 1, "Explicit congestion notification (RFC 3168): 0 off, 1 asked for and granted, 2 granted only.", mib.Range(0, 2))
	nodeSendSpace  = mib.Int("net.inet.tcp.sendspace", 65536, "Send buffer of a new socket, in octets.", mib.Range(2048, 1<<30))
	nodeRecvSpace  = mib.Int("net.inet.tcp.recvspace", 65536, "Receive buffer of a new socket, in octets.", mib.Range(2048, 1<<30))
	nodeSendAuto   = mib.Int("net.inet.tcp.sendbuf_auto", 1, "1: send buffers grow with the path, up to kern.sbmax.", mib.Bool())
	nodeRecvAuto   = mib.Int("net.inet.tcp.recvbuf_auto", 1, "1: receive buffers grow with the path, up to kern.sbmax.", mib.Bool())
	nodeMSSDflt    = mib.Int("net.inet.tcp.mssdflt", 512, "Segment size towards a peer that names none.", mib.Range(64, 65495))
	nodeMSSIfMTU   = mib.Int("net.inet.tcp.mss_ifmtu", 0, "1: the segment size we ask for comes from the interface alone, 0: from the route too.", mib.Bool())
	nodeMinMSS     = mib.Int("net.inet.tcp.minmss", 216, "Smallest segment size that a peer may ask for.", mib.Range(48, 1460))
	nodeInitWin    = mib.Int("net.inet.tcp.init_win", 10, "Initial window in segments (RFC 6928).", mib.Range(1, 100))
	nodeAckOnPush  = mib.Int("net.inet.tcp.ack_on_push", 0, "1: a segment with PSH is acknowledged at once.", mib.Bool())
	nodeDelack     = mib.Int("net.inet.tcp.delack", 40, "Milliseconds an acknowledgement waits for company; 0: it does not.", mib.Range(0, 500))
	nodeKeepIdle   = mib.Int("net.inet.tcp.keepidle", 14400, "Half seconds without traffic before SO_KEEPALIVE asks.", mib.Range(1, 1<<30))
	nodeKeepIntvl  = mib.Int("net.inet.tcp.keepintvl", 150, "Half seconds between its questions.", mib.Range(1, 1<<30))
	nodeKeepCnt    = mib.Int("net.inet.tcp.keepcnt", 8, "Questions without an answer before the connection ends.", mib.Range(1, 1000))
	nodeCompat42   = mib.Int("net.inet.tcp.compat_42", 0, "1: keepalive probes carry an octet, as 4.2BSD answers no others.", mib.Bool())
	nodeKeepInit   = mib.Int("net.inet.tcp.keepinit", 150, "Half seconds a connection attempt may take.", mib.Range(1, 1<<30))
	_              = mib.Int("net.inet.tcp.slowhz", 2, "Units a second of the times above.", mib.ReadOnly())
	nodeMSL        = mib.Int("net.inet.tcp.msl", 60, "Half seconds of a maximum segment lifetime; TIME_WAIT lasts two.", mib.Range(1, 1200))
	nodeMaxTW      = mib.Int("net.inet.tcp.maxtimewait", 1<<18, "Connections in TIME_WAIT at most; the oldest makes room.", mib.Range(0, 1<<24))
	nodeFinWait2   = mib.Int("net.inet.tcp.finwait2_timeout", 120, "Half seconds a closed socket waits for the other side's end.", mib.Range(1, 1<<30))
	nodeSynLimit   = mib.Int("net.inet.tcp.syn_cache_limit", 10255, "Connections being opened by others at most; more are answered with cookies.", mib.Range(0, 1<<24))
	nodeSynIntvl   = mib.Int("net.inet.tcp.syn_cache_interval", 1, "Seconds until our half of a handshake is sent once more; they double each time.", mib.Range(1, 60))
	nodeSynBucket  = mib.Int("net.inet.tcp.syn_bucket_limit", 105, "The same in one of the cache's 293 buckets.", mib.Range(1, 1<<20))
	nodeSynCookies = mib.Int("net.inet.tcp.syn_cookies", 1, "1: answer with a cookie when the cache is full (RFC 4987 §3.6).", mib.Bool())
	nodeLogRefused = mib.Int("net.inet.tcp.log_refused", 0, "1: log connections to ports where nobody listens.", mib.Bool())
	nodeRstPPS     = mib.Int("net.inet.tcp.rstppslimit", 100, "Resets sent to strangers a second at most; negative: no limit.", mib.Range(-1, 1<<30))
	nodeStrictRFC  = mib.Int("net.inet.tcp.strict_rfc", 0, "1: a reset anywhere in the window is believed, as RFC 793 has it, instead of RFC 5961's stricter rule.", mib.Bool())
	nodeAckPPS     = mib.Int("net.inet.tcp.ackppslimit", 100, "Challenge acknowledgements sent a second at most (RFC 5961 §7); negative: no limit.", mib.Range(-1, 1<<30))
	nodeCong       = mib.String("net.inet.tcp.congctl.selected", "cubic", "Congestion control of new connections: cubic or newreno.")
	_              = mib.String("net.inet.tcp.congctl.available", "cubic newreno", "Congestion controls there are.", mib.ReadOnly())
	nodeNewReno    = mib.Int("net.inet.tcp.newreno", 1, "1: without SACK, recovery goes on until all is acknowledged that was in flight (RFC 6582); 0: it ends with the first news.", mib.Bool())
	nodeCWM        = mib.Int("net.inet.tcp.cwm", 0, "1: after every pause only cwm_burstsize segments leave at once, not only after one of a retransmission timeout.", mib.Bool())
	nodeCWMBurst   = mib.Int("net.inet.tcp.cwm_burstsize", 4, "See cwm.", mib.Range(1, 1000))
	nodeHyStart    = mib.Int("net.inet.tcp.hystart", 1, "1: slow start ends by growing delay (HyStart++, RFC 9406).", mib.Bool())
	nodeRTOMin     = mib.Int("net.inet.tcp.rtomin", 200, "Milliseconds of the shortest retransmission timeout.", mib.Range(2, 60000))
	nodeFRTO       = mib.Int("net.inet.tcp.frto", 1, "1: find out whether a timeout was needless (RFC 5682), and undo it.", mib.Bool())
	nodeTLP        = mib.Int("net.inet.tcp.tlp", 1, "1: probe for lost tails (RFC 8985 §7).", mib.Bool())
	nodeFastClient = mib.Int("net.inet.tcp.fastopen.client_enable", 1, "1: sockets with TCP_FASTOPEN ask for cookies and send data with their SYN (RFC 7413).", mib.Bool())
	nodeFastServer = mib.Int("net.inet.tcp.fastopen.server_enable", 1, "1: listening sockets with TCP_FASTOPEN give cookies, and take data of a SYN.", mib.Bool())
	nodeBlackhole  = mib.Int("net.inet.tcp.mtudisc_blackhole", 1, "1: find smaller path MTUs that no router tells of (RFC 4821).", mib.Bool())
)

// NodeSoMaxConn bounds the backlog of listening sockets.
var NodeSoMaxConn = mib.Int("kern.somaxconn", 128, "Connections that may wait at a listening socket.", mib.Range(128, 1<<20), mib.RaiseOnly())

var (
	cntOut         = mib.NewCounter("tcp", "sent", "# packet{s} sent")
	cntOutData     = mib.NewCounter("tcp", "data sent", "\t# data packet{s}")
	cntOutOctets   = mib.NewCounter("tcp", "octets sent", "(# byte{s})")
	cntRexmit      = mib.NewCounter("tcp", "retransmitted", "\t# data packet{s} retransmitted")
	cntRexmitBytes = mib.NewCounter("tcp", "octets retransmitted", "(# byte{s} retransmitted)")
	cntOutAck      = mib.NewCounter("tcp", "acks sent", "\t# ack-only packet{s}")
	cntDelAck      = mib.NewCounter("tcp", "acks delayed", "(# delayed)")
	cntOutProbe    = mib.NewCounter("tcp", "window probes sent", "\t# window probe packet{s}")
	cntOutWin      = mib.NewCounter("tcp", "window updates sent", "\t# window update packet{s}")
	cntOutCtl      = mib.NewCounter("tcp", "control sent", "\t# control packet{s}")
	cntOutNoMem    = mib.NewCounter("tcp", "no memory", "\t# packet{s} not sent for want of memory")
	cntIn          = mib.NewCounter("tcp", "received", "# packet{s} received")
	cntInAcks      = mib.NewCounter("tcp", "acks received", "\t# ack{s}")
	cntInAckOctets = mib.NewCounter("tcp", "octets acknowledged", "(for # byte{s})")
	cntInDupAck    = mib.NewCounter("tcp", "duplicate acks", "\t# duplicate ack{s}")
	cntInAckTooNew = mib.NewCounter("tcp", "ack of unsent data", "\t# ack{s} for unsent data")
	cntInData      = mib.NewCounter("tcp", "data received", "\t# packet{s} received in-sequence")
	cntInOctets    = mib.NewCounter("tcp", "octets received", "(# byte{s} received in-sequence)")
	cntInDup       = mib.NewCounter("tcp", "duplicate", "\t# completely duplicate packet{s}")
	cntInPAWS      = mib.NewCounter("tcp", "old duplicate", "\t# old duplicate packet{s} (PAWS)")
	cntInPartDup   = mib.NewCounter("tcp", "partial duplicate", "\t# packet{s} with some dup. data")
	cntInOOO       = mib.NewCounter("tcp", "out of order", "\t# out-of-order packet{s}")
	cntInAfterWin  = mib.NewCounter("tcp", "beyond window", "\t# packet{s} of data after window")
	cntInProbe     = mib.NewCounter("tcp", "window probes", "\t# window probe{s}")
	cntInWinUpd    = mib.NewCounter("tcp", "window updates", "\t# window update packet{s}")
	cntInClosed    = mib.NewCounter("tcp", "after close", "\t# packet{s} received after close")
	cntInSum       = mib.NewCounter("tcp", "bad TCP checksum", "\t# discarded for bad checksum{s}")
	cntInHdr       = mib.NewCounter("tcp", "bad header", "\t# discarded for bad header offset field{s}")
	cntInShort     = mib.NewCounter("tcp", "too short", "\t# discarded because packet too short")
	cntInBcast     = mib.NewCounter("tcp", "not for one host", "\t# discarded because not for one host")
	cntInFull      = mib.NewCounter("tcp", "full socket buffer", "\t# packet{s} dropped for want of buffer space")
	cntPruned      = mib.NewCounter("tcp", "pruned", "\t# out-of-order packet{s} given up for want of buffer space")
	cntConnect     = mib.NewCounter("tcp", "connection requests", "# connection request{s}")
	cntAccept      = mib.NewCounter("tcp", "connection accepts", "# connection accept{s}")
	cntEstablished = mib.NewCounter("tcp", "established", "# connection{s} established (including accepts)")
	cntClosed      = mib.NewCounter("tcp", "closed", "# connection{s} closed")
	cntDrops       = mib.NewCounter("tcp", "dropped", "(including # drop{s})")
	cntConnDrops   = mib.NewCounter("tcp", "embryonic dropped", "# embryonic connection{s} dropped")
	cntSegsTimed   = mib.NewCounter("tcp", "rtt samples", "# round-trip time{s} measured")
	cntRexmtTimeo  = mib.NewCounter("tcp", "retransmit timeouts", "# retransmit timeout{s}")
	cntTimeoDrop   = mib.NewCounter("tcp", "dropped by timeout", "\t# connection{s} dropped by rexmit timeout")
	cntSpurious    = mib.NewCounter("tcp", "needless timeouts", "\t# timeout{s} found needless and undone")
	cntUndone      = mib.NewCounter("tcp", "needless recoveries", "# recover{y} found needless and undone")
	cntPersist     = mib.NewCounter("tcp", "persist timeouts", "# persist timeout{s}")
	cntPersistDrop = mib.NewCounter("tcp", "dropped by persist", "(resulting in # dropped connection{s})")
	cntKeepTimeo   = mib.NewCounter("tcp", "keepalive timeouts", "# keepalive timeout{s}")
	cntKeepProbe   = mib.NewCounter("tcp", "keepalive probes", "\t# keepalive probe{s} sent")
	cntKeepDrop    = mib.NewCounter("tcp", "dropped by keepalive", "\t# connection{s} dropped by keepalive")
	cntFin2Drop    = mib.NewCounter("tcp", "dropped in FIN_WAIT_2", "# connection{s} dropped in FIN_WAIT_2")
	cntRecovery    = mib.NewCounter("tcp", "recoveries", "# loss recover{y} without timeout")
	cntTLPSent     = mib.NewCounter("tcp", "tail probes", "# tail loss probe{s} sent")
	cntReorder     = mib.NewCounter("tcp", "reordering seen", "# segment{s} that the network had reordered")
	cntSACKIn      = mib.NewCounter("tcp", "sack received", "# ack{s} with SACK blocks")
	cntDSACKIn     = mib.NewCounter("tcp", "dsack received", "# report{s} of needless retransmissions (DSACK)")
	cntECNShook    = mib.NewCounter("tcp", "ecn connections", "# connection{s} with ECN")
	cntECNCE       = mib.NewCounter("tcp", "ce received", "# packet{s} with congestion experienced")
	cntECNEce      = mib.NewCounter("tcp", "ece received", "# window{s} reduced for congestion experienced")
	cntBadSyn      = mib.NewCounter("tcp", "bad SYN", "# bad connection attempt{s}")
	cntUnsecured   = mib.NewCounter("tcp", "unsecured", "# packet{s} that had not come as a policy of IPsec asks for")
	cntNoPort      = mib.NewCounter("tcp", "no socket", "# packet{s} for ports where nobody listens")
	cntRstOut      = mib.NewCounter("tcp", "resets sent", "# reset{s} sent")
	cntRstRate     = mib.NewCounter("tcp", "resets withheld", "# reset{s} not sent because of rate limitation")
	cntRstBad      = mib.NewCounter("tcp", "resets not believed", "# reset{s} out of place (RFC 5961)")
	cntRstDrop     = mib.NewCounter("tcp", "reset by peer", "# connection{s} reset by the peer")
	cntChallenge   = mib.NewCounter("tcp", "challenge acks", "# challenge ack{s} sent")
	cntChallRate   = mib.NewCounter("tcp", "challenge acks withheld", "# challenge ack{s} not sent because of rate limitation")
	cntListenFull  = mib.NewCounter("tcp", "listen queue full", "# connection{s} refused for a full listen queue")
	cntScAdded     = mib.NewCounter("tcp", "syn cache added", "# SYN cache entr{y} added")
	cntScCompleted = mib.NewCounter("tcp", "syn cache completed", "\t# completed")
	cntScTimedOut  = mib.NewCounter("tcp", "syn cache timed out", "\t# timed out")
	cntScOverflow  = mib.NewCounter("tcp", "syn cache overflow", "\t# dropped due to overflow")
	cntScReset     = mib.NewCounter("tcp", "syn cache reset", "\t# dropped due to RST")
	cntScUnreach   = mib.NewCounter("tcp", "syn cache unreachable", "\t# dropped due to ICMP unreachable")
	cntScDup       = mib.NewCounter("tcp", "syn cache duplicate", "# duplicate SYN{s} received for entries already in the cache")
	cntCookieOut   = mib.NewCounter("tcp", "cookies sent", "# SYN cookie{s} sent")
	cntCookieOK    = mib.NewCounter("tcp", "cookies good", "# good SYN cookie{s} received")
	cntCookieBad   = mib.NewCounter("tcp", "cookies bad", "# SYN cookie{s} not believed")
	cntFastOut     = mib.NewCounter("tcp", "fast opens", "# connection{s} opened with data in the SYN (Fast Open)")
	cntFastIn      = mib.NewCounter("tcp", "fast opens accepted", "# connection{s} accepted with a Fast Open cookie")
	cntFastBad     = mib.NewCounter("tcp", "fast open cookies bad", "# Fast Open cookie{s} not believed")
	cntFastFull    = mib.NewCounter("tcp", "fast open queue full", "# Fast Open{s} taken for ordinary SYNs as too many were under way")
	cntTWReuse     = mib.NewCounter("tcp", "time_wait reused", "# connection{s} in TIME_WAIT reused (RFC 6191)")
	cntTWFull      = mib.NewCounter("tcp", "time_wait full", "# connection{s} left TIME_WAIT early for want of room")
	cntPMTU        = mib.NewCounter("tcp", "path MTU changes", "# change{s} of a path MTU noticed")
	cntBlackhole   = mib.NewCounter("tcp", "black holes", "# path MTU black hole{s} suspected")
	cntMTUProbe    = mib.NewCounter("tcp", "MTU probes", "# path MTU probe{s} sent")
	cntMTUProbeOK  = mib.NewCounter("tcp", "MTU probes good", "(# of them good)")
)

// TCP is one stack's TCP.
type TCP struct {
	env   *netif.Env
	table socket.PCBTable
	nets  socket.Nets
	conf  Config
	key   [2]uint64 // secret of initial sequence numbers, timestamps and cookies

	syn    synCache
	tw     timeWaits
	resets limiter
	chall  limiter
	flows  flowList
	boards boardList

	fastPeers fastPeers
}

// Config is what assembly decides.
type Config struct {
	SocketMemory *atomic.Int64
	// NewSocket is asked for every socket that a listening one accepts: its
	// number, or false when the stack has no room for more.
	NewSocket func() (id uint64, ok bool)
	// Closed is told when such a socket is closed.
	Closed func()
}

// New makes the room.
func New(env *netif.Env, c Config) *TCP {
	t := &TCP{env: env, conf: c}
	word := func() uint64 { return uint64(env.Rand32())<<32 | uint64(env.Rand32()) }
	t.table.Init(word())
	t.key = [2]uint64{word(), word()}
	t.table.Streams = true
	t.table.Busy = t.busy
	t.chall.rand = env.Rand32
	t.syn.init(t)
	t.tw.init(t)
	env.MIB.OnChangeStr(nodeCong, func(_, name string) error {
		_, err := algorithmOf(name)
		return err
	})
	return t
}

// Over says which network layer carries family v6 or IPv4.
func (t *TCP) Over(v6 bool, n socket.Network) { t.nets.Over(v6, n) }

// Close ends what goes on without a socket: connections that were closed, and
// those that nobody has accepted.
func (t *TCP) Close(w *netif.Work) {
	t.syn.drain(w)
	t.tw.drain()
	for _, p := range t.table.All() {
		c := p.So.H.(*conn)
		c.mu.Lock()
		c.drop(w, 0)
		c.mu.Unlock()
	}
}

// Uses is [socket.PCBTable.Uses].
func (t *TCP) Uses(local, foreign socket.Addr) bool { return t.table.Uses(local, foreign) }

// Avoid is [socket.PCBTable.Avoid].
func (t *TCP) Avoid(f func(socket.Addr, socket.Versions) bool) { t.table.Avoid(f) }

// limiter lets a number of events a second pass.
type limiter struct {
	// rand, if set, makes that number a different one each second, from half the
	// limit to one and a half: what is left of an exact one would tell strangers
	// what other connections do (Cao et al., "Off-Path TCP Exploits").
	rand func() uint32

	mu     sync.Mutex
	second int64
	left   int64
}

// allow reports whether one more event may happen at now; a negative limit is
// none.
func (l *limiter) allow(now, limit int64) bool {
	if limit < 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := now/second + 1; s != l.second { // 0: there was none yet
		l.second, l.left = s, limit
		if l.rand != nil && limit > 0 {
			l.left = (limit+1)/2 + int64(l.rand())%limit
		}
	}
	l.left--
	return l.left >= 0
}

// flowList keeps the flows of connections that have nothing to send: an idle
// connection has none.
type flowList struct {
	mu   sync.Mutex
	free []*socket.Flow
}

// maxFreeFlows bounds the list; more are left to the collector.
const maxFreeFlows = 1024

func (l *flowList) get() *socket.Flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		f := l.free[n-1]
		l.free = l.free[:n-1]
		return f
	}
	return &socket.Flow{Proto: packet.ProtoTCP}
}

func (l *flowList) put(f *socket.Flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < maxFreeFlows {
		l.free = append(l.free, f)
	}
}

// boardList keeps scoreboards of connections that have nothing in flight.
type boardList struct {
	mu   sync.Mutex
	free []*scoreboard
}

// maxFreeBoards bounds the list, maxBoard the records that one keeps.
const (
	maxFreeBoards = 256
	maxBoard      = 256
)

func (l *boardList) get() *scoreboard {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		s := l.free[n-1]
		l.free = l.free[:n-1]
		return s
	}
	return &scoreboard{rec: make([]record, 0, 4)}
}

func (l *boardList) put(s *scoreboard) {
	if cap(s.rec) > maxBoard {
		return
	}
	*s = scoreboard{rec: s.rec[:0]}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < maxFreeBoards {
		l.free = append(l.free, s)
	}
}
