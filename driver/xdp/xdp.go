// Package xdp takes over an existing Linux interface by AF_XDP sockets: a
// program at the driver's receive hook sends every frame to a ring that is
// shared with the kernel, and frames to send are in another one. The kernel's
// own stack receives nothing by that interface any more, and gets it back when
// the driver is closed.
//
// A frame is at most a page, less what the kernel puts in front of it. There
// are no offloads: checksums and segments are made in the stack. A kernel behind
// a veth leaves checksums unfinished, and XDP has no word for it; on such links
// the driver recognises them (unfinished).
package xdp

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/links"
	"ionet/driver/netns"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const maxQueues = 64

// soft are the kernel's drivers of interfaces that pass on frames which no wire
// has carried, and so with what their senders have left undone.
var soft = map[string]bool{"veth": true, "bridge": true, "tun": true, "macvlan": true}

// Link is an interface that has been taken over.
type Link struct {
	opt   driver.Options
	name  string
	netns string
	index int
	mtu   int
	mac   netif.MAC
	own   bool // mac is the interface's own
	soft  bool // no wire is behind it
	up    bool

	links   *links.Links
	program *program
	groups  int // a packet socket that receives nothing; what it is a member of is the interface's filter
	queues  []*socket
	senders []*socket // those of the queues that send

	mu      sync.Mutex // guards what follows, and groups
	promisc bool
	closed  bool

	partial atomic.Uint64 // frames whose checksum was left to us
}

// Open takes over the interface that option if names, in the network namespace
// that option netns names. Option queues says how many receive queues it is
// expected to have.
func Open(o driver.Options) (driver.Driver, error) {
	if err := o.Unknown("xdp", "if", "netns", "queues"); err != nil {
		return nil, err
	}
	l := &Link{opt: o, mac: o.MAC, groups: -1}
	l.name, _ = o.Get("if")
	l.netns, _ = o.Get("netns")
	if l.name == "" {
		return nil, errors.New("driver xdp: which interface? name an existing one by if=NAME")
	}
	want := 0
	if v, ok := o.Get("queues"); ok {
		var err error
		if want, err = strconv.Atoi(v); err != nil || want < 1 || want > maxQueues {
			return nil, fmt.Errorf("driver xdp: queues=%s: want a number from 1 to %d", v, maxQueues)
		}
	}
	if err := netns.Do(l.netns, func() error { return l.open(want) }); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("driver xdp: %s: %w", l.name, err)
	}
	return l, nil
}

func (l *Link) open(want int) (err error) {
	if l.links, err = links.Watch(); err != nil { // before we look, so that no change is missed
		return err
	}
	link, err := net.InterfaceByName(l.name)
	if err != nil {
		return errors.New("there is no such interface in this network namespace")
	}
	l.index, l.mtu = link.Index, min(link.MTU, maxFrame-linkHeader)
	l.up = link.Flags&(net.FlagUp|net.FlagRunning) == net.FlagUp|net.FlagRunning
	if len(link.HardwareAddr) != len(l.mac) {
		return fmt.Errorf("its link address %q is none of Ethernet's", link.HardwareAddr)
	}
	if l.own = l.mac == (netif.MAC{}); l.own {
		l.mac = netif.MAC(link.HardwareAddr)
	}
	h, err := look(l.name)
	if err != nil {
		return err
	}
	l.soft = soft[h.driver]
	if want != 0 && want != h.receive {
		return fmt.Errorf("queues=%d: it has %d receive queues, and each needs a socket, or its frames would not arrive; ethtool -L changes how many it has", want, h.receive)
	}
	if h.receive > maxQueues {
		return fmt.Errorf("it has %d receive queues, the driver serves %d; ethtool -L makes them fewer", h.receive, maxQueues)
	}
	for i := range h.receive {
		s, err := newSocket(l.index, i, l.mtu+linkHeader)
		if err != nil {
			return fmt.Errorf("receive queue %d: %w", i, err)
		}
		l.queues = append(l.queues, s)
	}
	l.senders = l.queues[:min(len(l.queues), h.send)]
	if err := l.join(); err != nil {
		return err
	}
	// Last, since it takes the link from the kernel.
	l.program, err = attach(l.index, l.queues)
	return err
}

// join has the interface receive groups, and what is not for its own address
// if that is wished.
func (l *Link) join() (err error) {
	if l.groups, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if err := l.member(unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_ALLMULTI); err != nil {
		return fmt.Errorf("to receive groups: %w", err)
	}
	if !l.own || l.opt.Promisc {
		if err := l.member(unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_PROMISC); err != nil {
			return fmt.Errorf("promiscuous: %w", err)
		}
		l.promisc = true
	}
	return nil
}

