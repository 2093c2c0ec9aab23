package xdp

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hardware is what ethtool tells of an interface.
type hardware struct {
	driver        string
	receive, send int // queues
}

// channels is struct ethtool_channels: the greatest numbers of receive, transmit,
// other and combined queues, and the present ones.
type channels struct {
	cmd              uint32
	_                [4]uint32
	receive, send, _ uint32
	combined         uint32
}

// look asks for the driver and the queues of an interface in the present
// network namespace. One that does not tell has one queue.
func look(name string) (hardware, error) {
	h := hardware{receive: 1, send: 1}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return h, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if info, err := unix.IoctlGetEthtoolDrvinfo(fd, name); err == nil {
		h.driver = unix.ByteSliceToString(info.Driver[:])
	}
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data *channels
		_    [16]byte
	}
	copy(ifr.name[:unix.IFNAMSIZ-1], name)
	ifr.data = &channels{cmd: unix.ETHTOOL_GCHANNELS}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno == 0 {
		c := ifr.data
		h.receive = max(1, int(c.receive+c.combined))
		h.send = max(1, int(c.send+c.combined))
	}
	return h, nil
}
