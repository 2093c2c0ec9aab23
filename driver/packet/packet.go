// Package packet shares an existing Linux interface by a packet socket
// (packet(7)). The stack is a second station on that link: it does not hear
// this machine's own frames, nor does the machine hear the stack's.
//
// Without option mac the stack uses the interface's own address, and the
// kernel sees the same frames; with it the interface is made promiscuous and
// the two are told apart by address. Frames with a VLAN tag belong to the
// kernel's VLAN interfaces and are left to them: a vlan of the stack cannot stand on
// such an interface.
//
// Frames arrive in a ring that is shared with the kernel, and leave many a
// system call; with ring=off each is read and written by itself. Several
// queues are a fanout group of sockets, among which the kernel deals out flows.
package packet

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/frames"
	"ionet/driver/internal/links"
	"ionet/driver/netns"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const maxQueues = 16

// Socket is a packet socket, or a few, bound to one interface.
type Socket struct {
	opt    driver.Options
	name   string
	netns  string
	index  int
	mtu    int
	mac    netif.MAC
	own    bool // mac is the interface's own
	caps   netif.Caps
	queues []queue
	noRing string // why there is no ring
	links  *links.Links
	up     bool

	promisc atomic.Bool
}

// queue is one packet socket.
type queue interface {
	Send(ifp *netif.Interface, burst []*packet.Buf)
	Receive(sink driver.Sink, again func(error) bool) error
	Control(f func(fd int))
	Close() error
}

// Open shares the interface that option if names, in the network namespace
// that option netns names. Option queues asks for several sockets, and ring=off
// for a system call a frame, which a kernel that refuses the ring gets too
// unless it is asked for by ring=on.
func Open(o driver.Options) (driver.Driver, error) {
	if err := o.Unknown("packet", "if", "netns", "queues", "ring"); err != nil {
		return nil, err
	}
	s := &Socket{opt: o, mac: o.MAC}
	n := 1
	if v, ok := o.Get("queues"); ok {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1 || n > maxQueues {
			return nil, fmt.Errorf("driver packet: queues=%s: want a number from 1 to %d", v, maxQueues)
		}
	}
	ring, given := o.Get("ring")
	switch {
	case given && ring != "on" && ring != "off":
		return nil, fmt.Errorf("driver packet: ring=%s: want on or off", ring)
	case ring == "off":
		s.noRing = "off"
	}
	s.name, _ = o.Get("if")
	s.netns, _ = o.Get("netns")
	if s.name == "" {
		return nil, errors.New("driver packet: which interface? name an existing one by if=NAME")
	}
	err := netns.Do(s.netns, func() error {
		err := s.open(n)
		if s.noRing != "" && ring == "on" {
			return errors.Join(err, fmt.Errorf("ring=on: %s", s.noRing))
		}
		return err
	})
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("driver packet: %s: %w", s.name, err)
	}
	return s, nil
}

func (s *Socket) open(queues int) (err error) {
	if s.links, err = links.Watch(); err != nil { // before we look, so that no change is missed
		return err
	}
	link, err := net.InterfaceByName(s.name)
	if err != nil {
		return errors.New("there is no such interface in this network namespace")
	}
	s.index, s.mtu = link.Index, link.MTU
	s.up = link.Flags&(net.FlagUp|net.FlagRunning) == net.FlagUp|net.FlagRunning
	if len(link.HardwareAddr) != len(s.mac) {
		return fmt.Errorf("its link address %q is none of Ethernet's", link.HardwareAddr)
	}
	if s.own = s.mac == (netif.MAC{}); s.own {
		s.mac = netif.MAC(link.HardwareAddr)
	}
	fanout := 0
	for i := range queues {
		q, err := s.attach(i, queues, &fanout)
		if err != nil {
			return err
		}
		s.queues = append(s.queues, q)
	}
	return s.listen(queues > 1)
}

