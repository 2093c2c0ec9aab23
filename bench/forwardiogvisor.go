package main

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"ionet/driver/netns"
)

// ioGvisor is a netstack that forwards between two TAPs, or between two packet
// sockets that it reads by recvmmsg or through a ring.
func ioGvisor(args []string) error {
	how, pids := args[0], args[1:]
	if how != "tap" {
		if err := ioVeths(pids, false); err != nil {
			return err
		}
	}
	s := gstack.New(gstack.Options{NetworkProtocols: []gstack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol}})
	var routes []tcpip.Route
	for side, pid := range pids {
		fd, err := ioDescriptor(how, side, pid)
		if err != nil {
			return err
		}
		mac := ioMAC(side)
		mode := map[string]fdbased.PacketDispatchMode{"tap": fdbased.Readv, "recvmmsg": fdbased.RecvMMsg, "ring": fdbased.PacketMMap}[how]
		link, err := fdbased.New(&fdbased.Options{FDs: []int{fd}, MTU: 1500, EthernetHeader: true, Address: tcpip.LinkAddress(mac[:]), PacketDispatchMode: mode})
		if err != nil {
			return err
		}
		nic := tcpip.NICID(1 + side)
		gmust(s.CreateNIC(nic, link))
		for _, v := range versions {
			p := ioPrefix(v, side, 2)
			gmust(s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
				Protocol:          gvisorVersion(p.Addr()),
				AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(p.Addr().AsSlice()), PrefixLen: p.Bits()},
			}, gstack.AddressProperties{}))
			mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
			subnet, err := tcpip.NewSubnet(tcpip.AddrFromSlice(p.Masked().Addr().AsSlice()), tcpip.MaskFromBytes(mask))
			if err != nil {
				return err
			}
			routes = append(routes, tcpip.Route{Destination: subnet, NIC: nic})
			if side == 1 {
				gmust(s.AddStaticNeighbor(nic, gvisorVersion(p.Addr()), tcpip.AddrFromSlice(ioAddr(v, 1, ioNothing).AsSlice()), tcpip.LinkAddress(ioNobody[:])))
			}
		}
	}
	s.SetRouteTable(routes)
	for _, p := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
		gmust(s.SetForwardingDefaultAndAllNICs(p, true))
	}
	fmt.Println("ready")
	untilEnd()
	return nil
}

// ioDescriptor is a TAP whose kernel's end is in the namespace of a process, or
// a packet socket on the router's end of a veth.
func ioDescriptor(how string, side int, pid string) (fd int, err error) {
	if how == "tap" {
		err = netns.Do(pid, func() error {
			fd, err = openTapNamed(ioLink(side), 0)
			return err
		})
		return fd, err
	}
	link, err := net.InterfaceByName(ioNear(side))
	if err != nil {
		return -1, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	// A netstack would hear itself.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
}
