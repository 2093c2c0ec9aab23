package qemu

import (
	"encoding/binary"
	"fmt"

	"ionet/driver/vnet"
	"ionet/stack/packet"
)

// On a stream each frame follows its length, a u32 in network order; QEMU's
// own buffer (net/net.h, NET_BUFSIZE) bounds it.
const (
	lengthSize = 4
	maxLength  = 4096 + 65536
)

// next takes the first frame off b. ok is false when b does not hold all of
// it; err says that the stream cannot be followed any further. A frame may be
// shorter or longer than any that the stack takes: that costs only itself.
func next(b []byte) (frame []byte, size int, ok bool, err error) {
	if len(b) < lengthSize {
		return nil, 0, false, nil
	}
	n := binary.BigEndian.Uint32(b)
	if n > maxLength {
		return nil, 0, false, fmt.Errorf("the peer announced a frame of %d octets; want at most %d (does it speak QEMU's stream framing?)", n, maxLength)
	}
	size = lengthSize + int(n)
	if len(b) < size {
		return nil, 0, false, nil
	}
	return b[lengthSize:size], size, true, nil
}

func putFrame(dst, frame []byte) {
	binary.BigEndian.PutUint32(dst, uint32(len(frame)))
	copy(dst[lengthSize:], frame)
}

// sound reports whether the stack takes a frame of n octets.
func sound(n int) bool { return n >= vnet.EtherLen && n <= packet.MaxPacket }
