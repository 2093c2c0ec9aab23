package onstack

import (
	"errors"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/tool/onstack/abi"
)

// maxDatagram is the longest datagram, its IP header included.
const maxDatagram = 65535

// A datagram socket's pair is of messages. What the program sends without an
// address goes down it and to the stack, and what the stack receives goes up it,
// so that read, poll and the rest need nobody. Where a datagram came from the
// program has to ask by a call that we see: the message brings a file beside the
// octets (SCM_RIGHTS), which a plain read leaves alone and recvfrom, done by us
// on a copy of the program's descriptor, opens. It holds a message of package
// protocol without data, or the number of an error that is to be answered.

// carry begins to move datagrams.
func (k *sock) carry() error {
	// A message of no octets and the end of all messages look alike but for the
	// sender's credentials.
	if err := unix.SetsockoptInt(k.ours, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(k.ours, unix.SOL_SOCKET, unix.SO_SNDBUF, 256<<10)
	f := os.NewFile(uintptr(k.ours), "datagrams")
	c, err := net.FileConn(f) // of a copy
	_ = f.Close()
	k.ours = -1
	if err != nil {
		return err
	}
	conn := c.(*net.UnixConn)
	k.conn = conn
	if !k.isNetlink() {
		go k.up(conn)
	}
	go k.down(conn)
	return nil
}

// up moves what the stack receives to the program.
func (k *sock) up(conn *net.UnixConn) {
	defer conn.Close()
	var files notes
	defer files.clear()
	for {
		m, err := k.stack().Recv(maxDatagram, 0)
		var note []byte
		if err != nil {
			e := protocol.AsError(err).Errno
			switch {
			case k.sv.gone():
				_ = put(conn, nil, le.AppendUint32(nil, uint32(unix.ENETDOWN)), &files, false)
				return
			case errors.Is(err, net.ErrClosed), e == unix.EBADF:
				return
			case e == unix.ENOBUFS: // too many requests wait
				time.Sleep(noDescriptorWait)
				continue
			}
			k.mu.Lock()
			k.err = e
			k.mu.Unlock()
			note = le.AppendUint32(nil, uint32(e))
		} else if !k.plain(m) {
			note = protocol.AppendMsg(nil, protocol.Msg{Flags: m.Flags, Addr: m.Addr, Control: m.Control})
		}
		if err := put(conn, m.Data, note, &files, true); err != nil {
			return
		}
	}
}

// plain reports that a datagram says nothing beyond its octets: it comes from the
// peer and brings no control messages.
func (k *sock) plain(m protocol.Msg) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(m.Control) == 0 && m.Flags == 0 && m.Addr == k.peer
}

// notes are files by what is in them, for the addresses that datagrams come from
// again and again. Owner: one goroutine. Bound: mostNotes. Full: all are made
// anew.
type notes map[string]int

const mostNotes = 16

func (n *notes) file(note []byte) (int, error) {
	if fd, ok := (*n)[string(note)]; ok {
		return fd, nil
	}
	if len(*n) >= mostNotes {
		n.clear()
	}
	fd, err := unix.MemfdCreate("datagram", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if _, err := unix.Write(fd, note); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if *n == nil {
		*n = notes{}
	}
	(*n)[string(note)] = fd
	return fd, nil
}

func (n *notes) clear() {
	for _, fd := range *n {
		unix.Close(fd)
	}
	clear(*n)
}

// put writes one message, with a note unless that is nil, and waits until there
// is room, or answers EAGAIN.
func put(conn *net.UnixConn, data, note []byte, files *notes, wait bool) error {
	var rights []byte
	if note != nil {
		if fd, err := files.file(note); err == nil { // without where it came from, rather than not at all
			rights = unix.UnixRights(fd)
		}
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var werr error
	err = raw.Write(func(fd uintptr) bool {
		for {
			werr = sendMessage(int(fd), data, rights)
			switch {
			case errors.Is(werr, unix.ETOOMANYREFS) && rights != nil:
				rights = nil
			case !errors.Is(werr, unix.EINTR):
				return !wait || !errors.Is(werr, unix.EAGAIN)
			}
		}
	})
	return errors.Join(err, werr)
}

// sendMessage is sendmsg(2), which package unix gives an octet of its own where
// there are rights and no data.
func sendMessage(fd int, data, rights []byte) error {
	var h unix.Msghdr
	var v unix.Iovec
	if len(data) > 0 {
		v = iovec(data)
		h.Iov = &v
		h.SetIovlen(1)
	}
	if len(rights) > 0 {
		h.Control = &rights[0]
		h.SetControllen(len(rights))
	}
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errno != 0 {
		return errno
	}
	return nil
}

// down moves what the program sends without an address, until it has closed its
// end.
func (k *sock) down(conn *net.UnixConn) {
	defer k.close()
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	data, control := make([]byte, maxDatagram+1), make([]byte, 256)
	for {
		var n, cn int
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			for {
				n, cn, _, _, rerr = unix.Recvmsg(int(fd), data, control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
				if !errors.Is(rerr, unix.EINTR) {
					return !errors.Is(rerr, unix.EAGAIN)
				}
			}
		})
		if err != nil || rerr != nil || n == 0 && cn == 0 {
			return
		}
		dropRights(control[:cn])
		if k.isNetlink() {
			k.ask(data[:n])
			continue
		}
		// What becomes of it the program hears, if at all, by SO_ERROR.
		_, _ = k.stack().Send(protocol.Msg{Data: data[:n]})
	}
}

// dropRights closes descriptors that a program has sent where none can go.
func dropRights(control []byte) {
	msgs, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	for i := range msgs {
		fds, _ := unix.ParseUnixRights(&msgs[i])
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// discard is the port that a peer without one has to the stack (RFC 863).
const discard = 9

// connectDatagram gives the socket its peer, or with no address takes it away,
// which it need not have. A peer at port 0 is none to Linux, but the socket has its
// address then: so programs ask which that would be (RFC 6724 §6).
func (k *sock) connectDatagram(c *call, to protocol.Addr) error {
	none := to.IsValid() && to.Port == 0 && k.isUDP()
	if none {
		to.Port = discard
	}
	err := k.stack().Connect(to)
	switch {
	case !to.IsValid() && errors.Is(err, unix.ENOTCONN):
	case err != nil:
		return abi.AddrErr(err)
	}
	peer := protocol.Addr{}
	if to.IsValid() && !none {
		var err error
		if peer, err = k.stack().PeerAddr(); err != nil {
			return err
		}
	}
	k.mu.Lock()
	k.peer, k.abi.Bound = peer, true
	k.mu.Unlock()
	return c.answer(0)
}
