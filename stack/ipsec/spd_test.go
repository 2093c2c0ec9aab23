package ipsec

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

func bare() *IPsec {
	env := &netif.Env{Pool: packet.NewPool(1 << 20), MIB: mib.NewValues(), Now: func() int64 { return 1 }, Rand32: func() uint32 { return 4 }}
	env.Wheel.Init(1, nil)
	return New(env)
}

// matches is a selector asked by itself.
func (s *Selector) matches(k *flowKey) bool {
	src, dst := addrOf([2]uint64{k.srcHi, k.srcLo}, k.v6), addrOf([2]uint64{k.dstHi, k.dstLo}, k.v6)
	if !s.Src.Contains(src) || !s.Dst.Contains(dst) || s.Proto != AnyProto && s.Proto != k.proto {
		return false
	}
	if s.Typed {
		return k.typed && s.SrcPort == k.from && (s.DstPort == 0xffff || s.DstPort == k.to)
	}
	return s.SrcPort == 0 && s.DstPort == 0 || !k.typed && (s.SrcPort == 0 || s.SrcPort == k.from) && (s.DstPort == 0 || s.DstPort == k.to)
}

// The first policy that matches is found, as a walk over all of them in their order does, while they come and go.
func TestMatch(t *testing.T) {
	prefix := rapid.SampledFrom([]string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "10.1.2.4/32", "::/0", "2001:db8::/32", "2001:db8::1/128", "2001:db8:0:0:8000::/65"})
	addrs := map[bool][]string{false: {"10.1.2.3", "10.1.2.4", "10.2.0.1", "192.0.2.1"}, true: {"2001:db8::1", "2001:db8::8000:0:0:1", "fd00::1"}}
	rapid.Check(t, func(t *rapid.T) {
		x := bare()
		var list []*Policy
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			if len(list) > 0 && rapid.IntRange(0, 3).Draw(t, "goes") == 0 {
				i := rapid.IntRange(0, len(list)-1).Draw(t, "which")
				x.RemovePolicy(list[i])
				list = slices.Delete(list, i, i+1)
			} else {
				p := &Policy{Dir: Out, Kind: None, Priority: rapid.Uint32Range(0, 2).Draw(t, "priority")}
				p.Src, p.Dst = netip.MustParsePrefix(prefix.Draw(t, "src")), netip.MustParsePrefix(prefix.Draw(t, "dst"))
				p.Proto = rapid.SampledFrom([]uint8{AnyProto, 17, 6, 1, 58}).Draw(t, "proto")
				if p.Proto == 1 || p.Proto == 58 {
					p.Typed = rapid.Bool().Draw(t, "typed")
				}
				if p.Typed {
					p.SrcPort, p.DstPort = rapid.SampledFrom([]uint16{8, 0}).Draw(t, "type"), rapid.SampledFrom([]uint16{0, 0xffff}).Draw(t, "code")
				} else if p.Proto != 1 && p.Proto != 58 {
					p.SrcPort, p.DstPort = rapid.SampledFrom([]uint16{0, 53}).Draw(t, "from"), rapid.SampledFrom([]uint16{0, 53, 500}).Draw(t, "to")
				}
				at := slices.IndexFunc(list, func(o *Policy) bool { return o.Selector == p.Selector })
				there, change := at >= 0, x.AddPolicy
				if rapid.Bool().Draw(t, "update") {
					change = x.UpdatePolicy
					if there {
						list = slices.Delete(list, at, at+1)
					}
					there = false
				}
				err := change(p)
				switch {
				case p.Src.Addr().Is4() != p.Dst.Addr().Is4():
					if !errors.Is(err, syscall.EINVAL) {
						t.Fatalf("%+v: %v", p.Selector, err)
					}
				case there:
					if !errors.Is(err, syscall.EEXIST) {
						t.Fatalf("%+v a second time: %v", p.Selector, err)
					}
				case err != nil:
					t.Fatal(err)
				default:
					list = append(list, p)
				}
			}
			v6 := rapid.Bool().Draw(t, "v6")
			a := rapid.SampledFrom(addrs[v6])
			k := flowKey{dir: Out, v6: v6, proto: rapid.SampledFrom([]uint8{6, 17, 1, 58, 47}).Draw(t, "p")}
			k.srcHi, k.srcLo = packet.Words(netip.MustParseAddr(a.Draw(t, "a")))
			k.dstHi, k.dstLo = packet.Words(netip.MustParseAddr(a.Draw(t, "b")))
			switch k.proto {
			case 6, 17:
				k.from, k.to = rapid.SampledFrom([]uint16{53, 1000}).Draw(t, "f"), rapid.SampledFrom([]uint16{53, 500, 7}).Draw(t, "t")
			case 1, 58:
				k.typed, k.from, k.to = true, rapid.SampledFrom([]uint16{8, 0, 3}).Draw(t, "ty"), rapid.SampledFrom([]uint16{0, 1}).Draw(t, "c")
			}
			var want *Policy
			for _, p := range list {
				if p.matches(&k) && (want == nil || p.before(want) < 0) {
					want = p
				}
			}
			if got := x.look(&k, nil).policy; got != want {
				t.Fatalf("%+v: %+v, want %+v", k, got, want)
			}
		}
	})
}
