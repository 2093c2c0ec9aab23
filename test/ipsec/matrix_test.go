package ipsec

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ionet/client"
	"ionet/test/play"
)

// matrix: whatever protects packets, they come, and on the wire there is nothing else.
func (f *facing) matrix() {
	t := f.u.T.(*testing.T)
	all := cells()
	f.settle(all...)
	f.key(all...)
	caught := f.l.frames("vm0", 128, func() {
		for _, c := range all {
			t.Run(c.name(), func(t *testing.T) {
				if err := echoes(f.s, c.us(), c.them(), c.octets()); err != nil {
					t.Error(err)
				}
			})
		}
		for _, size := range []string{"0", "3000"} {
			f.pings(all, size)
		}
		f.pinged(all, "2000")
	})
	looksAt(t, all, caught)
	for _, v := range []string{"ipsec", "ipsec6"} {
		play.WantLines(t, v, f.u.Must("netstat", "-s", "-p", v), "\t0 inbound packets failed on authentication\n", "\t0 inbound packets violated process security policy\n")
	}
}

// pings pings the kernel in every cell, several at a time.
func (f *facing) pings(all []cell, size string) {
	f.u.T.Helper()
	var wg sync.WaitGroup
	room := make(chan bool, 8)
	for _, c := range all {
		room <- true
		wg.Go(func() {
			defer func() { <-room }()
			ctx, cancel := context.WithTimeout(f.u.T.Context(), time.Minute)
			defer cancel()
			name := map[bool]string{false: "ping", true: "ping6"}[c.v6]
			// The kernel loses the first answer that is too long for a tunnel, and cuts the next.
			out, err := f.u.Command(ctx, name, "-n", "-c", "2", "-i", "0.2", "-s", size, c.them().String()).CombinedOutput()
			if !regexp.MustCompile(`[12] packets received, `).Match(out) {
				f.u.T.Errorf("%s: %s -s %s: %v\n%s", c.name(), name, size, err, out)
			}
		})
	}
	wg.Wait()
}

// pinged has the kernel ping the stack in every cell.
func (f *facing) pinged(all []cell, size string) {
	f.u.T.Helper()
	script := ""
	for i, c := range all {
		script += fmt.Sprintf("ping -n -q -c 1 -W 10 -s %s -I %v %v || echo failed: %d &\n", size, c.them(), c.us(), i)
		if i%8 == 7 {
			script += "wait\n"
		}
	}
	r := f.k.RunWith([]byte(script+"wait\n"), 2*time.Minute, "sh")
	for _, m := range regexp.MustCompile(`failed: (\d+)`).FindAllStringSubmatch(r.Out, -1) {
		i, _ := strconv.Atoi(m[1])
		f.u.T.Errorf("%s: no answer to the kernel", all[i].name())
	}
	if n := strings.Count(r.Out, " 0% packet loss"); n != len(all) {
		f.u.T.Errorf("%d answers to the kernel, want %d\n%s%s", n, len(all), r.Out, r.Err)
	}
}

// looksAt holds what was on the wire, frames cut short, against what the cells say.
func looksAt(t *testing.T, all []cell, caught [][]byte) {
	t.Helper()
	of := map[netip.Addr]*cell{}
	for i := range all {
		of[all[i].them()] = &all[i]
	}
	seen, compressed := map[int]int{}, map[int]int{}
	for _, frame := range caught {
		h := headOf(frame)
		c := of[h.dst]
		if c == nil {
			c = of[h.src]
		}
		if c == nil || h.proto == 58 && len(h.rest) > 0 && (h.rest[0] == 135 || h.rest[0] == 136) {
			continue // nobody's, or of neighbours
		}
		seen[c.n]++
		if why := c.shows(h); why != "" {
			t.Errorf("%s: %s: % x", c.name(), why, frame)
			return
		}
		if h.proto == 108 {
			compressed[c.n]++
		}
	}
	for _, c := range all {
		if min := c.octets() / 1000; seen[c.n] < min || c.proto == "comp" && compressed[c.n] < min/3 {
			t.Errorf("%s: %d packets were seen, %d of them compressed", c.name(), seen[c.n], compressed[c.n])
		}
	}
}

// head is the front of a packet: rest is behind the IP header.
type head struct {
	src, dst netip.Addr
	proto    byte
	later    bool // a fragment that is not the first
	rest     []byte
}