// attach adds socket number i. Of several, each joins the fanout group and
// receives nothing before all of them have.
func (s *Socket) attach(i, queues int, fanout *int) (queue, error) {
	// Protocol 0 receives nothing: the socket is dressed before it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == unix.EPERM {
		return nil, fmt.Errorf("%w; a packet socket takes CAP_NET_RAW in the network namespace", err)
	} else if err != nil {
		return nil, err
	}
	q, err := s.dress(fd)
	if err != nil {
		return nil, err
	}
	q.Control(func(fd int) { err = s.bind(fd, i, queues, fanout) })
	if err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

// dress takes over fd and sets how frames pass.
func (s *Socket) dress(fd int) (queue, error) {
	header := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1) == nil
	if header {
		s.caps = netif.CapCsum | netif.CapTSO4 | netif.CapTSO6
	}
	// The filter keeps outgoing frames away too, where the kernel is too old.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	// Best effort: the kernel caps them at net.core.rmem_max and wmem_max.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20)
	if s.noRing == "" && !header {
		s.noRing = "the kernel has no vnet headers (PACKET_VNET_HDR)"
	}
	if s.noRing == "" {
		r, err := newRing(fd, s.mtu)
		if err == nil {
			return r, nil
		}
		s.noRing = err.Error()
	}
	return frames.New(fd, "packet socket on "+s.name, header)
}

// bind begins to receive, in a fanout group only what nothing passes.
func (s *Socket) bind(fd, i, queues int, fanout *int) error {
	filter := s.filter
	if queues > 1 {
		filter = func(fd int, _ bool) error { return attachFilter(fd, nothing) }
	}
	if err := filter(fd, s.opt.Promisc); err != nil {
		return err
	}
	sa := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: s.index}
	if err := unix.Bind(fd, &sa); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if queues > 1 {
		if err := join(fd, i == 0, fanout); err != nil {
			return fmt.Errorf("queues=%d: PACKET_FANOUT: %w", queues, err)
		}
	}
	if i > 0 { // one membership is the interface's
		return nil
	}
	if err := s.member(fd, unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_ALLMULTI); err != nil {
		return fmt.Errorf("to receive groups: %w", err)
	}
	if !s.own || s.opt.Promisc {
		if err := s.member(fd, unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_PROMISC); err != nil {
			return fmt.Errorf("promiscuous: %w", err)
		}
		s.promisc.Store(true)
	}
	return nil
}

// join puts a socket into a fanout group, which the first one makes; group is
// what the others say to join it.
func join(fd int, first bool, group *int) error {
	set := func(value int) error { return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, value) }
	if !first {
		return set(*group)
	}
	kind := unix.PACKET_FANOUT_HASH | unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	err := set((kind | unix.PACKET_FANOUT_FLAG_UNIQUEID) << 16)
	if err == unix.EINVAL { // an older kernel; the filter does it
		kind = unix.PACKET_FANOUT_HASH
		err = set((kind | unix.PACKET_FANOUT_FLAG_UNIQUEID) << 16)
	}
	if err != nil {
		return err
	}
	id, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	*group = id&0xffff | kind<<16
	return err
}

// listen lets frames in, once a fanout group is complete.
func (s *Socket) listen(group bool) (err error) {
	if !group {
		return nil
	}
	for _, q := range s.queues {
		q.Control(func(fd int) { err = errors.Join(err, s.filter(fd, s.opt.Promisc)) })
	}
	return err
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

func (s *Socket) member(fd, change int, kind uint16) error {
	return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, change, &unix.PacketMreq{Ifindex: int32(s.index), Type: kind})
}

// filter lets through groups and frames for us, or all of them.
func (s *Socket) filter(fd int, promisc bool) error {
	prog, err := program(s.mac, promisc)
	if err != nil {
		return err
	}
	return attachFilter(fd, prog)
}

// nothing is the filter that no frame passes.
var nothing = []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}}

func attachFilter(fd int, prog []bpf.RawInstruction) error {
	raw := make([]unix.SockFilter, len(prog))
	for i, p := range prog {
		raw[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]}); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// program is the filter of frames as the kernel runs it.