func (l *Link) member(change int, kind uint16) error {
	return unix.SetsockoptPacketMreq(l.groups, unix.SOL_PACKET, change, &unix.PacketMreq{Ifindex: int32(l.index), Type: kind})
}

// Transmit writes a burst to the link. Frames of one flow keep to one queue.
func (l *Link) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	drops := 0
	if len(l.senders) == 1 {
		drops = l.senders[0].send(burst)
	} else {
		for i := 0; i < len(burst); {
			q, j := l.sender(burst[i]), i+1
			for j < len(burst) && l.sender(burst[j]) == q {
				j++
			}
			drops += q.send(burst[i:j])
			i = j
		}
	}
	if drops > 0 && ifp != nil {
		ifp.Stats.OutDrops.Add(uint64(drops))
	}
	packet.FreeBurst(burst)
}

// sender chooses by the octets where IPv4 has addresses and ports, and IPv6
// addresses.
func (l *Link) sender(b *packet.Buf) *socket {
	h := uint32(0)
	if f := b.Bytes(); len(f) >= 38 {
		for _, c := range f[26:38] {
			h = h*31 + uint32(c)
		}
	}
	return l.senders[h%uint32(len(l.senders))]
}

// SetFilter changes what the interface lets through. Groups come in any case.
func (l *Link) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	want := promisc || l.opt.Promisc || !l.own
	if l.closed || want == l.promisc {
		return
	}
	change := unix.PACKET_ADD_MEMBERSHIP
	if !want {
		change = unix.PACKET_DROP_MEMBERSHIP
	}
	_ = l.member(change, unix.PACKET_MR_PROMISC)
	l.promisc = want
}

// Info names the interface and what has been lost.
func (l *Link) Info() driver.Info {
	lost := uint64(0)
	for _, s := range l.queues {
		lost += s.losses()
	}
	i := driver.Info{
		Family: "en", Description: "AF_XDP on " + l.name, MAC: l.mac, MTU: l.mtu, MaxMTU: l.mtu,
		Details: []driver.Detail{
			{Name: "Host Interface", Value: l.name},
			{Name: "Host Interface Index", Value: strconv.Itoa(l.index)},
			{Name: "Queues", Value: strconv.Itoa(len(l.queues))},
			{Name: "Rings", Value: fmt.Sprintf("%d frames of %d octets each way, %d frames found them full", ringFrames, l.queues[0].chunk, lost)},
		},
	}
	if l.soft {
		i.Details = append(i.Details, driver.Detail{Name: "Unfinished Checksums", Value: strconv.FormatUint(l.partial.Load(), 10)})
	}
	if l.opt.MTU != 0 {
		i.MTU = min(l.opt.MTU, l.mtu)
	}
	return i
}

// Run receives until Close. The interface going down is a loss of carrier,
// its removal an error.
func (l *Link) Run(sink driver.Sink) error {
	sink.LinkState(l.up)
	var gone bool
	watched := make(chan error, 1)
	go func() {
		err := driver.Guard(func() error {
			gone = l.links.Follow(sink, l.index, l.up)
			return nil
		})
		if gone || err != nil {
			_ = l.closeQueues()
		}
		watched <- err
	}()
	errs := make([]error, len(l.queues))
	var wg sync.WaitGroup
	for i, s := range l.queues {
		wg.Go(func() {
			errs[i] = driver.Guard(func() error { return l.receive(s, sink) })
			_ = l.closeQueues() // one that ends ends the others
		})
	}
	wg.Wait()
	_ = l.links.Close()
	err := errors.Join(append(errs, <-watched)...)
	switch {
	case gone:
		return fmt.Errorf("driver xdp: the interface %s has gone", l.name)
	case err != nil:
		return fmt.Errorf("driver xdp: %s: %w", l.name, err)
	}
	return nil
}

func (l *Link) closeQueues() (err error) {
	for _, s := range l.queues {
		err = errors.Join(err, s.close())
	}
	return err
}

// Close gives the interface back to the kernel.
func (l *Link) Close() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.program != nil {
		err = l.program.close()
	}
	err = errors.Join(err, l.closeQueues())
	if l.groups >= 0 {
		err = errors.Join(err, unix.Close(l.groups))
	}
	if l.links != nil {
		err = errors.Join(err, l.links.Close())
	}
	return err
}
