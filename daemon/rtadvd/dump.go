package rtadvd

import (
	"fmt"
	"io"
	"net"
	"time"

	"ionet/daemon/nd"
)

// dump writes what SIGUSR1 asks for.
func (a *advertiser) dump(w io.Writer, now time.Time) {
	c := &a.cfg
	status := "DOWN"
	if a.link.up {
		status = "UP"
	}
	fmt.Fprintf(w, "%s:\n  Status: %s\n", a.name, status)
	if !a.last.IsZero() {
		fmt.Fprintf(w, "  Last RA sent: %s\n", a.last.Format(time.ANSIC))
	}
	if at, ok := a.deadline(); ok {
		fmt.Fprintf(w, "  Next RA will be sent: %s\n", at.Format(time.ANSIC))
	} else {
		fmt.Fprintf(w, "  RA timer is stopped\n")
	}
	fmt.Fprintf(w, "  waits: %d, initcount: %d\n", len(a.answers), a.initial)
	fmt.Fprintf(w, "  statistics: RA(out/in/inconsistent): %d/%d/%d, RS(input): %d\n", a.sent, a.heard, a.inconsistent, a.solicits)
	if !c.NoLinkAddr && a.link.hw != nil {
		fmt.Fprintf(w, "  Link-layer address: %s\n", net.HardwareAddr(a.link.hw))
	}
	fmt.Fprintf(w, "  MTU: %d\n", a.link.mtu)
	life := c.Lifetime
	if !a.router || a.leaving {
		life = 0
	}
	fmt.Fprintf(w, "  DefaultLifetime: %d, MaxAdvInterval: %d, MinAdvInterval: %d\n", life, int(c.MaxInterval.Seconds()), int(c.MinInterval.Seconds()))
	flags := ""
	for _, f := range []struct {
		bit  uint8
		name string
	}{{nd.Managed, "M"}, {nd.Other, "O"}, {nd.HomeAgent, "H"}} {
		if c.Flags&f.bit != 0 {
			flags += f.name
		}
	}
	mtu := c.MTU
	if c.MTUAuto {
		mtu = uint32(a.link.mtu)
	}
	fmt.Fprintf(w, "  Flags: %s, Preference: %s, MTU: %d\n", flags, preference(c.Flags), mtu)
	fmt.Fprintf(w, "  ReachableTime: %d, RetransTimer: %d, CurHopLimit: %d\n", c.Reachable, c.Retrans, c.HopLimit)
	if c.ClockSkew != 0 {
		fmt.Fprintf(w, "  Clock skew: %dsec\n", int(c.ClockSkew.Seconds()))
	}
	a.dumpPrefixes(w, now)
	for i, r := range c.Routes {
		if i == 0 {
			fmt.Fprintf(w, "  Routes:\n")
		}
		fmt.Fprintf(w, "    %s(prf: %s, ltime: %s)\n", r.Prefix, preference(r.Pref), lifetime(r.Lifetime))
	}
	for i, s := range c.Servers {
		if i == 0 {
			fmt.Fprintf(w, "  Recursive DNS servers:\n")
		}
		fmt.Fprintf(w, "    %v(ltime: %s)\n", s.Addrs, lifetime(s.Lifetime))
	}
	for i, s := range c.Search {
		if i == 0 {
			fmt.Fprintf(w, "  DNS search list:\n")
		}
		fmt.Fprintf(w, "    %v(ltime: %s)\n", s.Domains, lifetime(s.Lifetime))
	}
	for i, o := range a.others {
		if i == 0 {
			fmt.Fprintf(w, "  Other routers:\n")
		}
		fmt.Fprintf(w, "    %s(last RA: %s, expire: %ds, inconsistent: %v)\n", o.addr, o.last.Format(time.ANSIC),
			max(int(o.until.Sub(now).Seconds()), 0), o.told)
	}
}

func (a *advertiser) dumpPrefixes(w io.Writer, now time.Time) {
	all := a.prefixes(now)
	if len(all)+len(a.gone) == 0 {
		return
	}
	fmt.Fprintf(w, "  Prefixes:\n")
	for i, p := range all {
		origin, conf := "KERNEL", a.cfg.Template
		if i < len(a.cfg.Prefixes) {
			origin, conf = "CONFIG", a.cfg.Prefixes[i]
		}
		decr := func(on bool) string {
			if on {
				return "(decr)"
			}
			return ""
		}
		fmt.Fprintf(w, "    %s(%s, vltime: %s%s, pltime: %s%s, flags: %s)\n", p.Prefix, origin, lifetime(p.Valid), decr(conf.ValidFalls),
			lifetime(p.Preferred), decr(conf.PreferredFalls), prefixFlags(p.Flags))
	}
	for _, g := range a.gone {
		fmt.Fprintf(w, "    %s(WITHDRAWN, for another %ds, flags: %s)\n", g.prefix, int(g.until.Sub(now).Seconds()), prefixFlags(g.flags))
	}
}

func lifetime(n uint32) string {
	if n == nd.Infinity {
		return "infinity"
	}
	return fmt.Sprint(n)
}

func preference(flags uint8) string {
	switch flags & nd.PrefMask {
	case nd.PrefHigh:
		return "high"
	case nd.PrefLow:
		return "low"
	}
	return "medium"
}

func prefixFlags(f uint8) (s string) {
	for _, x := range []struct {
		bit  uint8
		name string
	}{{nd.OnLink, "L"}, {nd.Autonomous, "A"}, {nd.RouterAddr, "R"}} {
		if f&x.bit != 0 {
			s += x.name
		}
	}
	return s
}
