package tap

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"ionet/driver"
	"ionet/driver/internal/nstest"
	"ionet/driver/internal/sinktest"
	"ionet/driver/netns"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/test/need"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func namespace(t *testing.T) string {
	t.Helper()
	need.File(t, device)
	return nstest.New(t)
}

func open(t *testing.T, ns, options string) driver.Driver {
	t.Helper()
	o, err := driver.ParseOptions(strings.TrimPrefix(options+",netns="+ns, ","))
	if err != nil {
		t.Fatal(err)
	}
	o.Seed = "/test"
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var (
	ours  = []byte{10, 99, 0, 2}
	hosts = []byte{10, 99, 0, 1}
)

// arp makes a request for the kernel's address, or a reply to it.
func arp(op byte, dst, src netif.MAC) []byte {
	f := append(append(dst[:], src[:]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, op)
	f = append(append(f, src[:]...), ours...)
	return append(append(f, dst[:]...), hosts...)
}

// udp makes a datagram for the kernel's port whose checksum is partial.
func udp(s *sinktest.Sink, dst, src netif.MAC, port int, payload []byte) *packet.Buf {
	n := len(payload)
	f := append(append(dst[:], src[:]...), 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0)
	f = append(append(f, ours...), hosts...)
	binary.BigEndian.PutUint16(f[16:], uint16(28+n))
	binary.BigEndian.PutUint16(f[24:], packet.Checksum(f[14:34]))
	f = append(f, 0x12, 0x34, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(f[36:], uint16(port))
	binary.BigEndian.PutUint16(f[38:], uint16(8+n))
	pseudo := packet.Sum(uint64(17+8+n), f[26:34])
	binary.BigEndian.PutUint16(f[40:], packet.Fold(pseudo))
	f = append(f, payload...)
	b := s.Pool().Get(len(f))
	copy(b.Append(len(f)), f)
	b.SetPartial(34, 6)
	return b
}

func TestKernelOnTheOtherSide(t *testing.T) {
	ns := namespace(t)
	for _, queues := range []string{"1", "2"} {
		d := open(t, ns, "name=t0,queues="+queues)
		nstest.IP(t, ns, "addr add 10.99.0.1/24 dev t0")
		nstest.IP(t, ns, "link set t0 up")
		mac := d.Info().MAC
		s := sinktest.Run(t, d, func(s *sinktest.Sink, f []byte) {
			if len(f) >= 42 && f[12] == 8 && f[13] == 6 && f[21] == 1 && bytes.Equal(f[38:42], ours) {
				s.Send(arp(2, netif.MAC(f[6:12]), mac))
			}
		})
		var conn net.PacketConn
		if err := netns.Do(ns, func() (err error) {
			conn, err = net.ListenPacket("udp4", "10.99.0.1:0")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		// The kernel answers our question for its address.
		s.Send(arp(1, netif.BroadcastMAC, mac))
		var host netif.MAC
		s.Until("an ARP reply", func() bool {
			for _, f := range s.Frames {
				if f.Data[13] == 6 && f.Data[21] == 2 {
					host = netif.MAC(f.Data[22:28])
					return true
				}
			}
			return false
		})
		// It asks for ours, and leaves the checksum to us.
		text := bytes.Repeat([]byte("through the tap "), 20)
		if _, err := conn.WriteTo(text, &net.UDPAddr{IP: ours, Port: 7}); err != nil {
			t.Fatal(err)
		}
		s.Until("its datagram", func() bool {
			for _, f := range s.Frames {
				if f.Data[13] == 0 && f.Data[23] == 17 && bytes.HasSuffix(f.Data, text) {
					return f.Csum == packet.CsumPartial
				}
			}
			return false
		})
		// And it completes a checksum of ours.
		s.SendBuf(udp(s, host, mac, conn.LocalAddr().(*net.UDPAddr).Port, text))
		got := make([]byte, 2000)
		if n, _, err := conn.ReadFrom(got); err != nil || !bytes.Equal(got[:n], text) {
			t.Errorf("read %d octets: %v", n, err)
		}
		// A super-datagram arrives as its segments.
		if d.Info().Caps&netif.CapUSO != 0 {
			b := udp(s, host, mac, conn.LocalAddr().(*net.UDPAddr).Port, bytes.Repeat(text, 10))
			b.GSO, b.GSOSize = packet.GSOUDPv4, uint16(len(text))
			s.SendBuf(b)
			for i := range 10 {
				if n, _, err := conn.ReadFrom(got); err != nil || !bytes.Equal(got[:n], text) {
					t.Errorf("segment %d: %d octets: %v", i, n, err)
				}
			}
		}
		conn.Close()
		s.Close()
	}
}

func TestInterfaceGoes(t *testing.T) {
	ns := namespace(t)
	d := open(t, ns, "")
	name := d.Info().Details[0].Value
	if !strings.HasPrefix(name, "tap") {
		t.Errorf("the kernel chose %q", name)
	}
	if _, err := Open(driver.Options{Args: []driver.Arg{{Name: "name", Value: name}, {Name: "netns", Value: ns}}}); err == nil || !strings.Contains(err.Error(), "another process has it") {
		t.Errorf("a name in use: %v", err)
	}
	s := sinktest.Run(t, d, nil)
	nstest.IP(t, ns, "link del "+name)
	s.Until("Run to fail", func() bool { return s.Ended })
	if s.Err == nil || !strings.Contains(s.Err.Error(), name+" has gone") {
		t.Errorf("Run: %v", s.Err)
	}
}

func TestErrors(t *testing.T) {
	for options, says := range map[string]string{
		"name=much-too-long-a-name": "at most 15",
		"queues=0":                  "from 1 to 16",
		"colour=red":                "colour",
		"netns=/nowhere":            "/nowhere",
	} {
		o, err := driver.ParseOptions(options)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := Open(o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", options, err)
			if d != nil {
				d.Close()
			}
		}
	}
}
