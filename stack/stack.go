// Package stack is one network stack, assembled from the rooms below it. It is
// passive: it is called with received bursts, with the time, and with socket
// and control calls, and calls back through drivers' Transmit, sockets'
// upcalls and subscribers.
//
// Packet and socket calls carry a [netif.Work] that the caller has begun.
// Control calls (addresses, flags, routes, interfaces) take none and must not
// be made while the caller has one: they wait for readers of the tables.
package stack

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/arp"
	"ionet/stack/autoconf"
	"ionet/stack/bridge"
	"ionet/stack/ether"
	"ionet/stack/gif"
	"ionet/stack/inet"
	"ionet/stack/inet6"
	"ionet/stack/ipfilter"
	"ionet/stack/ipnat"
	"ionet/stack/ipsec"
	"ionet/stack/loop"
	"ionet/stack/mib"
	"ionet/stack/nd6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
	"ionet/stack/ping"
	"ionet/stack/rawip"
	"ionet/stack/route"
	"ionet/stack/socket"
	"ionet/stack/tcp"
	"ionet/stack/udp"
	"ionet/stack/vlan"
)

var (
	nodeMaxSockets = mib.Int("kern.maxsockets", 65536, "Sockets in the stack at most.", mib.Range(16, 1<<24))
	nodeMaxMemory  = mib.Int("kern.mbuf.memory", 256<<20, "Octets of packet buffers in use at most.", mib.Range(1<<20, 1<<40))
)

// Config is what a stack starts with.
type Config struct {
	Log              *slog.Logger
	Now              func() int64   // nanoseconds, monotonic
	Rand32           func() uint32  // unpredictable; safe for concurrent use
	Earlier          func(at int64) // the next Advance is due earlier; may be nil
	Memory           int64          // octets of packet buffers; 0: the default
	ReuseportUnicast bool
	NoCache          bool
	V4Only           bool // no IPv6 (tcpip-v4)
	IPsec            bool // packets are protected as policies say
	FilterFirst      bool // with IPsec: the filter is asked before what leaves is protected (pfil_ipsec)
}

// Stack is one network stack.
type Stack struct {
	Env    *netif.Env
	Routes *route.Table
	Cache  *route.HostCache
	Ether  *ether.Ether
	ARP    *arp.ARP
	Inet   *inet.Inet
	Inet6  *inet6.Inet6 // nil: V4Only
	ND     *nd6.ND      // with Inet6
	Auto   *autoconf.Autoconf
	Gif    *gif.Gif
	VLAN   *vlan.VLAN
	Bridge *bridge.Bridges
	IPsec  *ipsec.IPsec // nil: without
	UDP    *udp.UDP
	TCP    *tcp.TCP
	Ping   *ping.Ping
	Raw    *rawip.Raw
	Lo     *netif.Interface

	hook   pfil.Hook
	secure pfil.SecurityHook
	filter atomic.Pointer[ipfilter.Filter]
	nat    atomic.Pointer[ipnat.NAT]
	deaf   func() // ends the translation's subscription; under ctl

	lastID  atomic.Uint64
	sockets atomic.Int64
	sockMem atomic.Int64
	ctl     sync.Mutex // one control call on interfaces at a time
	news    news

	neighbours neighbourNews

	tunnelPolicies map[*netif.Interface][]*ipsec.Policy // of ipsec interfaces; under ctl
}

