package tcp_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
	"ionet/stack/tcp"
)

// script reads a fuzzer's octets.
type script []byte

func (b *script) next() byte {
	if len(*b) == 0 {
		return 0
	}
	x := (*b)[0]
	*b = (*b)[1:]
	return x
}

// near is a number about base: mostly within a few octets of it, at times a
// segment, a window, or half the sequence space away.
func (b *script) near(base uint32) uint32 {
	x := b.next()
	d := uint32(int8(x<<2) >> 2)
	switch x >> 6 {
	case 1:
		d *= 1460
	case 2:
		d *= 65535
	case 3:
		d <<= 27
	}
	return base + d
}

// corpus reads what long runs of a fuzz target have found worth keeping, a line
// each as in Go's corpus files:
//
//	cat $(go env GOCACHE)/fuzz/ionet/stack/tcp/FuzzTCP/* | grep '^\[\]byte' >testdata/fuzztcp.txt
func corpus(t testing.TB, path string) (all [][]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		s, err := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(line, "[]byte("), ")"))
		if err != nil {
			t.Fatalf("%s:%d: %v", path, i+1, err)
		}
		all = append(all, []byte(s))
	}
	return all
}

// FuzzTCP plays a script of segments and calls, three octets or more each, to
// connections that were opened in every way. Nothing panics or hangs, and at
// the end nothing is left over (the rig keeps the books).
func FuzzTCP(f *testing.F) {
	for _, how := range []byte{0, 1, 2, 3, 4, 5, 6, 7, 15, 64, 99, 128} {
		for _, s := range []string{
			"",
			"\x00\x10\x00\x00\x05\x01\x10\x41\x00\x0a\x02\x11\x00\x00\x00\x03\x04",
			"\x20\x30\x28\x12\x00\x01\x00\x04\x00\x01\x30\x80\x05\x05\x05\x40\x20\x10\x11\x12\x13",
			"\x03\x20\x40\x00\x19\x00\x05\x06\x18\x07\x19\x00\x00\x10\x02\x00\x11\x01\x00\x00\x04",
			"\x00\x30\x03\x05\x05\x01\x00\x38\x01\x00\x09\x03\x02\x07\x05\x0a\x0b\x08\x0c\x0d\x0e\x0f",
		} {
			f.Add(append([]byte{how}, s...))
		}
	}
	for _, in := range corpus(f, "testdata/fuzztcp.txt") {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 || len(in) > 2000 {
			return
		}
		b := script(in)
		playTCP(t, b.next(), &b)
	})
}

// playTCP opens a connection as how says, and plays b.
func playTCP(t testing.TB, how byte, b *script) {
	r := New(t)
	r.Delay = 10 * time.Millisecond
	opts := bare
	if how&1 != 0 {
		opts += " sackOK wscale 2"
	}
	if how&2 != 0 {
		opts += " ts"
	}
	if how&16 != 0 {
		r.Sysctl("net.inet.tcp.congctl.selected", "newreno")
	}
	l, cookie := server(t, r, 2)
	if how&8 != 0 {
		r.Sysctl("net.inet.tcp.syn_cache_limit", "0")
	}
	l.Flag(socket.SORcvBuf, 8192)
	var s *Socket
	var e *End
	accept := func() {
		var err error
		if s, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case how&64 != 0:
		e = r.End("10.0.0.2:5000", "10.0.0.1:80")
		e.Send("S 0+10 <" + bare + " " + cookie + ">")
		accept()
	case how&4 != 0:
		e = r.Knock(opts)
		accept()
	default:
		s, e = r.Dial(opts)
	}
	if how&32 != 0 {
		s.Flag(socket.SOOOBInline, 1)
	}
	for _, f := range r.Sent() {
		e.Take(f)
	}
	out := uint32(1)
	if how&64 != 0 {
		out = 11
	}
	if how&128 != 0 { // now and then there is no memory
		r.Sysctl("kern.mbuf.memory", "1048576")
	}
	other := r.Stream("") // one that is being opened
	half := r.End("10.0.0.2:99", "10.0.0.1:6000")
	_ = other.Bind(":6000")
	_ = other.Connect("10.0.0.2:99")
	for _, f := range r.Sent() {
		half.Take(f)
	}
	var release func()
	defer func() {
		if release != nil {
			release()
		}
	}()
	for len(*b) > 0 {
		to := e
		switch op := b.next(); op & 15 {
		case 0, 1, 2, 3, 4: // a segment
			if op&16 != 0 {
				to = half
			}
			x := Segment{Flags: b.next()}
			x.Seq = b.near(out)
			x.Ack = b.near(to.Next())
			x.Win = uint16(b.next()) << (op >> 5)
			n := int(b.next())
			if x.Flags&packet.TCPUrg != 0 {
				x.Urgent = uint16(b.next())
			}
			if op&3 == 3 {
				n *= 12
			}
			if op&32 != 0 {
				x.Opt.NSACK = 1 + op>>6
				for i := range x.Opt.NSACK {
					x.Opt.SACK[i] = packet.SACKBlock{Start: b.near(to.Next()), End: b.near(to.Next())}
				}
			}
			x.Data = Octets(int(int32(x.Seq)), n)
			to.Put(x, op&64 != 0)
			if x.Seq == out && x.Flags&packet.TCPAck != 0 {
				out += uint32(n)
			}
		case 5:
			_, _ = s.Write(string(Octets(1, int(b.next())*40)), int(op>>7))
		case 6:
			s.Read(int(b.next())*40, int(op>>4&3))
		case 7:
			r.Pass(time.Duration(b.next()) * time.Millisecond)
		case 8:
			r.Pass(time.Duration(b.next()) * time.Second)
			r.Meet("10.0.0.2")
		case 9:
			_ = s.Shutdown(op&16 != 0, op&32 != 0)
		case 10:
			if op&16 != 0 {
				s.Abort()
			}
			s.Close()
		case 11:
			_ = s.Set(tcp.LevelTCP, int(op>>4), socket.Value32(int(b.next())))
		case 12:
			s.Flag(socket.SORcvBuf+int(op>>4&1)-1, 2048+int(b.next())*100)
		case 13:
			_, _ = l.Accept()
			_ = l.Listen(int(op >> 4))
			s.Poll()
		case 14: // an ICMP error about what is in flight
			q := Segment{Seq: b.near(to.Next())}
			m := ICMP(packet.ICMPUnreach, op>>4, uint32(b.next())*8, to.Quote(q))
			r.Send(IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoICMP, Data: m}.Frame())
		case 15: // any octets for options
			n := min(int(op>>4)*4, 40)
			o := make([]byte, n)
			for i := range o {
				o[i] = b.next()
			}
			to.SendRaw("P. 1", o)
		}
		if how&128 != 0 && release == nil && len(*b)%7 == 3 {
			release = hog(t, r)
		} else if release != nil && len(*b)%5 == 2 {
			release()
			release = nil
		}
		for _, f := range r.Sent() {
			e.Take(f)
		}
		r.TCP.Rows()
		r.TCP.InfoOf(s.ID)
	}
}
