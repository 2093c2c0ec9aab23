package protocol

import (
	"bytes"
	"net/netip"
)

func addr4(b []byte) netip.Addr    { return netip.AddrFrom4([4]byte(b)) }
func addr16(b [16]byte) netip.Addr { return netip.AddrFrom16(b) }

// SetPrefix sets destination and netmask to p; a prefix of one address only
// is a host (RTF_HOST, no netmask).
func (m *RouteMessage) SetPrefix(p netip.Prefix) {
	m.Dst = AddrFrom(p.Addr(), 0)
	m.Netmask, m.NetmaskBits = Addr{}, -1
	if p.IsSingleIP() {
		m.Flags |= RTFHost
		return
	}
	m.Flags &^= RTFHost
	m.Netmask, m.NetmaskBits = MaskAddr(m.Dst.Family, p.Bits()), p.Bits()
}

// Prefix is the destination with its netmask; the whole address for a host,
// and the zero Prefix when the netmask has holes or there is no destination.
func (m *RouteMessage) Prefix() netip.Prefix {
	bits := m.NetmaskBits
	if m.Netmask.Family == 0 || m.Flags&RTFHost != 0 {
		bits = m.Dst.IP.BitLen()
	}
	return netip.PrefixFrom(m.Dst.IP.WithZone(""), bits)
}

// if_msghdr: 0 msglen u16, 2 version, 3 type, 4 addrs u32, 8 flags u32,
// 12 index u16, 14 pad, 16 if_data; behind it a sockaddr_dl (RTA_IFP).
func (m *IfMessage) append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, RTMVersion, RTMIfInfo)
	b = le.AppendUint32(b, RTAIfp)
	b = le.AppendUint32(b, m.Flags)
	b = le.AppendUint16(b, uint16(m.Index))
	b = append(b, 0, 0)
	d := &m.Data
	b = append(b, m.Type, m.LinkAddr.Len, d.HdrLen, 0)
	b = le.AppendUint32(b, d.LinkState)
	for _, v := range [...]uint64{d.MTU, d.Metric, d.Baudrate, d.InPackets, d.InErrors, d.OutPackets, d.OutErrors,
		d.Collisions, d.InBytes, d.OutBytes, d.InMcast, d.OutMcast, d.InDrops, d.NoProto,
		uint64(d.LastChange / 1e6), uint64(d.LastChange % 1e6)} {
		b = le.AppendUint64(b, v)
	}
	link := m.LinkAddr
	link.Index, link.Name, link.Type = m.Index, m.Name, m.Type
	var addrs uint32
	dl := LinkAddrOf(link)
	b = appendPadded(b, &dl, RTAIfp, &addrs)
	le.PutUint16(b[start:], uint16(len(b)-start))
	return b
}

func (m *IfMessage) decode(b []byte) error {
	if len(b) < ifMsghdrLen {
		return malformed("if_msghdr of %d octets, not %d", len(b), ifMsghdrLen)
	}
	u := func(i int) uint64 { return le.Uint64(b[24+8*i:]) }
	*m = IfMessage{
		Index: int(le.Uint16(b[12:])),
		Flags: le.Uint32(b[8:]),
		Type:  b[16],
		Data: IfData{
			Type: b[16], AddrLen: b[17], HdrLen: b[18], LinkState: le.Uint32(b[20:]),
			MTU: u(0), Metric: u(1), Baudrate: u(2), InPackets: u(3), InErrors: u(4), OutPackets: u(5),
			OutErrors: u(6), Collisions: u(7), InBytes: u(8), OutBytes: u(9), InMcast: u(10), OutMcast: u(11),
			InDrops: u(12), NoProto: u(13), LastChange: int64(u(14))*1e6 + int64(u(15)),
		},
	}
	if le.Uint32(b[4:])&RTAIfp == 0 {
		return nil
	}
	var ifp Addr
	if _, err := nextSockaddr(b[ifMsghdrLen:], 0, &ifp); err != nil {
		return err
	}
	m.LinkAddr, m.Name = ifp.Link, ifp.Link.Name
	return nil
}

