package sim_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ionet/sim"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// A program of streams: flows between a few nodes over bad links, each of
// which opens, sends both ways, and ends in one of many ways, while nodes
// crash, links fail and settings differ. What arrives is what was sent; the
// end of a stream comes after all of it; who behaved well, with a peer that did
// too, loses nothing; nothing hangs, although programs act on upcalls alone.

// How a program ends its side of a flow.
const (
	whole  = iota // it shuts down, reads to the end, closes
	hasty         // it closes when it has sent all, whatever it has not read
	abrupt        // it aborts at some time
)

// side is one program at one end of a flow.
type side struct {
	p    *plot
	peer *side
	node *sim.Node
	so   *sim.Socket

	out           []byte // what it sends
	urg           urgents
	sent, got     int
	style         int
	chunk, rchunk int
	lazy          time.Duration // between reads; 0: it reads at once
	sleeping      bool
	again         bool // a turn is due
	shut, eof     bool
	done          bool
	crashed       bool
	err           error
}

// flow is a connection that a program makes and another accepts.
type flow struct {
	c, s   side
	to     string
	tries  int
	opened bool // the dialler's connection stands
	fast   bool // it is dialled with Fast Open
	early  bool // connect had a cookie, and said yes before anybody answered
}

// plot is one run of the scenario.
type plot struct {
	n       *sim.Net
	r       *rand.Rand
	flows   []*flow
	nodes   []*sim.Node
	bad     error
	six     bool // over IPv6
	perfect bool // no link of the network loses anything, ever
	ended   bool // the network is being closed
	fast    bool // most of it is dialled with Fast Open
}

func (p *plot) fail(format string, a ...any) {
	if p.bad == nil {
		p.bad = fmt.Errorf(format, a...)
	}
}

// stream is what side id sends: octets below 0x80, but for the urgent ones.
func stream(id uint32, size int) []byte {
	b := payload(id+1, size)
	for i := range b {
		b[i] &= 0x7f
	}
	return b
}

func amount(r *rand.Rand) int {
	switch r.IntN(6) {
	case 0:
		return 0
	case 1:
		return 1 + r.IntN(10)
	case 2:
		return r.IntN(150_000)
	}
	return r.IntN(12_000)
}

func (p *plot) side(s *side, id uint32, nd *sim.Node, peer *side) {
	r := p.r
	*s = side{p: p, peer: peer, node: nd, out: stream(id, amount(r)), chunk: 1 + r.IntN(1<<r.IntN(17)), rchunk: 1 + r.IntN(1<<r.IntN(17))}
	s.chunk, s.rchunk = max(s.chunk, len(s.out)/200), s.rchunk+100
	s.urg.draw(r, s.out)
	if r.IntN(4) == 0 {
		s.lazy = time.Duration(1 + r.Int64N(int64(30*time.Millisecond)))
	}
	switch r.IntN(8) {
	case 0:
		s.style = hasty
	case 1:
		s.style = abrupt
	}
}

// settings are drawn for every node, so that most pairs differ.
func (p *plot) settings(nd *sim.Node) {
	r := p.r
	for _, name := range []string{"sack", "timestamps", "win_scale", "hystart", "frto", "tlp", "recvbuf_auto", "sendbuf_auto", "ecn", "ack_on_push", "strict_rfc"} {
		if r.IntN(4) == 0 {
			nd.Sysctl("net.inet.tcp."+name, "0")
		}
	}
	if r.IntN(3) == 0 {
		nd.Sysctl("net.inet.tcp.congctl.selected", "newreno")
	}
	if r.IntN(3) == 0 {
		nd.Sysctl("net.inet.tcp.delack", fmt.Sprint(r.IntN(200)))
	}
	if r.IntN(4) == 0 {
		nd.Sysctl("net.inet.tcp.syn_cache_limit", fmt.Sprint(r.IntN(3)))
	}
	if r.IntN(4) == 0 {
		nd.Sysctl("net.inet.tcp.recvspace", fmt.Sprint(2048+r.IntN(20000)))
		nd.Sysctl("net.inet.tcp.sendspace", fmt.Sprint(2048+r.IntN(20000)))
	}
	if r.IntN(8) == 0 {
		nd.Sysctl("net.inet.tcp.maxtimewait", fmt.Sprint(r.IntN(4)))
	}
}

