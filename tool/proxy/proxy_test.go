package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// island is a stack of which nobody else knows the names. It stands on the
// test machine's loopback.
type island struct {
	Host
	names map[string]netip.AddrPort // name or name:port
}

func (n *island) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	if a, ok := n.names[name]; ok {
		return []netip.Addr{a.Addr()}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (n *island) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if a, ok := n.names[addr]; ok {
		return n.Host.DialContext(ctx, network, a.String())
	}
	if _, err := netip.ParseAddr(host); err != nil {
		ips, err := n.LookupHost(ctx, host)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: err}
		}
		addr = net.JoinHostPort(ips[0].String(), port)
	}
	return n.Host.DialContext(ctx, network, addr)
}

func (n *island) Listen(network, addr string) (net.Listener, error) {
	return n.Host.Listen(network, local(addr))
}

func (n *island) ListenPacket(network, addr string) (net.PacketConn, error) {
	if addr == "" {
		addr = ":0"
	}
	return n.Host.ListenPacket(network, local(addr))
}

// local keeps what would listen everywhere on the loopback.
func local(addr string) string {
	if strings.HasPrefix(addr, ":") {
		return "127.0.0.1" + addr
	}
	return addr
}

// journal is a log that can be waited for.
type journal struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	moved chan struct{}
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case j.moved <- struct{}{}:
	default:
	}
	return j.buf.Write(p)
}

// find waits for an entry that ok likes.
func (j *journal) find(t *testing.T, what string, ok func(map[string]any) bool) map[string]any {
	t.Helper()
	for limit := time.After(20 * time.Second); ; {
		j.mu.Lock()
		lines := strings.SplitAfter(j.buf.String(), "\n")
		j.mu.Unlock()
		for _, l := range lines {
			var e map[string]any
			if strings.HasSuffix(l, "\n") && json.Unmarshal([]byte(l), &e) == nil && ok(e) {
				return e
			}
		}
		select {
		case <-j.moved:
		case <-limit:
			t.Fatalf("no word of %s in the log:\n%s", what, strings.Join(lines, ""))
		}
	}
}

func (j *journal) failed(t *testing.T, says string) {
	t.Helper()
	j.find(t, says, func(e map[string]any) bool {
		s, _ := e["error"].(string)
		return strings.Contains(s, says)
	})
}

// at is where the n-th port listens.
func (j *journal) at(t *testing.T, n int) string {
	t.Helper()
	seen := map[string]bool{}
	return j.find(t, "listening", func(e map[string]any) bool {
		if e["msg"] != "listening" {
			return false
		}
		addr := e["address"].(string)
		last := len(seen) == n && !seen[addr]
		seen[addr] = true
		return last
	})["address"].(string)
}

// proxy is one at work.
type proxy struct {
	t     *testing.T
	log   *journal
	stop  context.CancelFunc
	ended chan error
}

// start runs a proxy between the island and the host until the test ends.
func start(t *testing.T, stack Network, args ...string) *proxy {
	t.Helper()
	o, err := Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{t, &journal{moved: make(chan struct{}, 1)}, cancel, make(chan error, 1)}
	log := slog.New(slog.NewJSONHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() { p.ended <- Run(ctx, stack, Host{}, o, log) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-p.ended:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("does not end")
		}
	})
	return p
}

