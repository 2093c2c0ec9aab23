package tcp

import (
	"encoding/binary"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Socket options at level IPPROTO_TCP (NetBSD's numbers).
const (
	LevelTCP = packet.ProtoTCP

	NoDelay   = 1
	MaxSeg    = 2
	KeepIdle  = 3 // seconds
	NoPush    = 4
	KeepIntvl = 5
	KeepCnt   = 6
	KeepInit  = 7
	InfoOpt   = 9
	FastOpen  = 0x401 // FreeBSD's: see fastopen.go
	CongCtl   = 0x20  // a name
)

// SetOption is socket.Handler.
func (c *conn) SetOption(w *netif.Work, level, name int, v []byte) error {
	if level != LevelTCP {
		return c.NetOptions().Set(w, level, name, v)
	}
	if name == CongCtl {
		a, err := algorithmOf(string(v))
		if err != nil {
			return syscall.ENOENT
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cc.alg = a
		c.cc.algorithm().restart(&c.cc)
		return nil
	}
	n, err := socket.Int32(v)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	flag := func(f uint32) {
		c.off(f)
		if n != 0 {
			c.on(f)
		}
	}
	switch name {
	case NoDelay, NoPush:
		flag(map[int]uint32{NoDelay: fNoDelay, NoPush: fNoPush}[name])
		if c.state.synchronized() {
			c.kick(w)
		}
		return nil
	case MaxSeg:
		if n < 32 || n > 65495 {
			return syscall.EINVAL
		}
		if c.userMSS = uint16(n); c.state.synchronized() {
			c.setMSS()
		}
		return nil
	case FastOpen:
		if c.state > listen {
			return syscall.EISCONN
		}
		if n < 0 {
			return syscall.EINVAL
		}
		c.setFastOpen(n)
		return nil
	case KeepIdle, KeepIntvl, KeepCnt, KeepInit:
		if n <= 0 || n > 1<<15 {
			return syscall.EINVAL
		}
		k := keepOptions{}
		if m := c.rare(); m.keep != nil {
			k = *m.keep
		}
		switch name {
		case KeepIdle:
			k.idle = int64(n) * second
		case KeepIntvl:
			k.every = int64(n) * second
		case KeepCnt:
			k.count = int64(n)
		default:
			k.init = int64(n) * second
		}
		c.more.keep = &k
		c.keepalive(w.Now)
		return nil
	}
	return syscall.ENOPROTOOPT
}

// NetOptions are those of the network's level, made when first asked for.
func (c *conn) NetOptions() socket.NetOptions {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opts == nil {
		c.opts = c.t.nets.NewOptions(c.So)
	}
	return c.opts
}

// Option is socket.Handler.
func (c *conn) Option(level, name int) ([]byte, error) {
	if level != LevelTCP {
		return c.NetOptions().Get(level, name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	idle, every, count := c.keepTimes()
	on := func(f uint32) []byte {
		if c.has(f) {
			return socket.Value32(1)
		}
		return socket.Value32(0)
	}
	switch name {
	case NoDelay:
		return on(fNoDelay), nil
	case NoPush:
		return on(fNoPush), nil
	case MaxSeg:
		if c.mss == 0 {
			return socket.Value32(int(c.t.env.MIB.Int(nodeMSSDflt))), nil
		}
		return socket.Value32(int(c.mss)), nil
	case KeepIdle:
		return socket.Value32(int(idle / second)), nil
	case KeepIntvl:
		return socket.Value32(int(every / second)), nil
	case KeepCnt:
		return socket.Value32(int(count)), nil
	case KeepInit:
		if k := c.keeps(); k.init != 0 {
			return socket.Value32(int(k.init / second)), nil
		}
		return socket.Value32(int(c.t.env.MIB.Int(nodeKeepInit) / 2)), nil
	case CongCtl:
		return []byte(c.cc.algorithm().name()), nil
	case InfoOpt:
		i := c.info()
		return i.append(nil), nil
	}
	return nil, syscall.ENOPROTOOPT
}

// SetBuffer is socket.StreamHandler.
func (c *conn) SetBuffer(w *netif.Work, send bool, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if send {
		c.snd.hiwat = n
		c.on(fSndFixed)
		c.So.Changed(w)
		return
	}
	c.rcv.hiwat = n
	c.on(fRcvFixed)
	if c.state.synchronized() && c.windowMoved() {
		c.on(fForceWin)
		c.kick(w)
	}
}

// Buffers is socket.StreamHandler.
func (c *conn) Buffers() (recv, send int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rcv.hiwat, c.snd.hiwat
}

// Info is TCP_INFO: how a connection is doing. Times are nanoseconds, windows
// octets.
type Info struct {
	State                          string
	Congestion                     string
	Phase                          string // of congestion control
	Timestamps, SACK, WScale, ECN  bool
	SndScale, RcvScale             uint8
	MSS, RcvMSS, PeerMSS, MTU      int
	SndUna, SndNxt, ISS            uint32
	RcvNxt, RcvAdv, IRS            uint32
	SndWnd, RcvWnd, Cwnd, SSThresh uint32
	SRTT, RTTVar, MinRTT, RTO      int64
	InFlight, Lost, SACKed         uint32
	Backoff                        int
	SendQ, RecvQ, SendBuf, RecvBuf int
	OutOfOrder                     int   // ranges
	LastSent, LastReceived         int64 // of the stack's clock
}

// info fills it in; the caller holds mu.
func (c *conn) info() Info {
	i := Info{
		State: c.state.String(), Congestion: c.cc.algorithm().name(), Phase: [...]string{"open", "cwr", "recovery", "loss"}[c.cc.phase],
		Timestamps: c.has(fTimestamps), SACK: c.has(fSACK), WScale: c.rcvScale != noScale && c.sndScale|c.rcvScale != 0, ECN: c.has(fECN),
		SndScale: c.sndScale, RcvScale: c.rcvScale,
		MSS: int(c.mss), RcvMSS: int(c.rcvMSS), PeerMSS: int(c.peerMSS), MTU: int(c.mtu),
		SndUna: uint32(c.sndUna), SndNxt: uint32(c.sndNxt), ISS: uint32(c.iss),
		RcvNxt: uint32(c.rcvNxt), RcvAdv: uint32(c.rcvAdv), IRS: uint32(c.irs),
		SndWnd: c.sndWnd, RcvWnd: c.window(), Cwnd: c.cc.cwnd, SSThresh: c.cc.ssthresh,
		SRTT: c.rtt.srtt, RTTVar: c.rtt.rttvar, MinRTT: c.rtt.min, RTO: c.rtt.backedOff(c.t.env.MIB, c.shift),
		Backoff: int(c.shift), SendQ: c.snd.len, RecvQ: c.rcv.len, SendBuf: c.snd.hiwat, RecvBuf: c.rcv.hiwat,
		LastSent: c.lastSent, LastReceived: c.idle,
	}
	if c.state.synchronized() {
		i.InFlight = c.inFlight()
	}
	if c.sb != nil {
		i.Lost, i.SACKed = c.sb.lost, c.sb.sacked
	}
	if c.ooo != nil {
		i.OutOfOrder = len(c.ooo.ranges)
	}
	return i
}

// InfoLen is the length of TCP_INFO's value.
const InfoLen = 104

// append writes what a client sees, little-endian:
//
//	0  u8 state, u8 phase, u8 flags (1 timestamps, 2 SACK, 4 window scaling, 8 ECN), u8 scales (sending low, receiving high)
//	4  u32 × 17: RTO, SRTT, RTTVAR, least RTT (µs), mss, peer's mss, snd_una, snd_nxt, rcv_nxt, snd_wnd, rcv_wnd, cwnd,
//	   ssthresh, in flight, lost, sacked, path MTU
//	72 u32 × 8: back-off, send queue, receive queue, send buffer, receive buffer, out-of-order ranges, iss, irs
func (i *Info) append(b []byte) []byte {
	st, ph := byte(0), byte(0)
	for k, n := range stateNames {
		if n == i.State {
			st = byte(k)
		}
	}
	for k, n := range [...]string{"open", "cwr", "recovery", "loss"} {
		if n == i.Phase {
			ph = byte(k)
		}
	}
	fl := byte(0)
	for k, on := range [...]bool{i.Timestamps, i.SACK, i.WScale, i.ECN} {
		if on {
			fl |= 1 << k
		}
	}
	b = append(b, st, ph, fl, i.SndScale&15|i.RcvScale<<4)
	for _, v := range [...]uint32{
		uint32(i.RTO / 1000), uint32(i.SRTT / 1000), uint32(i.RTTVar / 1000), uint32(i.MinRTT / 1000),
		uint32(i.MSS), uint32(i.PeerMSS), i.SndUna, i.SndNxt, i.RcvNxt, i.SndWnd, i.RcvWnd, i.Cwnd, i.SSThresh,
		i.InFlight, i.Lost, i.SACKed, uint32(i.MTU),
		uint32(i.Backoff), uint32(i.SendQ), uint32(i.RecvQ), uint32(i.SendBuf), uint32(i.RecvBuf), uint32(i.OutOfOrder), i.ISS, i.IRS,
	} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}
