package protocol

import "golang.org/x/net/bpf"

// Link types of captured packets (pcap's LINKTYPE_*).
const (
	LinkTypeEthernet = 1
	LinkTypeRaw      = 101 // from the IP header on
)

// MaxFilter is how many instructions a capture filter may have.
const MaxFilter = 4096

// CaptureRequest is the payload of TypeCapture.
type CaptureRequest struct {
	Interface string               // "" all
	SnapLen   uint32               // octets kept of a packet; 0 all
	Filter    []bpf.RawInstruction // written for Ethernet; what has no such header is given one of zeros and the type
	Buffer    uint32               // octets waiting at most; 0: the stack's choice
}

// CaptureRecord is one packet.
type CaptureRecord struct {
	Time     int64 // Unix nanoseconds
	Index    uint32
	IfName   string
	Out      bool   // leaving
	Dropped  string // the reason's name, "" when it went on
	LinkType uint16 // LinkType*; what Data begins with
	OrigLen  int
	Data     []byte
}

// CaptureRecords is the reply of TypeCaptured.
type CaptureRecords struct {
	Lost    uint32 // records since the reply before that found no room
	Records []CaptureRecord
}

// AppendCaptureRequest appends q: string interface, u32 snaplen, u32 buffer,
// u16 instructions, each u16 op, u8 jt, u8 jf, u32 k.
func AppendCaptureRequest(b []byte, q CaptureRequest) []byte {
	b = AppendString(b, q.Interface)
	b = AppendU32(b, q.SnapLen, q.Buffer)
	b = le.AppendUint16(b, uint16(len(q.Filter)))
	for _, i := range q.Filter {
		b = le.AppendUint16(b, i.Op)
		b = append(b, i.Jt, i.Jf)
		b = le.AppendUint32(b, i.K)
	}
	return b
}

// ParseCaptureRequest reads what [AppendCaptureRequest] wrote. Whether the
// filter is a program is left to the stack.
func ParseCaptureRequest(b []byte) (CaptureRequest, error) {
	r := NewReader(b)
	q := CaptureRequest{Interface: r.String(), SnapLen: r.U32(), Buffer: r.U32()}
	n := int(r.U16())
	if n > MaxFilter {
		return CaptureRequest{}, malformed("filter of %d instructions, %d are the most", n, MaxFilter)
	}
	for range n {
		if r.Err() != nil {
			break
		}
		q.Filter = append(q.Filter, bpf.RawInstruction{Op: r.U16(), Jt: r.U8(), Jf: r.U8(), K: r.U32()})
	}
	return q, r.Close()
}

// AppendCaptureRecord appends one record; they follow each other behind the
// u32 lost of the reply: i64 time, u32 index, string interface, u8 flags (1
// out), u16 link type, string dropped, u32 original length, bytes data.
func AppendCaptureRecord(b []byte, c CaptureRecord) []byte {
	b = le.AppendUint64(b, uint64(c.Time))
	b = le.AppendUint32(b, c.Index)
	b = AppendString(b, c.IfName)
	var flags byte
	if c.Out {
		flags = 1
	}
	b = append(b, flags)
	b = le.AppendUint16(b, c.LinkType)
	b = AppendString(b, c.Dropped)
	b = le.AppendUint32(b, uint32(c.OrigLen))
	return AppendBytes(b, c.Data)
}

// CaptureRecordLen is how long [AppendCaptureRecord] makes c.
func CaptureRecordLen(c CaptureRecord) int { return 27 + len(c.IfName) + len(c.Dropped) + len(c.Data) }

// AppendCaptureRecords appends p.
func AppendCaptureRecords(b []byte, p CaptureRecords) []byte {
	b = le.AppendUint32(b, p.Lost)
	for _, c := range p.Records {
		b = AppendCaptureRecord(b, c)
	}
	return b
}

// ParseCaptureRecords reads what [AppendCaptureRecords] wrote; the data
// points into b.
func ParseCaptureRecords(b []byte) (CaptureRecords, error) {
	r := NewReader(b)
	p := CaptureRecords{Lost: r.U32()}
	for r.Len() > 0 {
		c := CaptureRecord{Time: int64(r.U64()), Index: r.U32(), IfName: r.String()}
		c.Out = r.U8()&1 != 0
		c.LinkType, c.Dropped, c.OrigLen, c.Data = r.U16(), r.String(), int(r.U32()), r.Bytes()
		if r.Err() == nil {
			p.Records = append(p.Records, c)
		}
	}
	return p, r.Err()
}
