// Package wire is an Ethernet segment on one machine, made of local sockets in
// a folder. There is no server: the members listen in the folder and keep one
// stream a pair. A frame for one member goes straight to it, one for all is
// copied to each; super-packets and partial checksums cross whole. A member
// that hangs up has left.
//
// Who joins takes the folder's lock, connects to every name it finds, removes
// those that nobody answers for, and listens under its own; so of any two
// members the later one has connected to the earlier one, and nobody polls.
//
// Who can write to the folder is on the segment: its mode is the only guard.
package wire

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"ionet/driver"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	defaultMTU = 1500
	maxMTU     = 65535
	maxMembers = 4096
	// maxGreetings bounds the callers that have not said who they are.
	maxGreetings = 64
	// helloTime is how long Open waits for the members it found to know us.
	helloTime = 250 * time.Millisecond
	// choices bounds the addresses tried when a live member has ours.
	choices = 256
)

// offloads are what crosses whole: the other end is a stack like us.
const offloads = netif.CapCsum | netif.CapTSO4 | netif.CapTSO6 | netif.CapUSO

// Wire is one member of a segment.
type Wire struct {
	opt  driver.Options
	mac  netif.MAC
	name string
	seg  *segment
	ln   *net.UnixListener

	members atomic.Pointer[members]
	early   atomic.Int64 // malformed before there was a sink to tell

	mu      sync.Mutex         // changes of members and of what follows
	streams map[*peer]struct{} // members and callers alike
	promisc bool
	closed  bool
	wg      sync.WaitGroup

	greetings chan struct{} // a token each caller not yet known
	sink      driver.Sink   // set before started is closed
	started   chan struct{}
	failed    atomic.Pointer[error] // why accept ended, if it panicked
	done      chan struct{}
}

// members is a snapshot that Transmit reads without waiting.
type members struct {
	byMAC   map[netif.MAC]*peer
	all     []*peer // in order of address
	promisc []*peer
}

// Open joins the segment in the folder that option path names, or else the
// user's own segment o.Lan.
func Open(o driver.Options) (driver.Driver, error) {
	if err := o.Unknown("wire", "path"); err != nil {
		return nil, err
	}
	o.Lan = max(o.Lan, 0)
	path, given := o.Get("path")
	switch {
	case given && path == "":
		return nil, errors.New("driver wire: option path= names no folder")
	case given:
	case o.User == "":
		return nil, errors.New("driver wire: there is no folder of the user's for segments; name one by path=DIR")
	default:
		path = userSegment(o.User, o.Lan)
	}
	w := &Wire{
		opt: o, promisc: o.Promisc, streams: map[*peer]struct{}{},
		greetings: make(chan struct{}, maxGreetings),
		started:   make(chan struct{}), done: make(chan struct{}),
	}
	w.members.Store(&members{})
	for {
		linked, err := w.enter(path, !given)
		if err != nil {
			return nil, fmt.Errorf("driver wire: %w", err)
		}
		if linked {
			return w, nil
		}
		// The last member left between our opening the folder and locking it,
		// and took the folder along.
	}
}

// enter joins the segment. linked is false when the folder has gone meanwhile.
func (w *Wire) enter(path string, own bool) (linked bool, err error) {
	seg, err := openSegment(path, own)
	if err != nil {
		return false, err
	}
	defer func() {
		if !linked {
			seg.close()
		}
	}()
	if own {
		for _, p := range []string{w.opt.User, seg.path} {
			if err := private(p); err != nil {
				return false, err
			}
		}
	}
	linked, err = seg.lock()
	if !linked || err != nil {
		return false, err
	}
	w.seg = seg
	err = w.join()
	seg.unlock()
	if err != nil {
		if w.ln != nil {
			_ = w.Close()
			return true, err
		}
		return false, err
	}
	w.await()
	return true, nil
}

// join connects to those who are there and takes a name. The folder is locked.
func (w *Wire) join() error {
	names, err := w.seg.names()
	if err != nil {
		return err
	}
	if len(names) > maxMembers {
		return fmt.Errorf("segment %s has %d members; at most %d fit", w.seg.path, len(names), maxMembers)
	}
	conns := map[string]*net.UnixConn{}
	defer func() {
		for _, c := range conns { // what join did not hand over
			_ = c.Close()
		}
	}()
	for _, name := range names {
		c, err := w.seg.dial(name)
		if err != nil {
			return err
		}
		if c != nil {
			conns[name] = c
		}
	}
	if err := w.choose(func(name string) bool { return conns[name] != nil }); err != nil {
		return err
	}
	if w.ln, err = w.seg.listen(w.name); err != nil {
		return err
	}
	w.wg.Add(1)
	go func() {
		defer w.wg.Done()
		if err := driver.Guard(func() error { w.accept(); return nil }); err != nil {
			w.failed.Store(&err)
			_ = w.Close()
		}
	}()
	for name, c := range conns {
		p, err := newPeer(w, c)
		if err != nil {
			return err
		}
		p.mac, _ = parseName(name)
		delete(conns, name)
		w.goPeer(p, func() error {
			h, err := p.greet()
			if err == nil && h.mac != p.mac {
				return malformed{fmt.Errorf("member %v says that it is %v", p.mac, h.mac)}
			}
			return err
		})
		w.add(p)
	}
	return nil
}

