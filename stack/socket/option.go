package socket

import (
	"encoding/binary"
	"syscall"
	"time"

	"ionet/stack/mib"
	"ionet/stack/netif"
)

// NodeSbMax bounds socket buffers.
var NodeSbMax = mib.Int("kern.sbmax", 8<<20, "Largest socket buffer that SO_SNDBUF or SO_RCVBUF may ask for, in octets.", mib.Range(4096, 1<<30))

// Int32 is the text of an option value of four octets; EINVAL when it is not.
// Byte order is the host's, as in any socket call; the protocol fixes it as
// little-endian.
func Int32(v []byte) (int, error) {
	switch len(v) {
	case 1:
		return int(v[0]), nil
	case 4:
		return int(int32(binary.LittleEndian.Uint32(v))), nil
	}
	return 0, syscall.EINVAL
}

// Value32 is the inverse of Int32.
func Value32(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }

// SetOption is setsockopt(2). Errors: ENOPROTOOPT, EINVAL, ENOBUFS (a buffer
// above kern.sbmax), and the protocol's own.
func (so *Socket) SetOption(w *netif.Work, level, name int, value []byte) error {
	if level != LevelSocket {
		return so.H.SetOption(w, level, name, value)
	}
	switch name {
	case SOBindToIf:
		return so.bindToIf(string(value))
	case SOSndTimeo, SORcvTimeo:
		return so.setTimeout(name, value)
	case SOLinger:
		return so.setLinger(value)
	}
	n, err := Int32(value)
	if err != nil {
		return err
	}
	if name&soFlags == name && name < 0x1000 {
		for {
			old := so.opts.Load()
			now := old &^ uint32(name)
			if n != 0 {
				now |= uint32(name)
			}
			if so.opts.CompareAndSwap(old, now) {
				if h, ok := so.H.(FlagWatcher); ok && now != old {
					h.FlagChanged(w, uint32(name))
				}
				return nil
			}
		}
	}
	if name == SOSndBuf || name == SORcvBuf {
		if n <= 0 {
			return syscall.EINVAL
		}
		if int64(n) > so.env.MIB.Int(NodeSbMax) {
			return syscall.ENOBUFS
		}
		if st := so.stream(); st != nil {
			st.SetBuffer(w, name == SOSndBuf, n)
			return nil
		}
	}
	so.mu.Lock()
	defer so.mu.Unlock()
	switch name {
	case SOSndBuf, SORcvBuf:
		if name == SOSndBuf {
			so.sndHiwat = n
		} else {
			so.rcvHiwat = n
		}
		return nil
	case SOSndLowat, SORcvLowat: // a datagram is whole: the mark never withholds one
		if n <= 0 {
			return syscall.EINVAL
		}
		n = min(n, 1<<30)
		if name == SOSndLowat {
			so.sndLowat.Store(int32(n))
		} else {
			so.rcvLowat.Store(int32(n))
		}
		return nil
	}
	return syscall.ENOPROTOOPT
}

// setTimeout reads a timeval of two 64-bit words, seconds and microseconds.
func (so *Socket) setTimeout(name int, v []byte) error {
	if len(v) != 16 {
		return syscall.EINVAL
	}
	sec, usec := int64(binary.LittleEndian.Uint64(v)), int64(binary.LittleEndian.Uint64(v[8:]))
	if sec < 0 || usec < 0 || usec >= 1e6 || sec > 1<<31 {
		return syscall.EDOM
	}
	d := time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond
	so.mu.Lock()
	defer so.mu.Unlock()
	if name == SOSndTimeo {
		so.sndTimeo = d
	} else {
		so.rcvTimeo = d
	}
	return nil
}

// setLinger reads two ints: on or off, and seconds.
func (so *Socket) setLinger(v []byte) error {
	if len(v) != 8 {
		return syscall.EINVAL
	}
	on, sec := binary.LittleEndian.Uint32(v), int32(binary.LittleEndian.Uint32(v[4:]))
	if on != 0 && (sec < 0 || sec > 1<<15) {
		return syscall.EDOM
	}
	so.mu.Lock()
	defer so.mu.Unlock()
	so.linger = -1
	if on != 0 {
		so.linger = sec
	}
	return nil
}

func (so *Socket) bindToIf(name string) error {
	if name == "" {
		so.bindIf.Store(0)
		return nil
	}
	ifp := so.env.Ifs.ByName(name)
	if ifp == nil {
		return syscall.ENXIO
	}
	so.bindIf.Store(ifp.Index)
	return nil
}

// Timeouts are SO_RCVTIMEO and SO_SNDTIMEO; 0 means for ever. The host, which
// waits, obeys them.
func (so *Socket) Timeouts() (recv, send time.Duration) {
	so.mu.Lock()
	defer so.mu.Unlock()
	return so.rcvTimeo, so.sndTimeo
}

// Option is getsockopt(2).
func (so *Socket) Option(level, name int) ([]byte, error) {
	if level != LevelSocket {
		return so.H.Option(level, name)
	}
	switch name {
	case SOBindToIf:
		if ifp := so.env.Ifs.ByIndex(so.BoundIf()); ifp != nil {
			return []byte(ifp.Name), nil
		}
		return nil, nil
	case SOType:
		return Value32(so.Type), nil
	case SOError:
		so.mu.Lock()
		err := so.err
		so.err = 0
		so.mu.Unlock()
		return Value32(int(err)), nil
	case SOAcceptConn:
		if st := so.stream(); st != nil && st.Listening() {
			return Value32(SOAcceptConn), nil
		}
		return Value32(0), nil
	case SOLinger:
		on, sec := 0, 0
		if d, ok := so.Linger(); ok {
			on, sec = 1, int(d/time.Second)
		}
		return append(Value32(on), Value32(sec)...), nil
	case SOSndBuf, SORcvBuf:
		if st := so.stream(); st != nil {
			recv, send := st.Buffers()
			if name == SOSndBuf {
				return Value32(send), nil
			}
			return Value32(recv), nil
		}
	}
	so.mu.Lock()
	defer so.mu.Unlock()
	switch name {
	case SOSndBuf:
		return Value32(so.sndHiwat), nil
	case SORcvBuf:
		return Value32(so.rcvHiwat), nil
	case SOSndLowat:
		return Value32(int(so.sndLowat.Load())), nil
	case SORcvLowat:
		return Value32(int(so.rcvLowat.Load())), nil
	case SOSndTimeo, SORcvTimeo:
		d := so.rcvTimeo
		if name == SOSndTimeo {
			d = so.sndTimeo
		}
		v := binary.LittleEndian.AppendUint64(nil, uint64(d/time.Second))
		return binary.LittleEndian.AppendUint64(v, uint64(d%time.Second/time.Microsecond)), nil
	}
	if name&soFlags == name && name < 0x1000 {
		return Value32(int(so.opts.Load() & uint32(name))), nil
	}
	return nil, syscall.ENOPROTOOPT
}
