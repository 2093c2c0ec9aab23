package brconfig

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"ionet/protocol"
)

// fake is a stack with bridge0.
type fake struct{ calls []string }

func (f *fake) Bridges(name string) ([]protocol.BridgeRow, error) {
	if name != "" && name != "bridge0" {
		return nil, &protocol.Error{Errno: syscall.EINVAL, Text: name + " is no bridge"}
	}
	return []protocol.BridgeRow{{Name: "bridge0", Flags: 0x41, MaxAddr: 100, Timeout: 1200, Priority: 32768, Hello: 2, Delay: 15, MaxAge: 20, ID: "8000.020000000002", Root: "8000.020000000001", RootCost: 55, RootPort: "en1",
		Members: []protocol.BridgeMember{{Interface: "en0", Port: 1, Priority: 128, Flags: 3, InPackets: 7}, {Interface: "en1", Port: 2, Priority: 64, PathCost: 55, Flags: 7, State: "forwarding"}},
		Addresses: []protocol.BridgeAddress{{Address: "02:07:00:00:00:01", Interface: "en0", Expire: 1187},
			{Address: "02:07:00:00:00:02", Interface: "en1", Static: true}},
	}}, nil
}

func (f *fake) Bridge(r protocol.BridgeReq) error {
	f.calls = append(f.calls, fmt.Sprintf("%d %s %s %d/%d %x", r.Command, r.Bridge, r.Member, r.Value, r.Mask, r.Addr))
	if r.Member == "lo0" {
		return &protocol.Error{Errno: syscall.EPROTONOSUPPORT, Text: "lo0 is no Ethernet"}
	}
	return nil
}

func (f *fake) SetFlags(name string, set, clear uint32) error {
	f.calls = append(f.calls, fmt.Sprintf("flags %s +%x -%x", name, set, clear))
	return nil
}

func exec(f *fake, line string) string {
	args, json := strings.CutSuffix(line, " --json")
	o, err := parse(strings.Fields(args))
	if err != nil {
		return err.Error()
	}
	var b bytes.Buffer
	if err := do(f, o, json, &b); err != nil {
		return err.Error()
	}
	return b.String()
}

func TestShow(t *testing.T) {
	want := `bridge0: flags=41<UP,RUNNING>
	Configuration:
		priority 32768 hellotime 2 fwddelay 15 maxage 20
		id 8000.020000000002 root 8000.020000000001 cost 55 by en1
	Interfaces:
		en0 flags=3<LEARNING,DISCOVER>
			port 1 priority 128
		en1 flags=7<LEARNING,DISCOVER,STP>
			port 2 priority 64 path cost 55 forwarding
	Address cache (max cache: 100, timeout: 1200):
		02:07:00:00:00:01 en0 1187 flags=0<>
		02:07:00:00:00:02 en1 0 flags=1<STATIC>
`
	for _, line := range []string{"-a", "bridge0"} {
		if got := exec(&fake{}, line); got != want {
			t.Errorf("%s:\n%swant\n%s", line, got, want)
		}
	}
	if got, want := exec(&fake{}, "bridge0 addr"), "02:07:00:00:00:01 en0 1187 flags=0<>\n02:07:00:00:00:02 en1 0 flags=1<STATIC>\n"; got != want {
		t.Errorf("addr:\n%s", got)
	}
	if got := exec(&fake{}, "-a --json"); !strings.HasPrefix(got, `{"name":"bridge0","flags":65,"maxaddr":100,"timeout":1200,`) || strings.Count(got, "\n") != 1 {
		t.Errorf("--json: %s", got)
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct{ line, calls, out string }{
		{line: "bridge0 add en0 add en1 up", calls: "0 bridge0 en0 0/0 000000000000; 0 bridge0 en1 0/0 000000000000; flags bridge0 +1 -0"},
		{line: "bridge0 delete en0 down", calls: "1 bridge0 en0 0/0 000000000000; flags bridge0 +0 -1"},
		{line: "bridge0 learn en0 -learn en1", calls: "3 bridge0 en0 1/1 000000000000; 3 bridge0 en1 0/1 000000000000"},
		{line: "bridge0 discover en0 -discover en1", calls: "3 bridge0 en0 2/2 000000000000; 3 bridge0 en1 0/2 000000000000"},
		{line: "bridge0 maxaddr 0x200 timeout 0", calls: "4 bridge0  512/0 000000000000; 9 bridge0  0/0 000000000000"},
		{line: "bridge0 static en0 2:7:0:0:0:1", out: "2:7:0:0:0:1: static takes a link address such as 02:00:00:00:00:01"},
		{line: "bridge0 static en0 02:07:00:00:00:01 deladdr 02:07:00:00:00:02", calls: "8 bridge0 en0 0/0 020700000001; 11 bridge0  0/0 020700000002"},
		{line: "bridge0 stp en0 -stp en1", calls: "3 bridge0 en0 4/4 000000000000; 3 bridge0 en1 0/4 000000000000"},
		{line: "bridge0 priority 4096 hellotime 1 fwddelay 4 maxage 6", calls: "14 bridge0  4096/0 000000000000; 16 bridge0  1/0 000000000000; 18 bridge0  4/0 000000000000; 20 bridge0  6/0 000000000000"},
		{line: "bridge0 ifpriority en0 64 ifpathcost en1 100", calls: "21 bridge0 en0 64/0 000000000000; 22 bridge0 en1 100/0 000000000000"},
		{line: "bridge0 ifpriority en0 256", out: "256: ifpriority takes a number up to 255"},
		{line: "bridge0 flush flushall", calls: "12 bridge0  0/0 000000000000; 12 bridge0  1/0 000000000000"},
		{line: "bridge0 add lo0 up", calls: "0 bridge0 lo0 0/0 000000000000", out: "bridge0: add lo0: Protocol not supported (lo0 is no Ethernet)"},
		{line: "en0", out: "bridges en0: Invalid argument (en0 is no bridge)"},
		{line: "bridge0 add", out: "'add' requires 1 argument(s)"},
		{line: "bridge0 maxaddr many", out: "many: maxaddr takes a number up to 1048576"},
		{line: "bridge0 maxaddr 1048577", out: "1048577: maxaddr takes a number up to 1048576"},
		{line: "bridge0 add a-name-of-sixteen", out: "a-name-of-sixteen: an interface's name has at most 15 letters"},
		{line: "bridge0 fly", out: `"fly" is no command to a bridge`},
		{line: "-a bridge0", out: `"bridge0": -a shows all bridges and takes nothing else`},
		{line: "", out: "a bridge or -a is needed"},
	} {
		f := &fake{}
		if out := exec(f, c.line); out != c.out {
			t.Errorf("%q says %q, want %q", c.line, out, c.out)
		}
		if got := strings.Join(f.calls, "; "); got != c.calls {
			t.Errorf("%q:\n got %s\nwant %s", c.line, got, c.calls)
		}
	}
}
