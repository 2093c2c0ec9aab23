// Package bridge is bridge(4): Ethernets made one (IEEE 802.1D). A member is what it
// was besides, a station of its own, with its addresses; its link is one more piece of the
// bridged network.
//
// The walk of a frame that a member has received:
//
//	1 member.Take      is it a bridge's own, may it pass, who has sent it?   input.go
//	2 fdb.learn        its sender is behind this member                      fdb.go
//	3 Work.Transmit    to the member that leads to whom it is for, or to all output.go
//	4 ether            what is for a member itself, and for groups, goes up
//
// BPDUs end at 1, in the machine of the spanning tree (stp.go).
//
// What the stack sends by a member takes step 3 alone.
package bridge

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	cntForwarded = mib.NewCounter("bridge", "forwarded", "# frame{s} forwarded to the member that leads to their station")
	cntFlooded   = mib.NewCounter("bridge", "flooded", "# frame{s} sent to all members")
	cntSame      = mib.NewCounter("bridge", "own segment", "# frame{s} for stations on the segment that they came from")
	cntLoop      = mib.NewCounter("bridge", "own frame", "# frame{s} of our own come back")
	cntBadSrc    = mib.NewCounter("bridge", "bad source", "# frame{s} from a group")
	cntTooBig    = mib.NewCounter("bridge", "too big", "# frame{s} larger than the MTU of the member to send by")
	cntNoMem     = mib.NewCounter("bridge", "no memory", "# frame{s} not copied for a member due to no bufs, etc.")
	cntNobody    = mib.NewCounter("bridge", "nobody", "# frame{s} that no member may send")
	cntFull      = mib.NewCounter("bridge", "table full", "# station{s} not learnt because the table was full")
	cntNoOutput  = mib.NewCounter("bridge", "no addresses", "# output packet{s} by a bridge itself, which has no stations")
)

// Flags of a member (NetBSD's IFBIF_*).
const (
	Learning = 0x1 // senders are learnt
	Discover = 0x2 // frames for unknown stations are sent
	STP      = 0x4 // it takes part in the spanning tree

	flagsSettable = Learning | Discover | STP

	maxMembers = 255 // as many as there are numbers of ports (IEEE 802.1D §9.2.7)
)

// Bridges are one stack's bridges.
type Bridges struct {
	env *netif.Env
	// Local takes frames up on the member that they are for; set at assembly.
	Local func(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf)

	mu  sync.Mutex // one change at a time
	all map[*netif.Interface]*bridge
}

// bridge is an interface of ours.
type bridge struct {
	r       *Bridges
	ifp     *netif.Interface
	members atomic.Pointer[[]*member] // in order of adding; replaced with every change
	fdb     fdb
	tree    tree
	local   func(*netif.Work, *packet.Buf) // a turn, made once
}

// member is an interface's place in a bridge.
type member struct {
	b     *bridge
	ifp   *netif.Interface
	flags atomic.Uint32
	state atomic.Uint32 // Forwarding without STP
	gone  atomic.Bool

	number   uint8 // of the port
	priority uint8 // with cost: under the tree's lock
	cost     uint32

	in, out, dropped atomic.Uint64 // frames
}

// New makes the room.
func New(env *netif.Env) *Bridges {
	return &Bridges{env: env, all: map[*netif.Interface]*bridge{}}
}

// Create makes an interface bridgeN, which is not in the stack's table yet.
func (r *Bridges) Create(name string) *netif.Interface {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &bridge{r: r}
	b.ifp = netif.New(netif.Config{Name: name, Type: netif.TypeBridge, MTU: 1500, HdrLen: packet.EtherLen})
	b.ifp.Output = output
	b.members.Store(&[]*member{})
	b.fdb.init(r.env)
	b.tree.init(b)
	b.local = func(w *netif.Work, p *packet.Buf) {
		if ifp := r.env.Ifs.ByIndex(p.RcvIf); ifp != nil {
			r.Local(w, ifp, w.One(p))
			return
		}
		p.Free() // it has gone since
	}
	r.all[b.ifp] = b
	return b.ifp
}

// Destroy forgets a bridge that has been taken out of the stack, or a member.
func (r *Bridges) Destroy(ifp *netif.Interface) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memberOf(ifp); m != nil {
		m.b.remove(m)
	}
	if b := r.all[ifp]; b != nil {
		for _, m := range *b.members.Load() {
			b.remove(m)
		}
		delete(r.all, ifp)
	}
}

// memberOf is an interface's place in a bridge, or nil. mu is held.
func (r *Bridges) memberOf(ifp *netif.Interface) *member {
	// map order: an interface is in one bridge.
	for _, b := range r.all {
		if m := b.member(ifp); m != nil {
			return m
		}
	}
	return nil
}

