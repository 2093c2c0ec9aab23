package host

import (
	"cmp"
	"encoding/binary"
	"math"
	"net"
	"time"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

const (
	levelTCP     = 6
	tcpNoDelay   = 1
	tcpKeepIdle  = 3
	tcpKeepIntvl = 5
	tcpKeepCnt   = 6

	levelIPv6  = 41
	ipv6V6Only = 27
)

func (c *TCPConn) set(level, name int, value []byte) error {
	err := c.call(func(w *netif.Work) error { return c.so.SetOption(w, level, name, value) })
	if err == nil {
		return nil
	}
	return &net.OpError{Op: "set", Net: c.network, Source: c.local, Addr: c.remote, Err: syscallError("setsockopt", err)}
}

// noDelay makes a new socket what a connection begins with.
func noDelay(h *Stack, so *socket.Socket) (err error) {
	h.Call(func(w *netif.Work) { err = so.SetOption(w, levelTCP, tcpNoDelay, socket.Value32(1)) })
	return syscallError("setsockopt", err)
}

// SetKeepAlive says whether an idle peer is probed; when and how often is up
// to net.inet.tcp.keepidle and its fellows, or SetKeepAliveConfig.
func (c *TCPConn) SetKeepAlive(on bool) error {
	return c.set(socket.LevelSocket, socket.SOKeepAlive, flag(on))
}

// SetKeepAlivePeriod sets both times of [net.KeepAliveConfig].
func (c *TCPConn) SetKeepAlivePeriod(d time.Duration) error {
	for _, name := range []int{tcpKeepIdle, tcpKeepIntvl} {
		if err := c.set(levelTCP, name, seconds(d)); err != nil {
			return err
		}
	}
	return nil
}

// SetKeepAliveConfig is that of *net.TCPConn: a time or count of 0 is
// package net's default (15 s, 15 s, 9), a negative one stays as it is.
func (c *TCPConn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	for _, o := range keepAlive(config) {
		if err := c.set(o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

type option struct {
	level, name int
	value       []byte
}

func keepAlive(c net.KeepAliveConfig) []option {
	out := []option{{socket.LevelSocket, socket.SOKeepAlive, flag(c.Enable)}}
	if c.Idle >= 0 {
		out = append(out, option{levelTCP, tcpKeepIdle, seconds(cmp.Or(c.Idle, 15*time.Second))})
	}
	if c.Interval >= 0 {
		out = append(out, option{levelTCP, tcpKeepIntvl, seconds(cmp.Or(c.Interval, 15*time.Second))})
	}
	if c.Count >= 0 {
		out = append(out, option{levelTCP, tcpKeepCnt, socket.Value32(cmp.Or(c.Count, 9))})
	}
	return out
}

// seconds is an option value of whole seconds, at least one.
func seconds(d time.Duration) []byte {
	return socket.Value32(int(max(1, min((d+time.Second-1)/time.Second, math.MaxInt32))))
}

func flag(on bool) []byte {
	if on {
		return socket.Value32(1)
	}
	return socket.Value32(0)
}

// SetLinger says what Close does with data that is not sent or not
// acknowledged: sec < 0: it is sent in the background; 0: it is lost and the
// connection reset; else Close waits for so many seconds.
func (c *TCPConn) SetLinger(sec int) error {
	v := make([]byte, 8)
	if sec >= 0 {
		binary.LittleEndian.PutUint32(v, 1)
		binary.LittleEndian.PutUint32(v[4:], uint32(sec))
	}
	return c.set(socket.LevelSocket, socket.SOLinger, v)
}

// SetNoDelay says whether small segments are sent at once, without the wait of
// Nagle's algorithm. As in package net a connection begins so.
func (c *TCPConn) SetNoDelay(on bool) error { return c.set(levelTCP, tcpNoDelay, flag(on)) }

// SetReadBuffer fixes the size of the receive buffer, which then tunes itself
// no longer.
func (c *TCPConn) SetReadBuffer(octets int) error {
	return c.set(socket.LevelSocket, socket.SORcvBuf, socket.Value32(octets))
}

// SetWriteBuffer is SetReadBuffer for what is sent.
func (c *TCPConn) SetWriteBuffer(octets int) error {
	return c.set(socket.LevelSocket, socket.SOSndBuf, socket.Value32(octets))
}