func (p *proxy) dial(n int) *net.TCPConn {
	p.t.Helper()
	return dialTCP(p.t, p.log.at(p.t, n))
}

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func accept(t *testing.T, l net.Listener) *net.TCPConn {
	t.Helper()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func send(t *testing.T, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
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

// socksTo is a CONNECT to a name.
func socksTo(host string, port uint16) string {
	return "\x05\x01\x00\x03" + string(rune(len(host))) + host + string([]byte{byte(port >> 8), byte(port)})
}

// web is an island with a place called web, and that place.
func web(t *testing.T) (*island, net.Listener) {
	l := listener(t)
	return &island{names: map[string]netip.AddrPort{"web": addrPort(l.Addr()), "web:80": addrPort(l.Addr())}}, l
}

// Both directions end by themselves, each when it has finished.
func dialogue(t *testing.T, client, server *net.TCPConn) {
	t.Helper()
	send(t, client, "hello")
	expect(t, server, "hello")
	send(t, server, "welcome")
	expect(t, client, "welcome")
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expectEOF(t, server)
	send(t, server, "the rest")
	server.Close()
	expect(t, client, "the rest")
	expectEOF(t, client)
}

func TestSOCKS(t *testing.T) {
	n, l := web(t)
	p := start(t, n, "--listen", "127.0.0.1:0")
	c := p.dial(0)
	send(t, c, "\x05\x01\x00"+socksTo("web", 80)) // as fast clients do
	s := accept(t, l)
	from := addrPort(s.RemoteAddr())
	expect(t, c, "\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01"+string([]byte{byte(from.Port() >> 8), byte(from.Port())}))
	dialogue(t, c, s)
	e := p.log.find(t, "the end", func(e map[string]any) bool { return e["msg"] == "closed" })
	if e["sent"] != 5.0 || e["received"] != 15.0 || e["to"] != "web:80" || e["via"] != "socks5" {
		t.Errorf("the log says %v", e)
	}
}

func TestSOCKSRefusals(t *testing.T) {
	n, l := web(t)
	l.Close()
	p := start(t, n, "--listen", "127.0.0.1:0")
	const hello, none = "\x05\x01\x00", "\x00\x01\x00\x00\x00\x00\x00\x00"
	for _, tc := range []struct{ say, answer, log string }{
		{hello + socksTo("web", 80), "\x05\x00\x05\x05" + none, "connection refused"},
		{hello + socksTo("nowhere", 80), "\x05\x00\x05\x04" + none, "no such host"},
		{hello + "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x00\x05\x07" + none, "command 2: only CONNECT"},
		{hello + "\x05\x01\x00\x09", "\x05\x00\x05\x08" + none, "unknown type of address"},
		{"\x05\x01\x02", "\x05\xff", "insists on authentication"},
		{"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "", "speaks SOCKS4"},
		{"\x16\x03\x01", "", "TLS"},
		{"\x00\x01", "", "neither SOCKS5 nor HTTP"},
		{"\x05\x01\x00\x05\x01\x00\x03\x01 \x00\x00", "\x05\x00", "no name of a host"},
	} {
		c := p.dial(0)
		send(t, c, tc.say)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		expect(t, c, tc.answer)
		if _, err := c.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) { // it may not have read all
			t.Errorf("%q: %v", tc.say, err)
		}
		p.log.failed(t, tc.log)
	}
}

func TestHTTPConnect(t *testing.T) {
	n, l := web(t)
	p := start(t, n, "--listen", "127.0.0.1:0")
	c := p.dial(0)
	send(t, c, "CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\nearly") // before the answer
	s := accept(t, l)
	expect(t, c, "HTTP/1.1 200 Connection established\r\n\r\n")
	expect(t, s, "early")
	dialogue(t, c, s)
}

func TestHTTPConnectRefusals(t *testing.T) {
	n, l := web(t)
	l.Close()
	p := start(t, n, "--listen", "127.0.0.1:0")
	for _, tc := range []struct{ to, status, says string }{
		{"web:80", "HTTP/1.1 502 ", "connection refused"},
		{"nowhere:80", "HTTP/1.1 502 ", "no such host"},
		{"web", "HTTP/1.1 400 ", "no host with a port"},
		{"web:0", "HTTP/1.1 400 ", "no host with a port"},
	} {
		c := p.dial(0)
		send(t, c, "CONNECT "+tc.to+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(answer), tc.status) || !strings.Contains(string(answer), tc.says) {
			t.Errorf("%s: %q, %v", tc.to, answer, err)
		}
	}
}

// browser is an HTTP client behind the proxy.
func browser(t *testing.T, scheme, addr string) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: scheme, Host: addr})}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func TestBrowser(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header()["Date"] = nil
		w.Header().Set("X-Saw", strings.Join([]string{r.Method, r.Host, r.RequestURI, r.Header.Get("Via"), r.Header.Get("Proxy-Connection"),
			r.Header.Get("X-Forwarded-For"), r.UserAgent()}, " "))
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(append([]byte("you said "), body...))
	}))
	defer server.Close()
	at := addrPort(server.Listener.Addr())
	p := start(t, &island{names: map[string]netip.AddrPort{"web:80": at, "web": at}}, "--listen", "127.0.0.1:0")
	for _, scheme := range []string{"http", "socks5h"} {
		b := browser(t, scheme, p.log.at(t, 0))
		for range 2 { // the second on the connection of the first
			req, err := http.NewRequest("PUT", "http://web/a%2Fb?c;d=e", strings.NewReader("tea"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("User-Agent", "tester")
			req.Header.Set("Proxy-Connection", "keep-alive")
			req.Header.Set("X-Forwarded-For", "10.9.9.9")
			r, err := b.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			r.Body.Close()
			saw, via := "PUT web /a%2Fb?c;d=e 1.1 ionet  10.9.9.9 tester", "1.1 ionet"
			if scheme != "http" {
				saw, via = "PUT web /a%2Fb?c;d=e  keep-alive 10.9.9.9 tester", ""
			}
			if err != nil || r.StatusCode != http.StatusTeapot || string(body) != "you said tea" || r.Header.Get("X-Saw") != saw || r.Header.Get("Via") != via {
				t.Errorf("%s: %v %q %v, %v", scheme, r.StatusCode, body, r.Header, err)
			}
		}
	}
}

func TestHTTPRefusals(t *testing.T) {
	n, l := web(t)
	l.Close()
	p := start(t, n, "--listen", "127.0.0.1:0")
	for _, tc := range []struct{ uri, status, says string }{
		{"http://web/", "502 ", "connection refused"},
		{"http://nowhere/", "502 ", "no such host"},
		{"https://web/", "501 ", "https URIs go through CONNECT"},
		{"/", "400 ", "this is a proxy into the stack"},
		{"/" + strings.Repeat("x", maxHeader+8192), "431 ", ""},
	} {
		c := p.dial(0)
		send(t, c, "GET "+tc.uri+" HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
		answer, err := io.ReadAll(c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) || !strings.HasPrefix(string(answer), "HTTP/1.1 "+tc.status) || !strings.Contains(string(answer), tc.says) {
			t.Errorf("%.40s: %q, %v", tc.uri, answer, err)
		}
	}
}

func TestForwards(t *testing.T) {
	n, inside := web(t)
	outside := listener(t)
	p := start(t, n, "--listen", "none", "-L", "0:web:80", "-R", "0:"+outside.Addr().String())
	c := p.dial(0)
	dialogue(t, c, accept(t, inside))
	c = p.dial(1)
	dialogue(t, c, accept(t, outside))
	inside.Close()
	refused, err := net.Dial("tcp", p.log.at(t, 0)) // which may see the end at once
	if err == nil {
		defer refused.Close()
		_, err = refused.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a place that refuses: %v", err)
	}
	p.log.failed(t, "connection refused")
}

// What one end breaks off is broken off at the other.
func TestReset(t *testing.T) {
	n, l := web(t)
	p := start(t, n, "--listen", "none", "-L", "0:web:80")
	c := p.dial(0)
	s := accept(t, l)
	if err := s.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v", err)
	}
	c = p.dial(0)
	s = accept(t, l)
	send(t, c, "x")
	expect(t, s, "x")
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server sees %v", err)
	}
}

