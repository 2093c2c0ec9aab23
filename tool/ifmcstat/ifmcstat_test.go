package ifmcstat

import (
	"fmt"
	"strings"
	"testing"

	"ionet/protocol"
	"ionet/tool/cli/golden"
)

func TestShow(t *testing.T) {
	var b strings.Builder
	for _, line := range []string{"", "-v", "-f inet6", "-f inet -i en0", "-i xx0", "-f local", "en0", "-i en0 --json", "-q"} {
		fmt.Fprintf(&b, "$ ifmcstat %s\n", line)
		args, asJSON := strings.CutSuffix(line, " --json")
		o, err := parse(strings.Fields(args))
		if err == nil {
			o.json = asJSON
			err = show(&b, o, []protocol.InterfaceRow{
				{Name: "lo0", Index: 1, Type: protocol.IFTLoopback, Addresses: []protocol.AddressRow{
					{Family: "inet", Address: "127.0.0.1"}, {Family: "inet6", Address: "::1"}, {Family: "inet6", Address: "fe80::1%lo0"}}},
				{Name: "en0", Index: 2, Type: protocol.IFTEthernet, Link: "00:50:da:c8:2f:96", Addresses: []protocol.AddressRow{
					{Family: "inet6", Address: "fe80::250:daff:fec8:2f96%en0"}, {Family: "inet", Address: "10.0.0.163"}, {Family: "inet6", Address: "2001:db8::163"}}},
				{Name: "en1", Index: 3, Type: protocol.IFTEthernet, Link: "00:50:da:c8:2f:97"},
			}, []protocol.GroupRow{
				{Interface: "lo0", Group: "ff02::1%lo0", Refs: 1, Mode: "exclude"},
				{Interface: "en0", Group: "224.0.0.1", Refs: 1, Mode: "exclude"},
				{Interface: "en0", Group: "239.129.2.3", Refs: 2, Mode: "include", Sources: []string{"10.0.0.1", "10.0.0.2"}},
				{Interface: "en0", Group: "239.1.2.3", Refs: 1, Mode: "exclude"},
				{Interface: "en0", Group: "ff02::1:ffc8:2f96%en0", Refs: 1, Mode: "exclude"},
				{Interface: "en0", Group: "ff02::1%en0", Refs: 1, Mode: "exclude"},
				{Interface: "en1", Group: "ff02::1%en1", Refs: 1, Mode: "exclude"},
			})
		}
		if err != nil {
			fmt.Fprintf(&b, "ifmcstat: %v\n", err)
		}
	}
	golden.Check(t, "ifmcstat", b.String())
}
