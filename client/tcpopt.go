package client

import (
	"cmp"
	"encoding/binary"
	"math"
	"net"
	"time"

	"ionet/protocol"
)

// SetNoDelay says whether small segments are sent at once, without the wait of
// Nagle's algorithm. As in package net a connection begins so.
func (c *TCPConn) SetNoDelay(on bool) error {
	return c.setError(c.k.SetInt(protocol.ProtoTCP, protocol.TCPNoDelay, flag(on)))
}

// SetKeepAlive says whether an idle peer is probed; when and how often is up
// to net.inet.tcp.keepidle and its fellows, or SetKeepAliveConfig.
func (c *TCPConn) SetKeepAlive(on bool) error {
	return c.setError(c.k.SetInt(protocol.SolSocket, protocol.SoKeepAlive, flag(on)))
}

// SetKeepAlivePeriod sets both times of [net.KeepAliveConfig].
func (c *TCPConn) SetKeepAlivePeriod(d time.Duration) error {
	err := c.k.SetInt(protocol.ProtoTCP, protocol.TCPKeepIdle, seconds(d))
	if err == nil {
		err = c.k.SetInt(protocol.ProtoTCP, protocol.TCPKeepIntvl, seconds(d))
	}
	return c.setError(err)
}

// SetKeepAliveConfig is that of *net.TCPConn: a time or count of 0 is package
// net's default (15 s, 15 s, 9), a negative one stays as it is.
func (c *TCPConn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.setError(setKeepAlive(c.k, config))
}

func setKeepAlive(k *Socket, c net.KeepAliveConfig) error {
	err := k.SetInt(protocol.SolSocket, protocol.SoKeepAlive, flag(c.Enable))
	if err == nil && c.Idle >= 0 {
		err = k.SetInt(protocol.ProtoTCP, protocol.TCPKeepIdle, seconds(cmp.Or(c.Idle, 15*time.Second)))
	}
	if err == nil && c.Interval >= 0 {
		err = k.SetInt(protocol.ProtoTCP, protocol.TCPKeepIntvl, seconds(cmp.Or(c.Interval, 15*time.Second)))
	}
	if err == nil && c.Count >= 0 {
		err = k.SetInt(protocol.ProtoTCP, protocol.TCPKeepCnt, cmp.Or(c.Count, 9))
	}
	return err
}

// seconds are whole seconds, at least one.
func seconds(d time.Duration) int {
	return int(max(1, min((d+time.Second-1)/time.Second, math.MaxInt32)))
}

func flag(on bool) int {
	if on {
		return 1
	}
	return 0
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
	err := c.k.SetOption(protocol.SolSocket, protocol.SoLinger, v)
	if err == nil {
		c.lingers.Store(sec >= 0)
	}
	return c.setError(err)
}

// SetReadBuffer fixes the size of the stack's receive buffer, which then tunes
// itself no longer. The descriptor has a buffer besides.
func (c *TCPConn) SetReadBuffer(octets int) error {
	return c.setError(c.k.SetInt(protocol.SolSocket, protocol.SoRcvBuf, octets))
}

// SetWriteBuffer is SetReadBuffer for what is sent.
func (c *TCPConn) SetWriteBuffer(octets int) error {
	return c.setError(c.k.SetInt(protocol.SolSocket, protocol.SoSndBuf, octets))
}
