package packet

import "encoding/binary"

// ICMP (RFC 792, RFC 950, RFC 1122, RFC 1191).
const (
	ICMPLen = 8

	ICMPEchoReply      = 0
	ICMPUnreach        = 3
	ICMPSourceQuench   = 4
	ICMPRedirect       = 5
	ICMPEcho           = 8
	ICMPTimeExceeded   = 11
	ICMPParamProblem   = 12
	ICMPTimestamp      = 13
	ICMPTimestampReply = 14
	ICMPMaskRequest    = 17
	ICMPMaskReply      = 18

	ICMPUnreachNet        = 0
	ICMPUnreachHost       = 1
	ICMPUnreachProtocol   = 2
	ICMPUnreachPort       = 3
	ICMPUnreachNeedFrag   = 4
	ICMPUnreachSrcFail    = 5
	ICMPUnreachNetProhib  = 9
	ICMPUnreachHostProhib = 10
	ICMPUnreachFilter     = 13

	ICMPRedirectNet  = 0
	ICMPRedirectHost = 1

	ICMPTimeTransit    = 0
	ICMPTimeReassembly = 1
)

// ICMP is a view of a message from its type on.
type ICMP []byte

// CheckICMP answers a view of b, or false when it has no whole header.
func CheckICMP(b []byte) (ICMP, bool) { return ICMP(b), len(b) >= ICMPLen }

func (h ICMP) Type() uint8         { return h[0] }
func (h ICMP) Code() uint8         { return h[1] }
func (h ICMP) ID() uint16          { return binary.BigEndian.Uint16(h[4:]) }
func (h ICMP) Seq() uint16         { return binary.BigEndian.Uint16(h[6:]) }
func (h ICMP) MTU() int            { return int(binary.BigEndian.Uint16(h[6:])) } // RFC 1191 §4
func (h ICMP) Gateway() [4]byte    { return [4]byte(h[4:8]) }
func (h ICMP) Pointer() uint8      { return h[4] }
func (h ICMP) Payload() []byte     { return h[ICMPLen:] }
func (h ICMP) SetType(t, c uint8)  { h[0], h[1] = t, c }
func (h ICMP) SetRest(rest uint32) { binary.BigEndian.PutUint32(h[4:], rest) }

// SetChecksum computes the checksum of the whole message.
func (h ICMP) SetChecksum() {
	h[2], h[3] = 0, 0
	binary.BigEndian.PutUint16(h[2:], Checksum(h))
}

// ChecksumOK verifies the checksum of the whole message.
func (h ICMP) ChecksumOK() bool { return Fold(Sum(0, h)) == 0xffff }

// IsError reports whether a message of type t answers another packet, so
// that no error may be sent about it (RFC 1122 §3.2.2).
func ICMPIsError(t uint8) bool {
	switch t {
	case ICMPUnreach, ICMPSourceQuench, ICMPRedirect, ICMPTimeExceeded, ICMPParamProblem:
		return true
	}
	return false
}
