package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ionet/client"
	"ionet/protocol"
)

func routeTo(i int) *protocol.RouteMessage {
	m := &protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFUp | protocol.RTFGateway | protocol.RTFStatic,
		Gateway: inet("127.0.0.1"), Seq: i + 1, PID: os.Getpid()}
	m.SetPrefix(prefixOf(i))
	return m
}

// adds reads until it has n RTM_ADD in the order of routeTo.
func adds(t *testing.T, r *client.RouteSocket, n int, each func(i int)) {
	t.Helper()
	for i := 0; i < n; {
		msgs, err := r.Read()
		if err != nil {
			t.Errorf("after %d: %v", i, err)
			return
		}
		for _, m := range msgs {
			rm, ok := m.(*protocol.RouteMessage)
			if !ok || rm.Type != protocol.RTMAdd {
				continue
			}
			if rm.Prefix() != prefixOf(i) || rm.Errno != 0 || rm.Flags&protocol.RTFDone == 0 {
				t.Errorf("message %d: %+v", i, rm)
				return
			}
			if each != nil {
				each(i)
			}
			i++
		}
	}
}

// TestRouteListeners: each hears of everything in order, and when it does
// the table has it.
func TestRouteListeners(t *testing.T) {
	d := start(t)
	const n = 300
	var listeners sync.WaitGroup
	for range 4 {
		r, ask := d.route(), d.route()
		listeners.Go(func() {
			adds(t, r, n, func(i int) {
				m := *routeTo(i)
				m.Type = protocol.RTMGet
				if got, err := ask.Request(m); err != nil || got.Prefix() != prefixOf(i) {
					t.Errorf("heard of %v, and asked: %+v, %v", prefixOf(i), got, err)
				}
			})
		})
	}
	w := d.route()
	for i := 0; i < n; i += 10 { // ten a frame
		var msgs []protocol.Message
		for j := range 10 {
			msgs = append(msgs, routeTo(i+j))
		}
		if err := w.Write(msgs...); err != nil {
			t.Fatal(err)
		}
	}
	adds(t, w, n, nil) // its own replies
	listeners.Wait()
	if _, err := w.Request(*routeTo(7)); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("again: %v, want EEXIST", err)
	}
	del := *routeTo(7)
	del.Type = protocol.RTMDelete
	if _, err := w.Request(del); err != nil {
		t.Error(err)
	}
	if _, err := w.Request(del); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("delete again: %v, want ESRCH", err)
	}
}

