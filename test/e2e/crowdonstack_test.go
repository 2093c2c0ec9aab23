package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	programs["races"] = races
	programs["many"] = many
	programs["crowd"] = crowd
	programs["dies"] = dies
	programs["bomb"] = bomb
	programs["deaf"] = deaf
}

// races has threads change everything that a call is about while it is under way:
// its memory, and what its descriptor is.
func races([]string) error {
	b, err := newBench()
	if err != nil {
		return err
	}
	spare := make([]int, 4) // descriptors that are now this and now that
	for i := range spare {
		if spare[i], err = unix.FcntlInt(uintptr(b.udp), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	local, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	// What the threads share is not Go's: nobody is told of races in it.
	m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	at := uintptr(unsafe.Pointer(&m[0]))
	a := loopback(uint16(b.udpPort))
	addr := unsafe.Slice((*byte)(unsafe.Pointer(&a)), inetLen)
	var over atomic.Bool
	time.AfterFunc(2*time.Second, func() { over.Store(true) })
	var wg sync.WaitGroup
	wg.Go(func() { // the memory
		for r := rand.New(rand.NewPCG(1, 2)); !over.Load(); {
			p := r.IntN(256) &^ 7
			var v [8]byte
			switch r.IntN(4) {
			case 0:
				v = [8]byte(addr[:8])
			case 1:
				p, v = 8*r.IntN(7), [8]byte{byte(r.IntN(20))}
			case 2:
				u := uint64(at) + r.Uint64N(8192)
				v = [8]byte{byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24), byte(u >> 32), byte(u >> 40)}
			default:
				v = [8]byte{255, 255, 255, 255, 255, 255, 255, 255}
			}
			pipeWrite(at+uintptr(p), v)
		}
	})
	wg.Go(func() { // the descriptors
		for r := rand.New(rand.NewPCG(3, 4)); !over.Load(); {
			from := []int{b.udp, b.conn, b.listener, b.netlink, null, local[0]}[r.IntN(6)]
			to := spare[r.IntN(len(spare))]
			if r.IntN(8) == 0 {
				_ = unix.Close(to)
			} else {
				_ = unix.Dup3(from, to, unix.O_CLOEXEC)
			}
		}
	})
	calls := []uintptr{unix.SYS_BIND, unix.SYS_CONNECT, unix.SYS_LISTEN, unix.SYS_ACCEPT4, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
		unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
		unix.SYS_SENDMMSG, unix.SYS_RECVMMSG, unix.SYS_IOCTL, unix.SYS_SHUTDOWN}
	var n atomic.Int64
	for i := range 4 {
		wg.Go(func() {
			for r := rand.New(rand.NewPCG(5, uint64(i))); !over.Load(); {
				p := func() uintptr { return at + uintptr(r.IntN(512)) }
				fd := uintptr(spare[r.IntN(len(spare))])
				switch nr := calls[r.IntN(len(calls))]; nr {
				case unix.SYS_BIND, unix.SYS_CONNECT:
					call(nr, fd, p(), inetLen)
				case unix.SYS_LISTEN:
					call(nr, fd, 5)
				case unix.SYS_SHUTDOWN:
					if r.IntN(50) == 0 {
						call(nr, fd, uintptr(r.IntN(3)))
					}
				case unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_ACCEPT4:
					// Wherever a descriptor comes from, it goes again.
					if got, e := call(nr, fd, p(), p(), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); e == 0 && nr == unix.SYS_ACCEPT4 {
						_ = unix.Close(got)
					}
				case unix.SYS_SETSOCKOPT:
					call(nr, fd, uintptr([]int{0, 1, 6}[r.IntN(3)]), uintptr(r.IntN(40)), p(), uintptr(r.IntN(20)))
				case unix.SYS_GETSOCKOPT:
					call(nr, fd, uintptr([]int{0, 1, 6}[r.IntN(3)]), uintptr(r.IntN(40)), p(), p())
				case unix.SYS_SENDTO, unix.SYS_RECVFROM:
					last := uintptr(inetLen)
					if nr == unix.SYS_RECVFROM {
						last = p()
					}
					call(nr, fd, p(), uintptr(r.IntN(100)), unix.MSG_DONTWAIT, p(), last)
				case unix.SYS_SENDMSG, unix.SYS_RECVMSG:
					call(nr, fd, p(), unix.MSG_DONTWAIT)
				case unix.SYS_SENDMMSG, unix.SYS_RECVMMSG:
					call(nr, fd, p(), uintptr(r.IntN(4)), unix.MSG_DONTWAIT, 0)
				case unix.SYS_IOCTL:
					call(nr, fd, uintptr(0x8910+r.IntN(0x30)), p())
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	fmt.Println(n.Load() > 100)
	fresh, err := newBench()
	return errors.Join(err, fresh.well())
}

// pipeWrite writes v to the address p if that can be written, as the kernel does.
func pipeWrite(p uintptr, v [8]byte) {
	_, _, _ = unix.Syscall6(unix.SYS_PROCESS_VM_WRITEV, uintptr(os.Getpid()),
		uintptr(unsafe.Pointer(&unix.Iovec{Base: &v[0], Len: 8})), 1,
		uintptr(unsafe.Pointer(&unix.RemoteIovec{Base: p, Len: 8})), 1, 0)
}

// many opens sockets until there is no descriptor left, several times, and has
// what it wants when it has closed them.
func many(args []string) error {
	// The supervisor hears of what was closed in its own time.
	end := time.Now().Add(10 * time.Second)
	for round := 0; round < 2; round++ {
		var fds []int
		for {
			typ := []int{unix.SOCK_STREAM, unix.SOCK_DGRAM}[len(fds)%2]
			fd, e := call(unix.SYS_SOCKET, unix.AF_INET, uintptr(typ), 0)
			if e == unix.EMFILE || e == unix.ENFILE || e == unix.EAGAIN {
				break
			}
			if e != 0 || len(fds) > 1<<15 {
				return fmt.Errorf("round %d, socket %d: %w", round, len(fds), e)
			}
			fds = append(fds, fd)
			a := loopback(0)
			// Without a descriptor left somewhere these fail, but end.
			call(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a)), inetLen)
			call(unix.SYS_LISTEN, uintptr(fd), 1)
			call(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, 0xffff)
			var n uint32 = inetLen
			call(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)))
			tv := unix.Timeval{Usec: 1000}
			call(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_RCVTIMEO_OLD, uintptr(unsafe.Pointer(&tv)), 16)
		}
		switch {
		case len(fds) >= 20:
		case time.Now().After(end):
			return fmt.Errorf("round %d: %d sockets", round, len(fds))
		default:
			round--
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	if len(args) > 0 {
		fmt.Println("done")
		return nil
	}
	var err error
	for time.Now().Before(end) {
		var b bench
		if b, err = newBench(); err == nil {
			return b.well()
		}
	}
	return err
}

// crowd has several programs open more than their supervisor can have.
func crowd([]string) error {
	var all []*exec.Cmd
	for range 3 {
		c := exec.Command("/proc/self/exe", programArg+"many", "among others")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if err := c.Start(); err != nil {
			return err
		}
		all = append(all, c)
	}
	var err error
	for _, c := range all {
		err = errors.Join(err, c.Wait())
	}
	return err
}

// Nobody is stuck, and nothing is left, when descriptors run out: in the program,
// or in the supervisor of several.
func TestOnstackDescriptors(t *testing.T) {
	d := start(t)
	s := d.open()
	d.onstack(200, "many").well()
	d.onstack(200, "crowd").well()
	until(t, "the stack has no socket left", func() bool { return info(t, s).Sockets == 0 && len(left(t, s)) == 0 })
}

func TestOnstackRaces(t *testing.T) {
	d := start(t)
	s := d.open()
	d.onstack(0, "races").well()
	until(t, "the stack has no socket left", func() bool { return info(t, s).Sockets == 0 && len(left(t, s)) == 0 })
}

// dies is to be killed while it does what programs do: sockets are made, bound,
// connected, accepted, and waited for, on all threads.
func dies([]string) error {
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			runtime.LockOSThread()
			for r := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(i))); ; {
				fmt.Println("goes on")
				switch lis, port, err := listen(); {
				case err != nil:
				case r.IntN(16) == 0:
					call(unix.SYS_ACCEPT4, uintptr(lis), 0, 0, 0) // for ever
				default:
					c, _ := call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|uintptr(r.IntN(2))*unix.SOCK_NONBLOCK, 0)
					a := loopback(uint16(port))
					call(unix.SYS_CONNECT, uintptr(c), uintptr(unsafe.Pointer(&a)), inetLen)
					k, e := call(unix.SYS_ACCEPT4, uintptr(lis), 0, 0, 0)
					if e == 0 {
						x := [1000]byte{}
						_, _ = unix.Write(k, x[:])
						_ = unix.Close(k)
					}
					_, _ = unix.Close(c), unix.Close(lis)
				}
				if b, err := newBench(); err == nil {
					var x [8]byte
					if r.IntN(3) == 0 {
						_ = b.feed('x')
					} else if r.IntN(20) == 0 {
						_ = unix.SetNonblock(b.udp, false)
						var n uint32 = inetLen
						var a unix.RawSockaddrInet4
						call(unix.SYS_RECVFROM, uintptr(b.udp), uintptr(unsafe.Pointer(&x)), 8, 0, uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)))
						call(unix.SYS_RECVFROM, uintptr(b.udp), uintptr(unsafe.Pointer(&x)), 8, 0, uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)))
					}
					for _, fd := range []int{b.udp, b.conn, b.listener, b.netlink} {
						_ = unix.Close(fd)
					}
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// Programs, their supervisors and those in front of them are killed in the midst of
// what they do. The daemon is afterwards as it was before.
func TestOnstackKilledAtRandom(t *testing.T) {
	d := start(t)
	s := d.open()
	none := func() bool {
		return info(t, s).Clients == 1 && info(t, s).Sockets == 0 && len(left(t, s)) == 0
	}
	once := func(which, after int) {
		r := d.onstack(0, "dies")
		for range after + 1 {
			r.line()
		}
		pids := r.family()
		if len(pids) < 3 {
			t.Fatal(pids)
		}
		_ = unix.Kill(pids[which], unix.SIGKILL)
		<-r.ended
		until(t, "all have gone", func() bool { return info(t, s).Clients >= 1 && !anyAlive(pids) })
	}
	once(2, 10)
	until(t, "the first has left nothing", none)
	before := d.measure()
	for i := range 6 {
		once(i%3, rand.N(20))
	}
	until(t, "nothing is left", none)
	var after gauges
	until(t, "goroutines and descriptors are as before", func() bool {
		after = d.measure()
		return after.FDs <= before.FDs && after.Goroutines <= before.Goroutines+info(t, s).Workers
	})
}

