package stack_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"ionet/stack"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

func securedPair(t testing.TB, v6 bool) *pair {
	p := newPairOf(t, netif.CapCsum, func(c *stack.Config) { c.IPsec = true })
	return p.over(v6)
}

// key is n octets.
func key(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*7 + seed
	}
	return b
}

// sa is an SA from stack i to the other, on both.
func (p *pair) sa(t testing.TB, i int, spec ipsec.Spec) (from, to *ipsec.SA) {
	t.Helper()
	if !spec.Src.IsValid() {
		spec.Src, spec.Dst = p.addr(byte(1+i), 0).IP, p.addr(byte(2-i), 0).IP
	}
	spec.SPI += uint32(i)
	from, err := p.s[i].IPsec.Add(spec)
	if err != nil {
		t.Fatal(err)
	}
	spec.Ekey, spec.Akey = bytes.Clone(spec.Ekey), bytes.Clone(spec.Akey)
	to, err = p.s[1-i].IPsec.Add(spec)
	if err != nil {
		t.Fatal(err)
	}
	return from, to
}

// policies has both stacks ask for the requests in what goes between them.
func (p *pair) policies(t testing.TB, proto uint8, r ...ipsec.Request) {
	t.Helper()
	for i := range p.s {
		me, peer := p.addr(byte(1+i), 0).IP, p.addr(byte(2-i), 0).IP
		for dir, ends := range map[uint8][2]netip.Addr{ipsec.Out: {me, peer}, ipsec.In: {peer, me}} {
			pol := &ipsec.Policy{Dir: dir, Kind: ipsec.Protect}
			pol.Selector = ipsec.Selector{Src: netip.PrefixFrom(ends[0], ends[0].BitLen()), Dst: netip.PrefixFrom(ends[1], ends[1].BitLen()), Proto: proto}
			for _, q := range r {
				if q.Mode == ipsec.ModeTunnel {
					q.Src, q.Dst = ends[0], ends[1]
				}
				pol.Requests = append(pol.Requests, q)
			}
			if err := p.s[i].IPsec.AddPolicy(pol); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// wires calls f with every IP packet on the wire.
func (p *pair) wires(f func(b []byte)) {
	p.spy = func(b []byte) {
		if typ := binary.BigEndian.Uint16(b[12:]); typ == packet.EtherIPv4 || typ == packet.EtherIPv6 {
			f(b[packet.EtherLen:])
		}
	}
}

// protections are what TestProtected puts packets through.
var protections = map[string]struct {
	specs    []ipsec.Spec
	requests []ipsec.Request
	outer    uint8
}{
	"esp transport gcm": {[]ipsec.Spec{{Proto: 50, SPI: 1000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 32}},
		[]ipsec.Request{{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require}}, 50},
	"esp tunnel cbc and sha1": {[]ipsec.Spec{{Proto: 50, SPI: 1000, Mode: ipsec.ModeTunnel, Ealg: crypt.EalgAESCBC, Ekey: key(16, 1), Aalg: crypt.AalgHMACSHA1, Akey: key(20, 2), Replay: 64, ESN: true}},
		[]ipsec.Request{{Proto: 50, Mode: ipsec.ModeTunnel, Level: ipsec.Require}}, 50},
	"ah transport": {[]ipsec.Spec{{Proto: 51, SPI: 1000, Mode: ipsec.ModeTransport, Aalg: crypt.AalgHMACSHA256, Akey: key(32, 2), Replay: 32}},
		[]ipsec.Request{{Proto: 51, Mode: ipsec.ModeTransport, Level: ipsec.Require}}, 51},
	"ah tunnel": {[]ipsec.Spec{{Proto: 51, SPI: 1000, Mode: ipsec.ModeTunnel, Aalg: crypt.AalgHMACSHA256, Akey: key(32, 2), ESN: true, Replay: 32}},
		[]ipsec.Request{{Proto: 51, Mode: ipsec.ModeTunnel, Level: ipsec.Require}}, 51},
	"esp transport in ah transport": {[]ipsec.Spec{
		{Proto: 50, SPI: 1000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 32},
		{Proto: 51, SPI: 2000, Mode: ipsec.ModeTransport, Aalg: crypt.AalgHMACSHA1, Akey: key(20, 2), Replay: 32}},
		[]ipsec.Request{{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require}, {Proto: 51, Mode: ipsec.ModeTransport, Level: ipsec.Require}}, 51},
	"esp tunnel in ah transport": {[]ipsec.Spec{
		{Proto: 50, SPI: 1000, Mode: ipsec.ModeTunnel, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 32},
		{Proto: 51, SPI: 2000, Mode: ipsec.ModeTransport, Aalg: crypt.AalgHMACSHA1, Akey: key(20, 2), Replay: 32}},
		[]ipsec.Request{{Proto: 50, Mode: ipsec.ModeTunnel, Level: ipsec.Require}, {Proto: 51, Mode: ipsec.ModeTransport, Level: ipsec.Require}}, 51},
	// What is short is not compressed, whatever the policy says.
	"ipcomp transport in esp transport": {[]ipsec.Spec{
		{Proto: 108, SPI: 1000, Mode: ipsec.ModeTransport, Calg: crypt.CalgDeflate},
		{Proto: 50, SPI: 2000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 32}},
		[]ipsec.Request{{Proto: 108, Mode: ipsec.ModeTransport, Level: ipsec.Require}, {Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require}}, 50},
	"ipcomp tunnel in esp transport": {[]ipsec.Spec{
		{Proto: 108, SPI: 1000, Mode: ipsec.ModeTunnel, Calg: crypt.CalgDeflate},
		{Proto: 50, SPI: 2000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 32}},
		[]ipsec.Request{{Proto: 108, Mode: ipsec.ModeTunnel, Level: ipsec.Require}, {Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require}}, 50},
	"esp in udp": {[]ipsec.Spec{{Proto: 50, SPI: 1000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 32, NATT: ipsec.NATT{Type: 2, Sport: 4500, Dport: 4500}}},
		[]ipsec.Request{{Proto: 50, Mode: ipsec.ModeTransport, Level: ipsec.Require}}, 17},
}

// TestProtected: datagrams and streams between two hosts, of all sizes; nothing of them is on the wire in clear, and what a
// policy asks for and has not come so is not delivered.
func TestProtected(t *testing.T) {
	for name, c := range protections {
		for fam, v6 := range families {
			t.Run(name+" "+fam, func(t *testing.T) {
				p := securedPair(t, v6)
				p.policies(t, packet.ProtoUDP, c.requests...)
				p.policies(t, packet.ProtoTCP, c.requests...)
				var sas []*ipsec.SA
				for i := range 2 {
					for _, spec := range c.specs {
						spec.Ekey, spec.Akey = bytes.Clone(spec.Ekey), bytes.Clone(spec.Akey)
						_, to := p.sa(t, i, spec)
						sas = append(sas, to)
					}
				}
				protos := map[uint8]int{}
				p.wires(func(b []byte) {
					if bytes.Contains(b, []byte("in clear in clear")) && c.outer != 51 {
						t.Fatalf("seen on the wire: %x", b)
					}
					if b[0]>>4 == 4 {
						protos[b[9]]++
					} else {
						protos[b[6]]++
					}
				})
				a, b := p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000)), p.socket(t, 1, p.addr(2, 2000), p.addr(1, 1000))
				buf := make([]byte, 70000)
				for _, n := range []int{0, 1, 17, 100, 1300, 1472, 1480, 5000, 9000} {
					data := bytes.Repeat([]byte("in clear "), n/9+1)[:n]
					for i, ends := range [][2]*socket.Socket{{a, b}, {b, a}} {
						p.call(i, func(w *netif.Work) {
							if _, err := ends[0].Send(w, &socket.Msg{Data: data}); err != nil {
								t.Fatalf("%d octets: %v", n, err)
							}
						})
						m := socket.Msg{Data: buf}
						if err := ends[1].Recv(p.w[1-i], &m); err != nil || !bytes.Equal(m.Data, data) {
							t.Fatalf("%d octets came as %d, %v", n, len(m.Data), err)
						}
					}
				}
				x, y := p.streams(t)
				data := bytes.Repeat([]byte("in clear "), 50000)
				p.stream(t, 0, x, y, 1<<20, data, buf)
				p.stream(t, 1, y, x, 1<<20, data, buf)
				if p.count(0, version[v6], "out too big") == 0 {
					t.Error("no segment was found too large for its path")
				}
				delete(protos, packet.ProtoICMPv6) // neighbours
				if protos[packet.ProtoFragment] > 0 {
					delete(protos, packet.ProtoFragment)
				}
				if len(protos) != 1 || protos[c.outer] < 1500 || protos[c.outer] > 2500 {
					t.Errorf("on the wire: %v, want %d alone", protos, c.outer)
				}
				for _, s := range sas {
					if i := s.Info(); i.Packets < 10 || i.Number < 10 && i.Proto != packet.ProtoIPComp {
						t.Errorf("an SA that little has come by: %+v", i)
					}
				}
				// In clear nothing is taken.
				for i := range p.s {
					p.s[i].IPsec.FlushPolicies()
				}
				p.policies(t, packet.ProtoUDP, c.requests...)
				for _, pol := range p.s[0].IPsec.Policies() {
					if pol.Dir == ipsec.Out {
						p.s[0].IPsec.RemovePolicy(pol)
					}
				}
				before := p.count(1, version[v6], "in policy")
				p.call(0, func(w *netif.Work) { _, _ = a.Send(w, &socket.Msg{Data: []byte("hello")}) })
				m := socket.Msg{Data: buf}
				if err := b.Recv(p.w[1], &m); err == nil {
					t.Error("a datagram in clear was delivered")
				}
				if n := p.count(1, version[v6], "in policy") - before; n != 1 {
					t.Errorf("%d packets against the policy are counted", n)
				}
			})
		}
	}
}

// The groups of counters: of a version of IP, and of the protocol that is outermost.
var (
	version   = map[bool]string{false: "ipsec", true: "ipsec6"}
	outermost = map[uint8]string{50: "esp", 51: "ah", 17: "esp"}
)

// count is a counter of stack i.
func (p *pair) count(i int, proto, name string) uint64 { return rig.Counter(p.s[i], proto, name) }

// TestHostile: what a stranger on the wire does to protected packets is dropped and counted, and nothing of it is delivered.
func TestHostile(t *testing.T) {
	for name, c := range protections {
		for fam, v6 := range families {
			t.Run(name+" "+fam, func(t *testing.T) {
				p := securedPair(t, v6)
				p.policies(t, packet.ProtoUDP, c.requests...)
				for i := range 2 {
					for _, spec := range c.specs {
						spec.Ekey, spec.Akey = bytes.Clone(spec.Ekey), bytes.Clone(spec.Akey)
						p.sa(t, i, spec)
					}
				}
				a, b := p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000)), p.socket(t, 1, p.addr(2, 2000), p.addr(1, 1000))
				buf := make([]byte, 2000)
				send := func() {
					p.call(0, func(w *netif.Work) { _, _ = a.Send(w, &socket.Msg{Data: bytes.Repeat([]byte("data"), 100)}) })
				}
				hears := func() bool {
					m := socket.Msg{Data: buf}
					return b.Recv(p.w[1], &m) == nil
				}
				send()
				if !hears() {
					t.Fatal("nothing comes")
				}
				var frame []byte
				p.hear = func(burst []*packet.Buf) {
					for _, x := range burst {
						frame = bytes.Clone(x.Bytes())
					}
					packet.FreeBurst(burst)
				}
				send()
				p.hear = nil
				put := func(f []byte) bool {
					x := p.s[1].Env.Pool.Get(len(f))
					copy(x.Append(len(f)), f)
					p.line[1] = append(p.line[1], x)
					p.deliver()
					return hears()
				}
				l3 := packet.EtherLen + packet.IPv4Len
				if v6 {
					l3 = packet.EtherLen + packet.IPv6Len
				}
				if c.outer == packet.ProtoUDP {
					l3 += packet.UDPLen
				}
				for at := l3; at < len(frame); at++ {
					bad := bytes.Clone(frame)
					bad[at] ^= 1 << (at % 8)
					if put(bad) {
						t.Fatalf("octet %d of %d changed, and it was delivered", at-l3, len(frame)-l3)
					}
				}
				for n := packet.EtherLen; n < len(frame); n += 3 {
					cut := bytes.Clone(frame[:n])
					if v6 && n >= packet.EtherLen+packet.IPv6Len {
						packet.IPv6(cut[packet.EtherLen:]).SetPayloadLen(n - packet.EtherLen - packet.IPv6Len)
					} else if !v6 && n >= packet.EtherLen+packet.IPv4Len {
						packet.IPv4(cut[packet.EtherLen:]).SetTotalLen(n - packet.EtherLen)
						packet.IPv4(cut[packet.EtherLen:]).SetChecksum()
					}
					if put(cut) {
						t.Fatalf("%d of %d octets were delivered", n, len(frame))
					}
				}
				if !put(frame) {
					t.Error("the packet itself, which was late, is not delivered")
				}
				before := p.count(1, outermost[c.outer], "replay")
				if put(frame) || p.count(1, outermost[c.outer], "replay") != before+1 {
					t.Error("a packet that had come was delivered again, or is not counted")
				}
				for range 100 { // it is older than the window then
					send()
				}
				for hears() {
				}
				if put(frame) {
					t.Error("an old packet was delivered")
				}
				if p.count(1, outermost[c.outer], "authentication") == 0 {
					t.Error("no wrong check value is counted")
				}
				if n := p.s[1].Env.Pool.Bufs(); n != 0 {
					t.Errorf("%d buffers are kept", n)
				}
			})
		}
	}
}