// TestRequestAmongNews: the reply is found among what others do, which is
// there for Read afterwards.
func TestRequestAmongNews(t *testing.T) {
	d := start(t)
	r, w := d.route(), d.route()
	const n = 200
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range n {
			if _, err := w.Request(*routeTo(i)); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range n {
		// The same request as the other's, from the same process.
		m := *routeTo(n + i)
		got, err := r.Request(m)
		if err != nil || got.Prefix() != prefixOf(n+i) || got.Type != protocol.RTMAdd {
			t.Fatalf("%+v, %v; want the reply for %v", got, err, prefixOf(n+i))
		}
	}
	writer.Wait()
	_ = r.SetReadDeadline(time.Now().Add(20 * time.Second))
	adds(t, r, n, nil)
}

// TestTwoRequesters: the news of one are not the reply of the other, though
// both ask for the first time and in the same process.
func TestTwoRequesters(t *testing.T) {
	d := start(t)
	a, b, c := d.route(), d.route(), d.route()
	if _, err := a.Request(*routeTo(0)); err != nil {
		t.Fatal(err)
	}
	adds(t, c, 1, nil) // the news are out, to b too
	if got, err := b.Request(*routeTo(1)); err != nil || got.Prefix() != prefixOf(1) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestDesync: who does not listen costs nobody anything, is told that it has
// missed something, and finds everything in a dump of many pages.
func TestDesync(t *testing.T) {
	d := start(t)
	deaf, w := d.route(), d.route()
	const n = 20000
	var reader sync.WaitGroup
	reader.Go(func() { adds(t, w, n, nil) })
	for i := range n {
		if err := w.Write(routeTo(i)); err != nil {
			t.Fatal(err)
		}
	}
	reader.Wait()
	heard, lost := 0, 0
	for lost == 0 {
		msgs, err := deaf.Read()
		if err != nil {
			t.Fatalf("after %d messages: %v", heard, err)
		}
		for _, m := range msgs {
			if m, ok := m.(*protocol.DesyncMessage); ok {
				lost += int(m.Lost)
			} else {
				heard++
			}
		}
	}
	if heard == 0 || heard+lost > 2*n {
		t.Errorf("heard %d, lost %d of %d", heard, lost, n)
	}
	seen := map[string]bool{}
	for m, err := range d.open().Dump(protocol.DumpRoutes, protocol.AFInet, 0) {
		if err != nil {
			t.Fatal(err)
		}
		p := m.(*protocol.RouteMessage).Prefix().String()
		if seen[p] {
			t.Errorf("%s twice", p)
		}
		seen[p] = true
	}
	for i := range n {
		if !seen[prefixOf(i).String()] {
			t.Fatalf("%v is not in the dump", prefixOf(i))
		}
	}
	// It hears again what comes now.
	m := *routeTo(n)
	if _, err := w.Request(m); err != nil {
		t.Fatal(err)
	}
	for again := false; !again; {
		msgs, err := deaf.Read()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			rm, ok := m.(*protocol.RouteMessage)
			again = again || ok && rm.Prefix() == prefixOf(n)
		}
	}
}

// TestEqualRoutes: a request about one of equal routes names it by its gateway, and
// concerns no other.
func TestEqualRoutes(t *testing.T) {
	d := start(t, "-dwire", "path="+t.TempDir())
	s := d.open()
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1"), Mask: protocol.MaskAddr(protocol.AFInet, 24)}); err != nil {
		t.Fatal(err)
	}
	r := d.route()
	ask := func(typ int, gw string, inits, locks uint32, x protocol.RouteMetrics) error {
		m := protocol.RouteMessage{Type: typ, Flags: protocol.RTFUp | protocol.RTFGateway | protocol.RTFStatic | protocol.RTFMPath, Inits: inits, Metrics: x}
		m.Metrics.Locks = uint64(locks)
		m.SetPrefix(netip.MustParsePrefix("203.0.113.0/24"))
		if gw != "" {
			m.Gateway = inet(gw)
		}
		_, err := r.Request(m)
		return err
	}
	const mtu, pipe = protocol.RTVMTU, protocol.RTVSpipe
	for _, c := range []struct {
		typ          int
		gw           string
		inits, locks uint32
		x            protocol.RouteMetrics
		err          error
		want         string // mtu/sendpipe/locks of the two routes
	}{
		{protocol.RTMAdd, "10.0.0.2", mtu, 0, protocol.RouteMetrics{MTU: 1400}, nil, "1400/0/0"},
		{protocol.RTMAdd, "10.0.0.3", 0, 0, protocol.RouteMetrics{}, nil, "1400/0/0 0/0/0"},
		{protocol.RTMChange, "10.0.0.3", pipe, 0, protocol.RouteMetrics{Spipe: 9000}, nil, "1400/0/0 0/9000/0"},
		{protocol.RTMChange, "10.0.0.3", mtu, 0, protocol.RouteMetrics{MTU: 1300}, nil, "1400/0/0 1300/9000/0"},
		{protocol.RTMLock, "10.0.0.3", mtu, mtu, protocol.RouteMetrics{}, nil, "1400/0/0 1300/9000/1"},
		{protocol.RTMLock, "10.0.0.2", pipe, pipe, protocol.RouteMetrics{}, nil, "1400/0/16 1300/9000/1"},
		{protocol.RTMLock, "10.0.0.3", mtu, 0, protocol.RouteMetrics{}, nil, "1400/0/16 1300/9000/0"},
		{protocol.RTMLock, "", mtu, mtu, protocol.RouteMetrics{}, syscall.ESRCH, "1400/0/16 1300/9000/0"},
		{protocol.RTMLock, "10.0.0.4", mtu, mtu, protocol.RouteMetrics{}, syscall.ESRCH, "1400/0/16 1300/9000/0"},
		{protocol.RTMChange, "", mtu, 0, protocol.RouteMetrics{MTU: 1200}, syscall.ESRCH, "1400/0/16 1300/9000/0"},
		{protocol.RTMDelete, "10.0.0.2", 0, 0, protocol.RouteMetrics{}, nil, "1300/9000/0"},
		{protocol.RTMLock, "", mtu, mtu, protocol.RouteMetrics{}, nil, "1300/9000/1"},
	} {
		err := ask(c.typ, c.gw, c.inits, c.locks, c.x)
		if !errors.Is(err, c.err) {
			t.Errorf("request %d of %q: %v, want %v", c.typ, c.gw, err, c.err)
		}
		var rows []string
		for m, err := range s.Dump(protocol.DumpRoutes, protocol.AFInet, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if m := m.(*protocol.RouteMessage); m.Prefix().String() == "203.0.113.0/24" {
				rows = append(rows, fmt.Sprintf("%d/%d/%d", m.Metrics.MTU, m.Metrics.Spipe, m.Metrics.Locks))
			}
		}
		if got := strings.Join(rows, " "); got != c.want {
			t.Errorf("after request %d of %q: %q, want %q", c.typ, c.gw, got, c.want)
		}
	}
}
