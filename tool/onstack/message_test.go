package onstack

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeCall is a call of a program whose memory is b, from address 0 on.
func fakeCall(t testing.TB, b []byte) *call {
	t.Helper()
	fd, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(fd, b, 0); err != nil {
		t.Fatal(err)
	}
	c := &call{sv: &supervisor{listener: -1}, mem: fd}
	t.Cleanup(c.closeMemory)
	return c
}

// memory is a program's with a msghdr at 0.
func memory(iov, iovlen, controllen uint64, namelen uint32) []byte {
	b := le.AppendUint64(nil, 0x500)
	b = le.AppendUint64(b, uint64(namelen))
	b = le.AppendUint64(le.AppendUint64(b, iov), iovlen)
	b = le.AppendUint64(le.AppendUint64(b, 0x600), controllen)
	b = le.AppendUint64(b, 0)
	return append(b, make([]byte, 4096-len(b))...)
}

func TestMsghdr(t *testing.T) {
	b := memory(0x100, 2, 24, 16)
	copy(b[0x100:], le.AppendUint64(le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, 0x200), 3), 0x300), 5))
	copy(b[0x200:], "abc")
	copy(b[0x300:], "defgh")
	c := fakeCall(t, b)
	m, err := c.msghdr(0)
	if err != nil || m.name != 0x500 || m.namelen != 16 || m.control != 0x600 || m.controllen != 24 || m.room() != 8 {
		t.Fatalf("%+v, %v", m, err)
	}
	for limit, want := range map[int]string{100: "abcdefgh", 8: "abcdefgh", 7: "abcdefg", 3: "abc", 1: "a", 0: ""} {
		if got, err := c.gather(&m, limit); err != nil || string(got) != want {
			t.Errorf("at most %d: %q, %v", limit, got, err)
		}
	}
	if err := c.scatter(&m, []byte("12345678")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.gather(&m, 100); err != nil || string(got) != "12345678" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestMsghdrErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		b    []byte
		at   uint64
		want error
	}{
		"cut":              {memory(0, 0, 0, 0)[:msghdrLen-1], 0, unix.EFAULT},
		"outside":          {memory(0, 0, 0, 0), 1 << 40, unix.EFAULT},
		"the kernel's":     {memory(0, 0, 0, 0), 1 << 63, unix.EFAULT},
		"too many iovs":    {memory(0x100, iovMax+1, 0, 0), 0, unix.EMSGSIZE},
		"iovs past reason": {memory(0x100, 1<<63, 0, 0), 0, unix.EMSGSIZE},
		"iovs outside":     {memory(4090, 2, 0, 0), 0, unix.EFAULT},
		"negative name":    {memory(0x100, 1, 0, 1<<31), 0, unix.EINVAL},
	} {
		if _, err := fakeCall(t, tt.b).msghdr(tt.at); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, not %v", name, err, tt.want)
		}
	}
}

func TestReadString(t *testing.T) {
	b := append(bytes.Repeat([]byte("x"), 4090), "/etc\x00"...)
	c := fakeCall(t, b)
	for _, tt := range []struct {
		at   uint64
		want string
		err  error
	}{{4090, "/etc", nil}, {4094, "", nil}, {4080, "xxxxxxxxxx/etc", nil}, {0, "", unix.ENAMETOOLONG}, {uint64(len(b)), "", unix.EFAULT}, {1 << 63, "", unix.EFAULT}} {
		got, err := c.readString(tt.at, 256)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("at %d: %q, %v", tt.at, got, err)
		}
	}
	c = fakeCall(t, []byte("never ends"))
	if _, err := c.readString(0, 256); !errors.Is(err, unix.EFAULT) {
		t.Errorf("without end: %v", err)
	}
}

// FuzzMsghdr: whatever is in a program's memory, what is made of it is bounded.
func FuzzMsghdr(f *testing.F) {
	f.Add(memory(0x100, 2, 24, 16), uint64(0))
	f.Add(memory(0, 1024, 1<<63, 1<<31), uint64(0))
	f.Add(bytes.Repeat([]byte{0xff}, 256), uint64(8))
	f.Fuzz(func(t *testing.T, b []byte, at uint64) {
		c := fakeCall(t, b)
		defer c.closeMemory()
		m, err := c.msghdr(at)
		if err != nil {
			return
		}
		if len(m.iov) > iovMax || m.room() < 0 || m.room() > 1<<30 {
			t.Fatalf("%d buffers, room %d", len(m.iov), m.room())
		}
		for _, limit := range []int{1, maxDatagram, maxStream} {
			if data, err := c.gather(&m, limit); err == nil && len(data) > limit {
				t.Fatalf("%d octets of %d", len(data), limit)
			}
		}
		_, _ = c.sockaddr(m.name, uint64(m.namelen))
		if len(b) < 1<<16 { // what is written may lie behind
			if err := c.scatter(&m, []byte("some")); err != nil && !errors.Is(err, unix.EFAULT) {
				t.Fatal(err)
			}
		}
	})
}
