package wire

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"ionet/driver"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	// A station's queue in memory holds at most this many frames, and frames
	// of at most this much storage, which is charged to their senders. What
	// finds no room is dropped and counted by the sender.
	memoryFrames = 1024
	memoryOctets = 16 << 20
)

// Segment is an Ethernet segment inside one process: the wire for stacks that
// one program holds. It is safe for concurrent use.
type Segment struct {
	// Without are offloads that the stations do not have; it is set before
	// the first is attached.
	Without netif.Caps

	mu       sync.Mutex
	stations atomic.Pointer[stations]
	made     int
}

type stations struct {
	byMAC map[netif.MAC]*memory
	all   []*memory
}

// memory is one station of a Segment.
type memory struct {
	seg  *Segment
	mac  netif.MAC
	mtu  int
	kick chan struct{}
	done chan struct{}

	promisc atomic.Bool

	mu     sync.Mutex // the queue; owner: whoever holds it
	queue  []*packet.Buf
	octets int
	closed bool
}

// NewSegment makes a segment without stations.
func NewSegment() *Segment {
	s := &Segment{}
	s.stations.Store(&stations{})
	return s
}

// Attach adds a station. The caller sees to it that no two have one address;
// the zero MAC asks for one that the segment has not given out before. The MTU
// is 1500 when mtu is 0. Closing the driver takes the station away.
func (s *Segment) Attach(mac netif.MAC, mtu int) driver.Driver {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	if mac == (netif.MAC{}) {
		mac = driver.StableMAC("memory", 0, s.made)
	}
	if mtu == 0 {
		mtu = defaultMTU
	}
	m := &memory{seg: s, mac: mac, mtu: mtu, kick: make(chan struct{}, 1), done: make(chan struct{})}
	s.publish(append(slices.Clone(s.stations.Load().all), m))
	return m
}

// publish makes all the stations; mu is held.
func (s *Segment) publish(all []*memory) {
	t := &stations{byMAC: make(map[netif.MAC]*memory, len(all)), all: all}
	for _, m := range all {
		t.byMAC[m.mac] = m
	}
	s.stations.Store(t)
}

// Transmit passes each frame on to the station it is for; stations that listen
// to all get copies, and frames for no one station go to each.
func (m *memory) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	t := m.seg.stations.Load()
	drops := 0
	for i := 0; i < len(burst); {
		if !sound(burst[i]) {
			burst[i].Free()
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
		direct := t.byMAC[dst]
		for _, to := range t.all {
			if to != m && to != direct && (direct == nil || to.promisc.Load()) {
				drops += to.copies(run)
			}
		}
		if direct != nil && direct != m {
			drops += direct.push(run)
		} else {
			packet.FreeBurst(run)
		}
	}
	if drops > 0 && ifp != nil {
		ifp.Stats.OutDrops.Add(uint64(drops))
	}
}

// copies queues a copy of each frame and answers how many were lost.
func (m *memory) copies(run []*packet.Buf) (lost int) {
	var one [1]*packet.Buf
	for _, b := range run {
		if one[0] = b.Clone(); one[0] == nil {
			lost++
			continue
		}
		lost += m.push(one[:])
	}
	return lost
}

// push takes over frames and answers how many found no room.
func (m *memory) push(run []*packet.Buf) (lost int) {
	m.mu.Lock()
	n := 0
	for n < len(run) && !m.closed && len(m.queue) < memoryFrames && m.octets+run[n].Cap() <= memoryOctets {
		m.octets += run[n].Cap()
		m.queue = append(m.queue, run[n])
		n++
	}
	m.mu.Unlock()
	if n > 0 {
		select {
		case m.kick <- struct{}{}:
		default: // it has not yet looked since the last one
		}
	}
	packet.FreeBurst(run[n:])
	return len(run) - n
}

// take empties the queue; the slice of the one before goes back as its memory.
func (m *memory) take(old []*packet.Buf) []*packet.Buf {
	clear(old)
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue
	m.queue, m.octets = old[:0], 0
	return q
}

// Run receives until Close.
func (m *memory) Run(sink driver.Sink) error {
	sink.Receiving()
	sink.LinkState(true)
	var own [maxBurst]*packet.Buf
	var q []*packet.Buf
	for {
		select {
		case <-m.kick:
		case <-m.done:
			packet.FreeBurst(m.take(q))
			return nil
		}
		for q = m.take(q); len(q) > 0; q = m.take(q) {
			for at := 0; at < len(q); at += maxBurst {
				part := q[at:min(at+maxBurst, len(q))]
				n := adopt(sink.Pool(), own[:], part)
				if n < len(part) {
					sink.Dropped(len(part) - n)
				}
				if n > 0 {
					sink.Input(own[:n])
				}
			}
		}
	}
}

// adopt moves frames to own, as buffers of pool that know nothing of where
// they have been, and answers how many there was budget for. A frame of
// another stack's pool is copied, so that a slow receiver spends its own, or,
// if it is a super-packet whose octets are shared, charged to it.
func adopt(pool *packet.Pool, own, part []*packet.Buf) (n int) {
	for i := 0; i < len(part); {
		j := i + 1
		room, from := packet.Room(part[i].Len()), part[i].Pool()
		for j < len(part) && !part[i].Shared() && !part[j].Shared() && part[j].Pool() == from && packet.Room(part[j].Len()) == room {
			j++
		}
		run := part[i:j]
		i = j
		fresh := own[n : n+len(run)]
		switch {
		case from == pool:
			copy(fresh, run)
		case len(run) == 1 && pool.Adopt(run[0]):
			fresh[0] = run[0]
		default:
			got := pool.GetBurst(fresh, room)
			fresh = fresh[:got]
			for k, c := range fresh {
				copy(c.Append(run[k].Len()), run[k].Bytes())
				c.CopyMeta(run[k])
			}
			packet.FreeBurst(run)
		}
		for _, c := range fresh {
			c.Time, c.RcvIf, c.Flags = 0, 0, 0
		}
		n += len(fresh)
	}
	return n
}

// SetFilter turns copies of everybody's frames on or off. Group frames come
// in any case.
func (m *memory) SetFilter(promisc, allmulti bool, groups []netif.MAC) { m.promisc.Store(promisc) }

// Info names the stations of the segment.
func (m *memory) Info() driver.Info {
	all := m.seg.stations.Load().all
	i := driver.Info{
		Family: "en", Description: "Local wire in memory", MAC: m.mac,
		MTU: m.mtu, MaxMTU: maxMTU, Caps: offloads&^m.seg.Without | netif.CapVLANMTU,
		Details: []driver.Detail{{Name: "Segment Members", Value: strconv.Itoa(len(all))}},
	}
	for _, to := range all {
		if to != m {
			i.Details = append(i.Details, driver.Detail{Name: "Segment Member", Value: fmt.Sprint(to.mac)})
		}
	}
	return i
}

// Close takes the station off the segment.
func (m *memory) Close() error {
	m.seg.mu.Lock()
	m.seg.publish(slices.DeleteFunc(slices.Clone(m.seg.stations.Load().all), func(o *memory) bool { return o == m }))
	m.seg.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	close(m.done)
	packet.FreeBurst(m.queue)
	m.queue, m.octets = nil, 0
	return nil
}
