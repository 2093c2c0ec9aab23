package ipsec

import (
	"fmt"
	"net/netip"
	"strings"

	"ionet/test/vm"
)

// cell is one way for a stack and a kernel to protect what passes between them.
type cell struct {
	proto, mode string
	v6          bool
	enc, auth   vm.Alg
	esn, encap  bool
	unique      bool // policies name their associations, beside which there are others
	cpi         bool // of IPComp: packets name the association, not the algorithm
	n           int  // which one of all it is, from 1
	line        bool // it is on the line, not on the bridge
}

func (c cell) name() string {
	s := fmt.Sprintf("%s %s %s", c.proto, c.mode, map[bool]string{false: "v4", true: "v6"}[c.v6])
	for _, a := range []vm.Alg{c.enc, c.auth} {
		if a.Name != "" {
			s += fmt.Sprintf(" %s-%d", a.Name, len(a.Key)*8)
		}
	}
	for _, f := range []struct {
		is   bool
		name string
	}{{c.esn, " esn"}, {c.encap, " udp"}, {c.unique, " unique"}, {c.cpi, " cpi"}} {
		if f.is {
			s += f.name
		}
	}
	return s
}

// us is the stack's address, them the kernel's, which has another one for each cell.
func (c cell) us() netip.Addr { return c.addr(0, 2) }

func (c cell) them() netip.Addr { return c.addr(c.n, 3) }

func (c cell) addr(n, host int) netip.Addr {
	net := 1
	if c.line {
		net = 2
	}
	if c.v6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::%x:%x", net, n, host))
	}
	return netip.AddrFrom4([4]byte{10, byte(net), byte(n), byte(host)})
}

// onLink is an address with the length of its network.
func (c cell) onLink(a netip.Addr) string {
	if c.v6 {
		return a.String() + "/64"
	}
	return a.String() + "/16"
}

// states are the associations of c, from the stack and to it.
func (c cell) states() (there, back vm.SA) {
	there = vm.SA{Proto: c.proto, Mode: c.mode, Src: c.us(), Dst: c.them(), SPI: 0x1000 + uint32(c.n), Enc: c.enc, Auth: c.auth, ESN: c.esn}
	back = vm.SA{Proto: c.proto, Mode: c.mode, Src: c.them(), Dst: c.us(), SPI: 0x2000 + uint32(c.n), Enc: c.enc, Auth: c.auth, ESN: c.esn}
	if c.encap {
		there.Encap, back.Encap = &vm.Encap{SPort: 4500, DPort: 4500}, &vm.Encap{SPort: 4500, DPort: 4500}
	}
	if c.mode == "beet" {
		us, them := netip.PrefixFrom(c.us(), c.us().BitLen()), netip.PrefixFrom(c.them(), c.them().BitLen())
		there.Sel, back.Sel = &vm.Selector{Src: us, Dst: them}, &vm.Selector{Src: them, Dst: us}
	}
	if c.unique {
		there.ReqID, back.ReqID = there.SPI, back.SPI
	}
	return there, back
}

// cells are every algorithm and length of key, in turn with every mode, family and kind of numbers; and NAT-T, IPComp and
// associations that policies name.
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
	gcm, cbc, sha1, deflate := vm.NewAlg("aes-gcm-16", 20, 7), vm.NewAlg("aes-cbc", 32, 7), vm.NewAlg("hmac-sha1", 20, 3), vm.NewAlg("deflate", 0, 0)
	for _, mode := range []string{"transport", "tunnel"} {
		for _, v6 := range []bool{false, true} {
			for _, esn := range []bool{false, true} {
				all = append(all, cell{proto: "esp", mode: mode, v6: v6, enc: gcm, esn: esn},
					cell{proto: "esp", mode: mode, v6: v6, enc: cbc, auth: sha1, esn: esn},
					cell{proto: "ah", mode: mode, v6: v6, auth: sha, esn: esn})
			}
			all = append(all, cell{proto: "esp", mode: mode, v6: v6, enc: gcm, unique: true},
				cell{proto: "ah", mode: mode, v6: v6, auth: sha, unique: true},
				// The kernel knows an association of a well-known CPI by its destination: one of each family.
				cell{proto: "comp", mode: mode, v6: v6, enc: deflate, cpi: v6 == (mode == "transport")})
		}
		all = append(all, cell{proto: "esp", mode: mode, enc: gcm, encap: true})
	}
	for _, v6 := range []bool{false, true} { // what Linux has of BEET is ESP's
		all = append(all, cell{proto: "esp", mode: "beet", v6: v6, enc: gcm}, cell{proto: "esp", mode: "beet", v6: v6, enc: cbc, auth: sha1, esn: true})
	}
	for i := range all {
		all[i].n = i + 1
	}
	return all
}

