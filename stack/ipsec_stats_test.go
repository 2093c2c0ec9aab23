package stack_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// counting is a pair whose counters of IPsec are watched.
type counting struct {
	t    *testing.T
	p    *pair
	a, b *socket.Socket
}

// IPsec's counters of a stack that are not zero, "ip" for the group of the version in use.
func (c *counting) counters(i int) map[string]uint64 {
	now := map[string]uint64{}
	for n, info := range mib.Counters() {
		group := info.Proto
		switch {
		case group == "ipsec6" && c.p.v6, group == "ipsec" && !c.p.v6:
			group = "ip"
		case group != "ipsec" && group != "ipsec6" && group != "esp" && group != "ah" && group != "ipcomp":
			continue
		}
		if v := c.p.s[i].Env.MIB.Count(mib.Counter(n)); v != 0 {
			now[group+"/"+info.Name] = v
		}
	}
	return now
}

// added are the counters that f has changed.
func (c *counting) added(i int, f func()) map[string]uint64 {
	before := c.counters(i)
	f()
	after := c.counters(i)
	maps.DeleteFunc(after, func(k string, v uint64) bool { return v == before[k] })
	for k := range after {
		after[k] -= before[k]
	}
	return after
}

// sa adds what a test needs of an SA from stack 0 to stack 1; the other way there is none.
func (c *counting) sa(on int, s ipsec.Spec) *ipsec.SA {
	c.t.Helper()
	s.Ekey, s.Akey = bytes.Clone(s.Ekey), bytes.Clone(s.Akey)
	if !s.Src.IsValid() {
		s.Src, s.Dst = c.p.addr(1, 0).IP, c.p.addr(2, 0).IP
	}
	made, err := c.p.s[on].IPsec.Add(s)
	if err != nil {
		c.t.Fatal(err)
	}
	return made
}

// policy is one about datagrams between the two.
func (c *counting) policy(on int, dir uint8, kind ipsec.Kind, r ...ipsec.Request) {
	c.t.Helper()
	src, dst := c.p.addr(1, 0).IP, c.p.addr(2, 0).IP
	for i := range r {
		if r[i].Mode == ipsec.ModeTunnel && !r[i].Src.IsValid() {
			r[i].Src, r[i].Dst = src, dst
		}
	}
	p := &ipsec.Policy{Dir: dir, Kind: kind, Requests: r, Selector: ipsec.Selector{Src: netip.PrefixFrom(src, src.BitLen()), Dst: netip.PrefixFrom(dst, dst.BitLen()), Proto: packet.ProtoUDP}}
	if err := c.p.s[on].IPsec.AddPolicy(p); err != nil {
		c.t.Fatal(err)
	}
}

// send sends n octets that compress well, or not at all.
func (c *counting) send(n int, random bool) error {
	data := bytes.Repeat([]byte("data"), n/4+1)[:n]
	if random {
		seed := uint32(1)
		for i := range data {
			seed = seed*1664525 + 1013904223
			data[i] = byte(seed >> 24)
		}
	}
	var err error
	c.p.call(0, func(w *netif.Work) { _, err = c.a.Send(w, &socket.Msg{Data: data}) })
	return err
}

// frame is the frame of what f sends, which does not arrive.
func (c *counting) frame(f func()) (frame []byte) {
	c.p.hear = func(burst []*packet.Buf) {
		for _, x := range burst {
			frame = bytes.Clone(x.Bytes())
		}
		packet.FreeBurst(burst)
	}
	f()
	c.p.hear = nil
	return frame
}

// put has a frame arrive at stack 1.
func (c *counting) put(frame []byte) {
	x := c.p.s[1].Env.Pool.Get(len(frame))
	copy(x.Append(len(frame)), frame)
	c.p.line[1] = append(c.p.line[1], x)
	c.p.deliver()
}

// raw has a packet of proto with payload arrive, class in its header.
func (c *counting) raw(proto, class uint8, payload []byte) {
	from, to := c.p.ifp[0].MAC(), c.p.ifp[1].MAC()
	b := append(append([]byte{}, to[:]...), from[:]...)
	src, dst := c.p.addr(1, 0).IP, c.p.addr(2, 0).IP
	if c.p.v6 {
		b = binary.BigEndian.AppendUint16(b, packet.EtherIPv6)
		b = append(b, make([]byte, packet.IPv6Len)...)
		packet.PutIPv6(b[packet.EtherLen:], class, 0, len(payload), proto, 64, src, dst)
	} else {
		b = binary.BigEndian.AppendUint16(b, packet.EtherIPv4)
		b = append(b, make([]byte, packet.IPv4Len)...)
		packet.PutIPv4(b[packet.EtherLen:], class, packet.IPv4Len+len(payload), 7, 0, 64, proto, src, dst, nil).SetChecksum()
	}
	c.put(append(b, payload...))
}

