package packet

import (
	"encoding/binary"
	"net/netip"
)

// ICMPv6 (RFC 4443), neighbour discovery (RFC 4861), MLD (RFC 2710, RFC 3810),
// node information (RFC 4620).
const (
	ICMP6Len = 8

	ICMP6Unreach      = 1
	ICMP6TooBig       = 2
	ICMP6TimeExceeded = 3
	ICMP6ParamProblem = 4
	ICMP6Echo         = 128
	ICMP6EchoReply    = 129
	ICMP6MLDQuery     = 130
	ICMP6MLDReport    = 131
	ICMP6MLDDone      = 132
	ICMP6RouterSol    = 133
	ICMP6RouterAdv    = 134
	ICMP6NeighborSol  = 135
	ICMP6NeighborAdv  = 136
	ICMP6Redirect     = 137
	ICMP6NIQuery      = 139
	ICMP6NIReply      = 140
	ICMP6MLDv2Report  = 143

	ICMP6UnreachNoRoute = 0
	ICMP6UnreachAdmin   = 1
	ICMP6UnreachScope   = 2
	ICMP6UnreachAddr    = 3
	ICMP6UnreachPort    = 4
	ICMP6UnreachPolicy  = 5 // the source failed ingress or egress policy
	ICMP6UnreachReject  = 6 // a route that rejects

	ICMP6TimeTransit    = 0
	ICMP6TimeReassembly = 1

	ICMP6ParamHeader = 0
	ICMP6ParamNext   = 1
	ICMP6ParamOption = 2
)

// ICMP6 is a view of a message from its type on.
type ICMP6 []byte

// CheckICMP6 answers a view of b, or false when it has not even a type, a code
// and a checksum.
func CheckICMP6(b []byte) (ICMP6, bool) { return ICMP6(b), len(b) >= 4 }

func (h ICMP6) Type() uint8         { return h[0] }
func (h ICMP6) Code() uint8         { return h[1] }
func (h ICMP6) ID() uint16          { return binary.BigEndian.Uint16(h[4:]) }
func (h ICMP6) Seq() uint16         { return binary.BigEndian.Uint16(h[6:]) }
func (h ICMP6) Rest() uint32        { return binary.BigEndian.Uint32(h[4:]) } // MTU, pointer
func (h ICMP6) Payload() []byte     { return h[ICMP6Len:] }
func (h ICMP6) SetType(t, c uint8)  { h[0], h[1] = t, c }
func (h ICMP6) SetRest(rest uint32) { binary.BigEndian.PutUint32(h[4:], rest) }

// SetChecksum computes the checksum of the whole message from src to dst.
func (h ICMP6) SetChecksum(src, dst netip.Addr) {
	h[2], h[3] = 0, 0
	binary.BigEndian.PutUint16(h[2:], ^Fold(Sum(PseudoSum(src, dst, ProtoICMPv6, len(h)), h)))
}

// ChecksumOK verifies the checksum of the whole message.
func (h ICMP6) ChecksumOK(src, dst netip.Addr) bool {
	return Fold(Sum(PseudoSum(src, dst, ProtoICMPv6, len(h)), h)) == 0xffff
}

// ICMP6IsError reports whether a message of type t is an error (RFC 4443 §2.1).
func ICMP6IsError(t uint8) bool { return t < 128 }