// choose settles our address: the one asked for, or the first of the stable
// ones that no live member has.
func (w *Wire) choose(live func(name string) bool) error {
	if w.opt.MAC != (netif.MAC{}) {
		w.mac, w.name = w.opt.MAC, memberName(w.opt.MAC)
		if live(w.name) {
			return fmt.Errorf("segment %s has a live member with mac=%s already", w.seg.path, w.name)
		}
		return nil
	}
	for n := range choices {
		w.mac = driver.StableMAC(w.opt.Seed, w.opt.Lan, n)
		w.name = memberName(w.mac)
		if !live(w.name) {
			return nil
		}
	}
	return fmt.Errorf("segment %s has %d live members of the same stack; choose an address by mac=", w.seg.path, choices)
}

// await gives the members that were there a moment to know us, so that the
// first frame either way arrives. One that does not answer is only slow.
func (w *Wire) await() {
	late := time.NewTimer(helloTime)
	defer late.Stop()
	for _, p := range w.members.Load().all {
		select {
		case <-p.greeted:
		case <-p.gone:
		case <-late.C:
			return
		}
	}
}

// accept lets later members in.
func (w *Wire) accept() {
	for {
		conn, err := w.ln.AcceptUnix()
		if err != nil {
			select {
			case <-w.done:
				return
			case <-time.After(50 * time.Millisecond): // out of descriptors: they may come back
				w.verbose("wire: accept", "err", err)
				continue
			}
		}
		select {
		case w.greetings <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		p, err := newPeer(w, conn)
		if err != nil {
			_ = conn.Close()
			<-w.greetings
			continue
		}
		w.goPeer(p, func() error {
			defer func() { <-w.greetings }()
			_ = conn.SetReadDeadline(time.Now().Add(greetTime))
			h, err := p.greet()
			if err != nil {
				return err
			}
			if h.mac == w.mac {
				return malformed{fmt.Errorf("a caller says that it is %v, which is our address", h.mac)}
			}
			_ = conn.SetReadDeadline(time.Time{})
			p.mac = h.mac
			w.add(p)
			return nil
		})
	}
}

// goPeer starts a peer's goroutines: one reads from the greeting to the end,
// one waits for a full socket.
func (w *Wire) goPeer(p *peer, greet func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		_ = p.conn.Close()
		close(p.gone)
		return
	}
	w.streams[p] = struct{}{}
	w.wg.Go(func() {
		err := driver.Guard(func() error {
			if err := greet(); err != nil {
				return err
			}
			close(p.greeted)
			select {
			case <-w.started:
				return p.receive(w.sink)
			case <-w.done:
				return nil
			}
		})
		_ = p.conn.Close()
		close(p.gone)
		w.drop(p, err)
	})
	w.wg.Go(func() {
		if driver.Guard(func() error { p.drain(); return nil }) != nil {
			_ = p.conn.Close() // which ends the reader, and so the peer
		}
	})
}

// add makes p a member to send to, and says hello. A second stream from one
// address takes the place of the first: its old owner has died.
func (w *Wire) add(p *peer) {
	w.mu.Lock()
	m := w.members.Load()
	old := m.byMAC[p.mac]
	if w.closed || old == nil && len(m.all) >= maxMembers {
		w.mu.Unlock()
		_ = p.conn.Close()
		return
	}
	p.control(kindHello, hello{promisc: w.promisc, mac: w.mac, name: w.label()}.body())
	w.publish(append(without(m.all, old), p))
	w.mu.Unlock()
	if old != nil {
		_ = old.conn.Close()
	}
	p.flush()
	w.verbose("wire: member joined", "mac", p.mac, "pid", p.pid)
}

// drop takes p out after its stream has ended with err.
func (w *Wire) drop(p *peer, err error) {
	w.mu.Lock()
	delete(w.streams, p)
	if m := w.members.Load(); m.byMAC[p.mac] == p {
		w.publish(without(m.all, p))
	}
	w.mu.Unlock()
	if bad := (malformed{}); errors.As(err, &bad) {
		select {
		case <-w.started:
			w.sink.Malformed(1)
		default:
			w.early.Add(1)
		}
		w.verbose("wire: member dropped for what it sent", "mac", p.mac, "pid", p.pid, "err", bad.error)
		return
	}
	if err != nil && !ended(err) {
		w.verbose("wire: member lost", "mac", p.mac, "pid", p.pid, "err", err)
		return
	}
	w.verbose("wire: member left", "mac", p.mac, "pid", p.pid)
}

