package nc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ionet/tool/services"
)

// loopback is the test machine's own loopback.
type loopback struct{ names map[string]string }

func (l loopback) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	if a, ok := l.names[name]; ok {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (l loopback) Dial(ctx context.Context, network, local, addr string) (net.Conn, error) {
	var d net.Dialer
	if local != "" {
		a, err := net.ResolveTCPAddr("tcp", local)
		if err != nil {
			return nil, err
		}
		d.LocalAddr = a
	}
	return d.DialContext(ctx, network, addr)
}

func (l loopback) Listen(network, addr string) (net.Listener, error) {
	return net.Listen(network, addr)
}

func (l loopback) ListenPacket(network, addr string) (net.PacketConn, error) {
	return net.ListenPacket(network, addr)
}

// words collects lines, and hands each to who waits for it.
type words struct {
	mu    sync.Mutex
	text  bytes.Buffer
	moved chan struct{}
}

func newWords() *words { return &words{moved: make(chan struct{}, 1)} }

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.moved <- struct{}{}:
	default:
	}
	return w.text.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// run is nc at work.
type run struct {
	t     *testing.T
	stdin *io.PipeWriter
	out   *words
	err   *words
	ended chan error
}

const names = "echo 7/tcp\necho 7/udp\n"

// start runs nc with args until it ends by itself or the test does.
func start(t *testing.T, n Network, args string) *run {
	t.Helper()
	table := services.Read(strings.NewReader(names))
	o, err := Parse(strings.Fields(args), table)
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	u := &run{t, w, newWords(), newWords(), make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { u.ended <- Run(ctx, n, o, IO{r, u.out, u.err, table}) }()
	return u
}

func (u *run) type_(s string) {
	u.t.Helper()
	if _, err := io.WriteString(u.stdin, s); err != nil {
		u.t.Fatal(err)
	}
}

// shows waits until w has text in it.
func (u *run) shows(w *words, text string) {
	u.t.Helper()
	for limit := time.After(20 * time.Second); !strings.Contains(w.String(), text); {
		select {
		case <-w.moved:
		case <-limit:
			u.t.Fatalf("waited in vain for %q; there is %q and on the other side %q", text, w.String(), u.err.String())
		}
	}
}

// ends waits for the end, whose error has to contain text; "" none.
func (u *run) ends(text string) {
	u.t.Helper()
	select {
	case err := <-u.ended:
		if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
			u.t.Fatalf("ended with %v, want %q", err, text)
		}
	case <-time.After(20 * time.Second):
		u.t.Fatal("does not end")
	}
}

// port is where nc -v says that it listens.
func (u *run) port(word string) string {
	u.t.Helper()
	u.shows(u.err, word)
	u.shows(u.err, "\n")
	line, _, _ := strings.Cut(u.err.String(), "\n")
	return line[strings.LastIndexByte(line, ' ')+1:]
}

func listener(t *testing.T) (l net.Listener, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port = split(l.Addr())
	return l, port
}

func accept(t *testing.T, l net.Listener) *net.TCPConn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func dial(t *testing.T, network, port string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func expect(t *testing.T, c io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("got %q, %v, want %q", b[:n], err, want)
	}
}

func expectEOF(t *testing.T, c io.Reader) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("got %d octets, %v, want the end", n, err)
	}
}