// New assembles a stack; lo0 is there and up.
func New(c Config) (*Stack, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	v := mib.NewValues()
	if c.Memory == 0 {
		c.Memory = v.Int(nodeMaxMemory)
	}
	v.Put(nodeMaxMemory, c.Memory)
	env := &netif.Env{
		Pool: packet.NewPool(c.Memory), MIB: v, Log: c.Log, Now: c.Now, Rand32: c.Rand32,
	}
	env.Pool.SetCaching(!c.NoCache)
	v.OnChange(nodeMaxMemory, func(_, n int64) error { env.Pool.SetLimit(n); return nil })
	env.Wheel.Init(c.Now(), c.Earlier)
	s := &Stack{Env: env, Routes: route.New(env)}
	s.Cache = route.NewHostCache(env, s.Routes)
	s.Lo = s.newLoop("lo0")
	s.Inet = inet.New(env, s.Routes, s.Cache, s.Lo)
	s.Inet.SetHook(&s.hook)
	s.Ether = ether.New(env)
	s.VLAN = vlan.New()
	s.Bridge = bridge.New(env)
	s.Bridge.Local = s.Ether.Local
	s.ARP = arp.New(env, s.Ether, s.Inet.HostUnreachable)
	s.ARP.Changed = s.neighbours.arp
	s.UDP = udp.New(env, udp.Config{ReuseportUnicast: c.ReuseportUnicast, SocketMemory: &s.sockMem})
	s.TCP = tcp.New(env, tcp.Config{SocketMemory: &s.sockMem, NewSocket: s.newSocket, Closed: s.socketClosed})
	s.Ping = ping.New(env, s.Inet, &s.sockMem)
	s.Raw = rawip.New(env, s.Inet, &s.sockMem)

	s.Ether.Handle(packet.EtherIPv4, s.Inet)
	s.Ether.Handle(packet.EtherARP, s.ARP)
	s.Ether.ResolveWith(false, s.ARP)
	s.Inet.SetNeighbours(s.ARP)
	s.Inet.SetRaw(s.Raw)
	s.Inet.SetEcho(s.Ping)
	s.Inet.Handle(packet.ProtoUDP, s.UDP)
	s.UDP.Over(false, s.Inet)
	s.Inet.Handle(packet.ProtoTCP, s.TCP)
	s.TCP.Over(false, s.Inet)
	s.Inet.AddrChanged = s.addrChanged
	if !c.V4Only {
		s.assemble6(env)
	}
	s.tunnels(env)
	if c.IPsec {
		s.secures(env, c.FilterFirst)
	}

	if err := env.Ifs.Add(s.Lo); err != nil {
		return nil, err
	}
	if err := s.AddAddr(s.Lo, AddrSpec{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Bits: 8}); err != nil {
		return nil, fmt.Errorf("stack: lo0: %w", err)
	}
	if s.Inet6 != nil {
		local := netip.AddrFrom16([16]byte{0xfe, 0x80, 15: 1})
		for _, a := range []AddrSpec{{Addr: netip.IPv6Loopback(), Bits: 128}, {Addr: local, Bits: 64}} {
			if err := s.AddAddr(s.Lo, a); err != nil {
				return nil, fmt.Errorf("stack: lo0: %w", err)
			}
		}
	}
	return s, nil
}

// assemble6 introduces IPv6 to the others.
func (s *Stack) assemble6(env *netif.Env) {
	s.Inet6 = inet6.New(env, s.Routes, s.Cache, s.Lo)
	s.Inet6.SetHook(&s.hook)
	s.ND = nd6.New(env, s.Routes, s.Ether, s.Inet6)
	s.ND.Changed = s.neighbours.nd6
	s.Ether.Handle(packet.EtherIPv6, s.Inet6)
	s.Ether.ResolveWith(true, s.ND)
	s.Ether.OwnIPv6 = s.ND.OwnFrame
	s.Inet6.SetND(s.ND)
	s.Inet6.Handle(packet.ProtoUDP, s.UDP)
	s.UDP.Over(true, s.Inet6)
	s.Inet6.Handle(packet.ProtoTCP, s.TCP)
	s.TCP.Over(true, s.Inet6)
	s.Inet6.SetRaw(s.Raw)
	s.Raw.Over6(s.Inet6)
	s.Ping.Over6(s.Inet6)
	s.Inet6.SetEcho(s.Ping)
	s.autoconf(env)
}

func (s *Stack) newLoop(name string) *netif.Interface {
	return loop.New(name, func() loop.Handler { return s.Inet }, func() loop.Handler {
		if s.Inet6 == nil {
			return nil
		}
		return s.Inet6
	})
}

// Input runs a burst of frames that ifp received to completion, on a Work of
// the caller's own that is not begun. It takes the packets over; the slice is
// the caller's again.
func (s *Stack) Input(w *netif.Work, now int64, ifp *netif.Interface, burst []*packet.Buf) {
	w.Start(now)
	ifp.Input(w, ifp, burst)
	w.Finish()
}

// Advance runs the timers that are due at now.
func (s *Stack) Advance(now int64) {
	w := s.Env.Begin(now)
	s.Env.Wheel.Advance(now, w)
	w.End()
}

// Next is when Advance must be called again; false: no timer is armed.
func (s *Stack) Next() (at int64, ok bool) { return s.Env.Wheel.Next() }

