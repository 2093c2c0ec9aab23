package sim_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/packet"
)

// daemons are the key management of both gateways, as IKE would do it: messages between them take
// time, get lost in the bad time and are sent again.
type daemons struct {
	v        *vpn
	children []*child
	of       map[*ipsec.SA]*pairOfSAs
	manner   int // what they do when keys get old
	fickle   bool
	ended    bool
	count    struct{ acquired, renewed, hard, failed, extended, given int }
}

// What daemons do when keys get old.
const (
	prompt = iota // they make new ones at once
	late          // perhaps too late
	never         // they wait until none is there
	mixed
)

// child is what a request of the policies is fulfilled by: pairs of SAs, one after the other.
type child struct {
	v      *vpn
	layer  ipsec.Request
	unique bool
	busy   [2]bool // the daemon of that gateway is making new ones
	pairs  []*pairOfSAs
}

// pairOfSAs are one SA for each direction: 0 from ga to gb.
type pairOfSAs struct {
	c       *child
	spec    [2]ipsec.Spec
	sa      [2][2]*ipsec.SA // by direction: with whom sends, with whom receives
	renewed [2]bool         // the daemon of that gateway was told that it gets old
	made    bool            // both gateways have it
	gone    bool
	by      int // whose daemon wants it gone that is not yet made, from 1 on
}

func (d *daemons) begin(v *vpn) {
	d.v, d.of = v, map[*ipsec.SA]*pairOfSAs{}
	d.manner, d.fickle = v.r.IntN(mixed+1), v.chance(2)
	for i, g := range v.gates {
		g.IPsec.Subscribe(func(e ipsec.Event) { d.told(i, e) })
	}
}

// child makes one; some have their keys from the start.
func (d *daemons) child(v *vpn, l ipsec.Request, unique bool) {
	c := &child{v: v, layer: l, unique: unique}
	if c.layer.Level = ipsec.Require; unique {
		c.layer.Level, c.layer.ReqID = ipsec.Unique, uint32(len(d.children)+1)
	}
	d.children = append(d.children, c)
	if l.Proto == packet.ProtoIPComp || v.chance(2) {
		p := c.draw()
		for dir := range 2 {
			p.install(dir, dir, false)
			p.install(dir, 1-dir, false)
		}
		c.ready(p)
	}
}

// request is the child's in a policy for what gateway i sends.
func (c *child) request(i int) ipsec.Request {
	r := c.layer
	if r.Mode == ipsec.ModeTunnel {
		r.Src, r.Dst = c.v.outer[i], c.v.outer[1-i]
	}
	return r
}

var encrypting = slices.DeleteFunc(crypt.Ealgs(), func(a crypt.Algorithm) bool {
	return a.Number == crypt.EalgNull || a.Number == crypt.EalgAESGMAC
})

var signing = slices.DeleteFunc(crypt.Aalgs(), func(a crypt.Algorithm) bool {
	return a.Number == crypt.AalgNull || a.IVLen != 0
})

// key is a random one that suits.
func (v *vpn) key(a crypt.Algorithm) []byte {
	bits := a.MinBits
	if a.Keys != nil {
		bits = a.Keys[v.r.IntN(len(a.Keys))]
	} else if a.MaxBits > a.MinBits {
		bits += 8 * v.r.IntN((a.MaxBits-a.MinBits)/8+1)
	}
	k := make([]byte, bits/8)
	for i := range k {
		k[i] = byte(v.r.Uint32())
	}
	return k
}

// draw makes the specs of a pair.
func (c *child) draw() *pairOfSAs {
	v, r := c.v, c.v.r
	p := &pairOfSAs{c: c}
	e, a := encrypting[r.IntN(len(encrypting))], signing[r.IntN(len(signing))]
	for e.Weak && !v.chance(8) { // the old ones are slow
		e = encrypting[r.IntN(len(encrypting))]
	}
	esn, window, raw := v.chance(2), 32<<r.IntN(8), v.chance(2)
	for dir := range p.spec {
		s := &p.spec[dir]
		*s = ipsec.Spec{Proto: c.layer.Proto, SPI: 1<<24 | r.Uint32()>>8, Mode: c.layer.Mode, Src: v.outer[dir], Dst: v.outer[1-dir], ReqID: c.layer.ReqID, Replay: window, ESN: esn}
		switch s.Proto {
		case packet.ProtoESP:
			s.Ealg, s.Ekey = e.Number, v.key(e)
			if !e.AEAD {
				s.Aalg, s.Akey = a.Number, v.key(a)
			}
			s.Pad = uint8(r.IntN(3))
			if s.Mode == ipsec.ModeTunnel && v.chance(8) {
				s.TFC = r.IntN(300)
			}
			if v.natt && c.layer.Mode == v.shape.layers[len(v.shape.layers)-1].Mode {
				s.NATT = ipsec.NATT{Type: 2, Sport: 4500, Dport: 4500}
			}
		case packet.ProtoAH:
			s.Aalg, s.Akey = a.Number, v.key(a)
		default:
			s.Calg, s.RawCPI, s.Replay, s.ESN = crypt.CalgDeflate, raw, 0, false
			s.SPI = uint32(256 + r.IntN(60000))
		}
	}
	c.pairs = append(c.pairs, p)
	return p
}

