package nd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"syscall"

	"ionet/client"
	"ionet/protocol"
)

// Packet is an ICMPv6 message on its way. Addresses have no zones: If says what
// link they are of.
type Packet struct {
	If       int        // index of the interface
	Src, Dst netip.Addr // Src invalid: the stack chooses
	HopLimit int
	Data     []byte
}

// Conn is what the daemons need of a raw ICMPv6 socket; [Socket] is one.
type Conn interface {
	// Send sends one message. A Data whose checksum is 0 gets it.
	Send(p Packet) error
	// Recv waits for a message; after Close it fails.
	Recv() (Packet, error)
	// Join takes part in a group of a link; being in already is no error.
	Join(group netip.Addr, index int) error
	Close() error
}

// Socket is a raw ICMPv6 socket of a stack that hears the types it was opened
// for.
type Socket struct {
	stack *client.Stack
	k     *client.Socket
}

const maxMessage = 65535

// Open makes a socket on the stack at sock (as client.Open has it) that hears
// the ICMPv6 types.
func Open(sock string, types ...byte) (*Socket, error) {
	prefix, err := client.Find(sock)
	if err != nil {
		return nil, err
	}
	stack, err := client.OpenFamily(prefix, protocol.AFInet6)
	if err != nil {
		return nil, err
	}
	s := &Socket{stack: stack}
	if s.k, err = stack.Socket(protocol.SockRaw, protocol.ProtoICMPv6); err == nil {
		err = s.prepare(types)
	} else if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		err = errors.New("only the superuser of the stack may have a raw ICMPv6 socket")
	}
	if err != nil {
		stack.Close()
		return nil, err
	}
	return s, nil
}

func (s *Socket) prepare(types []byte) error {
	if err := s.k.SetOption(protocol.ProtoICMPv6, protocol.ICMP6Filter, protocol.ICMP6Pass(types...)); err != nil {
		return fmt.Errorf("ICMP6_FILTER: %s", protocol.Strerror(err))
	}
	for _, o := range []struct {
		name, value int
		what        string
	}{
		{protocol.IPv6RecvPktInfo, 1, "IPV6_RECVPKTINFO"},
		{protocol.IPv6RecvHopLimit, 1, "IPV6_RECVHOPLIMIT"},
		{protocol.IPv6MulticastLoop, 0, "IPV6_MULTICAST_LOOP"}, // we are not to hear ourselves
	} {
		if err := s.k.SetInt(protocol.ProtoIPv6, o.name, o.value); err != nil {
			return fmt.Errorf("%s: %s", o.what, protocol.Strerror(err))
		}
	}
	return nil
}

// Send is [Conn].
func (s *Socket) Send(p Packet) error {
	info := protocol.PktInfo{Index: p.If}
	if p.Src.IsValid() && !p.Src.IsUnspecified() {
		info.Addr = p.Src
	}
	c := protocol.AppendControl(nil, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6PktInfo, Data: protocol.AppendPktInfo(nil, info)})
	c = protocol.AppendControl(c, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6HopLimit,
		Data: binary.LittleEndian.AppendUint32(nil, uint32(p.HopLimit))})
	dst := p.Dst
	if dst.IsLinkLocalUnicast() || dst.IsLinkLocalMulticast() {
		dst = dst.WithZone(strconv.Itoa(p.If))
	}
	_, err := s.k.Send(protocol.Msg{Addr: protocol.AddrFrom(dst, 0), Control: c, Data: p.Data})
	return err
}

// Recv is [Conn].
func (s *Socket) Recv() (Packet, error) {
	m, err := s.k.Recv(maxMessage, 0)
	if err != nil {
		return Packet{}, err
	}
	a, err := protocol.ParseAncillary(m.Control)
	if err != nil {
		return Packet{}, err
	}
	return Packet{If: a.If.Index, Src: m.Addr.IP.WithZone(""), Dst: a.Dst, HopLimit: a.TTL, Data: m.Data}, nil
}

// Join is [Conn].
func (s *Socket) Join(group netip.Addr, index int) error {
	req := binary.LittleEndian.AppendUint32(group.AsSlice(), uint32(index))
	err := s.k.SetOption(protocol.ProtoIPv6, protocol.IPv6JoinGroup, req)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	return err
}

// Close is [Conn]; it ends a Recv that waits.
func (s *Socket) Close() error { return s.stack.Close() }