// TestErrorProtected: an ICMP error about a packet that came protected leaves protected, if no policy is about it itself.
func TestErrorProtected(t *testing.T) {
	for _, name := range []string{"esp transport gcm", "esp tunnel cbc and sha1"} {
		for fam, v6 := range families {
			t.Run(name+" "+fam, func(t *testing.T) {
				p := securedPair(t, v6)
				c := protections[name]
				p.policies(t, packet.ProtoUDP, c.requests...)
				for i := range 2 {
					p.sa(t, i, c.specs[0])
				}
				protos := map[uint8]int{}
				p.wires(func(b []byte) {
					if b[0]>>4 == 6 {
						protos[b[6]]++
					} else {
						protos[b[9]]++
					}
				})
				a := p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000))
				p.call(0, func(w *netif.Work) { _, _ = a.Send(w, &socket.Msg{Data: []byte("data")}) })
				if err := a.TakeError(); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("error %v, want that it is refused", err)
				}
				if protos[packet.ProtoESP] != 2 || protos[packet.ProtoICMP] != 0 {
					t.Errorf("on the wire: %v, want ESP twice", protos)
				}
				delete(protos, packet.ProtoESP)
				if len(protos) > 1 || len(protos) == 1 && protos[packet.ProtoICMPv6] > 2 { // neighbours
					t.Errorf("on the wire there are %v, too", protos)
				}
			})
		}
	}
}