// ifa_msghdr: 0 msglen u16, 2 version, 3 type, 4 addrs u32, 8 flags u32,
// 12 index u16, 14 pad, 16 metric i32; behind it netmask, interface, address
// and broadcast or destination, in the order of their RTA_* bits.
func (m *AddrMessage) append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, RTMVersion, byte(m.Type))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, m.Flags)
	b = le.AppendUint16(b, uint16(m.Index))
	b = append(b, 0, 0)
	b = le.AppendUint32(b, uint32(m.Metric))
	var addrs uint32
	b = appendPadded(b, &m.Netmask, RTANetmask, &addrs)
	b = appendPadded(b, &m.Ifp, RTAIfp, &addrs)
	b = appendPadded(b, &m.Addr, RTAIfa, &addrs)
	b = appendPadded(b, &m.Brd, RTABrd, &addrs)
	le.PutUint32(b[start+4:], addrs)
	le.PutUint16(b[start:], uint16(len(b)-start))
	return b
}

func (m *AddrMessage) decode(b []byte) error {
	if len(b) < ifaMsghdrLen {
		return malformed("ifa_msghdr of %d octets, not %d", len(b), ifaMsghdrLen)
	}
	*m = AddrMessage{
		Type:   int(b[3]),
		Index:  int(le.Uint16(b[12:])),
		Flags:  le.Uint32(b[8:]),
		Metric: int(int32(le.Uint32(b[16:]))),
		Bits:   -1,
	}
	addrs := le.Uint32(b[4:])
	if addrs&^(RTANetmask|RTAIfp|RTAIfa|RTABrd) != 0 {
		return malformed("ifa_msghdr with the addresses %#x", addrs)
	}
	b = b[ifaMsghdrLen:]
	var err error
	for _, f := range [...]struct {
		bit uint32
		to  *Addr
	}{{RTANetmask, &m.Netmask}, {RTAIfp, &m.Ifp}, {RTAIfa, &m.Addr}, {RTABrd, &m.Brd}} {
		if addrs&f.bit != 0 {
			if b, err = nextSockaddr(b, 0, f.to); err != nil {
				return err
			}
		}
	}
	if m.Netmask.Family != 0 {
		m.Bits = MaskBits(m.Netmask)
	}
	return nil
}

// if_announcemsghdr: 0 msglen u16, 2 version, 3 type, 4 index u16,
// 6 name[16], 22 what u16.
func (m *AnnounceMessage) append(b []byte) []byte {
	b = append(b, announceLen, 0, RTMVersion, RTMIfAnnounce)
	b = le.AppendUint16(b, uint16(m.Index))
	b = appendName(b, m.Name)
	return le.AppendUint16(b, uint16(m.What))
}

func (m *AnnounceMessage) decode(b []byte) error {
	if len(b) < announceLen {
		return malformed("if_announcemsghdr of %d octets, not %d", len(b), announceLen)
	}
	*m = AnnounceMessage{Index: int(le.Uint16(b[4:])), Name: parseName(b[6:22]), What: int(le.Uint16(b[22:]))}
	return nil
}

// 0 msglen u16, 2 version, 3 type, 4 lost u32.
func (m *DesyncMessage) append(b []byte) []byte {
	b = append(b, desyncLen, 0, RTMVersion, RTMDesync)
	return le.AppendUint32(b, m.Lost)
}

func (m *DesyncMessage) decode(b []byte) error {
	if len(b) < desyncLen {
		return malformed("RTM_DESYNC of %d octets, not %d", len(b), desyncLen)
	}
	m.Lost = le.Uint32(b[4:])
	return nil
}

// IfNameLen is the size of an interface's name with the zero behind it.
const IfNameLen = 16

func appendName(b []byte, name string) []byte {
	var n [IfNameLen]byte
	copy(n[:IfNameLen-1], name)
	return append(b, n[:]...)
}

func parseName(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
