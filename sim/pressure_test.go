package sim_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ionet/sim"
	"ionet/stack/socket"
	"ionet/stack/tcp"
)

// wishes are options that a socket has before its connection, fast among them
// TCP_FASTOPEN.
func (p *plot) wishes(so *sim.Socket, fast bool) {
	r := p.r
	if r.IntN(3) == 0 {
		so.Flag(socket.SOOOBInline, 1)
	}
	if fast {
		if err := so.Set(tcp.LevelTCP, tcp.FastOpen, socket.Value32(1+r.IntN(4))); err != nil {
			p.fail("TCP_FASTOPEN: %v", err)
		}
	}
}

// meddle changes now and then what a connection in use runs under: a buffer's
// size, its congestion control, the size of its segments or when they leave.
func (p *plot) meddle(so *sim.Socket) {
	r := p.r
	size := func() int { return 256 + r.IntN(1<<(8+r.IntN(10))) }
	option := func(name int, value []byte) {
		if err := so.Set(tcp.LevelTCP, name, value); err != nil {
			p.fail("TCP option %#x to %x: %v", name, value, err)
		}
	}
	switch r.IntN(96) {
	case 0:
		so.Flag(socket.SORcvBuf, size())
	case 1:
		so.Flag(socket.SOSndBuf, size())
	case 2:
		option(tcp.CongCtl, []byte([]string{"cubic", "newreno"}[r.IntN(2)]))
	case 3:
		option(tcp.MaxSeg, socket.Value32(88+r.IntN(1400)))
	case 4:
		option(tcp.NoPush, socket.Value32(r.IntN(2)))
	case 5:
		option(tcp.NoDelay, socket.Value32(r.IntN(2)))
	}
}

// flood has z open connections to a listener at to and go away: it says nothing
// to the answers, so that they are half open until the SYN cache forgets them,
// or are cookies.
func (p *plot) flood(z, victim *sim.Node, to string) {
	r := p.r
	z.Sysctl("net.inet.tcp.rstppslimit", "0")
	limit := r.IntN(16)
	if r.IntN(8) == 0 {
		limit++ // else nobody could connect any more
		victim.Sysctl("net.inet.tcp.syn_cookies", "0")
		p.perfect = false // whom a full cache has no room for may have to give up
	}
	victim.Sysctl("net.inet.tcp.syn_cache_limit", fmt.Sprint(limit))
	for range 1 + r.IntN(150) {
		p.n.At(time.Duration(r.Int64N(int64(4*time.Second))), func() {
			so := z.TCP()
			if err := so.Connect(to); !errors.Is(err, syscall.EINPROGRESS) {
				p.fail("connect to %s: %v", to, err)
			}
			p.n.At(time.Duration(r.Int64N(int64(3*time.Millisecond))), so.Close)
		})
	}
}

// reaches are counters of TCP that programs of streams must have moved, all
// seeds together: what is drawn and never happens is no test.
var reaches = [...]string{
	"fast opens", "fast opens accepted", "syn cache overflow", "cookies sent", "cookies good",
	"retransmit timeouts", "recoveries", "needless recoveries", "tail probes", "window probes sent", "pruned",
	"ece received", "old duplicate", "black holes", "MTU probes good",
}

// Of the family that is played: tests that do are no parallel ones.
var (
	moved              [len(reaches)]atomic.Uint64
	outOfLine, inLines atomic.Uint64 // urgent octets that a program has seen
)

// forget begins anew.
func forget() {
	for i := range moved {
		moved[i].Store(0)
	}
	outOfLine.Store(0)
	inLines.Store(0)
}

// tally adds up what a program has reached.
func (p *plot) tally() {
	for _, nd := range p.nodes {
		for i, name := range reaches {
			moved[i].Add(nd.Count("tcp", name))
		}
	}
	for _, f := range p.flows {
		for _, s := range []*side{&f.c, &f.s} {
			switch {
			case s.urg.taken > 0:
				outOfLine.Add(1)
			case s.inline() && len(s.peer.urg.places) > 0 && s.got > s.peer.urg.places[0]:
				inLines.Add(1)
			}
		}
	}
}

// reached fails for what no program has.
func reached(t *testing.T) {
	for i, name := range reaches {
		n := moved[i].Load()
		t.Logf("%8d %s", n, name)
		if n == 0 {
			t.Errorf("no program of streams has reached %q", name)
		}
	}
	o, i := outOfLine.Load(), inLines.Load()
	t.Logf("%8d readers of urgent octets out of line, %d in line", o, i)
	if o == 0 || i == 0 {
		t.Errorf("%d readers have had urgent octets out of line, %d in line", o, i)
	}
}
