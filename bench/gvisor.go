package main

import (
	"context"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

func gmust(err tcpip.Error) {
	if err != nil {
		panic(err.String())
	}
}

// gvisorStack is a netstack on the link, with UDP and ICMP.
func gvisorStack(link gstack.LinkEndpoint, addrs ...netip.Addr) *gstack.Stack {
	return gvisorOn(link, addrs, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6)
}

func gvisorOn(link gstack.LinkEndpoint, addrs []netip.Addr, transports ...gstack.TransportProtocolFactory) *gstack.Stack {
	s := gstack.New(gstack.Options{
		NetworkProtocols:   []gstack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: transports,
	})
	gmust(s.CreateNIC(1, link))
	for _, a := range addrs {
		gmust(s.AddProtocolAddress(1, tcpip.ProtocolAddress{
			Protocol:          gvisorVersion(a),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(a.AsSlice()), PrefixLen: versionOf(a).bits},
		}, gstack.AddressProperties{}))
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}, {Destination: header.IPv6EmptySubnet, NIC: 1}})
	return s
}

// gvisorTCP is a netstack with TCP as its fastest users set it up: SACK, cubic
// and large buffers. Its TIME_WAIT lasts wait.
func gvisorTCP(link gstack.LinkEndpoint, wait time.Duration, addrs ...netip.Addr) *gstack.Stack {
	s := gvisorOn(link, addrs, tcp.NewProtocol)
	sack, cubic, moderate := tcpip.TCPSACKEnabled(true), tcpip.CongestionControlOption("cubic"), tcpip.TCPModerateReceiveBufferOption(true)
	tw := tcpip.TCPTimeWaitTimeoutOption(wait)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &cubic, &moderate, &tw,
		&tcpip.TCPSendBufferSizeRangeOption{Min: 1 << 12, Default: 4 << 20, Max: 8 << 20},
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 1 << 12, Default: 4 << 20, Max: 8 << 20},
	} {
		gmust(s.SetTransportProtocolOption(tcp.ProtocolNumber, o))
	}
	return s
}

// gvisorVersion is the version of an address.
func gvisorVersion(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func gvisorAddr(a netip.Addr, port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFromSlice(a.AsSlice()), Port: port}
}

// gvisorListen listens with room for more connections than gonet's 10.
func gvisorListen(s *gstack.Stack, at netip.Addr, port uint16) net.Listener {
	var wq waiter.Queue
	ep, err := s.NewEndpoint(tcp.ProtocolNumber, gvisorVersion(at), &wq)
	gmust(err)
	gmust(ep.Bind(gvisorAddr(at, port)))
	gmust(ep.Listen(1024))
	return gonet.NewTCPListener(s, &wq, ep)
}

// gvisorNetwork is two netstacks that links join.
func gvisorNetwork(name string, client, server gstack.LinkEndpoint, wait time.Duration, clients ...netip.Addr) *network {
	c, s := gvisorTCP(client, wait, clients...), gvisorTCP(server, wait, servers()...)
	return &network{
		name: name,
		dial: func(from netip.Addr) (net.Conn, error) {
			to := gvisorAddr(versionOf(from).server, streamPort)
			return gonet.DialTCPWithBind(context.Background(), c, gvisorAddr(from, 0), to, gvisorVersion(from))
		},
		listen: func(v *version) (net.Listener, error) { return gvisorListen(s, v.server, streamPort), nil },
		frames: func() uint64 {
			return c.Stats().IP.PacketsSent.Value() + s.Stats().IP.PacketsSent.Value()
		},
		close: func() error {
			c.Close()
			s.Close()
			c.Wait()
			s.Wait()
			return nil
		},
	}
}

// gvisorPipe joins two netstacks by their pipe link, which calls the other
// stack from within the sender.
func gvisorPipe(wait time.Duration, clients ...netip.Addr) *network {
	a, b := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", 1500)
	return gvisorNetwork("gVisor, pipe", a, b, wait, clients...)
}

// gvisorChannel joins them by their channel link, with a goroutine each way
// that passes packets on. With super-packets neither side computes checksums.
func gvisorChannel(super bool) *network {
	a, b := channel.New(1024, 1500, "\x02\x00\x00\x00\x00\x01"), channel.New(1024, 1500, "\x02\x00\x00\x00\x00\x02")
	var la, lb gstack.LinkEndpoint = a, b
	if super {
		for _, l := range []*channel.Endpoint{a, b} {
			l.SupportedGSOKind = gstack.HostGSOSupported
			l.LinkEPCapabilities = gstack.CapabilityRXChecksumOffload | gstack.CapabilityTXChecksumOffload
		}
		la, lb = superLink{a}, superLink{b}
	}
	ctx, cancel := context.WithCancel(context.Background())
	pass := func(from, to *channel.Endpoint) {
		for pkt := from.ReadContext(ctx); pkt != nil; pkt = from.ReadContext(ctx) {
			in := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: pkt.ToBuffer()})
			to.InjectInbound(pkt.NetworkProtocolNumber, in)
			in.DecRef()
			pkt.DecRef()
		}
	}
	go pass(a, b)
	go pass(b, a)
	n := gvisorNetwork("gVisor, channel", la, lb, time.Second, clientsOf(false)...)
	end := n.close
	n.close = func() error {
		cancel()
		return end()
	}
	return n
}

// superLink is the channel link with super-packets of the largest size, where
// the channel by itself has half of it.
type superLink struct{ *channel.Endpoint }

func (superLink) GSOMaxSize() uint32 { return gstack.GVisorGSOMaxSize }
