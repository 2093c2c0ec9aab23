package ipsec

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ionet/test/scapy"
	"ionet/test/vm"
)

// The two oracles agree: a kernel answers what scapy has sealed, and scapy opens the answer, for
// everything that both have.
func TestOraclesAgree(t *testing.T) {
	y := scapy.New(t)
	s := newStation(t)
	s.EncapPort(4500)
	type cell struct {
		name    string
		out, in vm.SA // the machine's
		high    uint32
	}
	var cells []cell
	var states []vm.SA
	var policies []vm.Policy
	for family, e := range families {
		for i, u := range suites() {
			for _, mode := range []string{"transport", "tunnel"} {
				for _, variant := range []string{"", "ESN", "NAT-T"} {
					// Every cell has another peer, all of them behind the station.
					n := len(cells) + 1
					peer := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
					if e.b.Is6() {
						peer = netip.MustParseAddr(fmt.Sprintf("fd00::%x", n))
					}
					c := cell{name: fmt.Sprint(family, ", ", u.name, ", ", mode, ", ", variant)}
					c.out = u.sa(e.b, peer, mode, 0x10000+uint32(n))
					c.in = u.sa(peer, e.b, mode, 0x20000+uint32(n))
					switch variant {
					case "ESN":
						c.high = 3
						c.out.ESN, c.in.ESN = true, true
						c.out.More, c.in.More = []string{"replay-oseq-hi", "3"}, []string{"replay-seq-hi", "3"}
					case "NAT-T":
						if u.proto != "esp" || i%7 != 0 {
							continue // it is beside the algorithms
						}
						c.out.Encap, c.in.Encap = &vm.Encap{SPort: 4500, DPort: 4500}, &vm.Encap{SPort: 4500, DPort: 4500}
					}
					if !scapy.Speaks(c.in) {
						continue
					}
					cells = append(cells, c)
					states = append(states, c.out, c.in)
					here, there := netip.PrefixFrom(e.b, e.b.BitLen()), netip.PrefixFrom(peer, peer.BitLen())
					policies = append(policies,
						vm.Policy{Dir: "out", Selector: vm.Selector{Src: here, Dst: there}, Templates: []vm.Template{c.out.Template()}},
						vm.Policy{Dir: "in", Selector: vm.Selector{Src: there, Dst: here}, Templates: []vm.Template{c.in.Template()}})
				}
			}
		}
	}
	s.XfrmState(states...)
	s.XfrmPolicy(policies...)
	start := time.Now()
	for _, c := range cells {
		for i, size := range []int{13, 1000} {
			request := echo(c.in.Src, c.in.Dst, uint16(i), size)
			sealed, err := y.Seal(c.in, uint64(c.high)<<32+uint64(i+1), request)
			if err != nil {
				t.Errorf("%s: scapy does not seal: %v", c.name, err)
				break
			}
			s.send(sealed)
			got := s.receive(c.in.Src, 5*time.Second)
			if got == nil {
				t.Errorf("%s: no answer; the machine counts\n%s", c.name, counts(s.Kernel))
				break
			}
			want := map[string]byte{"esp": 50, "ah": 51}[c.in.Proto]
			if c.in.Encap != nil {
				want = 17
			}
			if proto, _ := upper(got); proto != want {
				t.Errorf("%s: the answer is of protocol %d, want %d", c.name, proto, want)
			}
			if opened, err := y.Open(c.out, c.high, got); err != nil || !answers(opened, request) {
				t.Errorf("%s: scapy does not open the answer: %v\n% x\n% x", c.name, err, got, opened)
			}
		}
	}
	t.Logf("%d cells take %v", len(cells), time.Since(start))

	// They notice what is wrong: a bit that is another, and a packet that has been there.
	c := cells[0]
	request := echo(c.in.Src, c.in.Dst, 9, 13)
	sealed, err := y.Seal(c.in, 9, request)
	if err != nil {
		t.Fatal(err)
	}
	sealed[len(sealed)-1] ^= 1
	s.send(sealed)
	sealed[len(sealed)-1] ^= 1
	s.send(sealed)
	s.send(sealed)
	if got := s.receive(c.in.Src, 5*time.Second); got == nil {
		t.Error("no answer")
	}
	if got := s.receive(c.in.Src, 100*time.Millisecond); got != nil {
		t.Errorf("another answer: % x", got)
	}
	text := counts(s.Kernel)
	for _, w := range []string{"XfrmInStateProtoError 1", "XfrmInStateSeqError 1"} {
		if !strings.Contains(text, w) {
			t.Errorf("the machine does not count %s:\n%s", w, text)
		}
	}
}

// counts is what a kernel counts of IPsec, without what is 0.
func counts(k *vm.Kernel) string {
	var b strings.Builder
	for line := range strings.Lines(k.Must("cat", "/proc/net/xfrm_stat")) {
		if f := strings.Fields(line); len(f) == 2 && f[1] != "0" {
			fmt.Fprintln(&b, f[0], f[1])
		}
	}
	return b.String()
}
