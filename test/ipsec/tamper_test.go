package ipsec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ionet/test/play"
	"ionet/test/vm"
)

// way is one of the two directions on a line.
type way int

const (
	toKernel way = iota
	toStack
)

func (w way) String() string { return [...]string{"to the kernel", "to the stack"}[w] }

// line is what a stack and a kernel are connected by: the test itself, which may keep what passes, and put in what it likes.
type line struct {
	t    testing.TB
	conn [2]*net.UnixConn // by where it leads
	to   [2]*net.UnixAddr

	mu    sync.Mutex
	alter func(w way, frame []byte) // changes what passes; nil: nothing does
	keeps [2]bool
	kept  [2][][]byte   // protected packets, as frames
	moved chan struct{} // something is kept
}

func newLine(t testing.TB) *line {
	t.Helper()
	dir := play.ShortDir(t)
	l := &line{t: t, moved: make(chan struct{}, 1)}
	for w := range l.conn {
		l.to[w] = &net.UnixAddr{Name: filepath.Join(dir, fmt.Sprint("end", w)), Net: "unixgram"}
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, fmt.Sprint("to", w)), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		l.conn[w] = c
	}
	go l.relay(toStack, l.conn[toKernel])
	go l.relay(toKernel, l.conn[toStack])
	return l
}

// card is that of a machine where w leads, driver that of a stack.
func (l *line) card(w way) vm.Nic {
	return vm.Dgram(l.to[w].Name, l.conn[w].LocalAddr().String())
}
func (l *line) driver(w way) []string {
	return []string{"-d", "qemu", "type=dgram,listen=" + l.to[w].Name + ",connect=" + l.conn[w].LocalAddr().String()}
}

// relay passes on what comes, and keeps what is to be kept.
func (l *line) relay(w way, from *net.UnixConn) {
	for b := make([]byte, 65536); ; {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		h := headOf(b[:n])
		l.mu.Lock()
		if l.alter != nil {
			l.alter(w, b[:n])
		}
		keep := l.keeps[w] && (h.proto == 50 || h.proto == 51 || h.proto == 17 && len(h.rest) > 4 && binary.BigEndian.Uint16(h.rest[2:]) == 4500)
		if keep {
			l.kept[w] = append(l.kept[w], bytes.Clone(b[:n]))
		}
		l.mu.Unlock()
		if keep {
			select {
			case l.moved <- struct{}{}:
			default:
			}
			continue
		}
		_, _ = l.conn[w].WriteTo(b[:n], l.to[w]) // the other one has ended, or is not there yet
	}
}

// alters has f change frames that pass.
func (l *line) alters(f func(w way, frame []byte)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alter = f
}

// keep has protected packets that go w kept, or passed on again.
func (l *line) keep(w way, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keeps[w], l.kept[w] = on, nil
}

// take waits for n packets that are kept, and takes them.
func (l *line) take(w way, n int) [][]byte {
	l.t.Helper()
	for late := time.After(30 * time.Second); ; {
		l.mu.Lock()
		if k := l.kept[w]; len(k) >= n {
			l.kept[w] = k[n:]
			l.mu.Unlock()
			return k[:n]
		}
		l.mu.Unlock()
		select {
		case <-l.moved:
		case <-late:
			l.t.Fatalf("no packet goes %v", w)
		}
	}
}

// put puts frames onto the line.
func (l *line) put(w way, frames ...[]byte) {
	l.t.Helper()
	for _, f := range frames {
		if _, err := l.conn[w].WriteTo(f, l.to[w]); err != nil {
			l.t.Fatal(err)
		}
	}
}

// protectionAt is where the header of ESP or AH is in a frame, behind UDP if it is in that.
func protectionAt(frame []byte) int {
	h := headOf(frame)
	at := len(frame) - len(h.rest)
	if h.proto == 17 {
		at += 8
	}
	return at
}

// cutTo is a frame of n octets whose headers say so.
func cutTo(frame []byte, n int) []byte {
	f := bytes.Clone(frame[:n])
	p := f[14:]
	if p[0]>>4 == 6 {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		return f
	}
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], sum(p[:20]))
	if p[9] == 17 {
		binary.BigEndian.PutUint16(p[24:], uint16(len(p)-20))
	}
	return f
}