// seal is ESP of SA plain: whatever payload and padding are.
func seal(spi uint32, next byte, pad []byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, spi)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = append(append(b, payload...), pad...)
	b = append(b, byte(len(pad)), next)
	e, err := crypt.NewESP(plain.Ealg, plain.Ekey, plain.Aalg, plain.Akey, false)
	if err != nil {
		panic(err)
	}
	b = append(b, make([]byte, e.ICVLen())...)
	e.Seal(b, 0, 1)
	return b
}

var (
	gcm    = ipsec.Spec{Proto: 50, SPI: 1000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 32}
	cbc    = ipsec.Spec{Proto: 50, SPI: 1000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgAESCBC, Ekey: key(16, 1), Aalg: crypt.AalgHMACSHA1, Akey: key(20, 2), Replay: 32}
	sha256 = ipsec.Spec{Proto: 51, SPI: 1000, Mode: ipsec.ModeTransport, Aalg: crypt.AalgHMACSHA256, Akey: key(32, 2), Replay: 32}
	plain  = ipsec.Spec{Proto: 50, SPI: 1000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgNull, Aalg: crypt.AalgHMACSHA1, Akey: key(20, 2)}
	comp   = ipsec.Spec{Proto: 108, SPI: 1000, Mode: ipsec.ModeTransport, Calg: crypt.CalgDeflate}
)

// protect has stack 0 send what stack 1 opens, with an SA on each.
func (c *counting) protect(s ipsec.Spec) (from, to *ipsec.SA) {
	c.policy(0, ipsec.Out, ipsec.Protect, ipsec.Request{Proto: s.Proto, Mode: s.Mode, Level: ipsec.Require})
	return c.sa(0, s), c.sa(1, s)
}

// sendTooMuch sends a datagram that is as long as one can be.
func (c *counting) sendTooMuch() {
	c.t.Helper()
	c.p.s[0].Env.MIB.Set("net.inet.udp.sendspace", "65535")
	c.p.s[0].Env.MIB.Set("net.inet6.udp6.sendspace", "65535")
	c.a = c.p.socket(c.t, 0, c.p.addr(1, 1001), c.p.addr(2, 2000))
	if err := c.send(65500, false); !errors.Is(err, syscall.EMSGSIZE) {
		c.t.Errorf("65500 octets: %v", err)
	}
}

// larval makes an SA without keys on stack 1, of SPI 2000.
func (c *counting) larval(proto uint8) {
	c.t.Helper()
	s := ipsec.Spec{Proto: proto, Mode: ipsec.ModeTransport, Src: c.p.addr(1, 0).IP, Dst: c.p.addr(2, 0).IP}
	if _, err := c.p.s[1].IPsec.GetSPI(s, 2000, 2000); err != nil {
		c.t.Fatal(err)
	}
}

// crossed has stack 0 send in transport mode what stack 1 takes for a tunnel's.
func (c *counting) crossed(s ipsec.Spec) {
	c.policy(0, ipsec.Out, ipsec.Protect, ipsec.Request{Proto: s.Proto, Mode: ipsec.ModeTransport, Level: ipsec.Require})
	c.sa(0, s)
	c.sa(1, with(s, func(s *ipsec.Spec) { s.Mode = ipsec.ModeTunnel }))
}

// with is a spec that has been changed.
func with(s ipsec.Spec, f func(*ipsec.Spec)) ipsec.Spec {
	f(&s)
	return s
}

// at is where the header behind the IP header begins in a frame.
func (c *counting) at() int {
	if c.p.v6 {
		return packet.EtherLen + packet.IPv6Len
	}
	return packet.EtherLen + packet.IPv4Len
}

// cut is a frame without its last n octets, whose header says so.
func (c *counting) cut(frame []byte, n int) []byte {
	f := bytes.Clone(frame[:len(frame)-n])
	if h := f[packet.EtherLen:]; c.p.v6 {
		packet.IPv6(h).SetPayloadLen(len(h) - packet.IPv6Len)
	} else {
		packet.IPv4(h).SetTotalLen(len(h))
		packet.IPv4(h).SetChecksum()
	}
	return f
}