func (p *plot) options(so *sim.Socket) {
	r := p.r
	if r.IntN(4) == 0 {
		so.Flag(socket.SORcvBuf, 1500+r.IntN(1<<(8+r.IntN(10))))
	}
	if r.IntN(4) == 0 {
		so.Flag(socket.SOSndBuf, 1500+r.IntN(1<<(8+r.IntN(10))))
	}
	if r.IntN(4) == 0 {
		so.Flag(socket.SOKeepAlive, 1)
	}
	if r.IntN(2) == 0 {
		if err := so.Set(packet.ProtoTCP, 1, socket.Value32(1)); err != nil { // TCP_NODELAY
			p.fail("TCP_NODELAY: %v", err)
		}
	}
}

// listen has the node's program accept connections.
func (p *plot) listen(nd *sim.Node) {
	l := nd.Listen(":80", 1+p.r.IntN(64))
	p.wishes(l, p.fast)
	accept := func() {
		for {
			so := l.Accept()
			if so == nil {
				return
			}
			p.accepted(so)
		}
	}
	l.SetUpcall(func(*netif.Work) { p.n.At(p.lag(), accept) })
}

// lag is how late a program hears of an upcall.
func (p *plot) lag() time.Duration {
	if p.r.IntN(4) == 0 {
		return time.Duration(p.r.Int64N(int64(2 * time.Millisecond)))
	}
	return 0
}

func (p *plot) accepted(so *sim.Socket) {
	for _, f := range p.flows {
		if f.c.so != nil && f.c.so.Local() == so.Peer() && f.c.so.Peer() == so.Local() && f.s.so == nil && !f.s.done {
			f.s.use(so)
			return
		}
	}
	so.Abort() // of an attempt that was given up, or to a program that a crash has ended
}

// use gives a program its connection.
func (s *side) use(so *sim.Socket) {
	s.so = so
	s.p.options(so)
	so.SetUpcall(func(*netif.Work) { s.soon(s.p.lag()) })
	s.soon(0)
}

func (s *side) soon(d time.Duration) {
	if s.again {
		return
	}
	s.again = true
	so := s.so
	s.p.n.At(d, func() {
		s.again = false
		if s.so == so {
			s.turn()
		}
	})
}

// dial begins or begins again.
func (p *plot) dial(f *flow) {
	if f.c.crashed || f.c.done {
		return
	}
	f.tries++
	so := f.c.node.TCP()
	f.c.so = so
	p.wishes(so, f.fast)
	so.SetUpcall(func(*netif.Work) {
		p.n.At(p.lag(), func() {
			if f.c.so == so && !f.opened {
				p.dialled(f)
			}
		})
	})
	err := so.Connect(f.to)
	switch {
	case err == nil && f.fast: // there was a cookie: the first write goes with the SYN
		f.opened, f.early = true, true
		f.c.use(so)
	case !errors.Is(err, syscall.EINPROGRESS):
		p.fail("connect to %s: %v", f.to, err)
	}
}

func (p *plot) dialled(f *flow) {
	so := f.c.so
	if f.c.done || so.Poll()&(socket.Writable|socket.Error|socket.HangUp) == 0 {
		return
	}
	if err := so.TakeError(); err != nil {
		so.SetUpcall(nil)
		so.Close()
		f.c.so = nil
		switch {
		case p.perfect:
			p.fail("connect to %s over a perfect link: %v", f.to, err)
		case f.tries >= 40 || f.s.crashed:
			f.c.end(err)
			f.s.end(err)
		case f.s.so != nil: // it stood there already
			f.c.end(err)
		default:
			p.n.At(time.Second, func() { p.dial(f) })
		}
		return
	}
	f.opened = true
	f.c.use(so)
}

// end is the last a program does.
func (s *side) end(err error) {
	if !s.done {
		s.done, s.err = true, err
		if s.so != nil {
			s.so.SetUpcall(nil)
			s.so.Close()
		}
	}
}

// turn does what can be done now.
func (s *side) turn() {
	if s.done || s.so == nil {
		return
	}
	s.p.meddle(s.so)
	s.write()
	s.readUrgent()
	s.read()
	if s.done {
		return
	}
	if s.sent == len(s.out) && !s.shut {
		if s.style == hasty {
			s.shut = true // the end that close sends
			s.end(nil)
			return
		}
		if err := s.so.Shutdown(); err != nil {
			s.end(err)
			return
		}
		s.shut = true
	}
	if s.shut && s.eof {
		s.end(nil)
	}
}