// wellKnown is the CPI of DEFLATE (RFC 3173 §3.3).
const wellKnown = 2

// kernel has the kernel keyed for c.
func (c cell) kernel(k *vm.Kernel) {
	there, back := c.states()
	if c.proto == "comp" && !c.cpi {
		there.SPI, back.SPI = wellKnown, wellKnown
	}
	k.Protect(back, there, netip.PrefixFrom(c.them(), c.them().BitLen()), netip.PrefixFrom(c.us(), c.us().BitLen()))
}

// setkey has the stack keyed for c.
func (c cell) setkey() string {
	there, back := c.states()
	s := ""
	if c.unique { // older ones, which are preferred, and that the kernel has not heard of
		for _, sa := range []vm.SA{there, back} {
			sa.SPI, sa.ReqID = sa.SPI+0x4000, sa.ReqID+0x4000
			s += c.add(sa)
		}
	}
	s += c.add(there) + c.add(back)
	return s + c.policy("out", there) + c.policy("in", back)
}

// add is an association in setkey's language.
func (c cell) add(sa vm.SA) string {
	flags := []string{"-m", sa.Mode}
	if sa.ReqID != 0 {
		flags = append(flags, "-u", fmt.Sprint(sa.ReqID))
	}
	if sa.Proto != "comp" {
		flags = append(flags, "-r", fmt.Sprint(max(sa.Window, 32)/8))
	}
	if sa.ESN {
		flags = append(flags, "-f", "esn")
	}
	proto, from, to := sa.Proto, "", ""
	switch {
	case sa.Encap != nil:
		proto, from, to = "esp-udp", fmt.Sprintf("[%d]", sa.Encap.SPort), fmt.Sprintf("[%d]", sa.Encap.DPort)
	case sa.Proto == "comp":
		proto = "ipcomp"
	}
	s := fmt.Sprintf("add %v%s %v%s %s %#x %s", sa.Src, from, sa.Dst, to, proto, sa.SPI, strings.Join(append(flags, sa.More...), " "))
	for _, a := range []vm.Alg{sa.Enc, sa.Auth} {
		if a.Name == "" {
			continue
		}
		opt := map[vm.Kind]string{vm.Auth: "-A", vm.Compress: "-C"}[vm.ByName(a.Name).Kind]
		if opt == "" {
			opt = "-E"
		}
		s += " " + opt + " " + a.Name
		if len(a.Key) > 0 {
			s += fmt.Sprintf(" 0x%x", a.Key)
		}
	}
	if c.cpi {
		s += " -R"
	}
	return s + ";\n"
}

// policy has what goes where sa leads go through it.
func (c cell) policy(dir string, sa vm.SA) string {
	proto, ends, level := sa.Proto, "", "require"
	if sa.Mode != "transport" {
		ends = fmt.Sprintf("%v-%v", sa.Src, sa.Dst)
	}
	switch {
	case c.unique:
		level = fmt.Sprint("unique:", sa.ReqID)
	case proto == "comp":
		proto = "ipcomp"
		if dir == "in" {
			level = "use" // what would not get smaller comes as it is
		}
	}
	return fmt.Sprintf("spdadd %v %v any -P %s ipsec %s/%s/%s/%s;\n", sa.Src, sa.Dst, dir, proto, sa.Mode, ends, level)
}
