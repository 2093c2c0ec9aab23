package vm

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// SA is a security association, one direction.
type SA struct {
	Proto    string // "esp", "ah" or "comp"
	Mode     string // "transport", "tunnel" or "beet"
	Src, Dst netip.Addr
	SPI      uint32 // of IPComp the CPI
	ReqID    uint32
	Enc      Alg // a Cipher, an AEAD or, for "comp", a Compress
	Auth     Alg
	ESN      bool
	Window   uint32 // packets; 0: 32
	Encap    *Encap // NAT-T
	Sel      *Selector
	More     []string // for ip xfrm state, such as "limit", "packet-hard", "100"
}

// Encap is ESP in UDP (RFC 3948).
type Encap struct{ SPort, DPort uint16 }

// Selector says which packets. The zero one of a family is all.
type Selector struct {
	Src, Dst     netip.Prefix
	Upper        string // "tcp", "icmp", "ipv6-icmp" and so on; empty: any
	SPort, DPort uint16 // 0: any
	Type         uint8  // of ICMP; 0: any
}

// Args is what ip xfrm state add wants.
func (s SA) Args() ([]string, error) {
	a := append(s.id(), "reqid", fmt.Sprint(s.ReqID), "mode", s.Mode)
	for _, g := range []Alg{s.Enc, s.Auth} {
		if g.Name == "" {
			continue
		}
		l := ByName(g.Name)
		if l == nil {
			return nil, fmt.Errorf("no algorithm %q", g.Name)
		}
		key := "0x" + fmt.Sprintf("%x", g.Key)
		if len(g.Key) == 0 {
			key = `""`
		}
		switch l.Kind {
		case AEAD:
			a = append(a, "aead", l.Linux, key, fmt.Sprint(l.ICV))
		case Cipher:
			a = append(a, "enc", l.Linux, key)
		case Auth:
			a = append(a, "auth-trunc", l.Linux, key, fmt.Sprint(l.ICV))
		case Compress:
			a = append(a, "comp", l.Linux)
		}
	}
	if s.Proto != "comp" {
		window := s.Window
		if window == 0 {
			window = 32
		}
		a = append(a, "replay-window", fmt.Sprint(window))
	}
	if s.ESN {
		a = append(a, "flag", "esn")
	}
	if s.Mode == "tunnel" {
		a = append(a, "flag", "af-unspec") // either family inside
	}
	if s.Proto == "ah" && s.Dst.Is4() {
		a = append(a, "flag", "align4") // as RFC 4302 §3.3.3.2.1 has it, and Linux by itself has not
	}
	if s.Encap != nil {
		a = append(a, "encap", "espinudp", fmt.Sprint(s.Encap.SPort), fmt.Sprint(s.Encap.DPort), "0.0.0.0")
	}
	if s.Sel != nil {
		a = append(append(a, "sel"), s.Sel.args()...)
	}
	return append(a, s.More...), nil
}

// id is what ip xfrm state knows one by.
func (s SA) id() []string {
	return []string{"src", s.Src.String(), "dst", s.Dst.String(), "proto", s.Proto, "spi", fmt.Sprintf("%#x", s.SPI)}
}

func (s Selector) args() []string {
	a := []string{"src", s.Src.String(), "dst", s.Dst.String()}
	if s.Upper != "" {
		a = append(a, "proto", s.Upper)
	}
	if s.SPort != 0 {
		a = append(a, "sport", fmt.Sprint(s.SPort))
	}
	if s.DPort != 0 {
		a = append(a, "dport", fmt.Sprint(s.DPort))
	}
	if s.Type != 0 {
		a = append(a, "type", fmt.Sprint(s.Type))
	}
	return a
}

// Policy is an entry of the policy database.
type Policy struct {
	Dir string // "out", "in" or "fwd"
	Selector
	Priority  int
	Block     bool
	Templates []Template // what has been done to a packet, the innermost first; none: it goes in clear
}

// Template is what a policy wants of a packet.
type Template struct {
	Proto, Mode string
	Src, Dst    netip.Addr // of tunnels, and of transport if they are given
	ReqID       uint32
	SPI         uint32 // 0: any
	Optional    bool   // as IPComp is for what comes in: it may have left a short packet as it was
}

// Template is the template that s serves.
func (s SA) Template() Template {
	return Template{Proto: s.Proto, Mode: s.Mode, Src: s.Src, Dst: s.Dst, ReqID: s.ReqID}
}