// TestAcquireAroundTunnel: a transport around a tunnel is wanted between the tunnel's ends, and what has waited for it is
// sent when it is there, in pieces that the link takes.
func TestAcquireAroundTunnel(t *testing.T) {
	for fam, v6 := range families {
		t.Run(fam, func(t *testing.T) {
			p := securedPair(t, v6)
			c := protections["esp tunnel in ah transport"]
			ends := [2]netip.Addr{p.addr(1, 0).IP, p.addr(2, 0).IP}
			inner := [2]netip.Addr{p.addr(11, 0).IP, p.addr(12, 0).IP}
			for i := range p.s {
				for dir, from := range map[uint8]int{ipsec.Out: i, ipsec.In: 1 - i} {
					pol := &ipsec.Policy{Dir: dir, Kind: ipsec.Protect, Requests: []ipsec.Request{c.requests[0], c.requests[1]}}
					pol.Requests[0].Src, pol.Requests[0].Dst = ends[from], ends[1-from]
					bits := ends[0].BitLen()
					pol.Selector = ipsec.Selector{Src: netip.PrefixFrom(inner[from], bits), Dst: netip.PrefixFrom(inner[1-from], bits), Proto: packet.ProtoUDP}
					if err := p.s[i].IPsec.AddPolicy(pol); err != nil {
						t.Fatal(err)
					}
				}
				if err := p.s[i].AddAddr(p.ifp[i], stack.AddrSpec{Addr: inner[i], Bits: ends[0].BitLen(), Flags: netif.AddrNoDAD}); err != nil {
					t.Fatal(err)
				}
			}
			var wanted []ipsec.Wanted
			p.s[0].IPsec.Subscribe(func(e ipsec.Event) { wanted = append(wanted, e.Wanted) })
			p.sa(t, 0, c.specs[0])
			a, b := p.socket(t, 0, p.addr(11, 1000), p.addr(12, 2000)), p.socket(t, 1, p.addr(12, 2000), p.addr(11, 1000))
			data := bytes.Repeat([]byte("data"), 300)
			p.call(0, func(w *netif.Work) { _, _ = a.Send(w, &socket.Msg{Data: data}) })
			if len(wanted) != 1 || wanted[0].Src != ends[0] || wanted[0].Dst != ends[1] || wanted[0].Proto != packet.ProtoAH {
				t.Fatalf("wanted are %+v, want AH from %v to %v", wanted, ends[0], ends[1])
			}
			p.sa(t, 0, c.specs[1])
			p.deliver()
			m := socket.Msg{Data: make([]byte, 2000)}
			if err := b.Recv(p.w[1], &m); err != nil || !bytes.Equal(m.Data, data) {
				t.Fatalf("what has waited came as %d octets, %v", len(m.Data), err)
			}
		})
	}
}