// lifetimes are drawn for each copy of an SA: daemons need not agree.
func (v *vpn) lifetimes() (soft, hard ipsec.Lifetime) {
	r := v.r
	if v.chance(3) {
		hard.Packets = uint32(20 + r.IntN(200))
		soft.Packets = hard.Packets - uint32(r.IntN(20))
	}
	if v.chance(3) {
		hard.Bytes = uint64(10000 + r.IntN(100000))
		soft.Bytes = hard.Bytes - uint64(r.IntN(10000))
	}
	if v.chance(3) {
		hard.Add = int64(2 + r.IntN(6))
		soft.Add = max(1, hard.Add-int64(r.IntN(4)))
	}
	if v.chance(4) {
		hard.Use = int64(2 + r.IntN(6))
		soft.Use = max(1, hard.Use-int64(r.IntN(4)))
	}
	if v.chance(8) {
		hard = ipsec.Lifetime{}
	}
	return soft, hard
}

// install gives gateway i its copy of the SA of a direction; larval: it has asked for the SPI before.
func (p *pairOfSAs) install(dir, i int, larval bool) {
	v := p.c.v
	s := p.spec[dir]
	s.Ekey, s.Akey = bytes.Clone(s.Ekey), bytes.Clone(s.Akey)
	if s.Proto != packet.ProtoIPComp {
		s.Soft, s.Hard = v.lifetimes()
	}
	give := v.gates[i].IPsec.Add
	if larval {
		give = v.gates[i].IPsec.Update
	}
	sa, err := give(s)
	if err != nil {
		v.fail("SA %+v: %v", s, err)
		return
	}
	which := 0
	if i != dir {
		which = 1
	}
	p.sa[dir][which] = sa
	v.keys.of[sa] = p
}

// say has f called when a message has got to the other daemon.
func (d *daemons) say(f func()) {
	at := d.v.some(time.Millisecond, 150*time.Millisecond)
	for !d.v.good && d.v.chance(3) {
		at += d.v.some(300*time.Millisecond, time.Second)
	}
	d.v.n.At(at, func() {
		if !d.ended {
			f()
		}
	})
}

// negotiate makes a new pair of SAs at the wish of gateway i; session is of the acquire, or 0.
func (c *child) negotiate(i int, session uint32) {
	v, d := c.v, &c.v.keys
	if c.busy[i] {
		return
	}
	c.busy[i] = true
	p := c.draw()
	in := 1 - i // the direction that comes to i
	larval := v.chance(2)
	if larval {
		s := p.spec[in]
		sa, err := v.gates[i].IPsec.GetSPI(ipsec.Spec{Proto: s.Proto, Mode: s.Mode, Src: s.Src, Dst: s.Dst, ReqID: s.ReqID}, 1<<24, 1<<28)
		if err != nil {
			v.fail("getspi: %v", err)
			return
		}
		p.spec[in].SPI = sa.SPI
	}
	if !v.good && v.chance(8) { // nothing comes of it
		d.say(func() {
			d.count.failed++
			c.busy[i] = false
			v.gates[i].IPsec.Failed(session)
		})
		return
	}
	d.say(func() {
		first := v.r.IntN(2)
		for k := range 2 {
			p.install(first^k, 1-i, false)
		}
		d.say(func() {
			first := v.r.IntN(2)
			for k := range 2 {
				p.install(first^k, i, larval && first^k == in)
			}
			c.busy[i] = false
			c.ready(p)
			for _, old := range slices.Clone(c.pairs) {
				if old != p && old.made && !d.fickle {
					v.n.At(v.some(100*time.Millisecond, 4*time.Second), func() { old.end(i) })
				}
			}
		})
	})
}

