package bridge

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"ionet/stack/netif"
)

// Params are a bridge's in the spanning tree.
type Params struct {
	Priority             uint16
	Hello, MaxAge, Delay time.Duration
	ID, Root             uint64 // ours and the root's: priority and address
	RootCost             uint32
	RootPort             *netif.Interface // nil: we are the root
}

// Tree is what there is to say of a bridge's spanning tree. EINVAL.
func (r *Bridges) Tree(ifp *netif.Interface) (Params, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.find(ifp)
	if err != nil {
		return Params{}, err
	}
	t := &b.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Params{Priority: t.priority, Hello: t.mine.hello, MaxAge: t.mine.maxAge, Delay: t.mine.delay}
	if t.on {
		out.ID, out.Root, out.RootCost = t.id, t.root, t.cost
		if t.rootPort != nil {
			out.RootPort = t.rootPort.m.ifp
		}
	}
	return out, nil
}

// SetTree changes a bridge's parameters: of p those that Tree also answers before ID.
// EINVAL: out of the range of IEEE 802.1D §8.10.2.
func (r *Bridges) SetTree(ifp *netif.Interface, p Params) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.find(ifp)
	if err != nil {
		return err
	}
	for _, v := range []struct {
		name     string
		d        time.Duration
		min, max time.Duration
	}{{"hellotime", p.Hello, 1, 10}, {"fwddelay", p.Delay, 2, 30}, {"maxage", p.MaxAge, 6, 40}} {
		if v.d < v.min*time.Second || v.d > v.max*time.Second {
			return fmt.Errorf("%s %v: it is from %d to %d seconds: %w", v.name, v.d, v.min, v.max, syscall.EINVAL)
		}
	}
	t := &b.tree
	t.mu.Lock()
	t.priority, t.mine = p.Priority, times{p.MaxAge, p.Hello, p.Delay}
	t.mu.Unlock()
	b.replant(true)
	return nil
}

// SetPort changes a member's priority and path cost in the spanning tree; negative: as it
// was. EINVAL, ENOENT.
func (r *Bridges) SetPort(ifp, in *netif.Interface, priority, cost int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.place(ifp, in)
	switch {
	case err != nil:
		return err
	case priority > 255:
		return fmt.Errorf("ifpriority %d: it is from 0 to 255: %w", priority, syscall.EINVAL)
	case cost > 65535 || cost == 0:
		return fmt.Errorf("ifpathcost %d: it is from 1 to 65535: %w", cost, syscall.EINVAL)
	}
	t := &m.b.tree
	t.mu.Lock()
	if priority >= 0 {
		m.priority = uint8(priority)
	}
	if cost > 0 {
		m.cost = uint32(cost)
	}
	t.mu.Unlock()
	m.b.replant(true)
	return nil
}

// Changed is to be told when an interface has gone up or down, or its carrier.
func (r *Bridges) Changed(ifp *netif.Interface) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.all[ifp]; b != nil {
		b.replant(false)
	} else if m := r.memberOf(ifp); m != nil {
		m.b.replant(false)
	}
}

// replant has the tree follow the bridge, its members and parameters. anew: it begins from
// nothing, as it does with other identifiers. r.mu is held.
func (b *bridge) replant(anew bool) {
	w := b.r.env.Begin(b.r.env.Now())
	defer w.End()
	t := &b.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = w.Now
	ports, id := t.wanted()
	was := t.on
	t.on = len(ports) > 0
	t.speaks.Store(t.on)
	if anew || !was || !t.on || id != t.id {
		t.begin(w, ports, id)
	} else {
		t.adjust(w, ports)
	}
	t.arm()
}

// wanted are the ports that take part as things are, and the bridge's identifier: its
// priority and the lowest address of theirs.
func (t *tree) wanted() (ports []*port, id uint64) {
	up := t.b.ifp.Up()
	for _, m := range *t.b.members.Load() {
		if m.flags.Load()&STP == 0 || !up {
			m.state.Store(Forwarding)
			continue
		}
		p := t.of(m)
		if p == nil {
			p = &port{m: m}
			m.state.Store(Disabled)
		}
		ports = append(ports, p)
		a := m.ifp.MAC()
		x := uint64(t.priority)<<48 | uint64(a[0])<<40 | uint64(a[1])<<32 | uint64(a[2])<<24 | uint64(a[3])<<16 | uint64(a[4])<<8 | uint64(a[5])
		if id == 0 || x < id {
			id = x
		}
	}
	return ports, id
}

func (p *port) works() bool { return p.m.ifp.Up() && p.m.ifp.LinkUp() }

// begin is initialization (§8.8.1).
func (t *tree) begin(w *netif.Work, ports []*port, id uint64) {
	t.ports, t.id, t.root, t.cost, t.rootPort = ports, id, id, 0, nil
	t.times = t.mine
	t.detected, t.helloAt, t.tcnAt, t.changeAt = false, 0, 0, 0
	t.setChange(false)
	for i, p := range ports {
		ports[i] = &port{m: p.m}
		t.enable(ports[i])
	}
	t.states(w)
	if t.on {
		t.generate(w)
		t.helloAt = t.now + int64(t.hello)
	}
}

// enable is enable port (§8.8.2), or disables one that does not work.
func (t *tree) enable(p *port) {
	t.become(p)
	p.ack, p.pending, p.ageAt, p.delayAt, p.holdAt = false, false, 0, 0, 0
	if p.enabled = p.works(); p.enabled {
		t.setState(p, Blocking)
	} else {
		t.setState(p, Disabled)
	}
}

// adjust enables and disables ports that have changed (§8.8.2, §8.8.3).
func (t *tree) adjust(w *netif.Work, ports []*port) {
	was := t.isRoot()
	for _, p := range t.ports {
		if p.enabled && !(p.works() && slices.Contains(ports, p)) && (p.state == Forwarding || p.state == Hearing) {
			t.detect(w)
		}
	}
	t.ports = ports
	for _, p := range ports {
		if p.enabled != p.works() {
			t.enable(p)
		}
	}
	t.update()
	t.states(w)
	t.rootship(w, was)
	if t.isRoot() {
		t.generate(w)
	}
}