// Close gives back what the stack holds by itself, after its interfaces have
// gone and its clock has stopped. Sockets are their owners' to close.
func (s *Stack) Close() {
	if s.Filter() != nil {
		_ = s.UnloadFilter() // it is there
	}
	w := s.Env.Begin(s.Env.Now())
	s.TCP.Close(w)
	s.Inet.Close(w)
	if s.Inet6 != nil {
		s.Inet6.Close(w)
		s.Auto.Close()
	}
	w.End()
}

// Protocol numbers that Socket knows besides raw ones.
const protoUDP = packet.ProtoUDP

// Socket makes a socket. Errors: EAFNOSUPPORT, EPROTONOSUPPORT, EACCES (raw,
// not the superuser), ENFILE (kern.maxsockets).
func (s *Stack) Socket(w *netif.Work, family, typ, proto int, cred socket.Cred) (*socket.Socket, error) {
	if family != socket.AFInet && (family != socket.AFInet6 || s.Inet6 == nil) {
		return nil, syscall.EAFNOSUPPORT
	}
	id, ok := s.newSocket()
	if !ok {
		return nil, syscall.ENFILE
	}
	so, err := (*socket.Socket)(nil), error(syscall.EPROTONOSUPPORT)
	switch {
	case typ == socket.Stream && (proto == 0 || proto == packet.ProtoTCP):
		so, err = s.TCP.Socket(w, family, cred, id)
	case typ == socket.Dgram && (proto == 0 || proto == protoUDP):
		so, err = s.UDP.Socket(w, family, cred, id)
	case typ == socket.Dgram && proto == ping.Proto(family):
		so, err = s.Ping.Socket(w, family, cred, id)
	case typ == socket.Raw:
		so, err = s.Raw.Socket(w, family, proto, cred, id)
	case typ != socket.Dgram && typ != socket.Stream:
		err = syscall.ESOCKTNOSUPPORT
	}
	if err != nil {
		s.socketClosed()
		return nil, err
	}
	so.OnClose(s.socketClosed)
	return so, nil
}

// newSocket counts one more socket and numbers it; false: kern.maxsockets.
func (s *Stack) newSocket() (id uint64, ok bool) {
	if s.sockets.Add(1) > s.Env.MIB.Int(nodeMaxSockets) {
		s.sockets.Add(-1)
		return 0, false
	}
	return s.lastID.Add(1), true
}

func (s *Stack) socketClosed() { s.sockets.Add(-1) }

// Sockets is the number of open sockets, SocketMemory the storage they hold.
func (s *Stack) Sockets() int        { return int(s.sockets.Load()) }
func (s *Stack) SocketMemory() int64 { return s.sockMem.Load() }

// SocketInfo describes a socket for netstat.
type SocketInfo struct {
	ID             uint64
	Proto          string // "tcp", "udp", "icmp", "ip"
	State          string // of a TCP connection, else ""
	Family         int
	RecvQ, SendQ   int
	Local, Foreign socket.Addr
	Cred           socket.Cred
}

// SocketTable describes every socket.
func (s *Stack) SocketTable() []SocketInfo {
	var out []SocketInfo
	add := func(so *socket.Socket, proto string) {
		out = append(out, SocketInfo{ID: so.ID, Proto: proto, Family: so.Family, RecvQ: so.Queued(),
			Local: so.Local(), Foreign: so.Peer(), Cred: so.Cred})
	}
	for _, r := range s.TCP.Rows() {
		i := SocketInfo{Proto: "tcp", Family: socket.FamilyOf(r.Local.IP), RecvQ: r.RecvQ, SendQ: r.SendQ,
			State: r.State}
		if r.So != nil {
			i.ID, i.Family, i.Cred = r.So.ID, r.So.Family, r.So.Cred
		}
		i.Local, i.Foreign = socket.Leave(i.Family, r.Local), socket.Leave(i.Family, r.Foreign)
		out = append(out, i)
	}
	for _, p := range s.UDP.PCBs() {
		add(p.So, "udp")
	}
	for _, p := range s.Ping.PCBs() {
		add(p.So, "icmp")
	}
	for _, so := range s.Raw.Sockets() {
		switch so.Proto {
		case packet.ProtoICMP, packet.ProtoICMPv6:
			add(so, "icmp")
		case packet.ProtoIGMP:
			add(so, "igmp")
		default:
			add(so, "ip")
		}
	}
	return out
}
