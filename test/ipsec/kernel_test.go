package ipsec

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ionet/test/play"
	"ionet/test/vm"
)

// cell is one way for a stack and a kernel to protect what passes between them.
type cell struct {
	proto, mode string
	v6          bool
	enc, auth   vm.Alg
	esn, encap  bool
}

func (c cell) name() string {
	s := fmt.Sprintf("%s %s %s", c.proto, c.mode, map[bool]string{false: "v4", true: "v6"}[c.v6])
	for _, a := range []vm.Alg{c.enc, c.auth} {
		if a.Name != "" {
			s += fmt.Sprintf(" %s-%d", a.Name, len(a.Key)*8)
		}
	}
	if c.esn {
		s += " esn"
	}
	if c.encap {
		s += " udp"
	}
	return s
}

// cells are every algorithm and length of key, in turn with every mode, family and kind of numbers; and NAT-T.
func cells() (all []cell) {
	n := 0
	turn := func(c cell) {
		c.mode, c.v6, c.esn = []string{"transport", "tunnel"}[n%2], n/2%2 == 1, n/4%2 == 1
		n++
		all = append(all, c)
	}
	sha := vm.NewAlg("hmac-sha2-256", 32, 9)
	for _, a := range vm.Algorithms {
		for _, k := range a.Keys {
			if a.Name == "cast128-cbc" && k < 16 { // golang.org/x/crypto has keys of 128 bits alone
				continue
			}
			alg := vm.NewAlg(a.Name, k, byte(len(all)))
			switch a.Kind {
			case vm.AEAD:
				turn(cell{proto: "esp", enc: alg})
			case vm.Cipher:
				turn(cell{proto: "esp", enc: alg, auth: sha})
			case vm.Auth:
				turn(cell{proto: "esp", enc: vm.NewAlg("aes-cbc", 16, 5), auth: alg})
				turn(cell{proto: "ah", auth: alg})
			}
		}
	}
	gcm, cbc := vm.NewAlg("aes-gcm-16", 20, 7), vm.NewAlg("aes-cbc", 32, 7)
	for _, mode := range []string{"transport", "tunnel"} {
		for _, v6 := range []bool{false, true} {
			for _, esn := range []bool{false, true} {
				all = append(all, cell{"esp", mode, v6, gcm, vm.Alg{}, esn, false}, cell{"esp", mode, v6, cbc, vm.NewAlg("hmac-sha1", 20, 3), esn, false},
					cell{"ah", mode, v6, vm.Alg{}, sha, esn, false})
			}
		}
		all = append(all, cell{"esp", mode, false, gcm, vm.Alg{}, false, true})
	}
	return all
}

// setkey is what c is in setkey's language: from one end to the other.
func (c cell) setkey(from, to netip.Addr, spi uint32) string {
	flags := []string{"-m", c.mode, "-r", "4"}
	if c.esn {
		flags = append(flags, "-f", "esn")
	}
	proto, port := c.proto, ""
	if c.encap {
		proto, port = "esp-udp", "[4500]"
	}
	s := fmt.Sprintf("add %v%s %v%s %s %#x %s", from, port, to, port, proto, spi, strings.Join(flags, " "))
	for _, a := range []struct {
		opt string
		vm.Alg
	}{{"-E", c.enc}, {"-A", c.auth}} {
		switch {
		case a.Name == "":
		case len(a.Key) == 0:
			s += fmt.Sprintf(" %s %s", a.opt, a.Name)
		default:
			s += fmt.Sprintf(" %s %s 0x%x", a.opt, a.Name, a.Key)
		}
	}
	return s + ";\n"
}

func (c cell) policy(dir string, from, to netip.Addr) string {
	ends := ""
	if c.mode == "tunnel" {
		ends = fmt.Sprintf("%v-%v", from, to)
	}
	return fmt.Sprintf("spdadd %v %v any -P %s ipsec %s/%s/%s/require;\n", from, to, dir, c.proto, c.mode, ends)
}

