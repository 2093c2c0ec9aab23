package abi

import (
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// SendFlags are the flags of send(2) in the stack's numbers. The others are
// the caller's (MSG_NOSIGNAL, MSG_DONTWAIT, which is passed on too), or mean
// nothing here, as they mean nothing to a kernel without what they hint at:
// MSG_MORE and MSG_CONFIRM. Flags that Linux does not know it passes over, and
// so does this. Errors: EOPNOTSUPP for MSG_OOB of a datagram, and for
// MSG_FASTOPEN, as where net.ipv4.tcp_fastopen does not allow it to clients.
func (s *Sock) SendFlags(flags int) (uint32, error) {
	if flags&unix.MSG_OOB != 0 && s.Type != unix.SOCK_STREAM || flags&unix.MSG_FASTOPEN != 0 && s.Type == unix.SOCK_STREAM {
		return 0, syscall.EOPNOTSUPP
	}
	return toStack(flags, unix.MSG_OOB|unix.MSG_DONTROUTE|unix.MSG_DONTWAIT), nil
}

// RecvFlags are the flags of recv(2) in the stack's numbers. MSG_TRUNC, which
// asks for a datagram's whole length, is the caller's: it offers the stack
// room for the longest and cuts what it gives to the program. Errors: EAGAIN
// for MSG_ERRQUEUE, whose queue is always empty here; EOPNOTSUPP for MSG_OOB of
// a datagram.
func (s *Sock) RecvFlags(flags int) (uint32, error) {
	switch {
	case flags&unix.MSG_ERRQUEUE != 0:
		return 0, syscall.EAGAIN
	case flags&unix.MSG_OOB != 0 && s.Type != unix.SOCK_STREAM:
		return 0, syscall.EOPNOTSUPP
	}
	return toStack(flags, unix.MSG_OOB|unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_WAITALL), nil
}

// ToLinuxFlags are the flags of a received message in Linux's numbers. That it
// was a broadcast or a multicast Linux does not tell.
func ToLinuxFlags(flags uint32) int {
	out := 0
	for _, f := range msgFlags {
		if flags&f.stack != 0 {
			out |= f.linux
		}
	}
	return out
}

// msgFlags are the flags that both sides have.
var msgFlags = [...]struct {
	linux int
	stack uint32
}{
	{unix.MSG_OOB, protocol.MsgOOB},
	{unix.MSG_PEEK, protocol.MsgPeek},
	{unix.MSG_DONTROUTE, protocol.MsgDontRoute},
	{unix.MSG_TRUNC, protocol.MsgTrunc},
	{unix.MSG_CTRUNC, protocol.MsgCtrunc},
	{unix.MSG_WAITALL, protocol.MsgWaitAll},
	{unix.MSG_DONTWAIT, protocol.MsgDontWait},
}

func toStack(flags, mask int) uint32 {
	out := uint32(0)
	for _, f := range msgFlags {
		if flags&mask&f.linux != 0 {
			out |= f.stack
		}
	}
	return out
}
