// Package captures finds real frames to begin a fuzz test with: the classic
// pcap files in the folder "captures" of IONET_DATA, when it is there.
package captures

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"sort"
)

const (
	perFile = 4   // frames of a capture
	maxAll  = 400 // frames of all of them
)

// Frames are some Ethernet frames of each capture; none when there are no
// captures. IONET_DATA is ../shared/data beside the repository by default.
func Frames() (out [][]byte) {
	dir := os.Getenv("IONET_DATA")
	if dir == "" {
		_, file, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(file), "../../../../shared/data")
	}
	names, _ := filepath.Glob(filepath.Join(dir, "captures", "*.pcap"))
	sort.Strings(names)
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && len(out) < maxAll {
			out = append(out, frames(b)...)
		}
	}
	return out
}

// frames reads a pcap file: magic (either byte order, micro- or nanoseconds),
// link type at 20, then records of 16 octets and data.
func frames(b []byte) (out [][]byte) {
	if len(b) < 24 {
		return nil
	}
	var o binary.ByteOrder = binary.LittleEndian
	switch m := o.Uint32(b); m {
	case 0xa1b2c3d4, 0xa1b23c4d:
	case 0xd4c3b2a1, 0x4d3cb2a1:
		o = binary.BigEndian
	default:
		return nil
	}
	if o.Uint32(b[20:]) != 1 { // not Ethernet
		return nil
	}
	for b = b[24:]; len(b) >= 16 && len(out) < perFile; {
		n := int(o.Uint32(b[8:]))
		if n > len(b)-16 {
			break
		}
		out = append(out, b[16:16+n])
		b = b[16+n:]
	}
	return out
}