func (s *side) write() {
	for !s.done && s.sent < len(s.out) {
		k, err := s.writeSome()
		s.sent += k
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			if s.so.Poll()&socket.Writable != 0 {
				s.p.fail("a socket is writable and takes nothing")
			}
			return
		case errors.Is(err, syscall.ENOBUFS):
			s.soon(100 * time.Millisecond)
			return
		case err != nil:
			s.end(err)
			return
		case k == 0:
			s.p.fail("a write of something took nothing and said nothing")
			return
		}
	}
}

func (s *side) read() {
	buf := make([]byte, s.rchunk)
	for !s.done && !s.eof && !s.sleeping {
		peeked := -1
		if s.p.r.IntN(16) == 0 {
			m := socket.Msg{Data: make([]byte, 10), Flags: socket.MsgPeek}
			if s.node.Call(func(w *netif.Work) error { return s.so.Socket.Recv(w, &m) }) == nil {
				peeked = len(m.Data)
				if _, _, ok := s.match(m.Data); !ok {
					s.p.fail("what is seen at octet %d is not what was sent: %x\n%v\n%v", s.got, m.Data, s, s.peer)
				}
			}
		}
		k, err := s.so.Read(buf)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			if s.so.Poll()&socket.Readable != 0 {
				s.p.fail("a socket is readable and gives nothing")
			}
			return
		case err != nil:
			s.end(err)
			return
		case k == 0:
			s.eof = true
			s.readUrgent()
			if s.passUrgent(); !s.peer.shut || s.got != s.peer.sent {
				s.p.fail("the end came after %d octets; the peer wrote %d, its end: %v\n%v\n%v", s.got, s.peer.sent, s.peer.shut, s, s.peer)
			}
			return
		case k < peeked:
			s.p.fail("%d octets were seen, %d read", peeked, k)
		}
		from, at, ok := s.match(buf[:k])
		if !ok {
			s.p.fail("what is read at octet %d is not what was sent: %d octets match\n%v\n%v", s.got, at-s.got, s, s.peer)
		}
		s.crossing(from, at)
		s.got = at
		if s.lazy > 0 {
			s.sleeping = true
			so := s.so
			s.p.n.At(s.lazy, func() {
				if s.sleeping = false; s.so == so {
					s.turn()
				}
			})
		}
	}
}

// crash takes a node and its programs away; up, it listens again.
func (p *plot) crash(nd *sim.Node) {
	for _, f := range p.flows {
		for _, s := range []*side{&f.c, &f.s} {
			if s.node == nd {
				s.crashed, s.done = true, true
			}
		}
	}
	if err := nd.Crash(); err != nil {
		p.fail("a crash: %v", err)
	}
}

// patience is what programs have for peers that crashed.
const patience = 40 * time.Minute

func streams(n *sim.Net) error  { return (&plot{n: n, r: n.Rand()}).play() }
func streams6(n *sim.Net) error { return (&plot{n: n, r: n.Rand(), six: true}).play() }

// address is a station's on a link, and its network's length.
func (p *plot) address(link, station int) (addr string, bits int) {
	if p.six {
		return fmt.Sprintf("2001:db8:%d::%d", link, station), 64
	}
	return fmt.Sprintf("10.0.%d.%d", link, station), 24
}

// server is that address at the port of programs.
func (p *plot) server(addr string) string { return net.JoinHostPort(addr, "80") }

// stack is a node.
func (p *plot) stack(name string) *sim.Node {
	nd := p.n.Stack(name)
	if nd.IPv6 = p.six; p.six {
		nd.Sysctl("net.inet6.ip6.dad_count", "0") // programs begin at once
	}
	return nd
}

func (p *plot) attach(nd *sim.Node, link *sim.Segment, number, station int) *netif.Interface {
	addr, bits := p.address(number, station)
	return p.n.Attach(nd, link, fmt.Sprintf("%s/%d", addr, bits))
}

func (p *plot) route(nd *sim.Node, link int) {
	via, _ := p.address(link, 9)
	nd.Route("default", via)
}

