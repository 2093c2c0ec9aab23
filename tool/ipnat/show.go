package ipnat

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"ionet/protocol"
	"ionet/tool/ruleset"
)

// shown is what --json prints.
type shown struct {
	Statistics *protocol.NATRow         `json:"statistics,omitempty"`
	Rules      []protocol.NATRuleRow    `json:"rules,omitzero"`
	Sessions   []protocol.NATSessionRow `json:"sessions,omitzero"`
}

func (t *tool) show(s Stack, o *options) error {
	var v shown
	if o.stats {
		row, err := s.Statistics()
		if err != nil {
			return errors.New(ruleset.Reason(err))
		}
		v.Statistics = &row
	}
	if o.list {
		rules, err := s.Rules()
		if err != nil {
			return errors.New(ruleset.Reason(err))
		}
		sessions, err := s.Sessions()
		if err != nil {
			return errors.New(ruleset.Reason(err))
		}
		v.Rules, v.Sessions = append([]protocol.NATRuleRow{}, rules...), append([]protocol.NATSessionRow{}, sessions...)
	}
	if t.json {
		e := json.NewEncoder(t.out)
		e.SetEscapeHTML(false) // rules have arrows
		return e.Encode(v)
	}
	var b []byte
	if v.Statistics != nil {
		b = appendStatistics(b, *v.Statistics)
	}
	if o.list {
		b = append(b, "List of active MAP/Redirect filters:\n"...)
		for _, r := range v.Rules {
			if o.hits {
				b = fmt.Appendf(b, "%d ", r.Hits)
			}
			b = append(append(b, r.Rule...), '\n')
		}
		b = append(b, "\nList of active sessions:\n"...)
		for _, r := range v.Sessions {
			b = appendSession(b, r, o)
		}
	}
	_, err := t.out.Write(b)
	return err
}

func appendStatistics(b []byte, r protocol.NATRow) []byte {
	b = fmt.Appendf(b, "mapped\tin\t%d\tout\t%d\n", r.MappedIn, r.MappedOut)
	b = fmt.Appendf(b, "added\t%d\texpired\t%d\n", r.Added, r.Expired)
	b = fmt.Appendf(b, "evicted\t%d\tbad nat\t%d\n", r.Evicted, r.Bad)
	b = fmt.Appendf(b, "no port\t%d\n", r.Exhausted)
	b = fmt.Appendf(b, "icmp errors\t%d\tbad\t%d\n", r.ICMP, r.BadICMP)
	b = fmt.Appendf(b, "fragments\t%d\tbad\t%d\tno room\t%d\n", r.Frags, r.BadFrags, r.FragFull)
	return fmt.Appendf(b, "inuse\t%d\nrules\t%d\n", r.InUse, r.Rules)
}

// kinds are IPFilter's words for what a rule makes of a session.
var kinds = map[string]string{"map": "MAP", "map-block": "MAP-BLOCK", "rdr": "RDR", "bimap": "BIMAP"}

// appendSession appends
//
//	MAP inside port <- -> outer port [remote port]
func appendSession(b []byte, r protocol.NATSessionRow, o *options) []byte {
	kind := kinds[r.Kind]
	if kind == "" {
		kind = strings.ToUpper(r.Kind)
	}
	b = append(append(b, kind...), ' ')
	b = appendEnd(b, "%-15s", "%-5d", r.Protocol, r.Inside)
	b = append(b, " <- -> "...)
	b = appendEnd(b, "%-15s", "%-5d", r.Protocol, r.Outer)
	b = append(b, " ["...)
	b = append(appendEnd(b, "%s", "%d", r.Protocol, r.Remote), "]\n"...)
	if !o.verbose {
		return b
	}
	b = fmt.Appendf(b, "\tttl %d age %d idle %d pr %s", r.TTL, r.Age, r.Idle, ruleset.Protocol(r.Protocol))
	if r.Established {
		b = append(b, " established"...)
	}
	b = fmt.Appendf(b, "\n\tifp %s bytes %d/%d pkts %d/%d\n", r.Interface, r.BytesIn, r.BytesOut, r.PacketsIn, r.PacketsOut)
	if !o.debug {
		return b
	}
	b = fmt.Appendf(b, "\trule %s", r.Rule)
	if r.Tag != "" {
		b = fmt.Appendf(b, " tag %s", r.Tag)
	}
	return append(b, '\n')
}

// appendEnd appends an address, and of protocols that have them its port or its identifier.
func appendEnd(b []byte, addrForm, portForm string, proto int, end string) []byte {
	a, err := netip.ParseAddrPort(end)
	if err != nil {
		return append(b, end...)
	}
	b = fmt.Appendf(b, addrForm, a.Addr())
	if ruleset.HasPorts(proto) || a.Port() != 0 {
		b = fmt.Appendf(append(b, ' '), portForm, a.Port())
	}
	return b
}