func send(t *testing.T, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// A name, and both directions.
func TestConnect(t *testing.T) {
	l, port := listener(t)
	u := start(t, loopback{map[string]string{"server": "127.0.0.1"}}, "-Nv server "+port)
	c := accept(t, l)
	u.shows(u.err, "Connection to server "+port+" port [tcp/*] succeeded!\n")
	u.type_("hello\n")
	expect(t, c, "hello\n")
	send(t, c, "who is there?\n")
	u.shows(u.out, "who is there?\n")
	u.stdin.Close() // -N passes it on
	expectEOF(t, c)
	send(t, c, "bye\n")
	c.Close()
	u.ends("")
	if got := u.out.String(); got != "who is there?\nbye\n" {
		t.Errorf("printed %q", got)
	}
}

// Without -N the end of the input is nc's own affair, and so with -d.
func TestConnectKeepsOpen(t *testing.T) {
	for _, opts := range []string{"", "-d "} {
		l, port := listener(t)
		u := start(t, loopback{}, opts+"127.0.0.1 "+port)
		c := accept(t, l)
		if opts == "" {
			u.type_("all\n")
			u.stdin.Close()
			expect(t, c, "all\n")
		}
		send(t, c, "answer")
		u.shows(u.out, "answer")
		c.Close()
		u.ends("")
	}
}

// The other end finishes first: what is typed still goes there.
func TestHalfClosedByPeer(t *testing.T) {
	l, port := listener(t)
	u := start(t, loopback{}, "-N 127.0.0.1 "+port)
	c := accept(t, l)
	send(t, c, "last words")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	u.shows(u.out, "last words")
	u.type_("still here")
	expect(t, c, "still here")
	u.stdin.Close()
	expectEOF(t, c)
	u.ends("")
}

func TestReset(t *testing.T) {
	l, port := listener(t)
	u := start(t, loopback{}, "127.0.0.1 "+port)
	c := accept(t, l)
	u.type_("here") // it is connected, and knows it
	expect(t, c, "here")
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	u.ends("receive: Connection reset by peer")
}

// A broken input is no end of it.
func TestBrokenInput(t *testing.T) {
	l, port := listener(t)
	u := start(t, loopback{}, "-N 127.0.0.1 "+port)
	accept(t, l)
	u.stdin.CloseWithError(errors.New("tape torn"))
	u.ends("standard input: tape torn")
}

func TestListen(t *testing.T) {
	u := start(t, loopback{}, "-lv 127.0.0.1 "+free(t))
	c := dial(t, "tcp", u.port("Listening on 127.0.0.1"))
	u.shows(u.err, "Connection received on 127.0.0.1")
	u.type_("welcome")
	expect(t, c, "welcome")
	send(t, c, "thanks")
	c.Close()
	u.ends("")
	if got := u.out.String(); got != "thanks" {
		t.Errorf("printed %q", got)
	}
}

// free is a port that nobody has, as far as one can know.
func free(t *testing.T) string {
	t.Helper()
	l, port := listener(t)
	l.Close()
	return port
}

// With -k what one client leaves of the input is the next one's, and one that
// breaks off does not end it.
func TestListenKeep(t *testing.T) {
	u := start(t, loopback{}, "-lkv 127.0.0.1 "+free(t))
	port := u.port("Listening on")
	first := dial(t, "tcp", port)
	u.type_("one")
	expect(t, first, "one")
	if err := first.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	first.Close()
	u.shows(u.err, "Connection reset by peer")
	second := dial(t, "tcp", port)
	u.type_("two")
	expect(t, second, "two")
	u.stdin.Close()
	send(t, second, "from two")
	second.Close()
	third := dial(t, "tcp", port)
	send(t, third, ", from three")
	third.Close()
	u.shows(u.out, "from two, from three")
	select {
	case err := <-u.ended:
		t.Errorf("ended with %v", err)
	default:
	}
}

func TestUDP(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	_, port := split(pc.LocalAddr())
	u := start(t, loopback{}, "-u -w 0.5 127.0.0.1 "+port)
	u.type_("datagram\n")
	b := make([]byte, 100)
	n, from, err := pc.ReadFrom(b)
	if err != nil || string(b[:n]) != "datagram\n" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	if _, err := pc.WriteTo([]byte("echo"), from); err != nil {
		t.Fatal(err)
	}
	u.shows(u.out, "echo")
	u.ends("") // -w
}

func TestUDPRefused(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port := split(pc.LocalAddr())
	pc.Close()
	u := start(t, loopback{}, "-u 127.0.0.1 "+port)
	u.type_("anybody?")
	u.ends("Connection refused")
}

// -lu stays with the peer of the first datagram.
func TestUDPListen(t *testing.T) {
	u := start(t, loopback{}, "-luv 127.0.0.1 "+free(t))
	port := u.port("Bound on 127.0.0.1")
	peer, other := dial(t, "udp", port), dial(t, "udp", port)
	send(t, peer, "me first")
	u.shows(u.out, "me first")
	send(t, other, "and I")
	send(t, peer, ", me again")
	u.shows(u.out, "me first, me again")
	u.type_("you")
	expect(t, peer, "you")
}

// -lku hears everybody.
func TestUDPListenKeep(t *testing.T) {
	u := start(t, loopback{}, "-lkuv 127.0.0.1 "+free(t))
	port := u.port("Bound on")
	send(t, dial(t, "udp", port), "one")
	u.shows(u.out, "one")
	send(t, dial(t, "udp", port), "two")
	u.shows(u.out, "onetwo")
}

func TestIdle(t *testing.T) {
	l, port := listener(t)
	u := start(t, loopback{}, "-w 0.05 127.0.0.1 "+port)
	c := accept(t, l)
	u.ends("")
	expectEOF(t, c)
}

// silent never answers.
type silent struct{ loopback }

func (silent) Dial(ctx context.Context, _, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestDialTimeout(t *testing.T) {
	start(t, silent{}, "-w 0.02 10.0.0.1 80").ends("connect to 10.0.0.1 port 80 (tcp): no answer within 20ms")
}

func TestRefused(t *testing.T) {
	port := free(t)
	start(t, loopback{}, "127.0.0.1 "+port).ends("connect to 127.0.0.1 port " + port + " (tcp): Connection refused")
}

func TestNames(t *testing.T) {
	start(t, loopback{}, "nowhere 7").ends("lookup nowhere: no such host")
	start(t, loopback{}, "-n nowhere 7").ends("nowhere is no numeric address, and -n looks up no names")
}

// neighbours are a port that is closed and the one above it, which is n.
func neighbours(t *testing.T) (l net.Listener, n int) {
	t.Helper()
	for range 100 {
		l, port := listener(t)
		n, _ = strconv.Atoi(port)
		if below, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n-1))); err == nil {
			below.Close()
			return l, n
		}
	}
	t.Fatal("no two ports beside each other are free")
	return nil, 0
}

