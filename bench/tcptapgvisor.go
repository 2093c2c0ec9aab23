package main

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"ionet/driver/vnet"
)

// gvisorTap is a netstack on a TAP: without offloads on gVisor's own link for
// descriptors, with them on a link made here, since that one has them for
// sockets only.
func gvisorTap(offload bool) (listen func(v *version, port uint16) (net.Listener, error), err error) {
	fd, err := openTapWith(offload)
	if err != nil {
		return nil, err
	}
	var link gstack.LinkEndpoint
	if offload {
		link, err = newTapLink(fd)
	} else {
		link, err = fdbased.New(&fdbased.Options{FDs: []int{fd}, MTU: 1500, EthernetHeader: true, Address: tcpip.LinkAddress(stackMAC[:])})
	}
	if err != nil {
		return nil, err
	}
	s := gvisorTCP(link, time.Second, servers()...)
	return func(v *version, port uint16) (net.Listener, error) {
		return gvisorListen(s, v.server, port), nil
	}, nil
}

// tapLink is a gVisor link on a TAP with vnet headers: super-packets cross
// whole and checksums are left to the kernel. A packet is written by whoever
// sends it, and delivered by the goroutine that reads.
type tapLink struct {
	fd   int
	raw  syscall.RawConn
	mu   sync.RWMutex
	disp gstack.NetworkDispatcher
}

func newTapLink(fd int) (*tapLink, error) {
	raw, err := os.NewFile(uintptr(fd), tapName).SyscallConn()
	return &tapLink{fd: fd, raw: raw}, err
}

func (l *tapLink) MTU() uint32                             { return 1500 }
func (l *tapLink) SetMTU(uint32)                           {}
func (l *tapLink) MaxHeaderLength() uint16                 { return header.EthernetMinimumSize }
func (l *tapLink) LinkAddress() tcpip.LinkAddress          { return tcpip.LinkAddress(stackMAC[:]) }
func (l *tapLink) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *tapLink) Wait()                                   {}
func (l *tapLink) Close()                                  {}
func (l *tapLink) SetOnCloseAction(func())                 {}
func (l *tapLink) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (l *tapLink) GSOMaxSize() uint32                      { return gstack.GVisorGSOMaxSize - 1 }
func (l *tapLink) SupportedGSO() gstack.SupportedGSO       { return gstack.HostGSOSupported }

// Capabilities: small segments are summed by the stack, as a packet without
// super-packet options has no place that says where its checksum is.
func (l *tapLink) Capabilities() gstack.LinkEndpointCapabilities {
	return gstack.CapabilityRXChecksumOffload | gstack.CapabilityResolutionRequired
}

func (l *tapLink) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.disp != nil
}

func (l *tapLink) Attach(d gstack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.disp = d; d != nil {
		go l.receive(d)
	}
}

func (l *tapLink) AddHeader(pkt *gstack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress, DstAddr: pkt.EgressRoute.RemoteLinkAddress, Type: pkt.NetworkProtocolNumber,
	})
}

func (l *tapLink) ParseHeader(pkt *gstack.PacketBuffer) bool {
	h, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	if ok {
		pkt.NetworkProtocolNumber = header.Ethernet(h).Type()
	}
	return ok
}

// WritePackets writes each packet with its vnet header (virtio_net_hdr).
func (l *tapLink) WritePackets(pkts gstack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range pkts.AsSlice() {
		var h [vnet.Size]byte
		if g := pkt.GSOOptions; g.Type != gstack.GSONone {
			h[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
			binary.NativeEndian.PutUint16(h[2:], uint16(pkt.HeaderSize()))
			binary.NativeEndian.PutUint16(h[6:], header.EthernetMinimumSize+g.L3HdrLen)
			binary.NativeEndian.PutUint16(h[8:], g.CsumOffset)
			if pkt.Data().Size() > int(g.MSS) {
				h[1] = 1 // VIRTIO_NET_HDR_GSO_TCPV4
				if g.Type == gstack.GSOTCPv6 {
					h[1] = 4 // VIRTIO_NET_HDR_GSO_TCPV6
				}
				binary.NativeEndian.PutUint16(h[4:], g.MSS)
			}
		}
		var room [16][]byte
		if _, err := unix.Writev(l.fd, append(append(room[:0], h[:]), pkt.AsSlices()...)); err != nil {
			return i, tcpip.TranslateErrno(err.(unix.Errno))
		}
	}
	return pkts.Len(), nil
}

// receive reads a frame a call: large ones straight into the memory they stay
// in, small ones are copied to memory of their size.
func (l *tapLink) receive(d gstack.NetworkDispatcher) {
	const most = 64 << 10
	scratch := make([]byte, vnet.Size+most)
	var spare *buffer.View
	large := false
	_ = l.raw.Read(func(fd uintptr) bool {
		for {
			buf := scratch
			if large {
				if spare == nil {
					spare = buffer.NewViewSize(buffer.MaxChunkSize)
				}
				buf = spare.AsSlice()
			}
			n, err := unix.Read(int(fd), buf)
			if err == unix.EAGAIN {
				return false
			}
			if err != nil {
				return true
			}
			var v *buffer.View
			if large {
				v, spare = spare, nil
				v.CapLength(n)
				v.TrimFront(vnet.Size)
			} else {
				v = buffer.NewViewWithData(buf[vnet.Size:n])
			}
			large = n > 12<<10
			pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
			if l.ParseHeader(pkt) {
				d.DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
			}
			pkt.DecRef()
		}
	})
}
