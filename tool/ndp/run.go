package ndp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"ionet/protocol"
	"ionet/tool/arp"
)

// tempLife is how long a temp entry lives.
const tempLife = 20 * time.Minute

// source is what ndp asks of a stack.
type source interface {
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, ip netip.Addr) (string, error)
	IfIndex(name string) (int, error)
	Neighbours() ([]protocol.NeighbourRow, error)
	Prefixes() ([]protocol.PrefixRow, error)
	Routers() ([]protocol.RouterRow, error)
	ND(name string) ([]protocol.NDIfRow, error)
	SetNDFlags(name string, set, clear uint32) error
	FlushPrefixes() error
	FlushRouters() error
	DefaultInterface() (string, error)
	SetDefaultInterface(name string) error
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
	stack    source
	change   func() (changer, error)
	openFile func(name string) (io.ReadCloser, error)
	now      func() time.Time
	wait     func(ctx context.Context, d time.Duration) error

	*request
	socket changer
}

// errSaid means that the failure has been told already.
var errSaid = errors.New("failed")

func (t *tool) do(ctx context.Context, r *request) error {
	defer func() {
		if t.socket != nil {
			t.socket.Close()
		}
	}()
	t.request = r
	switch r.mode {
	case modeGet:
		return t.get(ctx)
	case modeAll:
		return t.all(ctx)
	case modeClear:
		return t.clear(ctx)
	case modeDelete:
		return t.delete(ctx, r.host)
	case modeFile:
		return t.fromFile(ctx)
	case modeHarmonize:
		return nil
	case modeDefaultIf:
		return t.defaultIf()
	case modeIf:
		return t.iface()
	case modeFlushPrefixes:
		return t.stack.FlushPrefixes()
	case modePrefixes:
		return t.prefixes(ctx)
	case modeFlushRouters:
		return t.stack.FlushRouters()
	case modeRouters:
		return t.routers(ctx)
	}
	return t.setEntry(ctx, r.set)
}

// resolve answers the IPv6 address of a host, with the name of its interface
// when it is one of a link.
func (t *tool) resolve(ctx context.Context, host string) (netip.Addr, error) {
	a, err := netip.ParseAddr(host)
	if err == nil && a.Is6() && !a.Is4In6() {
		if a.Zone() == "" && ofLink(a) {
			return netip.Addr{}, fmt.Errorf("%s: an address of one link needs its interface: %s%%en0", host, host)
		}
		return a, nil
	}
	if err == nil {
		return netip.Addr{}, fmt.Errorf("%s: an IPv6 address belongs there; arp is for IPv4", host)
	}
	all, err := t.stack.LookupHost(ctx, host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s: unknown host: %w", host, err)
	}
	for _, a := range all {
		if a.Is6() && !a.Is4In6() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s: it has no IPv6 address", host)
}

func ofLink(a netip.Addr) bool { return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() }

// numbered is a with its interface's index for a zone, as the protocol has it.
func (t *tool) numbered(a netip.Addr) (netip.Addr, error) {
	if a.Zone() == "" {
		return a, nil
	}
	if _, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		return a, nil
	}
	index, err := t.stack.IfIndex(a.Zone())
	if err != nil {
		return a, fmt.Errorf("%s: no interface of this name", a.Zone())
	}
	return a.WithZone(strconv.Itoa(index)), nil
}

// name is the name of an address, or its number.
func (t *tool) name(ctx context.Context, address string) string {
	if ip, err := netip.ParseAddr(address); err == nil && !t.numeric {
		if name, err := t.stack.LookupAddr(ctx, ip); err == nil && name != "" {
			return name
		}
	}
	return address
}

