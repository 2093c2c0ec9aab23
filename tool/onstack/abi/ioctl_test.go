package abi

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/test/need"
)

// namespace runs f in a network namespace that has what sampleTables says.
func namespace(t *testing.T, f func() error) {
	t.Helper()
	need.Netns(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		for line := range strings.Lines(`link set lo up
link add en0 index 3 type veth peer name en1 index 2
link set en0 address 02:00:00:00:00:01 mtu 1400
link set en1 address 02:00:00:00:00:02
link set en0 up
link set en1 up
addr add 10.0.0.1/24 brd + dev en0
addr add 10.0.1.1 peer 10.0.1.2 dev en0
addr add 10.0.2.1/24 brd + label en0:b dev en0`) {
			if err == nil {
				var out []byte
				if out, err = exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
					err = fmt.Errorf("ip %s: %w: %s", line, err, out)
				}
			}
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func kernelIoctl(fd int, req uint32, arg []byte) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(unsafe.Pointer(&arg[0]))); e != 0 {
		return e
	}
	return nil
}

func ifreq(name string, union ...byte) []byte {
	b := make([]byte, IfreqLen)
	copy(b, name)
	copy(b[unix.IFNAMSIZ:], union)
	return b
}

// TestIoctlsAreTheKernels asks both about the same interfaces.
func TestIoctlsAreTheKernels(t *testing.T) {
	namespace(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		second := AppendSockaddr(nil, v4("10.0.1.1", 0))
		for req := range getters {
			for _, arg := range [][]byte{
				ifreq("lo"), ifreq("en0"), ifreq("en1"), ifreq("en9"), ifreq(""), ifreq("en0", second...), ifreq("en0:"), ifreq("en0:b"), ifreq("en0:b", second...),
				ifreq("", 3), ifreq("", 9),
			} {
				if req == unix.SIOCGIFNAME && arg[0] != 0 {
					continue // behind the name's zero the kernel leaves what was there
				}
				want := bytes.Clone(arg)
				kerr := kernelIoctl(fd, req, want)
				got, err := Ioctl(sampleTables, req, arg)
				if err != kerr {
					t.Errorf("%#x %q: %v; the kernel says %v", req, arg, err, kerr)
				}
				// Of the union the kernel writes what the request has and
				// leaves the rest; the padding of a sockaddr_in is its own.
				n := map[uint32]int{unix.SIOCGIFFLAGS: 2, unix.SIOCGIFHWADDR: 8, unix.SIOCGIFMAP: 24, unix.SIOCGIFNAME: 4}[req]
				if n == 0 {
					n = 4
				}
				if kerr == nil && !bytes.Equal(got[:unix.IFNAMSIZ+n], want[:unix.IFNAMSIZ+n]) {
					t.Errorf("%#x %q:\n% x; the kernel's\n% x", req, arg, got, want)
				}
				if kerr == nil && n == 4 && !bytes.Equal(got[:unix.IFNAMSIZ+8], want[:unix.IFNAMSIZ+8]) && le.Uint16(got[unix.IFNAMSIZ:]) == unix.AF_INET {
					t.Errorf("%#x %q: address\n% x; the kernel's\n% x", req, arg, got, want)
				}
			}
		}
		buf := make([]byte, 512)
		conf := make([]byte, 16)
		for _, size := range []int{0, 39, 40, 100, 512} {
			le.PutUint32(conf, uint32(size))
			le.PutUint64(conf[8:], uint64(uintptr(unsafe.Pointer(&buf[0]))))
			if err := kernelIoctl(fd, unix.SIOCGIFCONF, conf); err != nil {
				return err
			}
			got, err := Ifconf(sampleTables, size)
			if want := buf[:le.Uint32(conf)]; err != nil || !bytes.Equal(got, want) {
				t.Errorf("SIOCGIFCONF of %d octets: %v\n% x; the kernel's\n% x", size, err, got, want)
			}
		}
		clear(conf)
		if err := kernelIoctl(fd, unix.SIOCGIFCONF, conf); err != nil {
			return err
		}
		if got, _ := Ifconf(sampleTables, -1); len(got) != int(le.Uint32(conf)) {
			t.Errorf("SIOCGIFCONF wants %d octets; the kernel's %d", len(got), le.Uint32(conf))
		}
		return nil
	})
}

func TestClassify(t *testing.T) {
	for req, want := range map[uint32]Class{
		unix.SIOCINQ: ClassSocket, unix.SIOCOUTQ: ClassSocket, unix.SIOCATMARK: ClassSocket, unix.SIOCGSTAMP: ClassSocket,
		0x5421 /* FIONBIO */ : ClassDescriptor, 0x5452 /* FIOASYNC */ : ClassDescriptor, unix.SIOCSPGRP: ClassDescriptor, unix.TCGETS: ClassDescriptor,
		unix.SIOCGIFCONF: ClassIfconf, unix.SIOCGIFADDR: ClassIfreq, unix.SIOCGIFNAME: ClassIfreq,
		unix.SIOCSIFADDR: ClassRefused, unix.SIOCADDRT: ClassRefused, unix.SIOCETHTOOL: ClassRefused, unix.SIOCGIFMEM: ClassRefused, 0x8b01: ClassRefused,
	} {
		if got := Classify(req); got != want {
			t.Errorf("%#x is %d, want %d", req, got, want)
		}
	}
	for req, want := range map[uint32]syscall.Errno{
		unix.SIOCSIFADDR: syscall.EPERM, unix.SIOCSIFFLAGS: syscall.EPERM, unix.SIOCADDRT: syscall.EPERM, unix.SIOCSARP: syscall.EPERM,
		unix.SIOCGARP: syscall.ENXIO, unix.SIOCETHTOOL: syscall.EOPNOTSUPP, 0x8b01: syscall.EOPNOTSUPP, 0x89f1: syscall.EOPNOTSUPP,
		unix.SIOCGIFMEM: syscall.ENOTTY,
	} {
		if _, err := Ioctl(sampleTables, req, nil); err != want {
			t.Errorf("%#x: %v, want %v", req, err, want)
		}
	}
	if _, err := Ioctl(sampleTables, unix.SIOCGIFADDR, make([]byte, IfreqLen-1)); err != syscall.EINVAL {
		t.Errorf("a short ifreq: %v", err)
	}
	gone := tables{err: syscall.EIO}
	if _, err := Ioctl(gone, unix.SIOCGIFADDR, ifreq("en0")); err != syscall.ENODEV {
		t.Errorf("a stack that is gone: %v", err)
	}
}

// FuzzIoctl: whatever the request and its argument, an answer is an ifreq.
func FuzzIoctl(f *testing.F) {
	for req := range getters {
		f.Add(req, ifreq("en0"))
	}
	f.Add(uint32(unix.SIOCGIFNAME), ifreq("", 3))
	f.Fuzz(func(t *testing.T, req uint32, arg []byte) {
		b, err := Ioctl(sampleTables, req, arg)
		if (err == nil) != (len(b) == IfreqLen) {
			t.Fatalf("%#x: % x, %v", req, b, err)
		}
		if class := Classify(req); err == nil && class != ClassIfreq {
			t.Fatalf("%#x is answered, and of class %d", req, class)
		}
		if len(arg) >= 2 {
			size := int(le.Uint16(arg))
			if b, err := Ifconf(sampleTables, size); err != nil || len(b) > size || len(b)%IfreqLen != 0 {
				t.Fatalf("%d octets of %d: %v", len(b), size, err)
			}
		}
	})
}
