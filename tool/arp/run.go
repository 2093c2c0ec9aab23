package arp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"ionet/protocol"
)

// tempLife is how long a temp entry lives.
const tempLife = 20 * time.Minute

// table is what arp reads of a stack.
type table interface {
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, ip netip.Addr) (string, error)
	Neighbours() ([]protocol.NeighbourRow, error)
}

// changer is a routing socket.
type changer interface {
	Request(m protocol.RouteMessage) (protocol.RouteMessage, error)
	Close() error
}

// tool is one run of the command.
type tool struct {
	out      io.Writer
	err      io.Writer
	json     bool
	table    table
	change   func() (changer, error)
	openFile func(name string) (io.ReadCloser, error)
	now      func() time.Time

	numeric, verbose bool
	socket           changer
}

// errSaid means that the failure has been told already.
var errSaid = errors.New("failed")

func (t *tool) do(ctx context.Context, r *request) error {
	defer func() {
		if t.socket != nil {
			t.socket.Close()
		}
	}()
	t.numeric, t.verbose = r.numeric, r.verbose
	switch r.mode {
	case modeGet:
		return t.get(ctx, r.host)
	case modeAll:
		return t.all(ctx)
	case modeDelete:
		return t.delete(ctx, r.host)
	case modeDeleteAll:
		return t.deleteAll(ctx)
	case modeFile:
		return t.file(ctx, r.file)
	}
	return t.set(ctx, r.set)
}

// resolve answers the IPv4 address of a host.
func (t *tool) resolve(ctx context.Context, host string) (netip.Addr, error) {
	if a, err := protocol.ParseInetAton(host); err == nil {
		return a, nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return netip.Addr{}, fmt.Errorf("%s: an address of IPv6; ndp shows and changes those neighbours", host)
	}
	all, err := t.table.LookupHost(ctx, host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s: unknown host: %w", host, err)
	}
	for _, a := range all {
		if a = a.Unmap(); a.Is4() {
			return a, nil
		}
	}
	if len(all) > 0 {
		return netip.Addr{}, fmt.Errorf("%s: it has addresses of IPv6 alone; ndp shows and changes those neighbours", host)
	}
	return netip.Addr{}, fmt.Errorf("%s: it has no IPv4 address", host)
}

// name is the name of an address, or "?".
func (t *tool) name(ctx context.Context, address string) string {
	if ip, err := netip.ParseAddr(address); err == nil && !t.numeric {
		if name, err := t.table.LookupAddr(ctx, ip); err == nil && name != "" {
			return name
		}
	}
	return "?"
}

func (t *tool) print(ctx context.Context, rows []protocol.NeighbourRow) error {
	if t.json {
		if rows == nil {
			rows = []protocol.NeighbourRow{}
		}
		b, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(t.out, "%s\n", b)
		return err
	}
	for _, r := range rows {
		fmt.Fprintln(t.out, t.line(t.name(ctx, r.Address), &r))
	}
	return nil
}

// line is one entry as BSD prints it.
func (t *tool) line(name string, r *protocol.NeighbourRow) string {
	s := fmt.Sprintf("%s (%s) at ", name, r.Address)
	if r.Link == "" {
		s += "(incomplete)"
	} else {
		s += r.Link
	}
	if t.verbose {
		s += " on " + r.Interface
	}
	if r.Permanent {
		s += " permanent"
	}
	if r.Published {
		s += " published"
		if r.ProxyOnly {
			s += " (proxy only)"
		}
	}
	return s
}

// entries are those of IPv4; ndp has the others.
func (t *tool) entries() ([]protocol.NeighbourRow, error) {
	rows, err := t.table.Neighbours()
	return slices.DeleteFunc(rows, func(r protocol.NeighbourRow) bool { return r.Family == "inet6" }), err
}

// found are the entries for an address.
func (t *tool) found(ip netip.Addr) ([]protocol.NeighbourRow, error) {
	rows, err := t.entries()
	if err != nil {
		return nil, err
	}
	var out []protocol.NeighbourRow
	for _, r := range rows {
		if r.Address == ip.String() {
			out = append(out, r)
		}
	}
	return out, nil
}