// neighbours are the entries of IPv6.
func (t *tool) neighbours() ([]protocol.NeighbourRow, error) {
	all, err := t.stack.Neighbours()
	if err != nil {
		return nil, err
	}
	rows := []protocol.NeighbourRow{}
	for _, r := range all {
		if r.Family == "inet6" {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func printJSON[T any](t *tool, rows []T) error {
	if rows == nil {
		rows = []T{}
	}
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%s\n", b)
	return err
}

func (t *tool) get(ctx context.Context) error {
	ip, err := t.resolve(ctx, t.host)
	if err != nil {
		return err
	}
	all, err := t.neighbours()
	if err != nil {
		return err
	}
	var rows []protocol.NeighbourRow
	for _, r := range all {
		if a, err := netip.ParseAddr(r.Address); err == nil && a == ip {
			rows = append(rows, r)
		}
	}
	switch {
	case t.json:
		if err := printJSON(t, rows); err != nil {
			return err
		}
	case len(rows) == 0:
		fmt.Fprintf(t.out, "%s (%s) -- no entry\n", t.host, ip)
	default:
		t.heading()
		t.lines(ctx, rows)
	}
	if len(rows) == 0 {
		return errSaid
	}
	return nil
}

// all shows all entries, once or again and again.
func (t *tool) all(ctx context.Context) error {
	if !t.json && !t.stamped {
		t.heading()
	}
	for {
		rows, err := t.neighbours()
		if err != nil {
			return err
		}
		if t.json {
			if err := printJSON(t, rows); err != nil {
				return err
			}
		} else {
			t.lines(ctx, rows)
		}
		if t.repeat == 0 {
			return nil
		}
		if !t.json {
			fmt.Fprintln(t.out)
		}
		if t.wait(ctx, t.repeat) != nil {
			return nil // the user has seen enough
		}
	}
}

// send sends a message about an entry.
func (t *tool) send(m protocol.RouteMessage) error {
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
	to, err := t.numbered(ip)
	if err != nil {
		return err
	}
	switch err := t.send(entry(protocol.RTMDelete, to)); {
	case errors.Is(err, syscall.ESRCH), errors.Is(err, syscall.ENXIO):
		return fmt.Errorf("delete: cannot locate %s", host)
	case err != nil:
		return fmt.Errorf("delete %s: %s", host, protocol.Strerror(err))
	}
	fmt.Fprintf(t.out, "%s (%s) deleted\n", host, ip)
	return nil
}

// clear deletes what was not made by hand.
func (t *tool) clear(ctx context.Context) error {
	rows, err := t.neighbours()
	if err != nil {
		return err
	}
	for _, r := range rows {
		ip, err := netip.ParseAddr(r.Address)
		if err != nil || r.Permanent {
			continue
		}
		if ip, err = t.numbered(ip); err != nil {
			continue // it has gone with its interface
		}
		// An entry that has gone meanwhile is as good as deleted.
		switch err := t.send(entry(protocol.RTMDelete, ip)); {
		case errors.Is(err, syscall.ESRCH), errors.Is(err, syscall.ENXIO):
		case err != nil:
			return fmt.Errorf("delete %s: %s", r.Address, protocol.Strerror(err))
		default:
			fmt.Fprintf(t.out, "%s (%s) deleted\n", t.name(ctx, r.Address), r.Address)
		}
	}
	return nil
}

// setEntry makes an entry. On the routing socket, as of arp, a netmask of all
// ones marks one that the stack answers for; KAME's RTF_ANNOUNCE is RTF_PROTO2.
func (t *tool) setEntry(ctx context.Context, s setting) error {
	ip, err := t.resolve(ctx, s.host)
	if err != nil {
		return err
	}
	if ip, err = t.numbered(ip); err != nil {
		return err
	}
	m := entry(protocol.RTMAdd, ip)
	m.Gateway = protocol.LinkAddrOf(protocol.LinkOf(0, protocol.IFTEthernet, "", s.ether))
	if s.proxy {
		m.Netmask, m.NetmaskBits = protocol.MaskAddr(protocol.AFInet6, 128), 128
		m.Flags |= protocol.RTFProto2
	}
	m.Inits = protocol.RTVExpire
	if s.temp {
		m.Metrics.Expire = uint64(t.now().Add(tempLife).Unix())
	}
	switch err := t.send(m); {
	case errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("cannot intuit interface index and type for %s: it is on no network of ours", s.host)
	case err != nil:
		return fmt.Errorf("set %s: %s", s.host, protocol.Strerror(err))
	}
	return nil
}

// fromFile makes the entries of a file, one a line. A line that fails is told
// with its number; the others go on.
func (t *tool) fromFile(ctx context.Context) error {
	f, err := t.openFile(t.file)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	failed := false
	for n := 1; in.Scan(); n++ {
		words := arp.LineWords(in.Text())
		if len(words) == 0 {
			continue
		}
		s, err := parseSetting(words)
		if err == nil {
			err = t.setEntry(ctx, s)
		}
		if err != nil {
			fmt.Fprintf(t.err, "ndp: %s:%d: %v\n", t.file, n, err)
			failed = true
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("%s: %w", t.file, err)
	}
	if failed {
		return errSaid
	}
	return nil
}

// defaultIf chooses the default interface, and always shows which it is.
func (t *tool) defaultIf() error {
	if t.ifname != "" {
		name := t.ifname
		if name == "delete" {
			name = ""
		}
		switch err := t.stack.SetDefaultInterface(name); {
		case errors.Is(err, syscall.ENXIO):
			return fmt.Errorf("%s: no interface of this name", name)
		case err != nil:
			return fmt.Errorf("ioctl(SIOCSDEFIFACE_IN6): %s", protocol.Strerror(err))
		}
	}
	name, err := t.stack.DefaultInterface()
	switch {
	case err != nil:
		return fmt.Errorf("ioctl(SIOCGDEFIFACE_IN6): %s", protocol.Strerror(err))
	case name == "":
		fmt.Fprintln(t.out, "No default interface.")
	default:
		fmt.Fprintf(t.out, "ND default interface = %s\n", name)
	}
	return nil
}

// iface changes the flags of an interface, or shows it.
func (t *tool) iface() error {
	if len(t.flags) > 0 {
		var set, clear uint32
		for _, f := range t.flags {
			if f.on {
				set, clear = set|f.bit, clear&^f.bit
			} else {
				set, clear = set&^f.bit, clear|f.bit
			}
		}
		switch err := t.stack.SetNDFlags(t.ifname, set, clear); {
		case errors.Is(err, syscall.ENXIO):
			return fmt.Errorf("%s: no interface of this name", t.ifname)
		case err != nil:
			return fmt.Errorf("ioctl(SIOCSIFINFO_FLAGS): %s", protocol.Strerror(err))
		}
		return nil
	}
	rows, err := t.stack.ND(t.ifname)
	switch {
	case errors.Is(err, syscall.ENXIO), err == nil && len(rows) == 0:
		return fmt.Errorf("%s: no interface of this name, or one without IPv6", t.ifname)
	case err != nil:
		return err
	case t.json:
		return printJSON(t, rows)
	}
	for i := range rows {
		io.WriteString(t.out, ifaceText(&rows[i]))
	}
	return nil
}
