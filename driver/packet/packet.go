// Package packet shares an existing Linux interface by a packet socket
// (packet(7)). The stack is a second station on that link: it does not hear
// this machine's own frames, nor does the machine hear the stack's.
//
// Without option mac the stack uses the interface's own address, and the
// kernel sees the same frames; with it the interface is made promiscuous and
// the two are told apart by address. Frames with a VLAN tag belong to the
// kernel's VLAN interfaces and are left to them.
package packet

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/frames"
	"ionet/driver/netns"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Socket is a packet socket bound to one interface.
type Socket struct {
	opt   driver.Options
	name  string
	netns string
	index int
	mtu   int
	mac   netif.MAC
	own   bool // mac is the interface's own
	caps  netif.Caps
	conn  *frames.Conn
	links *links
	up    bool

	promisc atomic.Bool
}

// Open shares the interface that option if names, in the network namespace
// that option netns names.
func Open(o driver.Options) (driver.Driver, error) {
	if err := o.Unknown("packet", "if", "netns"); err != nil {
		return nil, err
	}
	s := &Socket{opt: o, mac: o.MAC}
	s.name, _ = o.Get("if")
	s.netns, _ = o.Get("netns")
	if s.name == "" {
		return nil, errors.New("driver packet: which interface? name an existing one by if=NAME")
	}
	if err := netns.Do(s.netns, s.open); err != nil {
		return nil, fmt.Errorf("driver packet: %s: %w", s.name, err)
	}
	return s, nil
}

func (s *Socket) open() (err error) {
	if s.links, err = watch(); err != nil { // before we look, so that no change is missed
		return err
	}
	defer func() {
		if err != nil {
			_ = s.links.close()
		}
	}()
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
	// Protocol 0 receives nothing: the socket is dressed before it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == unix.EPERM {
		return fmt.Errorf("%w; a packet socket takes CAP_NET_RAW in the network namespace", err)
	} else if err != nil {
		return err
	}
	header, err := s.dress(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	s.conn, err = frames.New(fd, "packet socket on "+s.name, header)
	return err
}

// dress sets what the socket lets through and binds it. header says whether
// its frames carry a vnet header.
func (s *Socket) dress(fd int) (header bool, err error) {
	header = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1) == nil
	if header {
		s.caps = netif.CapCsum | netif.CapTSO4 | netif.CapTSO6
	}
	// The filter keeps outgoing frames away too, where the kernel is too old.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	// Best effort: the kernel caps it at net.core.rmem_max.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	if err := s.filter(fd, s.opt.Promisc); err != nil {
		return false, err
	}
	sa := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: s.index}
	if err := unix.Bind(fd, &sa); err != nil {
		return false, fmt.Errorf("bind: %w", err)
	}
	if err := s.member(fd, unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_ALLMULTI); err != nil {
		return false, fmt.Errorf("to receive groups: %w", err)
	}
	if !s.own || s.opt.Promisc {
		if err := s.member(fd, unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_PROMISC); err != nil {
			return false, fmt.Errorf("promiscuous: %w", err)
		}
		s.promisc.Store(true)
	}
	return header, nil
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

// Transmit writes a burst to the link.
func (s *Socket) Transmit(ifp *netif.Interface, burst []*packet.Buf) { s.conn.Send(ifp, burst) }

// SetFilter changes what is let through. Groups come in any case.
func (s *Socket) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	promisc = promisc || s.opt.Promisc
	s.conn.Control(func(fd int) {
		if want := promisc || !s.own; s.promisc.Swap(want) != want {
			change := unix.PACKET_ADD_MEMBERSHIP
			if !want {
				change = unix.PACKET_DROP_MEMBERSHIP
			}
			_ = s.member(fd, change, unix.PACKET_MR_PROMISC)
		}
		_ = s.filter(fd, promisc)
	})
}

// Info names the interface.
func (s *Socket) Info() driver.Info {
	i := driver.Info{
		Family: "en", Description: "Packet socket on " + s.name, MAC: s.mac,
		MTU: s.mtu, MaxMTU: s.mtu, Caps: s.caps,
		Details: []driver.Detail{
			{Name: "Host Interface", Value: s.name},
			{Name: "Host Interface Index", Value: strconv.Itoa(s.index)},
		},
	}
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
			gone = s.links.follow(sink, s.index, s.up)
			return nil
		})
		if gone || err != nil {
			_ = s.conn.Close()
		}
		watched <- err
	}()
	// An interface that goes down says so once to the socket, too.
	err := s.conn.Receive(sink, func(err error) bool { return err == unix.ENETDOWN })
	_ = s.links.close()
	if failed := <-watched; failed != nil {
		err = failed
	}
	switch {
	case gone:
		return fmt.Errorf("driver packet: the interface %s has gone", s.name)
	case err != nil:
		return fmt.Errorf("driver packet: %s: %w", s.name, err)
	}
	return nil
}

// Close unbinds the socket; its memberships end with it.
func (s *Socket) Close() error { return errors.Join(s.conn.Close(), s.links.close()) }