func (p *plot) play() error {
	n, r := p.n, p.r
	p.fast = r.IntN(3) == 0
	f := ills(r)
	f.Loss /= 2
	if r.IntN(4) == 0 { // a link that is a bottleneck
		f.Rate = 1_000_000 << r.IntN(6)
		f.Queue = 4000 << r.IntN(6)
		if r.IntN(2) == 0 {
			f.Mark = f.Queue / 4
		}
	}
	if r.IntN(5) == 0 {
		f = sim.Faults{Delay: f.Delay}
	}
	var links []*sim.Segment
	router := r.IntN(4) == 0
	if router {
		g := f
		g.Delay, g.Loss = f.Delay/3, f.Loss/3
		links = []*sim.Segment{n.Segment(f), n.Segment(g)}
		a, rt, b := p.stack("a"), p.stack("r"), p.stack("b")
		p.attach(a, links[0], 0, 1)
		p.attach(rt, links[0], 0, 9)
		far := p.attach(rt, links[1], 1, 9)
		p.attach(b, links[1], 1, 2)
		narrow := r.IntN(150)
		forwarding, mtu := "net.inet.ip.forwarding", 296+8*narrow
		if p.six {
			forwarding, mtu = "net.inet6.ip6.forwarding", packet.MinMTU6+narrow
		}
		rt.Sysctl(forwarding, "1")
		if err := rt.SetMTU(far, mtu, 1500); err != nil {
			return err
		}
		p.route(a, 0)
		p.route(b, 1)
		p.nodes = []*sim.Node{a, b}
	} else {
		links = []*sim.Segment{n.Segment(f)}
		for i := range 2 + r.IntN(2) {
			nd := p.stack(fmt.Sprint("s", i))
			p.attach(nd, links[0], 0, i+1)
			p.nodes = append(p.nodes, nd)
		}
		if r.IntN(8) == 0 {
			least, room := 600, 800
			if p.six { // a link that carries less is none (RFC 8200 §5)
				least, room = packet.MinMTU6, 200
			}
			links[0].Faults.MaxLen = packet.EtherLen + least + r.IntN(room)
		}
	}
	addr := func(i int) (addr string) {
		link := 0
		if router {
			link = i
		}
		addr, _ = p.address(link, i+1)
		return addr
	}
	local := "127.0.0.1"
	if p.six {
		local = "::1"
	}
	p.perfect = !router && links[0].Faults == sim.Faults{Delay: f.Delay}
	for _, nd := range p.nodes {
		p.settings(nd)
		if r.IntN(16) == 0 {
			nd.Sysctl("kern.mbuf.memory", "1048576")
			p.perfect = false
		}
		p.listen(nd)
	}
	count := 2 + r.IntN(5)
	if p.fast { // the first ones get cookies
		count += 4
	}
	if r.IntN(12) == 0 {
		count = 2 + r.IntN(63)
	}
	for i := range count {
		f := new(flow)
		c := r.IntN(len(p.nodes))
		s := (c + 1 + r.IntN(len(p.nodes)-1)) % len(p.nodes)
		f.to = p.server(addr(s))
		if r.IntN(8) == 0 {
			s, f.to = c, p.server([]string{local, addr(c)}[r.IntN(2)])
		}
		f.fast = p.fast && r.IntN(4) > 0
		p.side(&f.c, uint32(2*i), p.nodes[c], &f.s)
		p.side(&f.s, uint32(2*i+1), p.nodes[s], &f.c)
		p.flows = append(p.flows, f)
		n.At(time.Duration(r.Int64N(int64(3*time.Second))), func() { p.dial(f) })
		for _, s := range []*side{&f.c, &f.s} {
			if s.style == abrupt {
				n.At(time.Duration(r.Int64N(int64(10*time.Second))), func() {
					if !s.done && s.so != nil {
						s.done = true
						s.so.SetUpcall(nil)
						s.so.Abort()
					}
				})
			}
		}
	}
	if r.IntN(4) == 0 {
		z := p.stack("z")
		p.attach(z, links[0], 0, 77)
		if router {
			p.route(z, 0)
		}
		i := r.IntN(len(p.nodes))
		p.flood(z, p.nodes[i], p.server(addr(i)))
	}
	if r.IntN(4) == 0 { // a link that fails for a while
		n.At(time.Duration(r.Int64N(int64(4*time.Second))), func() {
			old := links[0].Faults
			links[0].Faults.Loss, p.perfect = 1, false
			n.At(time.Duration(r.Int64N(int64(20*time.Second))), func() { links[0].Faults = old })
		})
	}
	if r.IntN(3) == 0 {
		nd := p.nodes[r.IntN(len(p.nodes))]
		n.At(time.Duration(r.Int64N(int64(5*time.Second))), func() {
			p.perfect = false
			p.crash(nd)
			if !router && r.IntN(3) > 0 {
				n.At(time.Duration(r.Int64N(int64(30*time.Second))), func() {
					if nd.Boot(); !p.ended {
						p.listen(nd)
					}
				})
			}
			n.At(patience, func() { p.giveUp() })
		})
	}
	for end := n.Now() + int64(90*time.Minute); n.Now() < end && p.bad == nil && !p.over(); {
		n.Run(time.Second)
	}
	p.ended = true
	if p.bad != nil {
		return p.bad
	}
	p.tally()
	return p.judge()
}

