package gifconfig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

// fake notes what it is asked to do.
type fake struct{ calls []string }

func (f *fake) Interfaces(name string) (rows []protocol.InterfaceRow, err error) {
	for _, r := range []protocol.InterfaceRow{
		{Name: "en0", Index: 2, Type: protocol.IFTEthernet, Flags: 0x8843, MTU: 1500, Link: "00:50:da:c8:2f:96", Addresses: []protocol.AddressRow{
			{Family: "inet", Address: "10.0.0.1", Bits: 8, Broadcast: "10.255.255.255"}}},
		{Name: "gif0", Index: 3, Type: protocol.IFTGif, Flags: 0x8051, MTU: 1280, TunnelSrc: "10.0.0.1", TunnelDst: "10.0.0.2", Addresses: []protocol.AddressRow{
			{Family: "inet6", Address: "fe80::1%gif0", Bits: 64, Scope: 3},
			{Family: "inet", Address: "10.9.0.1", Bits: 24, Destination: "10.9.0.2"},
			{Family: "inet6", Address: "2001:db8::1", Bits: 128, Destination: "2001:db8::2"}}},
		{Name: "gif1", Index: 4, Type: protocol.IFTGif, Flags: 0x8051, MTU: 1400, Metric: 2, TunnelSrc: "2001:db8::1", TunnelDst: "2001:db8::2", Addresses: []protocol.AddressRow{}},
		{Name: "gif2", Index: 5, Type: protocol.IFTGif, Flags: 0x8010, MTU: 1280, Addresses: []protocol.AddressRow{}},
	} {
		if name == "" || name == r.Name {
			rows = append(rows, r)
		}
	}
	if rows == nil {
		return nil, &protocol.Error{Errno: syscall.ENXIO}
	}
	return rows, nil
}

func (f *fake) SetTunnel(name string, src, dst protocol.Addr) error {
	f.calls = append(f.calls, fmt.Sprintf("set %s %v %v", name, src, dst))
	if name == "gif1" {
		return &protocol.Error{Errno: syscall.EADDRNOTAVAIL, Text: "gif0 leads from 10.0.0.1 to 10.0.0.2 already"}
	}
	return nil
}

func (f *fake) DeleteTunnel(name string) error {
	f.calls = append(f.calls, "delete "+name)
	if name == "gif2" {
		return &protocol.Error{Errno: syscall.EADDRNOTAVAIL}
	}
	return nil
}

func (f *fake) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	if name == "alpha" {
		return []netip.Addr{netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("10.5.5.5")}, nil
	}
	return nil, errors.New("no such host")
}

// Every form of the command line, and what comes of it.
func TestGifconfig(t *testing.T) {
	var b strings.Builder
	for _, line := range []string{
		"-a", "-a --json", "gif0", "gif0 inet", "gif0 inet6", "gif2", "en0", "gif9",
		"gif0 10.1 10.2", "gif0 inet 10.0.0.1 10.0.0.2", "gif0 inet6 2001:db8::1 2001:db8::2", "gif0 2001:db8::1 2001:db8::2",
		"gif0 fe80::1%en0 fe80::2%en0", "gif0 inet alpha 10.0.0.2", "gif0 inet6 2001:db8::1 alpha", "gif0 alpha beta",
		"gif1 10.0.0.1 10.0.0.2", "gif0 delete", "gif0 inet delete", "gif2 delete",
		"", "-z", "-a gif0", "gif0 10.0.0.1", "gif0 10.0.0.1 10.0.0.2 10.0.0.3", "gif0 10.0.0.1 2001:db8::2", "gif0 inet6 10.0.0.1 10.0.0.2",
		"gif0 inet 10.0.0.1 10.0.0.300", "gif0 delete now please",
	} {
		fmt.Fprintf(&b, "$ gifconfig %s\n", line)
		args, asJSON := strings.CutSuffix(line, " --json")
		f := &fake{}
		o, err := parse(strings.Fields(args))
		if err == nil {
			err = do(context.Background(), f, o, asJSON, &b)
		}
		for _, c := range f.calls {
			fmt.Fprintf(&b, "(%s)\n", c)
		}
		if err != nil {
			fmt.Fprintf(&b, "gifconfig: %v\n", err)
		}
	}
	golden.Check(t, "gifconfig", b.String())
}