// ready is when both gateways have a pair.
func (c *child) ready(p *pairOfSAs) {
	p.made = true
	d := &c.v.keys
	d.count.given++
	if p.by != 0 {
		p.end(p.by - 1)
	}
	if c.layer.Proto == packet.ProtoIPComp || !c.v.chance(4) {
		return
	}
	c.v.n.At(c.v.some(time.Second, 8*time.Second), func() { // of their own accord
		if !d.ended && !p.gone {
			c.negotiate(c.v.r.IntN(2), 0)
		}
	})
}

// end has gateway i delete a pair and tell the other one.
func (p *pairOfSAs) end(i int) {
	switch {
	case p.gone || p.c.v.keys.ended:
		return
	case !p.made:
		p.by = i + 1
		return
	}
	p.gone = true
	p.delete(i)
	p.c.v.keys.say(func() { p.delete(1 - i) })
}

func (p *pairOfSAs) delete(i int) {
	for dir := range p.sa {
		which := 0
		if i != dir {
			which = 1
		}
		if sa := p.sa[dir][which]; sa != nil {
			p.c.v.gates[i].IPsec.Delete(sa)
		}
	}
}

// told is a gateway's word to its daemon.
func (d *daemons) told(i int, e ipsec.Event) {
	v := d.v
	if d.ended {
		return
	}
	switch {
	case e.Kind == ipsec.Acquire:
		c := d.wanted(i, &e.Wanted)
		if c == nil {
			v.fail("%s asks for an SA that no policy of its wants: %+v", v.gates[i].Name, e.Wanted)
			return
		}
		d.count.acquired++
		v.n.At(v.some(0, 50*time.Millisecond), func() { c.negotiate(i, e.Session) })
	case e.Kind == ipsec.SAExpired && e.Hard:
		p := d.of[e.SA]
		if p == nil {
			return // a larval one of a negotiation that has failed
		}
		d.count.hard++
		v.n.At(v.some(0, 50*time.Millisecond), func() { p.end(i) })
	case e.Kind == ipsec.SAExpired:
		p := d.of[e.SA]
		if p == nil || p.renewed[i] {
			return
		}
		p.renewed[i] = true
		v.n.At(0, func() { d.old(i, e.SA, p) })
	}
}

// old does what is the daemons' manner when an SA gets old.
func (d *daemons) old(i int, sa *ipsec.SA, p *pairOfSAs) {
	v := d.v
	manner := d.manner
	if manner == mixed {
		manner = v.r.IntN(mixed)
	}
	wait := time.Duration(0)
	switch manner {
	case never:
		return
	case late:
		wait = v.some(0, 6*time.Second)
	}
	if v.chance(10) && !p.gone { // it may live longer
		s := sa.Spec
		s.Soft, s.Hard = v.lifetimes()
		if _, err := v.gates[i].IPsec.Update(s); err == nil { // it may just have ended
			d.count.extended++
		}
		p.renewed[i] = false
		return
	}
	v.n.At(wait, func() {
		if !d.ended && p == p.c.latest() {
			d.count.renewed++
			p.c.negotiate(i, 0)
		}
	})
}

// latest is the pair that both gateways got last.
func (c *child) latest() *pairOfSAs {
	for _, p := range slices.Backward(c.pairs) {
		if p.sa[0][0] != nil && p.sa[1][0] != nil {
			return p
		}
	}
	return nil
}

func (d *daemons) wanted(i int, w *ipsec.Wanted) *child {
	for _, c := range d.children {
		if c.layer.Proto == w.Proto && c.layer.Mode == w.Mode && c.layer.ReqID == w.ReqID && w.Src == d.v.outer[i] && w.Dst == d.v.outer[1-i] {
			return c
		}
	}
	return nil
}

// end takes all keys and policies away.
func (d *daemons) end() {
	d.ended = true
	for _, g := range d.v.gates {
		g.IPsec.FlushPolicies()
		g.IPsec.DeleteAll(0, netip.Addr{}, netip.Addr{})
	}
}

// state is for who looks for the fault.
func (d *daemons) state() string {
	var b strings.Builder
	fmt.Fprintf(&b, "daemons: manner %d, %+v\n", d.manner, d.count)
	for _, g := range d.v.gates {
		for _, sa := range g.IPsec.SAs(0) {
			i := sa.Info()
			fmt.Fprintf(&b, "%s: proto %d mode %d spi %#x %v > %v reqid %d state %d number %d packets %d octets %d soft %v hard %v\n", g.Name,
				i.Proto, i.Mode, i.SPI, i.Src, i.Dst, i.ReqID, i.State, i.Number, i.Packets, i.Bytes, i.Soft, i.Hard)
		}
	}
	return b.String()
}