func headOf(frame []byte) (h head) {
	if len(frame) < 14+20 {
		return h
	}
	p := frame[14:]
	switch {
	case binary.BigEndian.Uint16(frame[12:]) == 0x0800 && len(p) >= int(p[0]&15)*4:
		h.src, h.dst, h.proto = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), p[9]
		h.rest, h.later = p[int(p[0]&15)*4:], binary.BigEndian.Uint16(p[6:])&0x1fff != 0
	case binary.BigEndian.Uint16(frame[12:]) == 0x86dd && len(p) >= 48:
		h.src, h.dst, h.proto, h.rest = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), p[6], p[40:]
		if h.proto == 44 {
			h.proto, h.later, h.rest = h.rest[0], binary.BigEndian.Uint16(h.rest[2:])&^7 != 0, h.rest[8:]
		}
	}
	return h
}

// shows answers what is wrong with a packet of c on the wire.
func (c cell) shows(h head) string {
	there, back := c.states()
	spi := there.SPI
	if h.dst == there.Src {
		spi = back.SPI
	}
	proto, at := map[string]byte{"esp": 50, "ah": 51, "comp": 108}[c.proto], map[string]int{"esp": 0, "ah": 4, "comp": 2}[c.proto]
	if c.encap {
		proto, at = 17, 8
	}
	switch {
	case c.proto == "comp" && h.proto != proto && (c.mode == "transport" || h.proto == 4 || h.proto == 41):
		return "" // it did not get smaller
	case h.proto != proto:
		return fmt.Sprintf("protocol %d", h.proto)
	case h.later:
		return ""
	case len(h.rest) < at+4:
		return "too short"
	case c.encap && (binary.BigEndian.Uint16(h.rest) != 4500 || binary.BigEndian.Uint16(h.rest[2:]) != 4500):
		return "other ports"
	case c.proto == "comp":
		if !c.cpi {
			spi = wellKnown
		}
		if got := binary.BigEndian.Uint16(h.rest[at:]); uint32(got) != spi {
			return fmt.Sprintf("CPI %#x", got)
		}
		return ""
	}
	if got := binary.BigEndian.Uint32(h.rest[at:]); got != spi {
		return fmt.Sprintf("SPI %#x", got)
	}
	return ""
}

// octets is how many octets of TCP go through c in either direction.
func (c cell) octets() int {
	switch {
	case *octets > 0:
		return *octets
	case c.n%20 == 1:
		return 10_000_000
	}
	return 200_000
}

// pattern is what streams carry, again and again: half of it can be compressed. Its length is a prime, so that octets at
// the wrong place are the wrong octets.
var pattern = func() []byte {
	b := make([]byte, 131_071)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		if b[i] = byte(i >> 3); i>>13%2 == 0 {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}()

// echoes has n octets go by TCP to the echo of a kernel and come back.
func echoes(s *client.Stack, from, to netip.Addr, n int) error {
	return echoesWhile(s, from, to, func(at int) int { return n - at })
}

// echoesWhile is echoes for as many octets more as left says each time, of what is sent.
func echoesWhile(s *client.Stack, from, to netip.Addr, left func(at int) int) error {
	c, err := s.DialFrom("tcp", netip.AddrPortFrom(from, 0).String(), net.JoinHostPort(to.String(), echoPort))
	if err != nil {
		return err
	}
	return sendAndCompare(c, left)
}

// echoesOn is echoes on a connection, which it closes.
func echoesOn(c net.Conn, n int) error {
	return sendAndCompare(c, func(at int) int { return n - at })
}

func sendAndCompare(c net.Conn, left func(at int) int) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	type end struct {
		at  int
		err error
	}
	sent := make(chan end, 1)
	go func() {
		at := 0
		for n := left(at); n > 0; n = left(at) {
			part := pattern[at%len(pattern):]
			k, err := c.Write(part[:min(len(part), n)])
			if at += k; err != nil {
				sent <- end{at, err}
				return
			}
		}
		sent <- end{at, c.(interface{ CloseWrite() error }).CloseWrite()}
	}()
	at, err := compares(c)
	if err != nil {
		c.Close()
	}
	e := <-sent
	if err == nil && at != e.at {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, e.err); err != nil {
		return fmt.Errorf("%d octets are sent, %d are back: %w", e.at, at, err)
	}
	return nil
}

// sendBack is the service of RFC 862.
func sendBack(c net.Conn) {
	_, _ = io.Copy(c, c)
	_ = c.Close()
}

// compares reads the pattern until the end of the stream, and answers how much of it came.
func compares(r io.Reader) (at int, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			want := pattern[at%len(pattern):]
			want = want[:min(len(want), len(b))]
			if !bytes.Equal(b[:len(want)], want) {
				return at, fmt.Errorf("what comes behind octet %d is not what was sent", at)
			}
			at += len(want)
			b = b[len(want):]
		}
		if err == io.EOF {
			return at, nil
		} else if err != nil {
			return at, err
		}
	}
}