// Args is what ip xfrm policy add wants.
func (p Policy) Args() []string {
	a := append(p.Selector.args(), "dir", p.Dir, "priority", fmt.Sprint(p.Priority))
	if p.Block {
		a = append(a, "action", "block")
	}
	for _, t := range p.Templates {
		a = append(a, "tmpl")
		if t.Src.IsValid() {
			a = append(a, "src", t.Src.String(), "dst", t.Dst.String())
		}
		a = append(a, "proto", t.Proto)
		if t.SPI != 0 {
			a = append(a, "spi", fmt.Sprintf("%#x", t.SPI))
		}
		a = append(a, "reqid", fmt.Sprint(t.ReqID), "mode", t.Mode)
		if t.Optional {
			a = append(a, "level", "use")
		}
	}
	return a
}

// IPsec is the modules of everything that Algorithms has, and their machinery.
func IPsec() []string {
	m := []string{"xfrm_user", "af_key", "xfrm_interface", "esp4", "esp6", "ah4", "ah6", "ipcomp", "ipcomp6", "xfrm4_tunnel", "xfrm6_tunnel",
		"authenc", "authencesn", "echainiv", "seqiv", "ctr", "ghash_generic"}
	seen := map[string]bool{"": true}
	for _, a := range Algorithms {
		if !seen[a.Module] {
			seen[a.Module] = true
			m = append(m, a.Module)
		}
	}
	return m
}

// XfrmState adds security associations.
func (k *Kernel) XfrmState(all ...SA) {
	k.T.Helper()
	var lines []string
	for _, s := range all {
		a, err := s.Args()
		if err != nil {
			k.T.Fatal(err)
		}
		lines = append(lines, "xfrm state add "+strings.Join(a, " "))
	}
	k.IP(lines...)
}

// XfrmDelete deletes security associations, which must be there.
func (k *Kernel) XfrmDelete(all ...SA) {
	k.T.Helper()
	var lines []string
	for _, s := range all {
		lines = append(lines, "xfrm state delete "+strings.Join(s.id(), " "))
	}
	k.IP(lines...)
}

// XfrmPolicy adds policies.
func (k *Kernel) XfrmPolicy(all ...Policy) {
	k.T.Helper()
	var lines []string
	for _, p := range all {
		lines = append(lines, "xfrm policy add "+strings.Join(p.Args(), " "))
	}
	k.IP(lines...)
}

// Protect has traffic between two networks protected by two security associations, which it adds.
// For transport they are the ends' own, of full length.
func (k *Kernel) Protect(out, in SA, local, remote netip.Prefix) {
	k.T.Helper()
	k.XfrmState(out, in)
	k.Require(out, in, local, remote)
}

// Require is Protect for security associations that are there, or will be.
func (k *Kernel) Require(out, in SA, local, remote netip.Prefix) {
	k.T.Helper()
	inbound := in.Template()
	inbound.Optional = in.Proto == "comp"
	p := []Policy{
		{Dir: "out", Selector: Selector{Src: local, Dst: remote}, Templates: []Template{out.Template()}},
		{Dir: "in", Selector: Selector{Src: remote, Dst: local}, Templates: []Template{inbound}},
	}
	if in.Mode == "tunnel" {
		p = append(p, Policy{Dir: "fwd", Selector: Selector{Src: remote, Dst: local}, Templates: []Template{inbound}})
	}
	k.XfrmPolicy(p...)
}

// XfrmFlush forgets all security associations and policies.
func (k *Kernel) XfrmFlush() {
	k.T.Helper()
	k.IP("xfrm state flush", "xfrm policy flush")
}

// IP has ip(8) do lines of commands, each of which must succeed.
func (k *Kernel) IP(lines ...string) {
	k.T.Helper()
	r := k.RunWith([]byte(strings.Join(lines, "\n")+"\n"), 2*time.Minute, "ip", "-batch", "-")
	if r.Status != 0 {
		k.T.Fatalf("in the machine: ip -batch: status %d\n%s%s%s", r.Status, r.Out, r.Err, strings.Join(lines, "\n"))
	}
}

// NeighboursInClear has neighbours of IPv6 find each other in clear, whatever policies come after it.
func (k *Kernel) NeighboursInClear() {
	k.T.Helper()
	var all []Policy
	for _, dir := range []string{"in", "out"} {
		for _, kind := range []uint8{135, 136} {
			any := netip.MustParsePrefix("::/0")
			all = append(all, Policy{Dir: dir, Selector: Selector{Src: any, Dst: any, Upper: "ipv6-icmp", Type: kind}})
		}
	}
	k.XfrmPolicy(all...)
}

// EncapPort has the kernel take ESP out of UDP at a port, until the job is stopped.
func (k *Kernel) EncapPort(port uint16) *Job {
	k.T.Helper()
	k.Load("af_key")
	j := k.Begin(Tool, "encap", fmt.Sprint(port))
	j.Says("encap: ready")
	return j
}
