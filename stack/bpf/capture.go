package bpf

import (
	"encoding/binary"
	"sync"

	"ionet/stack/mib"
	"ionet/stack/netif"
)

// Bounds and defaults of a [Capture].
const (
	DefaultSnapLen = 65535 + 14
	MaxSnapLen     = 256 << 10
	DefaultBuffer  = 1 << 20
	MinBuffer      = 16 << 10
	MaxBuffer      = 64 << 20

	recordCost = 96 // charged for a record beside its octets
)

// Link types of a record's data (LINKTYPE_*).
const (
	LinkEthernet = 1   // an Ethernet frame
	LinkRaw      = 101 // begins with the IPv4 or IPv6 header
)

// Config is what a capture wants.
type Config struct {
	Filter  *Filter // nil: everything
	SnapLen int     // octets kept of a packet; 0: [DefaultSnapLen]
	Buffer  int     // octets that may wait to be read; 0: [DefaultBuffer]
}

// Record is one captured packet.
type Record struct {
	Time    int64 // the stack's clock, nanoseconds
	Index   uint32
	Name    string // the interface's
	Out     bool   // sent; false: received
	Dropped string // the counter that names why it was dropped, or ""
	Link    uint16 // what Data begins with: LinkEthernet or LinkRaw
	OrigLen int    // of the packet before the snap length cut it
	Data    []byte
}

// Stats count what a capture has seen since it began.
type Stats struct {
	Received uint64 // passed the filter
	Dropped  uint64 // of these: found no room
}

// Capture is a [netif.Tap]: it keeps copies of the packets that its filter
// accepts.
//
// Its queue is BSD's pair of buffers. The packet path appends to one, the
// reader empties the other, and when that is empty they change places, so
// a packet costs one copy and no allocation. Owner: the Capture. Bound:
// Config.Buffer octets each, [recordCost] included. When full: the packet is
// not kept and counts in Stats.Dropped.
type Capture struct {
	filter *Filter
	snap   int
	limit  int

	mu      sync.Mutex // leaf: nothing is called under it
	store   buffer     // filled by the packet path
	hold    buffer     // being read
	stats   Stats
	wake    func()
	closed  bool
	scratch []byte // an Ethernet header, then a packet that has none
}

type buffer struct {
	recs []Record // Data is set when the record is read
	ends []int    // of each record's octets in data
	data []byte
	next int // the first record not read yet
}

func (b *buffer) empty() bool { return b.next == len(b.recs) }

func (b *buffer) cost() int { return len(b.data) + recordCost*len(b.recs) }

func (b *buffer) reset() {
	clear(b.recs)
	b.recs, b.ends, b.data, b.next = b.recs[:0], b.ends[:0], b.data[:0], 0
}

var _ netif.Tap = (*Capture)(nil)

// NewCapture answers a capture that no interface feeds yet: hand it to
// [netif.Interface.AddTap]. Sizes outside the bounds are moved to them.
func NewCapture(c Config) *Capture {
	if c.SnapLen <= 0 {
		c.SnapLen = DefaultSnapLen
	}
	if c.Buffer <= 0 {
		c.Buffer = DefaultBuffer
	}
	return &Capture{
		filter: c.Filter,
		snap:   min(c.SnapLen, MaxSnapLen),
		limit:  min(max(c.Buffer, MinBuffer), MaxBuffer),
	}
}

// SetWake has f called each time that a record arrives where none was waiting,
// and at once if one waits now. f runs on the packet path, without a lock of
// the capture: it must not block, and it may call Read. A reader that has
// called Read until it answered nothing will be woken by the next record.
func (c *Capture) SetWake(f func()) {
	c.mu.Lock()
	c.wake = f
	ready := !c.store.empty() || !c.hold.empty()
	c.mu.Unlock()
	if ready && f != nil {
		f()
	}
}

// Read answers the oldest records, at most limit (0: all that one buffer
// holds), or none. It never waits. The slice and its Data are valid until the
// next Read or Close; there is one reader at a time.
func (c *Capture) Read(limit int) []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold.empty() {
		c.hold.reset()
		c.store, c.hold = c.hold, c.store
		start := 0
		for i := range c.hold.recs {
			end := c.hold.ends[i]
			c.hold.recs[i].Data = c.hold.data[start:end:end]
			start = end
		}
	}
	left := c.hold.recs[c.hold.next:]
	if limit > 0 && len(left) > limit {
		left = left[:limit]
	}
	c.hold.next += len(left)
	return left
}

// Stats are the counts so far.
func (c *Capture) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Close lets go of the buffers; packets that come later are ignored. The
// caller has removed the tap from the interfaces, or does so next.
func (c *Capture) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.wake, c.scratch = true, nil, nil
	c.store, c.hold = buffer{}, buffer{}
}

// Tap implements [netif.Tap].
func (c *Capture) Tap(now int64, ifp *netif.Interface, frame []byte, out bool) {
	link := uint16(LinkEthernet)
	if ifp.HdrLen == 0 {
		link = LinkRaw
	}
	c.take(Record{Time: now, Index: ifp.Index, Name: ifp.Name, Out: out, Link: link, OrigLen: len(frame)}, frame)
}

// Dropped implements [netif.Tap].
func (c *Capture) Dropped(now int64, ifp *netif.Interface, pkt []byte, why mib.Counter) {
	c.take(Record{Time: now, Index: ifp.Index, Name: ifp.Name, Dropped: why.Info().Name, Link: LinkRaw, OrigLen: len(pkt)}, pkt)
}

func (c *Capture) take(r Record, pkt []byte) {
	// A filter has no state, so a frame that is not wanted takes no lock.
	var n int
	if c.filter == nil {
		n = len(pkt)
	} else if r.Link == LinkEthernet {
		if n = c.filter.Match(pkt); n == 0 {
			return
		}
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	if c.filter != nil && r.Link == LinkRaw {
		if n = c.matchRaw(pkt); n == 0 {
			c.mu.Unlock()
			return
		}
	}
	c.stats.Received++
	n = min(n, c.snap)
	if c.store.cost()+n+recordCost > c.limit {
		c.stats.Dropped++
		c.mu.Unlock()
		return
	}
	var wake func()
	if c.store.empty() && c.hold.empty() {
		wake = c.wake
	}
	c.store.data = append(c.store.data, pkt[:n]...)
	c.store.recs = append(c.store.recs, r)
	c.store.ends = append(c.store.ends, len(c.store.data))
	c.mu.Unlock()
	if wake != nil {
		wake()
	}
}

const etherLen = 14

// matchRaw runs the filter, which is written for Ethernet, on a packet that
// begins at its network header: behind a header with the right type and
// addresses of zero. Its answer counts octets of the packet, and is 0 only
// where the filter's was.
func (c *Capture) matchRaw(pkt []byte) int {
	var typ uint16
	if len(pkt) > 0 {
		switch pkt[0] >> 4 {
		case 4:
			typ = 0x0800
		case 6:
			typ = 0x86dd
		case 0: // ARP's hardware type
			typ = 0x0806
		}
	}
	c.scratch = append(c.scratch[:0], make([]byte, etherLen)...)
	binary.BigEndian.PutUint16(c.scratch[12:], typ)
	c.scratch = append(c.scratch, pkt...)
	n := c.filter.Match(c.scratch)
	if n == 0 {
		return 0
	}
	return max(n-etherLen, min(1, len(pkt)))
}