func anyAlive(pids []int) bool {
	for _, pid := range pids {
		if alive(pid) {
			return true
		}
	}
	return false
}

// bomb starts itself again and again, as deep as its argument says; each opens
// sockets, some kill themselves with them.
func bomb(args []string) error {
	depth, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if _, err := newBench(); err != nil {
		return err
	}
	var all []*exec.Cmd
	for range min(depth, 1) * 3 {
		c := exec.Command("/proc/self/exe", programArg+"bomb", strconv.Itoa(depth-1))
		c.Stdout = os.Stdout
		if err := c.Start(); err != nil {
			return err
		}
		all = append(all, c)
	}
	if depth == 0 && os.Getpid()%2 == 0 {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	for _, c := range all {
		var ee *exec.ExitError
		if werr := c.Wait(); werr != nil && (!errors.As(werr, &ee) || ee.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL) {
			err = errors.Join(err, werr)
		}
	}
	return err
}

func TestOnstackForkBomb(t *testing.T) {
	d := start(t)
	s := d.open()
	d.onstack(0, "bomb", "3").well() // 40 of them
	until(t, "nothing is left", func() bool { return info(t, s).Clients == 1 && info(t, s).Sockets == 0 && len(left(t, s)) == 0 })
}

// deaf has more UDP sockets than a stack used to let one client wait with, sends
// each of them more than it holds, reads nothing, and is served all the same.
func deaf([]string) error {
	const n = 1100
	var last bench
	for i := range n {
		fd, e := call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
		if e != 0 {
			return fmt.Errorf("socket %d: %w", i, e)
		}
		a, m := loopback(0), uint32(inetLen)
		call(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a)), inetLen)
		call(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&m)))
		last = bench{udp: fd, udpPort: int(a.Port>>8 | a.Port<<8)}
		if err := last.feed('x'); err != nil {
			return fmt.Errorf("socket %d: %w", i, err)
		}
	}
	for range 500 {
		if err := last.feed('x'); err != nil {
			return err
		}
	}
	b, err := newBench()
	return errors.Join(err, b.well())
}

func TestOnstackDeaf(t *testing.T) {
	d := start(t)
	s := d.open()
	r := d.onstack(4096, "deaf")
	r.well()
	if log := r.log.String(); strings.TrimSpace(log) != "" {
		t.Errorf("the supervisor says:\n%s", log)
	}
	until(t, "the stack has no socket left", func() bool { return info(t, s).Sockets == 0 && len(left(t, s)) == 0 })
}