func (p *plot) over() bool {
	for _, f := range p.flows {
		if !f.c.done || !f.s.done && f.s.so != nil {
			return false
		}
	}
	return true
}

// giveUp ends what waits for a peer that crashed.
func (p *plot) giveUp() {
	for _, f := range p.flows {
		if f.c.crashed != f.s.crashed {
			f.c.end(syscall.EINTR)
			f.s.end(syscall.EINTR)
		}
	}
}

// judge looks at what has become of every flow.
func (p *plot) judge() error {
	for i, f := range p.flows {
		tell := func(what string) error {
			return fmt.Errorf("flow %d to %s: %s\ndialler:  %s\nacceptor: %s", i, f.to, what, f.c.String(), f.s.String())
		}
		if f.c.crashed || f.s.crashed {
			continue
		}
		if f.unanswered() && !p.perfect {
			continue
		}
		for _, s := range []*side{&f.c, &f.s} {
			switch {
			case !s.done && s.so != nil && s.peer.done && (s.peer.style != whole || s.peer.err != nil) && s.sent == len(s.out) && s.so.Unsent() == 0:
				// The reset was lost: who has nothing to say never learns of it.
			case !s.done && s.so != nil:
				return tell("it hangs")
			case s.style != whole || s.peer.style != whole:
			case s.urgentMissed():
				return tell("the last urgent octet has not come")
			case !s.done, s.err != nil, s.got != len(s.peer.out), s.sent != len(s.out):
				return tell("it did not end well")
			}
		}
	}
	return nil
}

// unanswered reports a Fast Open that has failed since no SYN, or no answer, came
// through for a minute; who dials otherwise begins again.
func (f *flow) unanswered() bool {
	return f.early && f.c.got == 0 && (errors.Is(f.c.err, syscall.ETIMEDOUT) || errors.Is(f.s.err, syscall.ETIMEDOUT))
}

func (s *side) String() string {
	t := fmt.Sprintf("sent %d of %d, got %d of %d, style %d, shut %v, end seen %v, done %v, lazy %v, urgent %v, error %v",
		s.sent, len(s.out), s.got, len(s.peer.out), s.style, s.shut, s.eof, s.done, s.lazy, s.urg, s.err)
	if s.so != nil && !s.done {
		for _, r := range s.node.SocketTable() {
			if r.Local == s.so.Local() && r.Foreign == s.so.Peer() {
				t += fmt.Sprintf(", socket %+v", r)
			}
		}
	}
	return t
}

// enough seeds reach everything.
const enough = 150

// TestStreams plays as many seeds as are asked for on all processors; in make
// test few.
func TestStreams(t *testing.T) { playStreams(t, streams) }

// TestStreams6 is the same over IPv6.
func TestStreams6(t *testing.T) { playStreams(t, streams6) }

func playStreams(t *testing.T, scenario func(*sim.Net) error) {
	t.Helper()
	forget()
	playAll(t, scenario, enough, reached)
}

// playAll plays a scenario on all processors, few seeds or as many as are asked for; as many as few at least reach everything.
func playAll(t *testing.T, s scenario, few uint64, reached func(*testing.T)) {
	t.Helper()
	if *oneSeed != 0 {
		play(t, s)
		return
	}
	last := few
	if seedsGiven() {
		last = uint64(*seeds)
	}
	var next atomic.Uint64
	var failed atomic.Bool
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1); seed <= last && !failed.Load(); seed = next.Add(1) {
				if _, err := run(s, seed); err != nil {
					failed.Store(true)
					t.Errorf("seed %d: %v\nreplay: go test ./sim -run '^%s$' -sim.seed=%d", seed, err, t.Name(), seed)
				}
			}
		})
	}
	wg.Wait()
	if !failed.Load() && last >= few {
		reached(t)
	}
}