// TestAcquire: a daemon is asked for what is missing, the packets wait for it, and SAs that get old are told of.
func TestAcquire(t *testing.T) {
	for fam, v6 := range families {
		t.Run(fam, func(t *testing.T) {
			p := securedPair(t, v6)
			c := protections["esp transport gcm"]
			p.policies(t, packet.ProtoUDP, c.requests...)
			var events []ipsec.Event
			p.s[0].IPsec.Subscribe(func(e ipsec.Event) { events = append(events, e) })
			a, b := p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000)), p.socket(t, 1, p.addr(2, 2000), p.addr(1, 1000))
			send := func() {
				p.call(0, func(w *netif.Work) { _, _ = a.Send(w, &socket.Msg{Data: []byte("data")}) })
			}
			send()
			send()
			if len(events) != 1 || events[0].Kind != ipsec.Acquire || events[0].Wanted.Src != p.addr(1, 0).IP || events[0].Wanted.Dst != p.addr(2, 0).IP || events[0].Wanted.Proto != 50 {
				t.Fatalf("%+v", events)
			}
			spec := c.specs[0]
			spec.Soft, spec.Hard = ipsec.Lifetime{Packets: 5, Add: 100}, ipsec.Lifetime{Packets: 8, Add: 200}
			from, _ := p.sa(t, 0, spec)
			p.deliver()
			m := socket.Msg{Data: make([]byte, 100)}
			for range 2 {
				if err := b.Recv(p.w[1], &m); err != nil {
					t.Fatal("what has waited is not delivered: ", err)
				}
			}
			for range 10 {
				send()
			}
			got := 0
			for b.Recv(p.w[1], &m) == nil {
				got++
			}
			if got != 6 || from.State() != ipsec.Dead || len(events) < 3 || events[1].Kind != ipsec.SAExpired || events[1].Hard || events[2].Kind != ipsec.SAExpired || !events[2].Hard {
				t.Errorf("%d datagrams more, state %d, events %+v", got, from.State(), events)
			}
			// In time, too.
			spec = c.specs[0]
			spec.SPI, spec.Soft, spec.Hard = 5000, ipsec.Lifetime{Add: 10}, ipsec.Lifetime{Add: 20}
			events = nil
			s, _ := p.sa(t, 0, spec)
			for sec := int64(1); sec < 25; sec++ {
				p.now += 1e9
				for i := range p.s {
					p.s[i].Advance(p.now)
				}
				p.deliver()
				if want := map[bool]ipsec.State{true: ipsec.Mature, false: ipsec.Dying}[sec < 10]; sec < 20 && sec != 10 && s.State() != want {
					t.Fatalf("after %d s: state %d, want %d", sec, s.State(), want)
				}
			}
			if s.State() != ipsec.Dead || len(p.s[0].IPsec.SAs(0)) != 0 {
				t.Errorf("state %d, %d SAs after all lifetimes", s.State(), len(p.s[0].IPsec.SAs(0)))
			}
		})
	}
}