// flipped is a frame whose octet at i, of the end if that is below 0, is another one.
func flipped(frame []byte, i int) []byte {
	f := bytes.Clone(frame)
	if i < 0 {
		i += len(f)
	}
	f[i] ^= 0x55
	return f
}

// counted are what makes packets be counted, and how: as stack on has it, nothing else changes.
var counted = []struct {
	name string
	on   int
	do   func(c *counting) func() // makes ready, and answers what is counted
	want string                   // counters and what is added, 1 if not said
}{
	{"esp goes out", 0, func(c *counting) func() {
		c.protect(gcm)
		return func() { c.send(100, false) }
	}, "ip/out ip/ESP output aes-gcm-16, esp/out esp/octets out=108 esp/ESP output aes-gcm-16"},
	{"esp comes in", 1, func(c *counting) func() {
		c.protect(gcm)
		return func() { c.send(100, false) }
	}, "ip/in ip/in authentic ip/ESP input aes-gcm-16 esp/in esp/octets in=108"},
	{"ah goes out", 0, func(c *counting) func() {
		c.protect(sha256)
		return func() { c.send(100, false) }
	}, "ip/out ip/AH output hmac-sha2-256, ah/out ah/octets out=108 ah/AH output hmac-sha2-256"},
	{"ah comes in", 1, func(c *counting) func() {
		c.protect(sha256)
		return func() { c.send(100, false) }
	}, "ip/in ip/in authentic ip/AH input hmac-sha2-256 ah/in ah/octets in=108"},
	{"ipcomp goes out", 0, func(c *counting) func() {
		c.protect(comp)
		return func() { c.send(1000, false) }
	}, "ip/out ip/IPComp output deflate ipcomp/out ipcomp/octets out=1008 ipcomp/COMP output deflate"},
	{"ipcomp comes in", 1, func(c *counting) func() {
		c.protect(comp)
		return func() { c.send(1000, false) }
	}, "ip/in ip/IPComp input deflate ipcomp/in ipcomp/octets in=1008"},
	{"too short for ipcomp", 0, func(c *counting) func() {
		c.protect(comp)
		return func() { c.send(10, false) }
	}, "ipcomp/small"},
	{"not made shorter by ipcomp", 0, func(c *counting) func() {
		c.protect(comp)
		return func() { c.send(1000, true) }
	}, "ipcomp/useless"},
	{"esp is not authenticated", 1, func(c *counting) func() {
		c.protect(with(cbc, func(s *ipsec.Spec) { s.Aalg, s.Akey = 0, nil }))
		return func() { c.send(100, false) }
	}, "ip/in ip/ESP input rijndael-cbc esp/in esp/octets in=108"},
	{"esp comes twice", 1, func(c *counting) func() {
		c.protect(gcm)
		f := c.frame(func() { c.send(100, false) })
		c.put(f)
		return func() { c.put(f) }
	}, "ip/in ESP replay esp/in esp/replay"},
	{"ah comes twice", 1, func(c *counting) func() {
		c.protect(sha256)
		f := c.frame(func() { c.send(100, false) })
		c.put(f)
		return func() { c.put(f) }
	}, "ip/in AH replay ah/in ah/replay"},
	{"esp is forged", 1, func(c *counting) func() {
		c.protect(gcm)
		f := c.frame(func() { c.send(100, false) })
		return func() { c.put(flipped(f, -1)) }
	}, "ip/in authentication esp/in esp/authentication"},
	{"ah is forged", 1, func(c *counting) func() {
		c.protect(sha256)
		f := c.frame(func() { c.send(100, false) })
		return func() { c.put(flipped(f, -1)) }
	}, "ip/in authentication ah/in ah/authentication"},
	{"esp of no SA", 1, func(c *counting) func() {
		c.protect(gcm)
		f := c.frame(func() { c.send(100, false) })
		return func() { c.put(flipped(f, c.at()+1)) }
	}, "ip/in no SA esp/in esp/no SA"},
	{"ah of no SA", 1, func(c *counting) func() {
		c.protect(sha256)
		f := c.frame(func() { c.send(100, false) })
		return func() { c.put(flipped(f, c.at()+5)) }
	}, "ip/in no SA ah/in ah/no SA"},
	{"ipcomp of no SA", 1, func(c *counting) func() {
		c.protect(comp)
		f := c.frame(func() { c.send(1000, false) })
		return func() { c.put(flipped(f, c.at()+2)) }
	}, "ip/in no SA ipcomp/in ipcomp/no SA"},
	{"esp of an SA that has no keys yet", 1, func(c *counting) func() {
		c.larval(50)
		return func() { c.raw(50, 0, seal(2000, 17, nil, make([]byte, 30))) }
	}, "ip/in SPI esp/in esp/not ready"},
	{"esp is cut", 1, func(c *counting) func() {
		return func() { c.raw(50, 0, make([]byte, 7)) }
	}, "ip/in invalid esp/in esp/short"},
	{"esp without a trailer", 1, func(c *counting) func() {
		c.sa(1, plain)
		return func() { c.raw(50, 0, seal(1000, 17, []byte{1, 2}, nil)[:9]) }
	}, "ip/in invalid esp/in esp/short"},
	{"ah of an SA that has no keys yet", 1, func(c *counting) func() {
		c.larval(51)
		return func() { c.raw(51, 0, append([]byte{17, 4, 0, 0, 0, 0, 2000 >> 8, 2000 & 0xff}, make([]byte, 30)...)) }
	}, "ip/in SPI ah/in ah/not ready"},
	{"esp of an odd length", 1, func(c *counting) func() {
		c.protect(cbc)
		f := c.frame(func() { c.send(100, false) })
		return func() { c.put(c.cut(f, 1)) }
	}, "ip/in invalid esp/in esp/length"},
	{"esp with wrong padding", 1, func(c *counting) func() {
		c.sa(1, plain)
		return func() { c.raw(50, 0, seal(1000, 17, []byte{1, 3}, make([]byte, 8))) }
	}, "ip/in authentic ip/in invalid esp/in esp/padding"},
	{"esp of nothing", 1, func(c *counting) func() {
		c.sa(1, plain)
		return func() { c.raw(50, 0, seal(1000, packet.ProtoNone, []byte{1, 2}, make([]byte, 8))) }
	}, "ip/in authentic esp/in esp/dummy"},
	{"esp in UDP, and the SA is not", 1, func(c *counting) func() {
		udp := with(gcm, func(s *ipsec.Spec) { s.SPI, s.NATT = 2000, ipsec.NATT{Type: 2, Sport: 4500, Dport: 4500} })
		c.sa(1, udp)
		return func() { c.raw(50, 0, seal(2000, 17, nil, make([]byte, 38))) }
	}, "ip/in invalid esp/in esp/carrier"},
	{"a lifetime is over, coming", 1, func(c *counting) func() {
		c.policy(0, ipsec.Out, ipsec.Protect, ipsec.Request{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require})
		c.sa(0, gcm)
		c.sa(1, with(gcm, func(s *ipsec.Spec) { s.Hard.Packets = 1 }))
		c.send(100, false)
		return func() { c.send(100, false) }
	}, "ip/in authentic esp/in esp/lifetime"},
	{"a lifetime is over, leaving", 0, func(c *counting) func() {
		c.protect(with(sha256, func(s *ipsec.Spec) { s.Hard.Packets = 1 }))
		c.send(100, false)
		return func() { c.send(100, false) }
	}, "ah/lifetime"},
	{"ipcomp's lifetime is over", 0, func(c *counting) func() {
		c.protect(with(comp, func(s *ipsec.Spec) { s.Hard.Packets = 1 }))
		c.send(1000, false)
		return func() { c.send(1000, false) }
	}, "ipcomp/lifetime"},
	{"in clear, against the policy", 1, func(c *counting) func() {
		c.policy(1, ipsec.In, ipsec.Protect, ipsec.Request{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require})
		return func() { c.send(100, false) }
	}, "ip/in policy"},
	{"authenticated, and the policy wants more", 1, func(c *counting) func() {
		c.protect(sha256)
		c.policy(1, ipsec.In, ipsec.Protect, ipsec.Request{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require})
		return func() { c.send(100, false) }
	}, "ip/in policy ip/in ip/in authentic ip/AH input hmac-sha2-256 ah/in ah/octets in=108 ah/policy"},
	{"compressed, and the policy wants more", 1, func(c *counting) func() {
		c.protect(comp)
		c.policy(1, ipsec.In, ipsec.Protect, ipsec.Request{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require})
		return func() { c.send(1000, false) }
	}, "ip/in policy ip/in ip/IPComp input deflate ipcomp/in ipcomp/octets in=1008 ipcomp/policy"},
	{"of one SA, and the policy wants another", 1, func(c *counting) func() {
		c.protect(gcm)
		c.policy(1, ipsec.In, ipsec.Protect, ipsec.Request{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Unique, ReqID: 7})
		return func() { c.send(100, false) }
	}, "ip/in policy ip/in ip/in authentic ip/ESP input aes-gcm-16 esp/in esp/octets in=108 esp/policy"},
	{"discarded by policy, leaving", 0, func(c *counting) func() {
		c.policy(0, ipsec.Out, ipsec.Discard)
		return func() { c.send(100, false) }
	}, "ip/out policy"},
	{"protected too often", 1, func(c *counting) func() {
		c.sa(1, plain)
		b := seal(1000, 17, []byte{1, 2}, make([]byte, 8))
		for range 4 {
			b = seal(1000, packet.ProtoESP, []byte{1, 2}, b)
		}
		return func() { c.raw(50, 0, b) }
	}, "ip/in=4 ip/in authentic=4 ip/ESP input null=4 esp/in=4 esp/octets in=272 ip/in nested"},
	{"a tunnel of nothing", 1, func(c *counting) func() {
		c.sa(1, with(plain, func(s *ipsec.Spec) { s.Mode = ipsec.ModeTunnel }))
		return func() { c.raw(50, 0, seal(1000, packet.ProtoIPv4, []byte{1, 2}, make([]byte, 8))) }
	}, "ip/in ip/in authentic ip/ESP input null esp/in esp/octets in=8 ip/in invalid esp/tunnel"},
	{"a tunnel that met congestion", 1, func(c *counting) func() {
		c.sa(1, with(plain, func(s *ipsec.Spec) { s.Mode = ipsec.ModeTunnel }))
		for _, n := range []string{"net.inet.ipsec.ecn", "net.inet6.ipsec6.ecn"} {
			if _, err := c.p.s[1].Env.MIB.Set(n, "1"); err != nil {
				c.t.Fatal(err)
			}
		}
		inner := make([]byte, packet.IPv4Len)
		packet.PutIPv4(inner, 0, len(inner), 1, 0, 64, packet.ProtoUDP, addr(1, 0).IP, addr(2, 0).IP, nil).SetChecksum()
		return func() { c.raw(50, 3, seal(1000, packet.ProtoIPv4, []byte{1, 2}, inner)) }
	}, "ip/in ip/in authentic ip/ESP input null esp/in esp/octets in=20 ip/in congestion"},
	{"ah of another mode", 1, func(c *counting) func() {
		c.crossed(sha256)
		return func() { c.send(100, false) }
	}, "ip/in ip/in authentic ip/AH input hmac-sha2-256 ah/in ah/octets in=108 ip/in invalid ah/tunnel"},
	{"ipcomp of another mode", 1, func(c *counting) func() {
		c.crossed(comp)
		return func() { c.send(1000, false) }
	}, "ip/in ip/IPComp input deflate ipcomp/in ipcomp/octets in=1008 ip/in invalid ipcomp/tunnel"},
	{"ah is cut", 1, func(c *counting) func() {
		return func() { c.raw(51, 0, make([]byte, 11)) }
	}, "ip/in invalid ah/in ah/short"},
	{"ah ends before its check value", 1, func(c *counting) func() {
		c.protect(sha256)
		f := c.frame(func() { c.send(100, false) })
		return func() { c.put(c.cut(f, len(f)-c.at()-14)) }
	}, "ip/in invalid ah/in ah/short"},
	{"ah of a wrong length", 1, func(c *counting) func() {
		c.protect(sha256)
		f := c.frame(func() { c.send(100, false) })
		return func() { c.put(flipped(f, c.at()+1)) }
	}, "ip/in invalid ah/in ah/authentication length"},
	{"ipcomp of an SA that is not ready", 1, func(c *counting) func() {
		c.larval(108)
		return func() { c.raw(108, 0, []byte{17, 0, 2000 >> 8, 2000 & 0xff, 3, 0}) }
	}, "ip/in SPI ipcomp/in ipcomp/not ready"},
	{"ipcomp is cut", 1, func(c *counting) func() {
		return func() { c.raw(108, 0, make([]byte, 3)) }
	}, "ip/in invalid ipcomp/in ipcomp/short"},
	{"ipcomp is damaged", 1, func(c *counting) func() {
		c.sa(1, comp)
		return func() { c.raw(108, 0, []byte{17, 0, 0, crypt.CalgDeflate, 0xff, 0xff}) }
	}, "ip/in invalid ipcomp/in ipcomp/corrupt"},
	{"ipcomp is a bomb", 1, func(c *counting) func() {
		c.sa(1, comp)
		d, _ := crypt.NewComp(crypt.CalgDeflate)
		packed := make([]byte, 1000)
		n := d.Compress(packed, make([]byte, 70000))
		return func() { c.raw(108, 0, append([]byte{17, 0, 0, crypt.CalgDeflate}, packed[:n]...)) }
	}, "ip/in invalid ipcomp/in ipcomp/too big"},
	{"no SA, and no room to wait", 0, func(c *counting) func() {
		c.p.s[0].Env.MIB.Set("net.key.acquire_queue", "0")
		c.policy(0, ipsec.Out, ipsec.Protect, ipsec.Request{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require})
		return func() { c.send(100, false) }
	}, "ip/acquire ip/out no SA"},
	{"no SA comes", 0, func(c *counting) func() {
		c.policy(0, ipsec.Out, ipsec.Protect, ipsec.Request{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require})
		return func() {
			c.send(100, false)
			c.p.s[0].IPsec.Failed(1)
		}
	}, "ip/acquire ip/waited ip/out no SA"},
	{"no way to a tunnel's end", 0, func(c *counting) func() {
		far := netip.MustParseAddr("192.0.2.1")
		c.policy(0, ipsec.Out, ipsec.Protect, ipsec.Request{Proto: 50, Mode: ipsec.ModeTunnel, Level: ipsec.Require, Src: addr(1, 0).IP, Dst: far})
		c.sa(0, with(gcm, func(s *ipsec.Spec) { s.Mode, s.Src, s.Dst = ipsec.ModeTunnel, addr(1, 0).IP, far }))
		return func() { c.send(100, false) }
	}, "ip/out no route"},
	{"longer than IP can say, with esp", 0, func(c *counting) func() {
		c.protect(gcm)
		return c.sendTooMuch
	}, "ip/out invalid esp/too big"},
	{"longer than IP can say, with ah", 0, func(c *counting) func() {
		c.protect(sha256)
		return c.sendTooMuch
	}, "ip/out invalid ah/too big"},
	{"no memory, leaving", 0, func(c *counting) func() {
		c.protect(comp)
		return func() {
			c.p.s[0].Env.Pool.SetLimit(c.p.s[0].Env.Pool.InUse() + 3000)
			c.send(1000, false)
		}
	}, "ip/out no memory"},
	{"no memory, coming", 1, func(c *counting) func() {
		c.protect(comp)
		f := c.frame(func() { c.send(1000, false) })
		return func() {
			c.p.s[1].Env.Pool.SetLimit(c.p.s[1].Env.Pool.InUse() + 3000)
			c.put(f)
		}
	}, "ip/in no memory ipcomp/in"},
}

