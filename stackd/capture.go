package stackd

import (
	"sync"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/bpf"
	"ionet/stack/netif"
)

// capture is a client's capture. A request for records that finds none is
// parked, and answered from the packet path by the first record.
type capture struct {
	c      *conn
	cap    *bpf.Capture
	ifname string // "" all

	mu     sync.Mutex
	parked []protocol.Header
	left   []bpf.Record // read, not sent; valid until the next Read
	lost   uint64       // as reported so far
	closed bool
}

// newCapture serves TypeCapture.
func (c *conn) newCapture(p []byte) (uint32, error) {
	q, err := protocol.ParseCaptureRequest(p)
	if err != nil {
		return 0, err
	}
	if err := c.privileged("capture"); err != nil {
		return 0, err
	}
	f, err := bpf.NewFilter(q.Filter)
	if err != nil {
		return 0, errf(unix.EINVAL, "%v", err)
	}
	eng := c.s.eng.Engine()
	if q.Interface != "" && eng.Env.Ifs.ByName(q.Interface) == nil {
		return 0, errf(unix.ENXIO, "no interface %s", q.Interface)
	}
	if err := c.s.takeSocket(c); err != nil {
		return 0, err
	}
	snap := min(int64(q.SnapLen), bpf.DefaultSnapLen)
	cp := &capture{c: c, ifname: q.Interface, cap: bpf.NewCapture(bpf.Config{Filter: f, SnapLen: int(snap), Buffer: int(min(int64(q.Buffer), bpf.MaxBuffer))})}
	cp.cap.SetWake(cp.wake)
	c.s.routes.addCapture(cp)
	c.own.Lock()
	defer c.own.Unlock()
	id := c.freeID()
	c.caps[id] = cp
	return id, nil
}

// attach shows an interface to the capture if it wants it.
func (cp *capture) attach(ifp *netif.Interface) {
	if cp.ifname == "" || cp.ifname == ifp.Name {
		ifp.AddTap(cp.cap)
	}
}

func (cp *capture) close() {
	cp.c.s.routes.removeCapture(cp)
	cp.mu.Lock()
	cp.closed = true
	waiting := cp.parked
	cp.parked, cp.left = nil, nil
	cp.mu.Unlock()
	cp.cap.Close()
	for _, h := range waiting {
		cp.c.unpark()
		cp.c.reply(h, unix.EBADF, nil)
	}
	cp.c.s.dropSocket(cp.c)
}

// recv serves TypeCaptured.
func (cp *capture) recv(h protocol.Header) error {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if len(cp.parked) == 0 && cp.serve(h) {
		return nil
	}
	if err := cp.c.park(); err != nil {
		return err
	}
	cp.parked = append(cp.parked, h)
	return nil
}

// cancel answers the request tag with EINTR if it waits here.
func (cp *capture) cancel(tag uint32) bool {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	for i, h := range cp.parked {
		if h.Tag == tag {
			cp.parked = append(cp.parked[:i], cp.parked[i+1:]...)
			cp.c.unpark()
			cp.c.reply(h, unix.EINTR, nil)
			return true
		}
	}
	return false
}

// wake runs on the packet path.
func (cp *capture) wake() {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	for len(cp.parked) > 0 && !cp.closed && cp.serve(cp.parked[0]) {
		cp.parked = cp.parked[1:]
		cp.c.unpark()
	}
}

// serve answers h with what fits a frame, or reports that there is nothing.
// The caller holds cp.mu.
func (cp *capture) serve(h protocol.Header) bool {
	if len(cp.left) == 0 {
		cp.left = cp.cap.Read(0)
	}
	if len(cp.left) == 0 {
		return false
	}
	s := cp.c.s
	b := frames.Get().(*[]byte)
	defer frames.Put(b)
	dropped := cp.cap.Stats().Dropped
	*b = protocol.AppendU32(protocol.AppendReply((*b)[:0], h), uint32(min(dropped-cp.lost, 1<<32-1)))
	cp.lost = dropped
	for len(cp.left) > 0 {
		r := &cp.left[0]
		rec := protocol.CaptureRecord{Time: s.eng.Wall(r.Time).UnixNano(), Index: r.Index, IfName: r.Name, Out: r.Out,
			Dropped: r.Dropped, LinkType: r.Link, OrigLen: r.OrigLen, Data: r.Data}
		if len(*b)+protocol.CaptureRecordLen(rec)+4 > protocol.MaxFrame {
			break
		}
		*b = protocol.AppendCaptureRecord(*b, rec)
		cp.left = cp.left[1:]
	}
	cp.c.send(*b)
	return true
}