// TestPadded: with TFC padding (RFC 4303 §2.7) nobody on the wire sees how long packets in a tunnel are.
func TestPadded(t *testing.T) {
	for fam, v6 := range families {
		t.Run(fam, func(t *testing.T) {
			p := securedPair(t, v6)
			p.policies(t, packet.ProtoUDP, ipsec.Request{Proto: 50, Mode: ipsec.ModeTunnel, Level: ipsec.Require})
			for i := range 2 {
				p.sa(t, i, ipsec.Spec{Proto: 50, SPI: 1000, Mode: ipsec.ModeTunnel, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 32, TFC: 1200})
			}
			lengths := map[int]int{}
			p.wires(func(b []byte) {
				if b[0]>>4 == 4 && b[9] == 50 || b[0]>>4 == 6 && b[6] == 50 {
					lengths[len(b)]++
				}
			})
			a, b := p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000)), p.socket(t, 1, p.addr(2, 2000), p.addr(1, 1000))
			for _, n := range []int{0, 1, 100, 1000, 1100} {
				p.call(0, func(w *netif.Work) {
					if _, err := a.Send(w, &socket.Msg{Data: make([]byte, n)}); err != nil {
						t.Fatal(err)
					}
				})
				m := socket.Msg{Data: make([]byte, 2000)}
				if err := b.Recv(p.w[1], &m); err != nil || len(m.Data) != n {
					t.Fatalf("%d octets came as %d, %v", n, len(m.Data), err)
				}
			}
			if len(lengths) != 1 {
				t.Errorf("lengths on the wire: %v", lengths)
			}
			if _, err := p.s[0].IPsec.Add(ipsec.Spec{Proto: 50, SPI: 5000, Mode: ipsec.ModeTransport, Src: p.addr(1, 0).IP, Dst: p.addr(2, 0).IP, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), TFC: 1200}); err == nil {
				t.Error("TFC padding in transport mode is taken, and nothing would be padded")
			}
		})
	}
}