func TestBulk(t *testing.T) {
	n, l := web(t)
	p := start(t, n, "--listen", "none", "-L", "0:web:80")
	c := p.dial(0)
	s := accept(t, l)
	const size = 8 << 20
	up, down := bytes.Repeat([]byte("upstream"), size/8), bytes.Repeat([]byte("downflow"), size/8)
	var wg sync.WaitGroup
	move := func(from, to *net.TCPConn, b []byte) {
		wg.Go(func() {
			_, _ = from.Write(b)
			_ = from.CloseWrite()
		})
		wg.Go(func() {
			if got, err := io.ReadAll(to); err != nil || !bytes.Equal(got, b) {
				t.Errorf("%d octets of %d, %v", len(got), len(b), err)
			}
		})
	}
	move(c, s, up)
	move(s, c, down)
	wg.Wait()
}

// With every slot taken the next clients wait, on all ports together.
func TestMax(t *testing.T) {
	n, l := web(t)
	p := start(t, n, "--listen", "none", "--max", "2", "-L", "0:web:80", "-L", "0:web:80")
	var mu sync.Mutex
	var wg sync.WaitGroup
	now, most := 0, 0
	count := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		now += by
		most = max(most, now)
	}
	const clients = 20
	for i := range clients {
		wg.Go(func() {
			c, err := net.Dial("tcp", p.log.at(t, i%2))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Write([]byte("x")); err != nil {
				t.Error(err)
				return
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Error(err)
			}
		})
	}
	for range clients {
		s := accept(t, l)
		count(1)
		wg.Go(func() {
			defer s.Close()
			_, _ = io.Copy(s, s)
			count(-1)
		})
	}
	wg.Wait()
	if most != 2 {
		t.Errorf("%d at once, want 2", most)
	}
}

func TestSilentClient(t *testing.T) {
	was := headWait
	headWait = 20 * time.Millisecond
	defer func() { headWait = was }()
	n, _ := web(t)
	p := start(t, n, "--listen", "127.0.0.1:0")
	for _, say := range []string{"", "\x05", "\x05\x01\x00\x05\x01", "GET http://web/ HTTP/1.1\r\n"} {
		c := p.dial(0)
		send(t, c, say)
		_, err := io.ReadAll(c) // what is answered does not matter: it ends
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: %v", say, err)
		}
	}
	p.stop()
	<-p.ended
	p.ended <- nil
}