// TestCounted: every counter of IPsec counts what it says, and nothing else does.
func TestCounted(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range counted {
		for fam, v6 := range families {
			t.Run(e.name+" "+fam, func(t *testing.T) {
				p := securedPair(t, v6)
				c := &counting{t: t, p: p, a: p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000)), b: p.socket(t, 1, p.addr(2, 2000), p.addr(1, 1000))}
				c.send(100, false) // neighbours
				want := map[string]uint64{}
				for _, w := range counterList(e.want) {
					n := uint64(1)
					if name, v, ok := strings.Cut(w, "="); ok {
						w = name
						fmt.Sscan(v, &n)
					}
					want[w], seen[w] = n, true
				}
				f := e.do(c)
				if got := c.added(e.on, f); !maps.Equal(got, want) {
					t.Errorf("counted %v, want %v", got, want)
				}
			})
		}
	}
	seen["ip/enc"] = true         // of package stack
	seen["ip/out too big"] = true // TestProtected's streams
	seen["esp/exhausted"], seen["ah/exhausted"] = true, true
	for _, i := range mib.Counters() {
		if i.Heading == "" && (i.Proto == "esp" || i.Proto == "ah" || i.Proto == "ipcomp") && !seen[i.Proto+"/"+i.Name] || i.Heading == "" && i.Proto == "ipsec" && !seen["ip/"+i.Name] {
			t.Errorf("%s %q is not seen to count", i.Proto, i.Name)
		}
	}
}

// counterList takes a list apart: names have blanks, and begin with their group.
func counterList(s string) (all []string) {
	for _, w := range strings.Fields(strings.ReplaceAll(s, ",", "")) {
		if slices.ContainsFunc([]string{"ip/", "esp/", "ah/", "ipcomp/"}, func(g string) bool { return strings.HasPrefix(w, g) }) {
			all = append(all, w)
		} else {
			all[len(all)-1] += " " + w
		}
	}
	return all
}
