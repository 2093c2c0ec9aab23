// Package links tells of the carrier and of the end of an interface that a
// driver works on.
package links

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/driver"
)

// Links hears of changes to the interfaces of a network namespace (rtnetlink(7)).
type Links struct{ file *os.File }

// Watch begins to hear of the interfaces of the present network namespace.
func Watch() (*Links, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("netlink bind", err)
	}
	return &Links{os.NewFile(uintptr(fd), "rtnetlink")}, nil
}

// Follow reports the carrier of interface index to sink, beginning from up,
// until Close, or until the interface is removed, which answers true.
func (l *Links) Follow(sink driver.Sink, index int, up bool) (gone bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := l.file.Read(buf)
		if errors.Is(err, unix.ENOBUFS) { // so many changes that some were lost
			continue
		}
		if err != nil {
			return false
		}
		for _, c := range changes(buf[:n], index) {
			if c == removed {
				return true
			}
			if now := c == raised; now != up {
				up = now
				sink.LinkState(up)
			}
		}
	}
}

// Close ends Follow. It may be called twice.
func (l *Links) Close() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

type change int

const (
	lowered change = iota
	raised
	removed
)

// changes reads what a message of rtnetlink says of interface index.
func changes(b []byte, index int) (out []change) {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		// struct ifinfomsg: family, pad, type, index, flags, change
		if len(m.Data) < unix.SizeofIfInfomsg || int(int32(binary.NativeEndian.Uint32(m.Data[4:]))) != index {
			continue
		}
		const running = unix.IFF_UP | unix.IFF_RUNNING
		switch {
		case m.Header.Type == unix.RTM_DELLINK:
			out = append(out, removed)
		case m.Header.Type != unix.RTM_NEWLINK:
		case binary.NativeEndian.Uint32(m.Data[8:])&running == running:
			out = append(out, raised)
		default:
			out = append(out, lowered)
		}
	}
	return out
}
