package main

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"ionet/stack"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

const (
	ipsecSmall = 64 // octets of an inner packet
	ipsecLarge = 1400
	hotFlows   = 64 // of many SAs those that are busy
)

// ipsecMeasure has one goroutine on one processor bring packets to a gateway, which protects them, and what
// leaves it to the other gateway, which opens them and sends them on: everything but the driver. Each packet is forwarded
// twice. What IPsec itself costs is measured without the rest of the gateways.
func ipsecMeasure() error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	fmt.Printf("  a tunnel of ESP, AES-128-GCM, window 64, between two gateways; UDP in bursts of %d, one processor\n", forwardBurst)
	raw := newRawESP()
	for _, v := range versions {
		for _, size := range []int{ipsecLarge, ipsecSmall} {
			vpn, err := newVPN(v, size, 1)
			if err != nil {
				return err
			}
			room, err := newESPRoom(v, size)
			if err != nil {
				return err
			}
			var out, in, allocs, bare, protect, open, share []float64
			for range *runs {
				raw := raw.cost(size, *perRun/2)
				p, o := room.cost(*perRun)
				bare, protect, open, share = append(bare, raw), append(protect, p), append(open, o), append(share, raw/(p+o))
				p, o, a := vpn.cost(*perRun)
				out, in, allocs = append(out, p), append(in, o), append(allocs, a)
			}
			l := fmt.Sprintf("  %s: %5d octets: protect %6.0f ns, open %6.0f ns, Seal and Open alone %6.0f ns, %.2f of both",
				v.name, size, median(protect), median(open), median(bare), median(share))
			if size == ipsecLarge {
				l += fmt.Sprintf("  (%s)", verdict(median(share) >= 0.75, "at least 0.75"))
			}
			l += fmt.Sprintf("\n        with the forwarding of two gateways: %6.0f and %6.0f ns, %.3f allocations a packet", median(out), median(in), median(allocs))
			if size == ipsecSmall {
				l += fmt.Sprintf(", %.2f and %.2f of 3,000,000/s  (%s)", 1e9/median(out)/3e6, 1e9/median(in)/3e6,
					verdict(median(out) <= 1e9/3e6 && median(in) <= 1e9/3e6, "3,000,000/s each way"))
			}
			fmt.Println(l)
		}
	}
	return ipsecCurve()
}

// ipsecCurve is how the cost grows with the number of policies and SAs, of which some are busy.
func ipsecCurve() error {
	var first float64
	for _, n := range []int{hotFlows, 1000, 10_000, 100_000} {
		vpn, err := newVPN(v4, ipsecSmall, n)
		if err != nil {
			return err
		}
		both := make([]float64, *runs)
		for i := range both {
			out, in, _ := vpn.cost(*perRun)
			both[i] = out + in
		}
		if first == 0 {
			first = median(both)
		}
		fmt.Printf("  ipv4: %7d policies and SAs each way, %d busy: protect and open %5.0f ns, %.2f of %d\n", n, hotFlows, median(both), median(both)/first, hotFlows)
		if n == 100_000 {
			fmt.Printf("  (%s)\n", verdict(median(both)/first <= 1.15, "flat: at most 1.15"))
		}
	}
	return nil
}

// vpn is two gateways and the packets that they get.
type vpn struct {
	gw     [2]*stack.Stack
	w      [2]*netif.Work
	inside [2]*netif.Interface
	out    [2]*netif.Interface
	line   []*packet.Buf // what left last
	now    int64
	frames [][]byte
	at     int
	burst  []*packet.Buf
	window int
	take   func(ifp *netif.Interface, burst []*packet.Buf) // has what leaves in line's place, if it is set
}

// Transmit is netif.Driver.
func (n *vpn) Transmit(ifp *netif.Interface, burst []*packet.Buf) {
	if n.take != nil {
		n.take(ifp, burst)
		return
	}
	n.line = append(n.line, burst...)
}

// vpnNet is the i-th network behind gateway g, of which there is a policy.
func vpnNet(v *version, g, i int) netip.Prefix {
	if v == v4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(10 + g*64 + i>>16), byte(i >> 8), byte(i), 0}), 24)
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 1, byte(g), byte(i >> 8), byte(i)}), 64)
}

// vpnEnds are the outer addresses.
func vpnEnds(v *version) [2]netip.Prefix {
	if v == v4 {
		return [2]netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")}
	}
	return [2]netip.Prefix{netip.MustParsePrefix("2001:db8:ffff::1/64"), netip.MustParsePrefix("2001:db8:ffff::2/64")}
}