func without(all []*peer, p *peer) []*peer {
	return slices.DeleteFunc(slices.Clone(all), func(q *peer) bool { return q == p })
}

// publish makes all the members; mu is held.
func (w *Wire) publish(all []*peer) {
	m := &members{byMAC: make(map[netif.MAC]*peer, len(all)), all: all}
	slices.SortFunc(all, func(a, b *peer) int { return slices.Compare(a.mac[:], b.mac[:]) })
	for _, p := range all {
		m.byMAC[p.mac] = p
		if p.promisc.Load() {
			m.promisc = append(m.promisc, p)
		}
	}
	w.members.Store(m)
}

// refresh follows a member's change of its filter.
func (w *Wire) refresh() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.publish(slices.Clone(w.members.Load().all))
}

// Transmit sends each frame to the member it is for and to those that listen
// to all; frames for a group, for everybody or for nobody known go to each.
func (w *Wire) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	var (
		m       = w.members.Load()
		touched flushList
		drops   int
	)
	for i := 0; i < len(burst); {
		if !sound(burst[i]) {
			drops++
			i++
			continue
		}
		dst := netif.MAC(burst[i].Bytes()[:6])
		j := i + 1
		for j < len(burst) && sound(burst[j]) && netif.MAC(burst[j].Bytes()[:6]) == dst {
			j++
		}
		run := burst[i:j]
		i = j
		to := m.all
		direct := m.byMAC[dst]
		if direct != nil {
			to = m.promisc
		}
		for _, p := range to {
			if p != direct {
				drops += p.enqueue(run)
				touched.add(p)
			}
		}
		if direct != nil { // last, because gather changes the frames
			n, done := direct.gather(run)
			if !done {
				n = direct.enqueue(run)
				touched.add(direct)
			}
			drops += n
		}
	}
	touched.flush()
	if drops > 0 && ifp != nil {
		ifp.Stats.OutDrops.Add(uint64(drops))
	}
	packet.FreeBurst(burst)
}

// sound reports whether b is a frame that the wire can carry.
func sound(b *packet.Buf) bool { n := b.Len(); return n >= minFrame && n <= maxFrame }

// flushList is the peers that a burst was queued for, so that each is written
// to once a burst.
type flushList struct {
	peers [16]*peer
	n     int
}

func (l *flushList) add(p *peer) {
	if slices.Contains(l.peers[:l.n], p) {
		return
	}
	if l.n == len(l.peers) {
		p.flush()
		return
	}
	l.peers[l.n] = p
	l.n++
}

func (l *flushList) flush() {
	for _, p := range l.peers[:l.n] {
		p.flush()
	}
}

// SetFilter tells the other members whether we want a copy of every frame.
// Group frames come in any case.
func (w *Wire) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	w.mu.Lock()
	defer w.mu.Unlock()
	promisc = promisc || w.opt.Promisc
	if w.promisc == promisc {
		return
	}
	w.promisc = promisc
	for _, p := range w.members.Load().all {
		p.control(kindFilter, filterBody(promisc))
		p.flush()
	}
}

// Info names the segment and its members.
func (w *Wire) Info() driver.Info {
	i := driver.Info{
		Family: "en", Description: "Local wire", MAC: w.mac,
		MTU: defaultMTU, MaxMTU: maxMTU, Caps: offloads | netif.CapVLANMTU,
	}
	if w.opt.MTU != 0 {
		i.MTU = w.opt.MTU
	}
	m := w.members.Load()
	i.Details = append(i.Details,
		driver.Detail{Name: "Segment", Value: w.seg.path},
		driver.Detail{Name: "Segment Members", Value: strconv.Itoa(1 + len(m.all))})
	for _, p := range m.all {
		v := fmt.Sprintf("%v %s (pid %d)", p.mac, *p.name.Load(), p.pid)
		i.Details = append(i.Details, driver.Detail{Name: "Segment Member", Value: v})
	}
	return i
}

// label is our name for other people's nicinfo.
func (w *Wire) label() string { return fmt.Sprintf("%s en%d", w.opt.Seed, w.opt.Lan) }

// Run receives until Close.
func (w *Wire) Run(sink driver.Sink) error {
	w.sink = sink
	close(w.started)
	sink.LinkState(true)
	if n := w.early.Swap(0); n > 0 {
		sink.Malformed(int(n))
	}
	<-w.done
	w.wg.Wait()
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Close leaves the segment.
func (w *Wire) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	close(w.done)
	streams := slices.Collect(maps.Keys(w.streams))
	w.publish(nil)
	w.mu.Unlock()
	w.seg.leave(w.name) // while we still listen: nobody finds a dead name
	err := w.ln.Close()
	for _, p := range streams {
		_ = p.conn.Close()
	}
	w.seg.close()
	return err
}

func (w *Wire) verbose(msg string, args ...any) {
	select {
	case <-w.started:
		if w.opt.Verbose > 0 {
			w.sink.Verbose(msg, args...)
		}
	default:
	}
}
