package abi

import (
	"math"
	"syscall"

	"ionet/protocol"
)

// info is the stack's TCP_INFO, as far as it is of use here. Times are
// microseconds, windows and queues octets.
//
//	0  u8 state, u8 phase, u8 flags, u8 scales
//	4  u32 × 17: rto, srtt, rttvar, least rtt, mss, peer's mss, snd_una, snd_nxt, rcv_nxt, snd_wnd, rcv_wnd, cwnd,
//	   ssthresh, in flight, lost, sacked, path MTU
//	72 u32 × 8: back-off, send queue, receive queue, send buffer, receive buffer, out-of-order ranges, iss, irs
type info struct {
	state, phase, flags, scales                            byte
	rto, srtt, rttvar, minRTT                              uint32
	mss, peerMSS                                           uint32
	sndWnd, rcvWnd, cwnd, ssthresh, inFlight, lost, sacked uint32
	mtu, backoff, sendQ, rcvBuf, outOfOrder                uint32
}

// stackInfoLen is how long the stack's TCP_INFO is at least.
const stackInfoLen = 104

func parseInfo(v []byte) (info, error) {
	if len(v) < stackInfoLen {
		return info{}, syscall.EPROTO
	}
	u := func(i int) uint32 { return le.Uint32(v[4+4*i:]) }
	return info{
		state: v[0], phase: v[1], flags: v[2], scales: v[3],
		rto: u(0), srtt: u(1), rttvar: u(2), minRTT: u(3), mss: u(4), peerMSS: u(5),
		sndWnd: u(9), rcvWnd: u(10), cwnd: u(11), ssthresh: u(12), inFlight: u(13), lost: u(14), sacked: u(15),
		mtu: u(16), backoff: u(17), sendQ: u(18), rcvBuf: u(21), outOfOrder: u(22),
	}, nil
}

// Linux's numbers for the stack's states, in the stack's order: CLOSED,
// LISTEN, SYN_SENT, SYN_RECEIVED, ESTABLISHED, CLOSE_WAIT, FIN_WAIT_1, CLOSING,
// LAST_ACK, FIN_WAIT_2, TIME_WAIT; and for the phases of congestion control:
// open, cwr, recovery, loss.
var (
	linuxStates = [...]byte{7, 10, 2, 3, 1, 8, 4, 11, 9, 5, 6}
	linuxPhases = [...]byte{0, 2, 3, 4}
)

// linuxInfoLen is the length of struct tcp_info as of Linux 6.8.
const linuxInfoLen = 248

// getInfo is TCP_INFO. Linux counts windows and queues of segments, and times
// in microseconds. What the stack does not count for a connection
// (retransmissions, octets, rates, ages) is 0.
func getInfo(*Sock, Option) (Request, error) {
	return Request{
		Calls: []protocol.SockOpt{{Level: protocol.ProtoTCP, Name: protocol.TCPInfoOpt}},
		reply: func(v []byte) ([]byte, error) {
			i, err := parseInfo(v)
			if err != nil {
				return nil, err
			}
			return i.linux(), nil
		},
	}, nil
}

// linux is struct tcp_info.
func (i *info) linux() []byte {
	b := make([]byte, linuxInfoLen)
	put := func(off int, n uint32) { le.PutUint32(b[off:], n) }
	segments := func(octets uint32) uint32 {
		mss := max(i.mss, 1)
		return uint32((uint64(octets) + uint64(mss) - 1) / uint64(mss))
	}
	if int(i.state) < len(linuxStates) {
		b[0] = linuxStates[i.state]
	}
	if int(i.phase) < len(linuxPhases) {
		b[1] = linuxPhases[i.phase]
	}
	b[2], b[4] = byte(min(i.backoff, math.MaxUint8)), byte(min(i.backoff, math.MaxUint8))
	b[5] = i.flags & 15 // TCPI_OPT_TIMESTAMPS, SACK, WSCALE, ECN: the stack has the same bits
	b[6] = i.scales
	put(8, i.rto)
	put(16, i.mss)
	put(20, i.peerMSS) // of what comes, at most; what came is not kept
	put(24, segments(i.inFlight))
	put(28, segments(i.sacked))
	put(32, segments(i.lost))
	put(60, i.mtu)
	put(64, i.rcvWnd)
	put(68, i.srtt)
	put(72, i.rttvar)
	ssthresh := uint32(math.MaxInt32) // none yet
	if i.ssthresh < math.MaxInt32 {
		ssthresh = segments(i.ssthresh)
	}
	put(76, ssthresh)
	put(80, max(i.cwnd/max(i.mss, 1), 1))
	put(84, i.peerMSS)
	put(88, 3) // reordering: RACK has no count of it
	put(96, i.rcvBuf)
	put(144, i.sendQ-min(i.inFlight, i.sendQ))
	put(148, i.minRTT)
	put(224, i.outOfOrder)
	put(228, i.sndWnd)
	put(232, i.rcvWnd)
	return b
}