func newVPN(v *version, size, n int) (*vpn, error) { return newVPNWindow(v, size, n, 64) }

// newVPNWindow is newVPN with associations of another window.
func newVPNWindow(v *version, size, n, window int) (*vpn, error) {
	x := &vpn{now: 1, window: window, burst: make([]*packet.Buf, forwardBurst)}
	ends := vpnEnds(v)
	var station [2]netip.Addr // behind each gateway
	for g := range x.gw {
		seed := uint32(g + 1)
		s, err := stack.New(stack.Config{
			Now:    func() int64 { return x.now },
			Rand32: func() uint32 { seed = seed*1664525 + 1013904223; return seed ^ seed>>15 },
			IPsec:  true,
		})
		if err != nil {
			return nil, err
		}
		x.gw[g], x.w[g] = s, s.Env.NewWork()
		for node, value := range map[string]string{"net.inet.ip.forwarding": "1", "net.inet6.ip6.forwarding": "1", "net.inet6.ip6.dad_count": "0"} {
			if _, err := s.Env.MIB.Set(node, value); err != nil {
				return nil, err
			}
		}
		in := vpnNet(v, g, 0)
		in = netip.PrefixFrom(in.Addr().Next(), in.Bits())
		far := vpnNet(v, 1-g, 0)
		far = netip.PrefixFrom(far.Addr(), 4).Masked()
		if v == v6 {
			far = netip.PrefixFrom(vpnNet(v, 1-g, 0).Addr(), 48).Masked()
		}
		for i, a := range []netip.Prefix{in, ends[g]} {
			ifp := netif.New(netif.Config{Name: fmt.Sprint("en", i), MTU: 1500, MAC: netif.MAC{2, 0, 0, 0, byte(g*2 + i), 1}, Driver: x,
				Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning})
			if err := s.AddInterface(ifp); err != nil {
				return nil, err
			}
			if err := s.AddAddr(ifp, stack.AddrSpec{Addr: a.Addr(), Bits: a.Bits()}); err != nil {
				return nil, err
			}
			if i == 0 {
				x.inside[g] = ifp
			} else {
				x.out[g] = ifp
			}
		}
		station[g] = in.Addr().Next()
		if err := s.AddNeighbour(x.inside[g], station[g], netif.MAC{2, 0, 0, 0, 9, byte(g)}, 0, 0); err != nil {
			return nil, err
		}
		if err := s.AddNeighbour(x.out[g], ends[1-g].Addr(), netif.MAC{2, 0, 0, 0, byte((1-g)*2 + 1), 1}, 0, 0); err != nil {
			return nil, err
		}
		if err := x.routes(g, far, ends[1-g].Addr()); err != nil {
			return nil, err
		}
		// Networks behind the gateway are all by the one station.
		if err := x.routes(g, netip.PrefixFrom(in.Addr(), far.Bits()).Masked(), station[g]); err != nil {
			return nil, err
		}
	}
	for i := range n {
		if err := x.protect(v, i); err != nil {
			return nil, err
		}
	}
	x.fill(v, size, min(n, hotFlows), n)
	packet.FreeBurst(x.line)
	x.line = x.line[:0]
	return x, nil
}

func (x *vpn) routes(g int, dst netip.Prefix, gw netip.Addr) error {
	return x.gw[g].Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{Dst: dst, Gateway: gw, Flags: route.FlagUp | route.FlagGateway | route.FlagStatic}}})[0]
}

