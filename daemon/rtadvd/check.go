package rtadvd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ionet/daemon/nd"
)

// maxOthers bounds the routers whose differences are remembered; the one that has
// been silent longest goes.
const maxOthers = 32

// otherRouter is a router that advertises on our link too.
type otherRouter struct {
	addr  netip.Addr
	last  time.Time
	until time.Time // its lifetime as a default router
	told  []string  // what has been said of it, and still holds
}

// hear takes another router's advertisement and answers what in it contradicts
// ours (RFC 4861 §6.2.7), each difference once as long as it lasts.
func (a *advertiser) hear(now time.Time, from netip.Addr, m *nd.RouterAdvert) (complaints []string) {
	a.heard++
	if slices.Contains(a.link.own, from) {
		return nil
	}
	i := slices.IndexFunc(a.others, func(o otherRouter) bool { return o.addr == from })
	if i >= 0 { // to the end: the order is that of the last word
		known := a.others[i]
		a.others = append(slices.Delete(a.others, i, i+1), known)
	} else {
		if len(a.others) == maxOthers {
			a.others = slices.Delete(a.others, 0, 1)
		}
		a.others = append(a.others, otherRouter{addr: from})
	}
	o := &a.others[len(a.others)-1]
	o.last, o.until = now, now.Add(time.Duration(m.Lifetime)*time.Second)
	found := a.differences(now, m)
	if len(found) > 0 {
		a.inconsistent++
	}
	var still []string
	for _, d := range found {
		what, _, _ := strings.Cut(d, ": ")
		still = append(still, what)
		if !slices.Contains(o.told, what) {
			complaints = append(complaints, fmt.Sprintf("%s: %s advertises another %s", a.name, from, d))
		}
	}
	o.told = still
	return complaints
}

// differences are what in m contradicts us, as "name: theirs, ours". What one of
// both leaves open is no contradiction.
func (a *advertiser) differences(now time.Time, m *nd.RouterAdvert) (all []string) {
	c := &a.cfg
	number := func(what string, theirs, ours uint32) {
		if theirs != 0 && ours != 0 && theirs != ours {
			all = append(all, fmt.Sprintf("%s: %d, ours is %d", what, theirs, ours))
		}
	}
	flag := func(what string, bit uint8) {
		if (m.Flags^c.Flags)&bit != 0 {
			all = append(all, fmt.Sprintf("%s: %v, ours is %v", what, m.Flags&bit != 0, c.Flags&bit != 0))
		}
	}
	number("hop limit", uint32(m.HopLimit), uint32(c.HopLimit))
	flag("M flag", nd.Managed)
	flag("O flag", nd.Other)
	number("reachable time", m.Reachable, c.Reachable)
	number("retransmission timer", m.Retrans, c.Retrans)
	mtu := c.MTU
	if c.MTUAuto {
		mtu = uint32(a.link.mtu)
	}
	number("MTU", m.MTU, mtu)
	for i, p := range a.prefixes(now) {
		conf := a.cfg.Template
		if i < len(c.Prefixes) {
			conf = c.Prefixes[i]
		}
		for _, x := range m.Prefixes {
			if x.Prefix != p.Prefix {
				continue
			}
			for _, l := range []struct {
				what         string
				theirs, ours uint32
				falls        bool
			}{{"valid lifetime", x.Valid, p.Valid, conf.ValidFalls}, {"preferred lifetime", x.Preferred, p.Preferred, conf.PreferredFalls}} {
				if !a.alike(l.theirs, l.ours, l.falls) {
					all = append(all, fmt.Sprintf("%s of %s: %s, ours is %s", l.what, p.Prefix, seconds(l.theirs), seconds(l.ours)))
				}
			}
		}
	}
	return all
}

// alike compares lifetimes: exactly when they are fixed, by clockskew when they
// fall (RFC 4861 §6.2.7).
func (a *advertiser) alike(theirs, ours uint32, falls bool) bool {
	if theirs == ours {
		return true
	}
	if !falls || theirs == nd.Infinity || ours == nd.Infinity {
		return false
	}
	apart := time.Duration(max(theirs, ours)-min(theirs, ours)) * time.Second
	return apart <= max(a.cfg.ClockSkew, time.Second) // a second begins anywhere
}

// seconds is a lifetime as people say it.
func seconds(n uint32) string {
	if n == nd.Infinity {
		return "infinity"
	}
	return fmt.Sprintf("%d s", n)
}
