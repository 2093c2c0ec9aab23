package socket

import (
	"encoding/binary"
	"syscall"
	"time"

	"ionet/stack/mib"
	"ionet/stack/netif"
)

var nodeSbMax = mib.Int("kern.sbmax", 8<<20, "Largest socket buffer that SO_SNDBUF or SO_RCVBUF may ask for, in octets.", mib.Range(4096, 1<<30))

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
				return nil
			}
		}
	}
	so.mu.Lock()
	defer so.mu.Unlock()
	switch name {
	case SOSndBuf, SORcvBuf:
		if n <= 0 {
			return syscall.EINVAL
		}
		if int64(n) > so.env.MIB.Int(nodeSbMax) {
			return syscall.ENOBUFS
		}
		if name == SOSndBuf {
			so.sndHiwat = n
		} else {
			so.rcvHiwat = n
		}
		return nil
	case SOSndLowat, SORcvLowat:
		return nil // a datagram is whole: the mark never withholds one
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
	}
	so.mu.Lock()
	defer so.mu.Unlock()
	switch name {
	case SOSndBuf:
		return Value32(so.sndHiwat), nil
	case SORcvBuf:
		return Value32(so.rcvHiwat), nil
	case SOSndLowat:
		return Value32(2048), nil
	case SORcvLowat:
		return Value32(1), nil
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