func program(mac netif.MAC, promisc bool) ([]bpf.RawInstruction, error) {
	const outgoing = 4 // PACKET_OUTGOING
	prog := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 9},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: outgoing, SkipTrue: 7},
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 1, SkipTrue: 4},
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(mac[0])<<24 | uint32(mac[1])<<16 | uint32(mac[2])<<8 | uint32(mac[3]), SkipTrue: 3},
		bpf.LoadAbsolute{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(mac[4])<<8 | uint32(mac[5]), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 18},
		bpf.RetConstant{Val: 0},
	}
	if promisc {
		prog[4] = bpf.Jump{Skip: 5}
	}
	return bpf.Assemble(prog)
}

// Transmit writes a burst to the link. Its order is kept: one socket does it.
func (s *Socket) Transmit(ifp *netif.Interface, burst []*packet.Buf) { s.queues[0].Send(ifp, burst) }

// SetFilter changes what is let through. Groups come in any case.
func (s *Socket) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	promisc = promisc || s.opt.Promisc
	s.queues[0].Control(func(fd int) {
		if want := promisc || !s.own; s.promisc.Swap(want) != want {
			change := unix.PACKET_ADD_MEMBERSHIP
			if !want {
				change = unix.PACKET_DROP_MEMBERSHIP
			}
			_ = s.member(fd, change, unix.PACKET_MR_PROMISC)
		}
	})
	for _, q := range s.queues {
		q.Control(func(fd int) { _ = s.filter(fd, promisc) })
	}
}

// Info names the interface.
func (s *Socket) Info() driver.Info {
	i := driver.Info{
		Family: "en", Description: "Packet socket on " + s.name, MAC: s.mac,
		MTU: s.mtu, MaxMTU: s.mtu, Caps: s.caps | netif.CapNoVLAN,
		Details: []driver.Detail{
			{Name: "Host Interface", Value: s.name},
			{Name: "Host Interface Index", Value: strconv.Itoa(s.index)},
			{Name: "Queues", Value: strconv.Itoa(len(s.queues))},
		},
	}
	text := s.noRing
	if text == "" {
		slots, slot, lost := 0, 0, uint64(0)
		for _, q := range s.queues {
			r := q.(*ring)
			slots, slot, lost = slots+len(r.mem)/r.slot, r.slot, lost+r.lost.Load()
		}
		text = fmt.Sprintf("%d slots of %d octets, %d frames found it full", slots, slot, lost)
	}
	i.Details = append(i.Details, driver.Detail{Name: "Receive Ring", Value: text})
	if s.opt.MTU != 0 {
		i.MTU = min(s.opt.MTU, s.mtu)
	}
	return i
}

// Run receives until Close. The interface going down is a loss of carrier,
// its removal an error.
func (s *Socket) Run(sink driver.Sink) error {
	sink.LinkState(s.up)
	var gone bool
	watched := make(chan error, 1)
	go func() {
		err := driver.Guard(func() error {
			gone = s.links.Follow(sink, s.index, s.up)
			return nil
		})
		if gone || err != nil {
			_ = s.closeQueues()
		}
		watched <- err
	}()
	errs := make([]error, len(s.queues))
	var wg sync.WaitGroup
	for i, q := range s.queues {
		wg.Go(func() {
			errs[i] = driver.Guard(func() error {
				// An interface that goes down says so once to the socket, too.
				return q.Receive(sink, func(err error) bool { return err == unix.ENETDOWN })
			})
			_ = s.closeQueues() // one that ends ends the others
		})
	}
	wg.Wait()
	_ = s.links.Close()
	err := errors.Join(append(errs, <-watched)...)
	switch {
	case gone:
		return fmt.Errorf("driver packet: the interface %s has gone", s.name)
	case err != nil:
		return fmt.Errorf("driver packet: %s: %w", s.name, err)
	}
	return nil
}

func (s *Socket) closeQueues() (err error) {
	for _, q := range s.queues {
		err = errors.Join(err, q.Close())
	}
	return err
}

// Close unbinds the sockets; their memberships end with them.
func (s *Socket) Close() error {
	if s.links == nil { // never opened
		return nil
	}
	return errors.Join(s.closeQueues(), s.links.Close())
}
