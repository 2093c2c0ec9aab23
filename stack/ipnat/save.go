package ipnat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"

	"ionet/stack/packet"
)

// saveVersion is that of what Save writes.
const saveVersion = 1

// maxSaved bounds the sessions of one file.
const maxSaved = 1 << 20

// saved is a file of sessions. It is JSON.
type saved struct {
	Version  int            `json:"version"`
	Sessions []savedSession `json:"sessions"`
}

type savedSession struct {
	Rule   string         `json:"rule"` // as it is printed
	If     string         `json:"if"`
	Proto  uint8          `json:"proto"`
	Out    bool           `json:"out"` // begun by what went out
	Inside netip.AddrPort `json:"inside"`
	Outer  netip.AddrPort `json:"outer"`
	Remote netip.AddrPort `json:"remote"`
	TCP    uint32         `json:"tcp,omitempty"`
	TTL    int64          `json:"ttl"` // nanoseconds
}

// Save writes the sessions down (ipfs -N).
func (n *NAT) Save() ([]byte, error) {
	f := saved{Version: saveVersion, Sessions: []savedSession{}}
	now := n.env.Now()
	t := &n.table
	t.mu.Lock()
	for c := range t.queues {
		for s := t.queues[c].next; s != &t.queues[c]; s = s.next {
			if s.ftp != nil && s.ftp.edited.Load() { // whoever goes on with it must know by how much
				continue
			}
			f.Sessions = append(f.Sessions, savedSession{s.rule.text, s.ifp.Name, s.proto, s.began, s.in.addrPort(s.v6 || s.rule.six()),
				s.out.addrPort(s.v6), s.rem.addrPort(s.v6), s.tcp.Load(), max(s.expire.Load()-now, 1)})
		}
	}
	t.mu.Unlock()
	return json.Marshal(f)
}

// Restore takes sessions that Save has written down. Those whose rule or interface is not
// there, or whose ends are taken, are left out; added is the number of the others. With an
// error none is taken.
func (n *NAT) Restore(b []byte) (added int, err error) {
	var f saved
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return 0, fmt.Errorf("no file of translations: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return 0, fmt.Errorf("something follows the translations, at octet %d", d.InputOffset())
	}
	if f.Version != saveVersion {
		return 0, fmt.Errorf("translations of version %d; %d is expected", f.Version, saveVersion)
	}
	if len(f.Sessions) > maxSaved {
		return 0, fmt.Errorf("%d translations; %d at most", len(f.Sessions), maxSaved)
	}
	for x := range f.Sessions {
		if err := f.Sessions[x].check(); err != nil {
			return 0, fmt.Errorf("translation %d: %w", x, err)
		}
	}
	n.mu.Lock() // rules stay
	defer n.mu.Unlock()
	now := n.env.Now()
	rules := map[string]*rule{}
	for _, r := range n.rules.Load().all {
		rules[r.text] = r
	}
	t := &n.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for x := range f.Sessions {
		v := &f.Sessions[x]
		r, ifp := rules[v.Rule], n.env.Ifs.ByName(v.If)
		if r == nil || r.stateless() || r.six() != v.across() || ifp == nil || t.active.Load() >= n.env.MIB.Int(nodeMax) {
			continue
		}
		s := &session{n: n, rule: r, proto: v.Proto, v6: v.Outer.Addr().Is6(), began: v.Out, ifp: ifp, born: now, up: v.Proto == packet.ProtoTCP && tcpUp(v.TCP)}
		s.in, s.out, s.rem = endOf(v.Inside.Addr(), v.Inside.Port()), endOf(v.Outer.Addr(), v.Outer.Port()), endOf(v.Remote.Addr(), v.Remote.Port())
		s.timer.Fn = s.tick
		s.tcp.Store(v.TCP)
		s.last.Store(now)
		s.expire.Store(now + min(v.TTL, s.timeout(v.Out)))
		if t.add(s) {
			added++
		}
	}
	return added, nil
}

// across reports a session of nat64.
func (v *savedSession) across() bool { return v.Inside.Addr().Is6() && v.Outer.Addr().Is4() }

func (v *savedSession) check() error {
	for _, a := range []netip.AddrPort{v.Inside, v.Outer, v.Remote} {
		switch {
		case !a.IsValid():
			return fmt.Errorf("an address is missing")
		case a.Addr().Zone() != "" || a.Addr().Is4In6():
			return fmt.Errorf("%s: an address without zone, of IPv4 or of IPv6, is expected", a)
		case a.Addr().Is4() != v.Outer.Addr().Is4() && (a != v.Inside || !v.across()):
			return fmt.Errorf("%s and %s are of two families", v.Outer, a)
		}
	}
	if v.TTL <= 0 {
		return fmt.Errorf("its time, %d, is over", v.TTL)
	}
	if v.TCP > tcpReset<<1-1 || v.TCP != 0 && v.Proto != packet.ProtoTCP {
		return fmt.Errorf("no connection is in state %d", v.TCP)
	}
	return nil
}