// TestMatrix: a stack keyed by setkey and a Linux kernel keyed by ip xfrm understand each other, whatever protects
// their packets; on the wire there is nothing else.
func TestMatrix(t *testing.T) {
	l := newLink(t)
	prefix := filepath.Join(l.root.Dir, "s")
	l.root.Ionet(prefix, "-d", "tap", "name=tap0", "-ptcpip", "ipsec,prefix="+prefix)
	u := l.root.At(prefix)
	k := vm.NewKernel(t, vm.TAP(l.ns, "vm0"))
	l.join("tap0")
	l.join("vm0")
	k.Load(vm.IPsec()...)
	u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	u.Must("ifconfig", "en0", "10.0.0.2/24")
	u.Must("ifconfig", "en0", "inet6", "2001:db8::2", "prefixlen", "64")
	k.IP("link set eth0 up", "addr add 10.0.0.3/24 dev eth0", "addr add 2001:db8::3/64 dev eth0 nodad")
	u.Must("ping", "-n", "-c", "1", "10.0.0.3")
	u.Must("ping6", "-n", "-c", "1", "2001:db8::3")
	encap := k.EncapPort(4500)
	defer encap.Stop()
	all := cells()
	for _, c := range all {
		t.Run(c.name(), func(t *testing.T) {
			u := u.For(t)
			was := k.T
			k.T = t
			defer func() { k.T = was }()
			us, them, ping := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3"), "ping"
			if c.v6 {
				us, them, ping = netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::3"), "ping6"
			}
			bits := us.BitLen()
			out := vm.SA{Proto: c.proto, Mode: c.mode, Src: them, Dst: us, SPI: 0x2000, Enc: c.enc, Auth: c.auth, ESN: c.esn}
			in := vm.SA{Proto: c.proto, Mode: c.mode, Src: us, Dst: them, SPI: 0x1000, Enc: c.enc, Auth: c.auth, ESN: c.esn}
			if c.encap {
				out.Encap, in.Encap = &vm.Encap{SPort: 4500, DPort: 4500}, &vm.Encap{SPort: 4500, DPort: 4500}
			}
			conf := "flush; spdflush;\n" + c.setkey(us, them, 0x1000) + c.setkey(them, us, 0x2000)
			if c.v6 { // neighbours find each other in clear
				conf += "spdadd ::/0 ::/0 icmp6 135,0 -P out prio high none; spdadd ::/0 ::/0 icmp6 136,0 -P out prio high none;\n" +
					"spdadd ::/0 ::/0 icmp6 135,0 -P in prio high none; spdadd ::/0 ::/0 icmp6 136,0 -P in prio high none;\n"
			}
			conf += c.policy("out", us, them) + c.policy("in", them, us)
			k.Protect(out, in, netip.PrefixFrom(them, bits), netip.PrefixFrom(us, bits))
			defer k.XfrmFlush()
			u.Must("setkey", "-f", u.Write("setkey.conf", conf, 0o600))
			for _, size := range []string{"0", "56", "1400", "3000"} {
				// The kernel loses the first answer that is too long for a tunnel, and cuts the next.
				r := u.Try(ping, "-n", "-c", "2", "-i", "0.2", "-s", size, them.String())
				if !regexp.MustCompile(`[12] packets received, `).MatchString(r.Out) {
					t.Errorf("%s octets:\n%s%s", size, r.Out, r.Err)
				}
			}
			r := k.Run("ping", "-n", "-c", "1", "-W", "5", "-s", "2000", us.String())
			play.WantLines(t, "from the kernel", r.Out+r.Err, " 0% packet loss")
		})
	}
	if out := u.Must("netstat", "-s", "-p", "ipsec"); !strings.Contains(out, "\t0 inbound packets failed on authentication\n") {
		t.Errorf("not all was right:\n%s", out)
	}
}
