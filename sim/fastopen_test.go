package sim

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"ionet/stack/mib"
	"ionet/stack/socket"
	"ionet/stack/tcp"
)

// fastPair is a client and a server with Fast Open, 5 ms apart.
func fastPair(t *testing.T) (n *Net, lan *Segment, a, b *Node, lis *Socket) {
	t.Helper()
	n = New(1)
	lan = n.Segment(Faults{Delay: 5 * time.Millisecond})
	a, b = n.Stack("a"), n.Stack("b")
	n.Attach(a, lan, "10.0.0.1/24")
	n.Attach(b, lan, "10.0.0.2/24")
	lis = b.Listen("10.0.0.2:80", 8)
	if err := lis.Set(tcp.LevelTCP, tcp.FastOpen, socket.Value32(4)); err != nil {
		t.Fatal(err)
	}
	return n, lan, a, b, lis
}

// fastDial connects with the option on.
func fastDial(t *testing.T, a *Node) (*Socket, error) {
	t.Helper()
	c := a.TCP()
	if err := c.Set(tcp.LevelTCP, tcp.FastOpen, socket.Value32(1)); err != nil {
		t.Fatal(err)
	}
	return c, c.Connect("10.0.0.2:80")
}

// learn has the client get a cookie by an ordinary connection.
func learn(t *testing.T, n *Net, a *Node, lis *Socket) {
	t.Helper()
	c, err := fastDial(t, a)
	if !errors.Is(err, syscall.EINPROGRESS) {
		t.Fatalf("the first connection: %v, want EINPROGRESS", err)
	}
	n.Run(time.Second)
	s := lis.Accept()
	if s == nil {
		t.Fatal("nobody has come")
	}
	c.Close()
	s.Close()
	n.Run(time.Second)
}

func readAll(t *testing.T, s *Socket) (b []byte, err error) {
	t.Helper()
	buf := make([]byte, 4096)
	for {
		k, err := s.Read(buf)
		if err != nil || k == 0 {
			if err == nil {
				err = io.EOF
			}
			return b, err
		}
		b = append(b, buf[:k]...)
	}
}

func count(nd *Node, name string) uint64 {
	for i, c := range mib.Counters() {
		if c.Proto == "tcp" && c.Name == name {
			return nd.Stack.Env.MIB.Count(mib.Counter(i))
		}
	}
	panic("no counter " + name)
}

// The second connection brings its request with the SYN, and has the answer
// after one round trip.
func TestFastOpen(t *testing.T) {
	n, _, a, b, lis := fastPair(t)
	learn(t, n, a, lis)
	c, err := fastDial(t, a)
	if err != nil {
		t.Fatalf("with a cookie: %v", err)
	}
	start := n.Now()
	if k, err := c.Write([]byte("question")); k != 8 || err != nil {
		t.Fatal(k, err)
	}
	n.Run(6 * time.Millisecond) // half a round trip
	s := lis.Accept()
	if s == nil {
		t.Fatal("the SYN has opened nothing")
	}
	if got, err := readAll(t, s); string(got) != "question" || !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Fatalf("%q, %v", got, err)
	}
	if k, err := s.Write([]byte("answer")); k != 6 || err != nil {
		t.Fatal(k, err)
	}
	s.Shutdown()
	n.Run(6 * time.Millisecond)
	if got, err := readAll(t, c); string(got) != "answer" || err != io.EOF {
		t.Fatalf("after %v: %q, %v", time.Duration(n.Now()-start), got, err)
	}
	c.Close()
	s.Close()
	n.Run(time.Second)
	if i, o := count(b, "fast opens accepted"), count(a, "fast opens"); i != 1 || o != 1 {
		t.Errorf("%d accepted, %d opened", i, o)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// A SYN that is lost is sent again without data, and so is one whose cookie
// the server does not know any more; the data comes after the handshake.
func TestFastOpenFallsBack(t *testing.T) {
	for _, what := range []string{"lost", "refused", "full"} {
		t.Run(what, func(t *testing.T) {
			n, lan, a, b, lis := fastPair(t)
			learn(t, n, a, lis)
			switch what {
			case "lost":
				lan.Faults.Loss = 1
			case "refused":
				b.Sysctl("net.inet.tcp.fastopen.server_enable", "0")
			case "full":
				if err := lis.Set(tcp.LevelTCP, tcp.FastOpen, socket.Value32(0)); err != nil {
					t.Fatal(err)
				}
			}
			c, err := fastDial(t, a)
			if err != nil {
				t.Fatal(err)
			}
			want := bytes.Repeat([]byte("question "), 1000)
			if k, err := c.Write(want); k != len(want) || err != nil {
				t.Fatal(k, err)
			}
			n.Run(500 * time.Millisecond)
			lan.Faults.Loss = 0
			n.Run(5 * time.Second)
			s := lis.Accept()
			if s == nil {
				t.Fatal("nobody has come")
			}
			if got, err := readAll(t, s); !bytes.Equal(got, want) || !errors.Is(err, syscall.EWOULDBLOCK) {
				t.Fatalf("%d octets of %d, %v", len(got), len(want), err)
			}
			c.Close()
			s.Close()
			n.Run(time.Second)
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A connection that is connected and says nothing is opened all the same, soon.
func TestFastOpenWithoutData(t *testing.T) {
	n, _, a, _, lis := fastPair(t)
	learn(t, n, a, lis)
	c, err := fastDial(t, a)
	if err != nil {
		t.Fatal(err)
	}
	n.Run(50 * time.Millisecond)
	s := lis.Accept()
	if s == nil {
		t.Fatal("nobody has come")
	}
	s.Write([]byte("greeting"))
	n.Run(50 * time.Millisecond)
	if got, _ := readAll(t, c); string(got) != "greeting" {
		t.Errorf("%q", got)
	}
	n.Close()
}

// The server's answer is lost: the client's SYN comes again, and the
// connection is the one that it opened.
func TestFastOpenAnswerLost(t *testing.T) {
	n, lan, a, b, lis := fastPair(t)
	learn(t, n, a, lis)
	c, err := fastDial(t, a)
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("question"))
	n.Run(time.Millisecond) // the SYN is on its way
	lan.Faults.Loss = 1
	n.Run(100 * time.Millisecond)
	s := lis.Accept()
	if s == nil {
		t.Fatal("nobody has come")
	}
	s.Write([]byte("answer"))
	n.Run(500 * time.Millisecond)
	lan.Faults.Loss = 0
	n.Run(10 * time.Second)
	if got, _ := readAll(t, s); string(got) != "question" {
		t.Errorf("the server has %q", got)
	}
	if got, _ := readAll(t, c); string(got) != "answer" {
		t.Errorf("the client has %q", got)
	}
	if lis.Accept() != nil {
		t.Error("a second connection")
	}
	_ = b
	c.Close()
	s.Close()
	n.Run(time.Second)
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