func (b *bridge) member(ifp *netif.Interface) *member {
	for _, m := range *b.members.Load() {
		if m.ifp == ifp {
			return m
		}
	}
	return nil
}

// find answers the bridge that ifp is. EINVAL.
func (r *Bridges) find(ifp *netif.Interface) (*bridge, error) {
	if b := r.all[ifp]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%s is no bridge: %w", ifp.Name, syscall.EINVAL)
}

// Add makes an interface a member of the bridge that ifp is. Errors: EINVAL (no bridge),
// EEXIST (it is a member), EBUSY (of another bridge), EPROTONOSUPPORT (no Ethernet).
func (r *Bridges) Add(ifp, add *netif.Interface) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.find(ifp)
	if err != nil {
		return err
	}
	switch m := r.memberOf(add); {
	case m != nil && m.b == b:
		return fmt.Errorf("%s is a member of %s already: %w", add.Name, ifp.Name, syscall.EEXIST)
	case m != nil:
		return fmt.Errorf("%s is a member of %s: %w", add.Name, m.b.ifp.Name, syscall.EBUSY)
	case !add.Ether():
		return fmt.Errorf("%s is no Ethernet: %w", add.Name, syscall.EPROTONOSUPPORT)
	}
	m := &member{b: b, ifp: add, priority: defaultPortPriority, cost: defaultCost}
	if m.number = b.freeNumber(); m.number == 0 {
		return fmt.Errorf("%s has %d members: %w", ifp.Name, maxMembers, syscall.ENOSPC)
	}
	m.flags.Store(Learning | Discover)
	m.state.Store(Forwarding)
	s := append(slices.Clone(*b.members.Load()), m)
	b.members.Store(&s)
	add.EditAbove(func(a *netif.Above) { a.Bridge = m })
	add.Promisc(true)
	return nil
}

// freeNumber is the lowest number that no member has; 0: none is left.
func (b *bridge) freeNumber() uint8 {
	for n := 1; n <= maxMembers; n++ {
		if !slices.ContainsFunc(*b.members.Load(), func(m *member) bool { return int(m.number) == n }) {
			return uint8(n)
		}
	}
	return 0
}

// Delete takes an interface out of a bridge. EINVAL, ENOENT.
func (r *Bridges) Delete(ifp, del *netif.Interface) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.place(ifp, del)
	if err != nil {
		return err
	}
	m.b.remove(m)
	return nil
}

// place is the place of an interface in a bridge. EINVAL, ENOENT.
func (r *Bridges) place(ifp, in *netif.Interface) (*member, error) {
	b, err := r.find(ifp)
	if err != nil {
		return nil, err
	}
	if m := b.member(in); m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("%s is no member of %s: %w", in.Name, ifp.Name, syscall.ENOENT)
}

func (b *bridge) remove(m *member) {
	s := slices.DeleteFunc(slices.Clone(*b.members.Load()), func(o *member) bool { return o == m })
	b.members.Store(&s)
	m.gone.Store(true)
	m.ifp.EditAbove(func(a *netif.Above) { a.Bridge = nil })
	m.ifp.Promisc(false)
	b.fdb.forget(func(s *station) bool { return s.at.Load() == m })
	b.replant(false)
}

// SetMember changes flags of a member. EINVAL, ENOENT.
func (r *Bridges) SetMember(ifp, in *netif.Interface, set, clear uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.place(ifp, in)
	if err != nil {
		return err
	}
	if (set|clear)&^flagsSettable != 0 {
		return fmt.Errorf("%#x are no flags of a member: %w", set|clear, syscall.EINVAL)
	}
	m.flags.Store(m.flags.Load()&^clear | set)
	m.b.replant(false)
	return nil
}

// Member is what a bridge has to say of a member.
type Member struct {
	If               *netif.Interface
	Flags            uint32
	In, Out, Dropped uint64 // frames received, sent, and not let through
	Port, Priority   uint8
	Cost, State      uint32
}

// Members are a bridge's, in order of adding. EINVAL.
func (r *Bridges) Members(ifp *netif.Interface) ([]Member, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.find(ifp)
	if err != nil {
		return nil, err
	}
	out := []Member{}
	b.tree.mu.Lock()
	defer b.tree.mu.Unlock()
	for _, m := range *b.members.Load() {
		out = append(out, Member{Port: m.number, Priority: m.priority, Cost: m.cost, State: m.state.Load(), If: m.ifp, Flags: m.flags.Load(), In: m.in.Load(), Out: m.out.Load(), Dropped: m.dropped.Load()})
	}
	return out, nil
}
