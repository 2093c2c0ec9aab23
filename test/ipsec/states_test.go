package ipsec

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"ionet/test/vm"
)

// ends are two addresses of a family.
type ends struct{ a, b netip.Addr }

var families = map[string]ends{
	"IPv4": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
	"IPv6": {netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")},
}

// suite is what a packet is done to, without the ends and numbers of an SA.
type suite struct {
	name      string
	proto     string
	enc, auth vm.Alg
}

func (s suite) sa(from, to netip.Addr, mode string, spi uint32) vm.SA {
	return vm.SA{Proto: s.proto, Mode: mode, Src: from, Dst: to, SPI: spi, ReqID: spi, Enc: s.enc, Auth: s.auth}
}

// suites are all algorithms with all lengths of their keys: ciphers with HMAC-SHA-1, algorithms of
// authentication with AES-CBC and by themselves as AH.
func suites() []suite {
	sha1 := vm.NewAlg("hmac-sha1", 20, 7)
	aes := vm.NewAlg("aes-cbc", 16, 8)
	var all []suite
	for i, a := range vm.Algorithms {
		for _, n := range a.Keys {
			alg := vm.NewAlg(a.Name, n, byte(i))
			s := suite{name: a.Name, proto: "esp", enc: alg}
			if len(a.Keys) > 1 {
				s.name += fmt.Sprint("/", 8*n)
			}
			switch a.Kind {
			case vm.Cipher:
				s.auth = sha1
			case vm.Auth:
				s.enc, s.auth = aes, alg
				all = append(all, suite{name: "ah-" + s.name, proto: "ah", auth: alg})
			case vm.Compress:
				s.proto = "comp"
			}
			all = append(all, s)
		}
	}
	return append(all, suite{name: "aes-cbc without authentication", proto: "esp", enc: aes})
}

// The kernel takes every algorithm in every mode and family, with extended sequence numbers,
// with a wide window and in UDP, and says what it took.
func TestStates(t *testing.T) {
	k := vm.NewKernel(t)
	start := time.Now()
	k.Load(vm.IPsec()...)
	t.Logf("modules take %v", time.Since(start))
	var all []vm.SA
	var names []string
	for family, e := range families {
		for n, s := range suites() {
			for _, mode := range []string{"transport", "tunnel", "beet"} {
				if mode == "beet" && s.proto != "esp" {
					continue // Linux has it for ESP alone
				}
				variants := []string{"", "ESN", "NAT-T"}
				if n == 0 {
					variants = append(variants, "ESN, window of 4096", "window of 64")
				}
				for _, variant := range variants {
					sa := s.sa(e.a, e.b, mode, 0x1000+uint32(len(all)))
					if mode == "beet" {
						sa.Sel = &vm.Selector{Src: netip.PrefixFrom(e.a, e.a.BitLen()), Dst: netip.PrefixFrom(e.b, e.b.BitLen())}
					}
					switch {
					case variant != "" && s.proto == "comp", variant == "NAT-T" && s.proto != "esp":
						continue
					case variant == "NAT-T":
						sa.Encap = &vm.Encap{SPort: 4500, DPort: 4501}
					}
					sa.ESN = strings.HasPrefix(variant, "ESN")
					if strings.HasSuffix(variant, "4096") {
						sa.Window = 4096
					} else if strings.HasSuffix(variant, "64") {
						sa.Window = 64
					}
					all = append(all, sa)
					names = append(names, fmt.Sprint(family, ", ", s.name, ", ", mode, ", ", variant))
				}
			}
		}
	}
	start = time.Now()
	k.XfrmState(all...)
	t.Logf("%d states take %v", len(all), time.Since(start))

	took := map[string]string{}
	list := strings.Split(k.Must("ip", "xfrm", "state", "list"), "\nsrc ")
	spi := regexp.MustCompile(`spi (0x[0-9a-f]+) reqid`)
	for _, s := range list {
		if m := spi.FindStringSubmatch(s); m != nil && !strings.Contains(s, "proto 4 ") && !strings.Contains(s, "proto ipip") {
			took[m[1]] = s
		}
	}
	for i, sa := range all {
		got := took[fmt.Sprintf("0x%08x", sa.SPI)]
		want := []string{"mode " + sa.Mode}
		for _, g := range []vm.Alg{sa.Enc, sa.Auth} {
			if g.Name != "" {
				want = append(want, fmt.Sprintf(" %s 0x%x", vm.ByName(g.Name).Linux, g.Key))
			}
		}
		if sa.Proto == "comp" {
			want[1] = "comp deflate"
		}
		if sa.ESN {
			want = append(want, "esn")
		}
		if sa.Encap != nil {
			want = append(want, "encap type espinudp sport 4500 dport 4501")
		}
		for _, w := range want {
			if !strings.Contains(got, strings.TrimSuffix(w, " 0x")) {
				t.Errorf("%s: no %q in %q", names[i], w, got)
			}
		}
	}
	k.XfrmDelete(all...)
	if out := k.Must("ip", "xfrm", "state", "list"); strings.Contains(out, "proto esp") || strings.Contains(out, "proto ah") {
		t.Errorf("after all were deleted:\n%s", out)
	}

	// What it does not take, it refuses.
	bad := all[0]
	bad.Enc.Key = bad.Enc.Key[1:]
	a, err := bad.Args()
	if err != nil {
		t.Fatal(err)
	}
	if r := k.Run("ip", append([]string{"xfrm", "state", "add"}, a...)...); r.Status == 0 {
		t.Errorf("a key that is too short: %+v", r)
	}

	// setkey's way is there too.
	out := k.Must(vm.Tool, "pfkey")
	for _, w := range []string{"auth 3, key of 160 to 160 bits\n", "encrypt 12, key of 128 to 256 bits\n", "encrypt 3, key of 192 to 192 bits\n"} {
		if !strings.Contains(out, w) {
			t.Errorf("PF_KEY says no %q in\n%s", w, out)
		}
	}
}
