package qemu

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/sinktest"
	"ionet/stack/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, options string) *sinktest.Sink {
	t.Helper()
	o, err := driver.ParseOptions(options)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return sinktest.Run(t, d, nil)
}

func frame(n int, fill byte) []byte { return bytes.Repeat([]byte{fill}, n) }

func wire(frames ...[]byte) (out []byte) {
	for _, f := range frames {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(f))), f...)
	}
	return out
}

func read(t *testing.T, c net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func last(s *sinktest.Sink, up bool) func() bool {
	return func() bool { return len(s.Links) > 1 && s.Links[len(s.Links)-1] == up }
}

func detail(s *sinktest.Sink, name string) string {
	for _, d := range s.Driver.Info().Details {
		if d.Name == name {
			return d.Value
		}
	}
	return ""
}

func TestListen(t *testing.T) {
	for _, at := range []string{filepath.Join(t.TempDir(), "s"), "127.0.0.1:0"} {
		s := start(t, "verbose,listen="+at)
		ln := s.Driver.(*Stream).ln.Addr()
		dial := func() net.Conn {
			c, err := net.Dial(ln.Network(), ln.String())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		s.Send(frame(60, 9)) // nobody is there
		if s.Ifp.Stats.OutDrops.Load() != 1 {
			t.Error("a frame to nobody is no drop")
		}
		c := dial()
		s.Until("carrier", last(s, true))
		text := wire(frame(42, 1), frame(1514, 2), frame(65000, 3), frame(60, 4))
		for len(text) > 0 { // in pieces that respect nothing
			n := min(len(text), 777)
			if _, err := c.Write(text[:n]); err != nil {
				t.Fatal(err)
			}
			text = text[n:]
		}
		s.Until("four frames", func() bool {
			return len(s.Frames) == 4 && len(s.Frames[2].Data) == 65000 && s.Frames[3].Data[0] == 4
		})
		s.Send(frame(60, 5))
		if got := read(t, c, 64); !bytes.Equal(got, wire(frame(60, 5))) {
			t.Errorf("% x", got)
		}
		// Hang-up: no carrier, and the next may come.
		c.Close()
		s.Until("its loss", last(s, false))
		c = dial()
		s.Until("carrier", last(s, true))
		c.Write(wire(frame(13, 0), frame(0, 0), frame(60, 6)))
		s.Until("the sound one", func() bool { return len(s.Frames) == 5 && s.Bad == 2 })
		// A length that cannot be.
		c.Write([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
		s.Until("the hang-up", last(s, false))
		s.Until("the count", func() bool { return s.Bad == 3 && strings.Contains(strings.Join(s.Logs, " "), "4294967295 octets") })
		c.Close()
		s.Close()
		if ln.Network() == "unix" {
			if _, err := os.Stat(at); !os.IsNotExist(err) {
				t.Errorf("its file stays: %v", err)
			}
		}
	}
}

func TestDeadListener(t *testing.T) {
	at := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := driver.ParseOptions("listen=" + at)
	if d, err := Open(o); err == nil {
		d.Close()
		t.Error("a live listener's path was taken")
	}
	ln.Close()
	start(t, "listen="+at)
}

func TestConnect(t *testing.T) {
	at := filepath.Join(t.TempDir(), "s")
	s := start(t, "connect="+at) // before anybody listens
	if v := detail(s, "Last Connection Error"); !strings.Contains(v, "no such file") {
		t.Errorf("last error %q", v)
	}
	ln, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for range 2 {
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.Until("carrier", last(s, true))
		if v := detail(s, "Connection"); v != "established" {
			t.Errorf("connection %q", v)
		}
		s.Send(frame(60, 1))
		read(t, c, 64)
		c.Close() // and it comes again
		s.Until("its loss", last(s, false))
	}
}

func TestConnectsInOpen(t *testing.T) {
	at := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	o, _ := driver.ParseOptions("connect=" + at)
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil { // without a Run
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("still connected: %v", err)
	}
	c.Close()
}

func TestDgram(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	s := start(t, "type=dgram,listen="+a+",connect="+b)
	s.Send(frame(60, 1))
	if s.Ifp.Stats.OutDrops.Load() != 1 {
		t.Error("a frame to nobody is no drop")
	}
	r := start(t, "type=dgram,listen="+b+",connect="+a)
	both(t, s, r)
	s.Close()
	if _, err := os.Stat(a); !os.IsNotExist(err) {
		t.Errorf("its file stays: %v", err)
	}
}

// A peer that has been replaced by another at its path loses what it was sent;
// what still waited goes to the other.
func TestDgramWaitsForTheNextPeer(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "peer")
	listen := func() *net.UnixConn {
		os.Remove(at)
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s := start(t, "type=dgram,listen="+filepath.Join(dir, "us")+",connect="+at)
	first := listen()
	const count = 100
	for i := range count {
		s.Send(frame(100, byte(i)))
	}
	second := listen()
	defer second.Close()
	first.Close() // without having read
	second.SetReadDeadline(time.Now().Add(sinktest.Patience))
	got := make([]byte, 2000)
	for last := -1; last < count-1; {
		n, err := second.Read(got)
		if err != nil || n != 100 || last >= 0 && int(got[0]) != last+1 {
			t.Fatalf("%d octets, frame %d behind %d: %v", n, got[0], last, err)
		}
		last = int(got[0])
	}
	if n := s.Ifp.Stats.OutDrops.Load(); n != 0 {
		t.Errorf("%d drops", n)
	}
}

// The kernel holds a few datagrams for a receiver at a path. More than that in
// one burst wait, in order, and are lost only with the receiver.
func TestDgramWaitsForThePeer(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "peer")
	listen := func() *net.UnixConn {
		os.Remove(at)
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s := start(t, "type=dgram,listen="+filepath.Join(dir, "us")+",connect="+at)
	const count = 200
	for round := range 2 { // the second peer is another socket at that path
		c := listen()
		var burst []*packet.Buf
		for i := range count {
			b := s.Pool().Get(1000)
			copy(b.Append(1000), frame(1000, byte(i)))
			burst = append(burst, b)
		}
		s.Driver.Transmit(s.Ifp, burst)
		c.SetReadDeadline(time.Now().Add(sinktest.Patience))
		got := make([]byte, 2000)
		for i := range count {
			if n, err := c.Read(got); err != nil || n != 1000 || got[0] != byte(i) {
				t.Fatalf("round %d, frame %d: %d octets, %d: %v", round, i, n, got[0], err)
			}
		}
		c.Close()
	}
	if n := s.Ifp.Stats.OutDrops.Load(); n != 0 {
		t.Errorf("%d drops", n)
	}
	c := listen()
	for range 5000 {
		s.Send(frame(1000, 1))
	}
	n := s.Ifp.Stats.OutDrops.Load()
	if n < 3000 || n > 4500 {
		t.Errorf("%d of 5000 frames dropped before a peer that reads nothing", n)
	}
	c.Close() // and what waits goes with it
	s.Close()
	if n := s.Ifp.Stats.OutDrops.Load(); n < 4900 {
		t.Errorf("%d of 5000 frames dropped, and the peer has read none", n)
	}
}

func TestDgramUDP(t *testing.T) {
	free := func() (port string) {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, port, _ = net.SplitHostPort(c.LocalAddr().String())
		return port
	}
	pa, pb := free(), free()
	s := start(t, "type=dgram,listen=:"+pa+",connect=:"+pb)
	s.Send(frame(60, 1)) // refused, and no reason to end
	r := start(t, "type=dgram,listen=:"+pb+",connect=:"+pa)
	both(t, s, r)
}

func both(t *testing.T, s, r *sinktest.Sink) {
	t.Helper()
	s.Send(frame(1514, 2))
	r.Until("the frame", func() bool { return len(r.Frames) == 1 && len(r.Frames[0].Data) == 1514 })
	r.Send(frame(60, 3))
	s.Until("the answer", func() bool { return len(s.Frames) == 1 && s.Frames[0].Data[0] == 3 })
}

func TestOptions(t *testing.T) {
	for options, says := range map[string]string{
		"":                                   "either listen=ADDRESS or connect=ADDRESS",
		"listen=/a,connect=/b":               "either listen",
		"type=pipe,listen=/a":                "stream or dgram",
		"type=dgram,listen=/a":               "takes both",
		"type=dgram,listen=/a,connect=:9":    "must both be",
		"listen=":                            "want the path",
		"listen=" + strings.Repeat("x", 108): "at most 107",
		"listen=a:b:c":                       "host:port",
		"listen=/a,colour":                   "colour",
		"listen=/nowhere/at/all":             "no such file",
	} {
		o, err := driver.ParseOptions(options)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := Open(o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", options, err)
			if d != nil {
				d.Close()
			}
		}
	}
	for text, want := range map[string]address{
		"/a":          {"unix", "/a"},
		"a":           {"unix", "a"},
		"/a:1":        {"unix", "/a:1"},
		":9":          {"tcp", "127.0.0.1:9"},
		"10.0.0.1:80": {"tcp", "10.0.0.1:80"},
		"[::1]:80":    {"tcp", "[::1]:80"},
	} {
		if got, err := parseAddress("listen", text, false); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func FuzzNext(f *testing.F) {
	f.Add(wire(frame(60, 1), frame(14, 2)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add(wire(nil, frame(13, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			fr, size, ok, err := next(b)
			if !ok || err != nil {
				return
			}
			again := make([]byte, size)
			putFrame(again, fr)
			if !bytes.Equal(again, b[:size]) {
				t.Fatalf("% x became % x", b[:size], again)
			}
			b = b[size:]
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add("/a", true)
	f.Add("[::1]:80", false)
	f.Fuzz(func(t *testing.T, s string, dgram bool) {
		if a, err := parseAddress("listen", s, dgram); err == nil && a.text == "" {
			t.Fatalf("%q is no address", s)
		}
	})
}

// failing is a listener that is out of descriptors.
type failing struct {
	net.Listener
	calls chan time.Time
}

func (f *failing) Accept() (net.Conn, error) {
	f.calls <- time.Now()
	return nil, unix.EMFILE
}

// A listener that cannot accept is tried again, and not as fast as it can be.
func TestAcceptFails(t *testing.T) {
	d, err := open(driver.Options{Args: []driver.Arg{{Name: "listen", Value: filepath.Join(t.TempDir(), "s")}}})
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{d.(*Stream).ln, make(chan time.Time)}
	d.(*Stream).ln = f
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) }) // after the sink's own
	sinktest.Run(t, d, nil)
	first := <-f.calls
	second := <-f.calls
	if d := second.Sub(first); d < firstRetry {
		t.Errorf("tried again after %v, want %v at least", d, firstRetry)
	}
	go func() {
		for {
			select {
			case <-f.calls:
			case <-ended:
				return
			}
		}
	}()
}
