// Package tcpdrop is the command tcpdrop: it breaks off a TCP connection of
// the stack.
package tcpdrop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/services"
)

// Command is tcpdrop.
var Command = cli.Command{
	Name:  "tcpdrop",
	Short: "break off a TCP connection",
	Synopsis: []string{
		"local-addr local-port foreign-addr foreign-port",
		"local-addr:local-port foreign-addr:foreign-port",
	},
	Long: `tcpdrop ends the TCP connection between the two addresses at once: the other side gets a reset, and the program that has it here the error ECONNABORTED. One that waits in TIME_WAIT is forgotten.

Address and port may also be parted by a dot, as netstat prints them. Names of hosts and of ports are looked up; of a host with several addresses each is tried. Only the superuser or the stack's own user may drop connections.`,
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "The connection is gone."},
		{Status: 1, Text: "Wrong usage, no such connection, or no right to end it."},
	},
	Files: []cli.Item{{Name: services.File, Text: "Names of ports."}},
	Examples: []cli.Item{
		{Name: "tcpdrop 10.0.0.163 22 10.0.0.1 4021", Text: "The connection of netstat's line …"},
		{Name: "tcpdrop 10.0.0.163.22 10.0.0.1.4021", Text: "… and again, as that line has it."},
	},
	SeeAlso: []string{"netstat(1)", "sysctl(8)"},
	Run:     run,
}

// end is one end of the connection, as it was typed.
type end struct {
	host string
	port uint16
}

func run(ctx *cli.Context, args []string) int {
	local, foreign, err := parse(args, services.Host())
	if err != nil {
		return ctx.Refuse(err)
	}
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	c, stop := ctx.Interruptible()
	defer stop()
	l, f, err := drop(c, s, local, foreign)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	fmt.Fprintf(ctx.Stdout, "%v %v: dropped\n", l, f)
	return 0
}

// parse reads the two ends.
func parse(args []string, names *services.Table) (local, foreign end, err error) {
	_, words, err := cli.Getopt("", args)
	if err != nil {
		return local, foreign, &cli.UsageError{Text: err.Error()}
	}
	var ends [2]end
	switch len(words) {
	case 4:
		for i := range ends {
			if ends[i], err = parseEnd(words[2*i], words[2*i+1], names); err != nil {
				return local, foreign, err
			}
		}
	case 2:
		for i, w := range words {
			at := max(strings.LastIndexByte(w, ':'), strings.LastIndexByte(w, '.')) // fe80::1%en0.22 too, as netstat has it
			if at < 0 {
				return local, foreign, fmt.Errorf("%s: an address and a port, such as 10.0.0.163:22, would be right", w)
			}
			host := strings.TrimSuffix(strings.TrimPrefix(w[:at], "["), "]")
			if ends[i], err = parseEnd(host, w[at+1:], names); err != nil {
				return local, foreign, err
			}
		}
	default:
		return local, foreign, cli.Misuse("the addresses and ports of both ends are needed")
	}
	return ends[0], ends[1], nil
}

func parseEnd(host, port string, names *services.Table) (end, error) {
	if host == "" {
		return end{}, errors.New("an address is empty")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		named, ok := names.Port(port, "tcp")
		if !ok {
			return end{}, fmt.Errorf("port %q: a number from 1 to 65535 would be right", port)
		}
		n = uint64(named)
	}
	if n == 0 {
		return end{}, errors.New("port 0 is no connection's")
	}
	return end{host, uint16(n)}, nil
}

// Stack is what tcpdrop asks of a stack.
type Stack interface {
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
	SetSysctl(name, value string) (old string, err error)
}

// drop ends the connection, and answers between which addresses it was.
func drop(ctx context.Context, s Stack, local, foreign end) (l, f netip.AddrPort, err error) {
	locals, err := s.LookupHost(ctx, local.host)
	if err != nil {
		return l, f, err
	}
	foreigns, err := s.LookupHost(ctx, foreign.host)
	if err != nil {
		return l, f, err
	}
	for _, a := range locals {
		for _, b := range foreigns {
			l, f = netip.AddrPortFrom(a, local.port), netip.AddrPortFrom(b, foreign.port)
			_, err := s.SetSysctl(protocol.SysctlTCPDrop, l.String()+" "+f.String())
			if err == nil || !errors.Is(err, syscall.ESRCH) {
				return l, f, err
			}
		}
	}
	return l, f, fmt.Errorf("%s.%d %s.%d: no such connection", local.host, local.port, foreign.host, foreign.port)
}