// protect has both gateways protect what goes between their i-th networks with SAs of their own.
func (x *vpn) protect(v *version, i int) error {
	ends := vpnEnds(v)
	for from := range x.gw {
		src, dst := ends[from].Addr(), ends[1-from].Addr()
		for g := range x.gw {
			dir := uint8(ipsec.Out)
			if g != from {
				dir = ipsec.In
			}
			spec := ipsec.Spec{Proto: packet.ProtoESP, SPI: uint32(1000 + 2*i + from), Mode: ipsec.ModeTunnel, Src: src, Dst: dst, ReqID: uint32(i + 1),
				Ealg: crypt.EalgAESGCM16, Ekey: make([]byte, 20), Replay: x.window}
			if _, err := x.gw[g].IPsec.Add(spec); err != nil {
				return err
			}
			p := &ipsec.Policy{Dir: dir, Kind: ipsec.Protect, Selector: ipsec.Selector{Src: vpnNet(v, from, i), Dst: vpnNet(v, 1-from, i), Proto: ipsec.AnyProto},
				Requests: []ipsec.Request{{Proto: packet.ProtoESP, Mode: ipsec.ModeTunnel, Level: ipsec.Unique, ReqID: uint32(i + 1), Src: src, Dst: dst}}}
			if err := x.gw[g].IPsec.AddPolicy(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill makes the frames, one of each of flows networks out of n, in turn.
func (x *vpn) fill(v *version, size, flows, n int) {
	for k := range flows {
		i := k * (n / flows)
		b := make([]byte, packet.EtherLen+size)
		src, dst := vpnNet(v, 0, i).Addr().Next().Next().Next(), vpnNet(v, 1, i).Addr().Next().Next().Next()
		if i == 0 {
			src, dst = src.Prev(), dst.Prev() // the stations themselves
		}
		typ, hlen := uint16(packet.EtherIPv4), packet.IPv4Len
		ip := b[packet.EtherLen:]
		if v == v4 {
			packet.PutIPv4(ip, 0, size, 0, 0, 64, packet.ProtoUDP, src, dst, nil).SetChecksum()
		} else {
			typ, hlen = packet.EtherIPv6, packet.IPv6Len
			packet.PutIPv6(ip, 0, 0, size-hlen, packet.ProtoUDP, 64, src, dst)
		}
		packet.PutEther(b, x.inside[0].MAC(), netif.MAC{2, 0, 0, 0, 9, 0}, typ)
		l4 := ip[hlen:]
		packet.PutUDP(l4, 1000, 53, len(l4), 0)
		packet.PutUDP(l4, 1000, 53, len(l4), max(^packet.Fold(packet.Sum(packet.PseudoSum(src, dst, packet.ProtoUDP, len(l4)), l4)), 1))
		x.frames = append(x.frames, b)
	}
}

// cost is nanoseconds of a packet at either gateway, and what both allocate.
func (x *vpn) cost(d time.Duration) (out, in, allocs float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var spent [2]time.Duration
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n := 0
	for spent[0]+spent[1] < d {
		if x.gw[0].Env.Pool.GetBurst(x.burst, len(x.frames[0])) < len(x.burst) {
			panic("no packet")
		}
		for _, b := range x.burst {
			f := x.frames[x.at%len(x.frames)]
			copy(b.Append(len(f)), f)
			x.at++
		}
		x.now += 1000
		burst := x.burst
		for g := range x.gw {
			ifp := x.inside[0]
			if g == 1 {
				ifp = x.out[1]
			}
			start := threadTime()
			x.gw[g].Input(x.w[g], x.now, ifp, burst)
			spent[g] += since(start)
			if len(x.line) != forwardBurst {
				panic(fmt.Sprintf("%d packets of %d left gateway %d", len(x.line), forwardBurst, g))
			}
			copy(x.burst, x.line)
			burst, x.line = x.burst, x.line[:0]
			for _, b := range burst {
				b.Flags = 0 // as it would come from a wire
			}
		}
		packet.FreeBurst(x.burst)
		n += forwardBurst
	}
	runtime.ReadMemStats(&after)
	return float64(spent[0]) / float64(n), float64(spent[1]) / float64(n), float64(after.Mallocs-before.Mallocs) / float64(n)
}

// espRoom is the IPsec of two gateways without the rest of them: packets are handed to it as by IP.
type espRoom struct {
	v     *version
	env   *netif.Env
	w     *netif.Work
	x     [2]*ipsec.IPsec
	out   *netif.Interface
	frame []byte
	burst []*packet.Buf
	done  []*packet.Buf
	now   int64
}

func newESPRoom(v *version, size int) (*espRoom, error) {
	x := &espRoom{v: v, burst: make([]*packet.Buf, forwardBurst), now: 1, out: netif.New(netif.Config{Name: "en1", MTU: 1500})}
	seed := uint32(1)
	s, err := stack.New(stack.Config{Now: func() int64 { return x.now }, Rand32: func() uint32 { seed = seed*1664525 + 1013904223; return seed ^ seed>>15 }})
	if err != nil {
		return nil, err
	}
	x.env, x.w = s.Env, s.Env.NewWork()
	for g := range x.x {
		x.x[g] = ipsec.New(s.Env)
		x.x[g].Over(v == v6, x)
	}
	n := &vpn{window: 64}
	for g := range n.gw {
		n.gw[g] = &stack.Stack{IPsec: x.x[g]}
	}
	if err := n.protect(v, 0); err != nil {
		return nil, err
	}
	n.inside[0] = x.out
	n.fill(v, size, 1, 1)
	x.frame = n.frames[0][packet.EtherLen:]
	return x, nil
}

// Methods of ipsec.Net.

func (x *espRoom) Emit(_ *netif.Work, pkt *packet.Buf, _ *socket.Flow, _ int) error {
	x.done = append(x.done, pkt)
	return nil
}

func (x *espRoom) PathMTU(f *socket.Flow) (int, error) {
	f.Route.If = x.out
	return x.out.MTU(), nil
}

func (x *espRoom) Unwrapped(w *netif.Work, pkt *packet.Buf, _ *netif.Interface) {
	if !x.x[1].Admit(w, pkt, true) {
		panic("a packet was not admitted")
	}
	x.done = append(x.done, pkt)
}

func (x *espRoom) Again(*netif.Work, *packet.Buf)       { panic("a packet was in no tunnel") }
func (x *espRoom) TooBig(*netif.Work, *packet.Buf, int) { panic("a packet was too big") }
func (x *espRoom) Local(netip.Addr) *netif.Addr         { return nil }

// cost is nanoseconds of a packet to protect and to open it.
func (x *espRoom) cost(d time.Duration) (protect, open float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var spent [2]time.Duration
	n := 0
	for ; spent[0]+spent[1] < d; n += forwardBurst {
		if x.env.Pool.GetBurst(x.burst, packet.EtherLen+len(x.frame)) < len(x.burst) {
			panic("no packet")
		}
		for _, b := range x.burst {
			copy(b.Append(len(x.frame)), x.frame)
			b.MarkL3(0)
			b.RcvIf = 1
		}
		x.now += 1000
		start := threadTime()
		x.w.Start(x.now)
		for _, b := range x.burst {
			if on, _, err := x.x[0].Protect(x.w, b, x.x[0].Policy(x.w, b, nil), 1500); on != nil || err != nil {
				panic(err)
			}
		}
		x.w.Finish()
		spent[0] += since(start)
		copy(x.burst, x.done)
		x.done = x.done[:0]
		for _, b := range x.burst {
			b.Flags = 0 // as it would come from a wire
			b.MarkL3(0)
			hlen := packet.IPv4Len
			if x.v == v6 {
				hlen = packet.IPv6Len
			}
			b.TrimFront(hlen)
		}
		start = threadTime()
		x.w.Start(x.now)
		for _, b := range x.burst {
			x.x[1].Input(x.w, b, packet.ProtoESP)
		}
		x.w.Finish()
		spent[1] += since(start)
		if len(x.done) != forwardBurst {
			panic(fmt.Sprintf("%d packets of %d were opened", len(x.done), forwardBurst))
		}
		packet.FreeBurst(x.done)
		x.done = x.done[:0]
	}
	return float64(spent[0]) / float64(n), float64(spent[1]) / float64(n)
}

// rawESP is AES-128-GCM as the library has it.
type rawESP struct{ a cipher.AEAD }

func newRawESP() rawESP {
	b, err := aes.NewCipher(make([]byte, 16))
	must(err)
	a, err := cipher.NewGCM(b)
	must(err)
	return rawESP{a}
}

// cost is nanoseconds of a Seal and an Open of what ESP encrypts of a packet of size octets.
func (r rawESP) cost(size int, d time.Duration) float64 {
	n := (size + 2 + 3) &^ 3 // with padding and trailer
	buf := make([]byte, n, n+16)
	nonce, aad := make([]byte, 12), make([]byte, 8)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rounds, start := 0, threadTime()
	for ; threadTime()-start < d; rounds += 64 {
		for range 64 {
			sealed := r.a.Seal(buf[:0], nonce, buf[:n], aad)
			if _, err := r.a.Open(buf[:0], nonce, sealed, aad); err != nil {
				panic(err)
			}
		}
	}
	return float64(threadTime()-start) / float64(rounds)
}

// threadTime is the processor time of this thread: that of a whole machine is not ours alone.
func threadTime() time.Duration {
	var t unix.Timespec
	must(unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t))
	return time.Duration(t.Nano())
}

// since is the thread's time since start without what it costs to ask.
func since(start time.Duration) time.Duration { return threadTime() - start - clockCost }

var clockCost = func() time.Duration {
	const n = 10_000
	start := threadTime()
	for range n {
		threadTime()
	}
	return (threadTime() - start) / n
}()