func TestScan(t *testing.T) {
	l, n := neighbours(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	u := start(t, loopback{}, fmt.Sprintf("-zv 127.0.0.1 %d-%d", n-1, n))
	u.ends("")
	want := fmt.Sprintf("nc: connect to 127.0.0.1 port %d (tcp): Connection refused\nConnection to 127.0.0.1 %d port [tcp/*] succeeded!\n", n-1, n)
	if got := u.err.String(); got != want {
		t.Errorf("said\n%swant\n%s", got, want)
	}
	u = start(t, loopback{}, fmt.Sprintf("-z 127.0.0.1 %d", n-1))
	u.ends("Connection refused")
	if got := u.err.String(); got != "" {
		t.Errorf("said %q", got)
	}
}

func TestScanUDP(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port := split(pc.LocalAddr())
	u := start(t, loopback{}, "-zu -w 0.05 127.0.0.1 "+port)
	u.ends("")
	u.shows(u.err, "Connection to 127.0.0.1 "+port+" port [udp/*] succeeded!\n")
	pc.Close()
	start(t, loopback{}, "-zu 127.0.0.1 "+port).ends("Connection refused")
}

// -i sends line by line: over UDP each is a datagram.
func TestInterval(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	_, port := split(pc.LocalAddr())
	u := start(t, loopback{}, "-u -i 0.001 127.0.0.1 "+port)
	u.type_("one\ntwo\nrest")
	b := make([]byte, 100)
	for _, want := range []string{"one\n", "two\n", "rest"} {
		if n, _, err := pc.ReadFrom(b); err != nil || string(b[:n]) != want {
			t.Fatalf("got %q, %v, want %q", b[:n], err, want)
		}
	}
}

func TestSource(t *testing.T) {
	l, port := listener(t)
	from := free(t)
	start(t, loopback{}, "-s 127.0.0.9 -p "+from+" 127.0.0.1 "+port)
	if got := accept(t, l).RemoteAddr().String(); got != "127.0.0.9:"+from {
		t.Errorf("came from %s", got)
	}
}

// Every octet arrives, in both directions at once.
func TestBulk(t *testing.T) {
	const size = 16 << 20
	up, down := bytes.Repeat([]byte("upstream"), size/8), bytes.Repeat([]byte("downflow"), size/8)
	l, port := listener(t)
	table := services.Read(strings.NewReader(names))
	o, err := Parse([]string{"-N", "127.0.0.1", port}, table)
	if err != nil {
		t.Fatal(err)
	}
	got := sha256.New()
	ended := make(chan error, 1)
	go func() { ended <- Run(t.Context(), loopback{}, o, IO{bytes.NewReader(up), got, io.Discard, table}) }()
	c := accept(t, l)
	go func() {
		_, _ = c.Write(down)
		_ = c.CloseWrite()
	}()
	here := sha256.New()
	if n, err := io.Copy(here, c); err != nil || n != size {
		t.Fatalf("%d octets, %v", n, err)
	}
	c.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if w := sha256.Sum256(up); !bytes.Equal(here.Sum(nil), w[:]) {
		t.Error("what was sent is not what came")
	}
	if w := sha256.Sum256(down); !bytes.Equal(got.Sum(nil), w[:]) {
		t.Error("what came is not what was printed")
	}
}

// full is a disk that is.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestBrokenOutput(t *testing.T) {
	l, port := listener(t)
	o, err := Parse([]string{"-d", "127.0.0.1", port}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Run(t.Context(), loopback{}, o, IO{Out: full{}, Err: io.Discard}) }()
	send(t, accept(t, l), "x")
	if err := <-ended; err == nil || err.Error() != "standard output: no space left on device" {
		t.Error(err)
	}
}
