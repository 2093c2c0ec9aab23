package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

func init() {
	programs["waits"] = waits
}

// waiting are the states that a program is in when somebody dies.
var waiting = []string{"accept", "connect", "read", "recvfrom", "recvmsg"}

// waits has a thread in each of the states, and says how each ends; then what it
// hears when it asks more.
func waits([]string) error {
	b, err := newBench()
	if err != nil {
		return err
	}
	var a unix.RawSockaddrInet4
	var x [8]byte
	n := uint32(inetLen)
	addr, buf, length := uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&x)), uintptr(unsafe.Pointer(&n))
	lis, lisPort, err := listen()
	if err != nil {
		return err
	}
	conn, _ := call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	to := loopback(uint16(lisPort))
	if _, e := call(unix.SYS_CONNECT, uintptr(conn), uintptr(unsafe.Pointer(&to)), inetLen); e != 0 {
		return e
	}
	if _, e := call(unix.SYS_ACCEPT4, uintptr(lis), 0, 0, 0); e != 0 {
		return e
	}
	nobody := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: 80, Addr: [4]byte{10, 0, 0, 77}}
	stream, e := call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	udp, e2 := call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if e|e2 != 0 {
		return e | e2
	}
	var h unix.Msghdr
	does := map[string]func() (int, syscall.Errno){
		"accept": func() (int, syscall.Errno) { return call(unix.SYS_ACCEPT4, uintptr(lis), 0, 0, 0) },
		"connect": func() (int, syscall.Errno) {
			return call(unix.SYS_CONNECT, uintptr(stream), uintptr(unsafe.Pointer(&nobody)), inetLen)
		},
		"recvfrom": func() (int, syscall.Errno) { return call(unix.SYS_RECVFROM, uintptr(udp), buf, 8, 0, addr, length) },
		"recvmsg": func() (int, syscall.Errno) {
			return call(unix.SYS_RECVMSG, uintptr(udp), uintptr(unsafe.Pointer(&h)), 0)
		},
		"read": func() (int, syscall.Errno) { return call(unix.SYS_READ, uintptr(conn), buf, 8) },
	}
	ended := make(chan string)
	for what, f := range does {
		go func() {
			fmt.Println("waits in", what)
			_, e := f()
			ended <- fmt.Sprintf("%s: %v", what, e)
		}()
	}
	for range does {
		fmt.Println(<-ended)
	}
	_, e = call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	fmt.Println("socket:", e)
	_, e = call(unix.SYS_SENDTO, uintptr(b.udp), buf, 1, 0, uintptr(unsafe.Pointer(&to)), inetLen)
	fmt.Println("sendto:", e)
	_, e = call(unix.SYS_ACCEPT4, uintptr(lis), 0, 0, 0)
	fmt.Println("accept again:", e)
	_, e = call(unix.SYS_GETSOCKNAME, uintptr(conn), addr, length)
	fmt.Println("getsockname:", e)
	return nil
}

// listen makes a listener of 127.0.0.1.
func listen() (fd, port int, err error) {
	fd, e := call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	a, n := loopback(0), uint32(inetLen)
	_, e2 := call(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a)), inetLen)
	_, e3 := call(unix.SYS_LISTEN, uintptr(fd), 5)
	_, e4 := call(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)))
	if e|e2|e3|e4 != 0 {
		return -1, 0, fmt.Errorf("a listener: %w %w %w %w", e, e2, e3, e4)
	}
	return fd, int(a.Port>>8 | a.Port<<8), nil
}

// waiter is a program that waits in all states, on a stack with a wire.
func waiter(t *testing.T) (*daemon, *onstackRun) {
	d := start(t, "-dwire", "path="+t.TempDir())
	s := d.open()
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1"), Mask: protocol.MaskAddr(protocol.AFInet, 24)}); err != nil {
		t.Fatal(err)
	}
	r := d.onstack(0, "waits")
	var in []string
	for range waiting {
		in = append(in, strings.TrimPrefix(r.line(), "waits in "))
	}
	slices.Sort(in)
	if !slices.Equal(in, waiting) {
		t.Fatal(in)
	}
	until(t, "it connects", func() bool {
		return slices.ContainsFunc(left(t, s), func(r protocol.SocketRow) bool { return r.State == "SYN_SENT" })
	})
	return d, r
}

// The stack goes: what waits for it ends, what is asked of it fails, and the
// supervisor says so once.
func TestOnstackWithoutStack(t *testing.T) {
	d, r := waiter(t)
	d.kill()
	got := map[string]string{}
	for range len(waiting) + 4 {
		what, why, _ := strings.Cut(r.line(), ": ")
		got[what] = why
	}
	read := got["read"]
	if delete(got, "read"); read != "errno 0" && read != unix.ECONNRESET.Error() { // the descriptor is the stack's own
		t.Error("read:", read)
	}
	for what, why := range got {
		if why != unix.ENETDOWN.Error() {
			t.Errorf("%s: %s", what, why)
		}
	}
	r.well()
	if log := r.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "has gone") {
		t.Errorf("the supervisor says:\n%s", log)
	}
}

// Somebody is killed, and all of them go, with what the stack has of them.
func TestOnstackKilled(t *testing.T) {
	for who, which := range map[string]int{"the first process": 0, "the supervisor": 1, "the program": 2} {
		t.Run(strings.TrimPrefix(who, "the "), func(t *testing.T) {
			d, r := waiter(t)
			s := d.open()
			pids := r.family()
			if len(pids) != 3 {
				t.Fatal(pids)
			}
			if err := unix.Kill(pids[which], unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-r.ended
			until(t, "all have gone", func() bool { return info(t, s).Clients >= 1 && !slices.ContainsFunc(pids, alive) })
			until(t, "the stack has no socket left", func() bool { return info(t, s).Sockets == 0 && len(left(t, s)) == 0 })
		})
	}
}