// The end of a proxy is the end of what goes through it.
func TestEnd(t *testing.T) {
	n, l := web(t)
	p := start(t, n, "--listen", "127.0.0.1:0", "-L", "0:web:80")
	forwarded, web := p.dial(1), accept(t, l)
	silent, half := p.dial(0), p.dial(0)
	send(t, half, "\x05\x01")
	kept := p.dial(0)
	send(t, kept, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	expect(t, kept, "HTTP/1.1 400")
	p.stop()
	for _, c := range []*net.TCPConn{forwarded, web, silent, half, kept} {
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	}
}

func TestTaken(t *testing.T) {
	l := listener(t)
	o, err := Parse([]string{"--listen", l.Addr().String(), "-L", "0:web:80"})
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), &island{}, Host{}, o, slog.New(slog.DiscardHandler))
	if want := "--listen " + l.Addr().String() + ": bind: address already in use; --listen takes another port, or none"; text(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// dying is a stack that goes while it is listened on.
type dying struct{ island }

type deadListener struct{ net.Listener }

func (deadListener) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Err: errors.New("the stack at /alt has gone")}
}

func (d *dying) Listen(network, addr string) (net.Listener, error) {
	l, err := d.island.Listen(network, addr)
	return deadListener{l}, err
}

func TestStackGone(t *testing.T) {
	o, err := Parse([]string{"--listen", "127.0.0.1:0", "-R", "0:localhost:80"})
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), &dying{}, Host{}, o, slog.New(slog.DiscardHandler))
	if !strings.HasSuffix(text(err), "no longer listens: the stack at /alt has gone") {
		t.Error(err)
	}
}

func TestAssociate(t *testing.T) {
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	at := addrPort(echo.LocalAddr())
	p := start(t, &island{names: map[string]netip.AddrPort{"echo": at}}, "--listen", "127.0.0.1:0")
	c := p.dial(0)
	send(t, c, "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")
	expect(t, c, "\x05\x00\x05\x00\x00")
	bound, err := readTarget(c)
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.Dial("udp", bound.String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_ = u.SetDeadline(time.Now().Add(20 * time.Second))
	stranger, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 77)}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(bound.String())))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	port := string([]byte{byte(at.Port() >> 8), byte(at.Port())})
	send(t, stranger, "\x00\x00\x00\x03\x04echo"+port+"let me in")
	send(t, u, "\x00\x00\x00\x03\x07nowhere"+port+"lost")
	send(t, u, "rubbish")
	send(t, u, "\x00\x00\x00\x03\x04echo"+port+"ping")
	b := make([]byte, 100)
	k, from, err := echo.ReadFrom(b)
	if err != nil || string(b[:k]) != "ping" {
		t.Fatalf("%q, %v", b[:k], err)
	}
	if _, err := echo.WriteTo([]byte("pong"), from); err != nil {
		t.Fatal(err)
	}
	k, err = u.Read(b)
	if want := "\x00\x00\x00\x01\x7f\x00\x00\x01" + port + "pong"; err != nil || string(b[:k]) != want {
		t.Fatalf("%q, %v, want %q", b[:k], err, want)
	}
	c.Close()
	e := p.log.find(t, "the end", func(e map[string]any) bool { return e["msg"] == "closed" })
	if e["datagrams_in"] != 1.0 || e["datagrams_out"] != 1.0 {
		t.Errorf("the log says %v", e)
	}
}

// refusing is a network where nobody is at home.
type refusing struct{}

func (refusing) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}
func (refusing) Listen(string, string) (net.Listener, error)              { return nil, syscall.EACCES }
func (refusing) ListenPacket(string, string) (net.PacketConn, error)      { return nil, syscall.EACCES }
func (refusing) LookupHost(context.Context, string) ([]netip.Addr, error) { return nil, os.ErrNotExist }

// FuzzClient says anything to the proxy's port: heads of SOCKS and of HTTP.
func FuzzClient(f *testing.F) {
	for _, s := range []string{"\x05\x01\x00" + socksTo("web", 80), "CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n", "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00",
		"GET http://web/ HTTP/1.1\r\nHost: web\r\n\r\n", "POST http://web/ HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "GET / HTTP/1.0\n\n", "\x04", "\x16\x03"} {
		f.Add([]byte(s))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{stack: refusing{}, host: refusing{}, log: slog.New(slog.DiscardHandler), ctx: ctx, slots: make(chan struct{}, 1), web: newHandover(ctx)}
	web := s.newHTTP()
	ended := make(chan struct{})
	go func() { _ = web.Serve(s.web); close(ended) }()
	f.Cleanup(func() { cancel(); web.Close(); <-ended; s.running.Wait() })
	f.Fuzz(func(t *testing.T, say []byte) {
		here, there := net.Pipe()
		gone := make(chan struct{})
		c := newConn(there, func() { close(gone) })
		go func() { _ = s.serveClient(c) }()
		go func() {
			_, _ = here.Write(say)
			here.Close()
		}()
		_, _ = io.Copy(io.Discard, here)
		select {
		case <-gone:
		case <-time.After(20 * time.Second):
			t.Fatalf("%q: the connection stays", say)
		}
	})
}
