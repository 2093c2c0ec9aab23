package onstack

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// seccompData is struct seccomp_data, of which the machine that is package bpf's
// reads words in the network's order.
func seccompData(arch uint32, nr int, args ...uint64) []byte {
	b := make([]byte, 64)
	be := binary.BigEndian
	be.PutUint32(b[offNR:], uint32(nr))
	be.PutUint32(b[offArch:], arch)
	for i, a := range args {
		be.PutUint32(b[offArg(i):], uint32(a))
		be.PutUint32(b[offArg(i)+4:], uint32(a>>32))
	}
	return b
}

func verdict(t *testing.T, files bool, data []byte) int {
	t.Helper()
	vm, err := bpf.NewVM(program(files))
	if err != nil {
		t.Fatal(err)
	}
	v, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFilter(t *testing.T) {
	type args = []uint64
	const high = 1 << 32
	call := func(n int) args { return make(args, n) }
	tests := []struct {
		name string
		nr   int
		args args
		want int
	}{
		{"read", unix.SYS_READ, call(3), allow},
		{"write", unix.SYS_WRITE, call(3), allow},
		{"close", unix.SYS_CLOSE, call(1), allow},
		{"socketpair", unix.SYS_SOCKETPAIR, call(4), allow},
		{"sendto of none", unix.SYS_SENDTO, args{3, 1, 1, 0, 0, 0}, allow},
		{"sendto of none, quietly", unix.SYS_SENDTO, args{3, 1, 1, unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT | unix.MSG_MORE, 0, 0}, allow},
		{"sendto of none, as long as a question for interfaces", unix.SYS_SENDTO, args{3, 1, 20, 0, 0, 0}, notify},
		{"sendto of one", unix.SYS_SENDTO, args{3, 1, 1, 0, 0x1000, 16}, notify},
		{"sendto of one above 4 GiB", unix.SYS_SENDTO, args{3, 1, 1, 0, high, 16}, notify},
		{"sendto out of band", unix.SYS_SENDTO, args{3, 1, 1, unix.MSG_OOB, 0, 0}, notify},
		{"recvfrom of none", unix.SYS_RECVFROM, args{3, 1, 2, 0, 0, 0}, allow},
		{"recvfrom of none, one octet", unix.SYS_RECVFROM, args{3, 1, 1, 0, 0, 0}, notify},
		{"recvfrom of none, a look at one octet", unix.SYS_RECVFROM, args{3, 1, 1, unix.MSG_PEEK, 0, 0}, allow},
		{"recvfrom of one", unix.SYS_RECVFROM, args{3, 1, 1, 0, 0x1000, 0x2000}, notify},
		{"recvfrom of one above 4 GiB", unix.SYS_RECVFROM, args{3, 1, 1, 0, high, 0x2000}, notify},
		{"recvfrom out of band", unix.SYS_RECVFROM, args{3, 1, 1, unix.MSG_OOB, 0, 0}, notify},
		{"recvfrom of errors", unix.SYS_RECVFROM, args{3, 1, 1, unix.MSG_ERRQUEUE | unix.MSG_DONTWAIT, 0, 0}, notify},
		{"TCGETS", unix.SYS_IOCTL, args{0, unix.TCGETS, 0}, allow},
		{"FIONREAD", unix.SYS_IOCTL, args{0, unix.TIOCINQ, 0}, allow},
		{"FIONBIO", unix.SYS_IOCTL, args{0, 0x5421, 0}, allow},
		{"SIOCGIFADDR", unix.SYS_IOCTL, args{0, unix.SIOCGIFADDR, 0}, notify},
		{"SIOCGIFADDR with a dirty half", unix.SYS_IOCTL, args{0, high | unix.SIOCGIFADDR, 0}, notify},
		{"SIOCATMARK", unix.SYS_IOCTL, args{0, 0x8905, 0}, notify},
		{"SIOCGIWNAME", unix.SYS_IOCTL, args{0, 0x8b01, 0}, notify},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, call(2), errno | int(unix.ENOSYS)},
		{"PR_SET_DUMPABLE", unix.SYS_PRCTL, args{unix.PR_SET_DUMPABLE, 0}, errno},
		{"PR_SET_NAME", unix.SYS_PRCTL, args{unix.PR_SET_NAME, 0}, allow},
	}
	for _, nr := range always {
		tests = append(tests, struct {
			name string
			nr   int
			args args
			want int
		}{"always", nr, call(6), notify})
	}
	for _, tt := range tests {
		if got := verdict(t, false, seccompData(auditArch(), tt.nr, tt.args...)); got != tt.want {
			t.Errorf("%s (%d): %#x, not %#x", tt.name, tt.nr, got, tt.want)
		}
	}
}

func TestFilterFiles(t *testing.T) {
	for _, nr := range opens {
		if got := verdict(t, true, seccompData(auditArch(), nr)); got != notify {
			t.Errorf("%d with files: %#x", nr, got)
		}
		if got := verdict(t, false, seccompData(auditArch(), nr)); got != allow {
			t.Errorf("%d without: %#x", nr, got)
		}
	}
}

// Calls by the numbers of another machine, or of the x32 interface, are none.
func TestFilterOtherMachines(t *testing.T) {
	for _, arch := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64} {
		if arch == auditArch() {
			continue
		}
		for nr := range 600 {
			if got := verdict(t, true, seccompData(arch, nr)); got != errno|int(unix.ENOSYS) {
				t.Fatalf("call %d of %#x: %#x", nr, arch, got)
			}
		}
	}
	for _, nr := range []int{x32, x32 | unix.SYS_SOCKET, x32 | 516, 1 << 31, -1} {
		if got := verdict(t, true, seccompData(auditArch(), nr)); got != errno|int(unix.ENOSYS) {
			t.Errorf("call %#x: %#x", nr, got)
		}
	}
}

// Every call that the filter hands on is one that somebody answers.
func TestFilterHasHandlers(t *testing.T) {
	for _, nr := range append([]int{unix.SYS_SENDTO, unix.SYS_RECVFROM}, always...) {
		if nr != unix.SYS_SOCKET && handlers[int32(nr)] == nil {
			t.Errorf("nobody answers call %d", nr)
		}
	}
	for nr := range handlers {
		if got := verdict(t, false, seccompData(auditArch(), int(nr), 3, 1, 1, 0, 1, 1)); got != notify {
			t.Errorf("call %d never comes: %#x", nr, got)
		}
	}
}
