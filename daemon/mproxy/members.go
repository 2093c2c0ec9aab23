package mproxy

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"ionet/protocol"
)

const (
	// perSocket is how many groups one socket is a member of, perGroup how many sources it names for one: what the stack allows.
	perSocket = 200
	perGroup  = 64
)

// members are the sockets whose memberships are what we want upstream. The stack tells the routers.
type members struct {
	v6         bool
	openSocket func() (socketOption, error)
	addr       netip.Addr // of the interface, of IPv4
	index      int        // and its index
	socks      []*memberSocket
	all        map[netip.Addr]*member
}

type memberSocket struct {
	k socketOption
	n int // groups
}

// socketOption is what is needed of a socket.
type socketOption interface {
	SetOption(level, name int, v []byte) error
	Close() error
}

type member struct {
	in *memberSocket
	filter
}

// on says which interface the memberships are on.
func (m *members) on(i iface) { m.addr, m.index = i.four, i.index }

// reset leaves everything.
func (m *members) reset() {
	for _, s := range m.socks {
		_ = s.k.Close() // it has only been a member
	}
	m.socks, m.all = nil, map[netip.Addr]*member{}
}

// set makes f what we want of a group. A change of the mode is another socket's membership, taken up before the old one is given
// up, so that the routers hear of one change.
func (m *members) set(group netip.Addr, f filter) error {
	if m.all == nil {
		m.all = map[netip.Addr]*member{}
	}
	if len(f.sources) > perGroup { // more than can be said: everything
		f = filter{}
	}
	old := m.all[group]
	switch {
	case f.nothing():
		delete(m.all, group)
		return m.leave(group, old)
	case old != nil && old.include == f.include:
		err := m.change(group, old, f)
		old.filter = f
		return err
	}
	n := &member{filter: f}
	var err error
	if n.in, err = m.room(old); err != nil {
		return err
	}
	if !f.include {
		err = m.call(n.in, joinGroup, group, netip.Addr{})
	}
	op := joinSource
	if !f.include {
		op = blockSource
	}
	for _, a := range f.sources {
		if err == nil {
			err = m.call(n.in, op, group, a)
		}
	}
	n.in.n++
	m.all[group] = n
	if e := m.leave(group, old); err == nil {
		err = e
	}
	return err
}

// change changes the sources of a membership: first those that come, as the last one to go would end it.
func (m *members) change(group netip.Addr, old *member, f filter) (err error) {
	come, go_ := joinSource, leaveSource
	if !f.include {
		come, go_ = blockSource, unblockSource
	}
	for _, x := range []struct {
		op       operation
		in, less []netip.Addr
	}{{come, f.sources, old.sources}, {go_, old.sources, f.sources}} {
		for _, a := range x.in {
			if !slices.Contains(x.less, a) {
				if e := m.call(old.in, x.op, group, a); err == nil {
					err = e
				}
			}
		}
	}
	return err
}

func (m *members) leave(group netip.Addr, old *member) error {
	if old == nil {
		return nil
	}
	old.in.n--
	return m.call(old.in, leaveGroup, group, netip.Addr{})
}

// room is a socket with room for a group, other than that of old.
func (m *members) room(old *member) (*memberSocket, error) {
	for _, s := range m.socks {
		if s.n < perSocket && (old == nil || s != old.in) {
			return s, nil
		}
	}
	k, err := m.openSocket()
	if err != nil {
		return nil, err
	}
	s := &memberSocket{k: k}
	m.socks = append(m.socks, s)
	return s, nil
}

// operation is an option about a membership.
type operation struct {
	four, six int
	source    bool
}

var (
	joinGroup     = operation{protocol.IPAddMembership, protocol.MCastJoinGroup, false}
	leaveGroup    = operation{protocol.IPDropMembership, protocol.MCastLeaveGroup, false}
	joinSource    = operation{protocol.IPAddSourceMembership, protocol.MCastJoinSourceGroup, true}
	leaveSource   = operation{protocol.IPDropSourceMembership, protocol.MCastLeaveSourceGroup, true}
	blockSource   = operation{protocol.IPBlockSource, protocol.MCastBlockSource, true}
	unblockSource = operation{protocol.IPUnblockSource, protocol.MCastUnblockSource, true}
)

// call does one, in the layouts of RFC 3678.
func (m *members) call(s *memberSocket, o operation, group, src netip.Addr) error {
	if m.v6 {
		v := binary.LittleEndian.AppendUint32(nil, uint32(m.index))
		v = protocol.AppendSockaddr(v, protocol.AddrFrom(group, 0))
		if o.source {
			v = protocol.AppendSockaddr(v, protocol.AddrFrom(src, 0))
		}
		return s.k.SetOption(protocol.ProtoIPv6, o.six, v)
	}
	v := group.AsSlice()
	if o.source {
		v = append(v, src.AsSlice()...)
	}
	return s.k.SetOption(protocol.ProtoIP, o.four, append(v, m.addr.AsSlice()...))
}
