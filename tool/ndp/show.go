package ndp

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"ionet/protocol"
)

// Widths of the columns of neighbours.
const (
	addrWidth = 36
	linkWidth = 17
	ifWidth   = 6
)

func (t *tool) heading() {
	fmt.Fprintf(t.out, "%-*.*s %-*.*s %*.*s %-9.9s %1s %4s\n", addrWidth, addrWidth, "Neighbor", linkWidth, linkWidth, "Linklayer Address",
		ifWidth, ifWidth, "Netif", "Expire", "S", "Flgs")
}

func (t *tool) lines(ctx context.Context, rows []protocol.NeighbourRow) {
	stamp := ""
	if t.stamped {
		stamp = t.now().Format("15:04:05.000000 ")
	}
	for i := range rows {
		io.WriteString(t.out, stamp+line(&rows[i], t.name(ctx, rows[i].Address), t.long)+"\n")
	}
}

// states are the letters of the column S. What was made by hand is reachable.
var states = map[string]string{"INCOMPLETE": "I", "REACHABLE": "R", "STALE": "S", "DELAY": "D", "PROBE": "P", "PERMANENT": "R", "": "N"}

// line is one neighbour as KAME prints it. What is too wide for its column is
// cut, or with long takes from the next column.
func line(r *protocol.NeighbourRow, name string, long bool) string {
	link := "(incomplete)"
	if r.Link != "" {
		link = etherText(r.Link)
	}
	aw, lw, iw := addrWidth, linkWidth, ifWidth
	if long {
		aw = max(aw, len(name))
		lw = max(addrWidth+linkWidth-aw, len(link))
		iw = max(addrWidth+linkWidth+ifWidth-aw-lw, len(r.Interface))
	}
	expire := "expired"
	switch {
	case r.Permanent:
		expire = "permanent"
	case r.Expire > 0:
		expire = duration(r.Expire)
	}
	state, ok := states[r.State]
	if !ok {
		state = "?"
	}
	flags := ""
	if r.Router {
		flags += "R"
	}
	if r.Published {
		flags += "p"
	}
	s := fmt.Sprintf("%-*.*s %-*.*s %*.*s %-9.9s %s %s", aw, aw, name, lw, lw, link, iw, iw, r.Interface, expire, state, flags)
	if r.Probes > 0 {
		s += fmt.Sprintf(" %d", r.Probes)
	}
	return s
}

// etherText is a link address without zeros in front of its octets.
func etherText(s string) string {
	parts := strings.Split(s, ":")
	for i, p := range parts {
		if len(p) == 2 && p[0] == '0' {
			parts[i] = p[1:]
		}
	}
	return strings.Join(parts, ":")
}

// duration is "1d2h3m4s"; what is zero in front is left out.
func duration(sec int64) string {
	var b []byte
	for _, u := range []struct {
		of   int64
		unit byte
	}{{86400, 'd'}, {3600, 'h'}, {60, 'm'}} {
		if n := sec / u.of; n > 0 || len(b) > 0 {
			b = append(strconv.AppendInt(b, n, 10), u.unit)
		}
		sec %= u.of
	}
	return string(append(strconv.AppendInt(b, sec, 10), 's'))
}

// bit is a flag and its letter.
type bit struct {
	on     bool
	letter string
}

func letters(bits ...bit) (s string) {
	for _, b := range bits {
		if b.on {
			s += b.letter
		}
	}
	return s
}

func lifetime(sec int64) string {
	if sec < 0 {
		return "infinity"
	}
	return strconv.FormatInt(sec, 10)
}

// prefixes shows the prefixes that routers have told of.
func (t *tool) prefixes(ctx context.Context) error {
	rows, err := t.stack.Prefixes()
	if err != nil || t.json {
		if err == nil {
			err = printJSON(t, rows)
		}
		return err
	}
	known, err := t.neighbours()
	if err != nil {
		return err
	}
	for _, r := range rows {
		fmt.Fprintf(t.out, "%s if=%s\n", r.Prefix, r.Interface)
		expire := "Never"
		if r.Expire >= 0 {
			expire = duration(r.Expire)
		}
		expire = ", expire=" + expire
		if r.Expire == 0 {
			expire = ", expired"
		}
		fmt.Fprintf(t.out, "flags=%s vltime=%s, pltime=%s%s, ref=%d\n",
			letters(bit{r.OnLink, "L"}, bit{r.Autonomous, "A"}, bit{r.OnLink && !r.Detached, "O"}, bit{r.Detached, "D"}),
			lifetime(r.Valid), lifetime(r.Preferred), expire, r.Refs)
		if len(r.Routers) == 0 {
			fmt.Fprintln(t.out, "  No advertising router")
			continue
		}
		fmt.Fprintln(t.out, "  advertised by")
		for _, router := range r.Routers {
			fmt.Fprintf(t.out, "    %s (%s)\n", t.name(ctx, router), reachability(known, router))
		}
	}
	return nil
}

// reachability is what is known of a router as a neighbour.
func reachability(known []protocol.NeighbourRow, router string) string {
	ip, err := netip.ParseAddr(router)
	for _, n := range known {
		if a, aerr := netip.ParseAddr(n.Address); err != nil || aerr != nil || a != ip {
			continue
		}
		if n.State == "INCOMPLETE" {
			return "unreachable"
		}
		return "reachable"
	}
	return "no neighbor state"
}

// routers shows the default routers.
func (t *tool) routers(ctx context.Context) error {
	rows, err := t.stack.Routers()
	if err != nil || t.json {
		if err == nil {
			err = printJSON(t, rows)
		}
		return err
	}
	for _, r := range rows {
		expire := "expire=" + duration(r.Expire)
		if r.Expire <= 0 {
			expire = "expired"
		}
		fmt.Fprintf(t.out, "%s if=%s, flags=%s, pref=%s, %s\n", t.name(ctx, r.Address), r.Interface,
			letters(bit{r.Managed, "M"}, bit{r.Other, "O"}), r.Preference, expire)
	}
	return nil
}

// ifaceText is what -i shows.
func ifaceText(r *protocol.NDIfRow) string {
	ms := func(v int64) string { return fmt.Sprintf("%ds%dms", v/1000, v%1000) }
	s := fmt.Sprintf("linkmtu=%d, curhlim=%d, basereachable=%s, reachable=%ds, retrans=%s\n",
		r.LinkMTU, r.CurHopLimit, ms(r.BaseReachable), r.Reachable/1000, ms(r.Retrans))
	var names []string
	for _, f := range ifFlags {
		if r.Flags&f.bit != 0 {
			names = append(names, f.shown)
		}
	}
	if names != nil {
		s += "Flags: " + strings.Join(names, " ") + "\n"
	}
	return s
}