func (t *tool) get(ctx context.Context, host string) error {
	ip, err := t.resolve(ctx, host)
	if err != nil {
		return err
	}
	rows, err := t.found(ip)
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		return t.print(ctx, rows)
	}
	if t.json {
		t.print(ctx, nil)
	} else {
		fmt.Fprintf(t.out, "%s (%s) -- no entry\n", host, ip)
	}
	return errSaid
}

func (t *tool) all(ctx context.Context) error {
	rows, err := t.entries()
	if err != nil {
		return err
	}
	return t.print(ctx, rows)
}

// request sends a message about an entry.
func (t *tool) request(m protocol.RouteMessage) error {
	if t.socket == nil {
		s, err := t.change()
		if err != nil {
			return err
		}
		t.socket = s
	}
	_, err := t.socket.Request(m)
	return err
}

func entry(typ int, ip netip.Addr) protocol.RouteMessage {
	return protocol.RouteMessage{Type: typ, Flags: protocol.RTFHost | protocol.RTFLLInfo | protocol.RTFStatic,
		Dst: protocol.AddrFrom(ip, 0), NetmaskBits: -1}
}

func (t *tool) delete(ctx context.Context, host string) error {
	ip, err := t.resolve(ctx, host)
	if err != nil {
		return err
	}
	switch err := t.request(entry(protocol.RTMDelete, ip)); {
	case errors.Is(err, syscall.ESRCH), errors.Is(err, syscall.ENXIO):
		return fmt.Errorf("delete: can't locate %s", host)
	case err != nil:
		return fmt.Errorf("delete %s: %s", host, protocol.Strerror(err))
	}
	fmt.Fprintf(t.out, "%s (%s) deleted\n", host, ip)
	return nil
}

func (t *tool) deleteAll(ctx context.Context) error {
	rows, err := t.entries()
	if err != nil {
		return err
	}
	for _, r := range rows {
		ip, err := netip.ParseAddr(r.Address)
		if err != nil || !ip.Is4() {
			continue
		}
		// An entry that has gone meanwhile is as good as deleted.
		switch err := t.request(entry(protocol.RTMDelete, ip)); {
		case errors.Is(err, syscall.ESRCH), errors.Is(err, syscall.ENXIO):
		case err != nil:
			return fmt.Errorf("delete %s: %s", r.Address, protocol.Strerror(err))
		default:
			fmt.Fprintf(t.out, "%s (%s) deleted\n", t.name(ctx, r.Address), r.Address)
		}
	}
	return nil
}

// set makes an entry. On the routing socket a netmask of all ones marks it
// as published, RTF_PROTO2 as for others only.
func (t *tool) set(ctx context.Context, s setting) error {
	ip, err := t.resolve(ctx, s.host)
	if err != nil {
		return err
	}
	m := entry(protocol.RTMAdd, ip)
	m.Gateway = protocol.LinkAddrOf(protocol.LinkOf(0, protocol.IFTEthernet, s.ifname, s.ether))
	if s.pub {
		m.Netmask = protocol.MaskAddr(protocol.AFInet, 32)
	}
	if s.proxy {
		m.Flags |= protocol.RTFProto2
	}
	m.Inits = protocol.RTVExpire
	if s.temp {
		m.Metrics.Expire = uint64(t.now().Add(tempLife).Unix())
	}
	switch err := t.request(m); {
	case errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("cannot intuit interface index and type for %s: it is on no network of ours", s.host)
	case errors.Is(err, syscall.ENXIO) && s.ifname != "":
		return fmt.Errorf("%s: no interface of this name", s.ifname)
	case err != nil:
		return fmt.Errorf("set %s: %s", s.host, protocol.Strerror(err))
	}
	return nil
}

// file makes the entries of a file, one a line. A line that fails is told
// with its number; the others go on.
func (t *tool) file(ctx context.Context, name string) error {
	f, err := t.openFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	failed := false
	for n := 1; in.Scan(); n++ {
		words := LineWords(in.Text())
		if len(words) == 0 {
			continue
		}
		s, err := parseSetting(words)
		if err == nil {
			err = t.set(ctx, s)
		}
		if err != nil {
			fmt.Fprintf(t.err, "arp: %s:%d: %v\n", name, n, err)
			failed = true
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if failed {
		return errSaid
	}
	return nil
}
