// Package ps is ionet ps: the live stacks of this machine.
package ps

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"ionet/client"
	"ionet/protocol"
	"ionet/protocol/door"
	"ionet/tool/cli"
)

// Command is ps.
var Command = cli.Command{
	Name:     "ps",
	Word:     true,
	Short:    "list the live stacks",
	Synopsis: []string{""},
	Long:     "ps lists the stacks that live on this machine and that this user may know of: their prefix (what SOCK is set to), process, user, how long they have lived, and their interfaces with addresses. A stack that does not answer is listed with the reason.",
	JSON:     "An array of stacks: prefix, pid, user, uid, started (Unix seconds), uptime (seconds), version, instance, restarts, interfaces (name, up, addresses as prefixes), and error for one that does not answer.",
	SeeAlso:  []string{"io-net(8)", "ionet-log(8)"},
	Run:      run,
}

// Stack is one live stack.
type Stack struct {
	Prefix     string      `json:"prefix"`
	PID        int         `json:"pid"`
	User       string      `json:"user,omitempty"`
	UID        int         `json:"uid"`
	Started    int64       `json:"started,omitempty"`
	Uptime     int64       `json:"uptime"`
	Version    string      `json:"version,omitempty"`
	Instance   int         `json:"instance"`
	Restarts   int         `json:"restarts"`
	Interfaces []Interface `json:"interfaces"`
	Error      string      `json:"error,omitempty"`
}

// Interface is one interface of a stack.
type Interface struct {
	Name      string   `json:"name"`
	Up        bool     `json:"up"`
	Addresses []string `json:"addresses"`
}

// answerWait is how long a stack may take to tell of itself. It may be
// another user's, and hang.
var answerWait = 5 * time.Second

// flagUp is IFF_UP.
const flagUp = 1

func run(ctx *cli.Context, args []string) int {
	if _, rest, err := cli.Getopt("", args); err != nil || len(rest) > 0 {
		if err == nil {
			err = fmt.Errorf("%q: ps takes no arguments", rest[0])
		}
		return ctx.Usage(err)
	}
	found := door.List()
	// The stack of --sock is listed even when it is not registered.
	if p, err := client.Find(ctx.Sock); err == nil && ctx.Sock != "" && door.Alive(p) && !slices.ContainsFunc(found, func(f door.Found) bool { return f.Prefix == p }) {
		found = append(found, door.Found{Prefix: p})
	}
	stacks := make([]Stack, len(found))
	var wg sync.WaitGroup
	for i, f := range found {
		wg.Go(func() { stacks[i] = look(f) })
	}
	wg.Wait()
	slices.SortFunc(stacks, func(a, b Stack) int { return cmp.Or(cmp.Compare(a.Prefix, b.Prefix), cmp.Compare(a.PID, b.PID)) })
	if err := write(ctx.Stdout, stacks, ctx.JSON); err != nil {
		return ctx.Errorf("%v", err)
	}
	return 0
}

// look asks a stack about itself.
func look(f door.Found) Stack {
	out := Stack{Prefix: f.Prefix, PID: f.PID, UID: f.UID, Interfaces: []Interface{}}
	prefix := f.Prefix
	if prefix == "" {
		prefix = "/"
	}
	s, err := client.Open(prefix)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	defer s.Close()
	late := time.AfterFunc(answerWait, func() { s.Close() })
	defer late.Stop()
	info, err := client.Table[protocol.StackInfo](s, protocol.TableStack, "")
	if err == nil && len(info) == 1 {
		var rows []protocol.InterfaceRow
		rows, err = client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "")
		return describe(f.Prefix, &info[0], rows, hung(err))
	}
	if err == nil {
		err = fmt.Errorf("it says nothing of itself")
	}
	out.Error = hung(err).Error()
	return out
}

// hung names the error of a connection that look has closed.
func hung(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("it does not answer within %v", answerWait)
	}
	return err
}

// describe makes a stack of what it said.
func describe(prefix string, i *protocol.StackInfo, rows []protocol.InterfaceRow, err error) Stack {
	s := Stack{Prefix: prefix, PID: i.PID, User: i.User, UID: i.UID, Started: i.Started, Uptime: i.Uptime, Version: i.Version,
		Instance: i.Instance, Restarts: i.Restarts, Interfaces: []Interface{}}
	if err != nil {
		s.Error = err.Error()
	}
	for _, r := range rows {
		n := Interface{Name: r.Name, Up: r.Flags&flagUp != 0, Addresses: []string{}}
		for _, a := range r.Addresses {
			text := fmt.Sprintf("%s/%d", a.Address, a.Bits)
			if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Zone() == "" {
				text = netip.PrefixFrom(ip, a.Bits).String()
			}
			n.Addresses = append(n.Addresses, text)
		}
		s.Interfaces = append(s.Interfaces, n)
	}
	return s
}

func write(w io.Writer, stacks []Stack, asJSON bool) error {
	if asJSON {
		b, err := json.MarshalIndent(append([]Stack{}, stacks...), "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", b)
		return err
	}
	none := tw.Border{Left: tw.Off, Right: tw.Off, Top: tw.Off, Bottom: tw.Off}
	t := tablewriter.NewTable(w,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{Borders: none,
			Settings: tw.Settings{Lines: tw.LinesNone, Separators: tw.SeparatorsNone}})),
		tablewriter.WithPadding(tw.Padding{Right: "  "}),
		tablewriter.WithHeaderAlignment(tw.AlignLeft),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithRowAutoWrap(tw.WrapNone))
	t.Header("PREFIX", "PID", "USER", "UPTIME", "INTERFACES")
	for _, s := range stacks {
		row := s.row()
		for i := range row {
			row[i] = strings.Map(printable, row[i])
		}
		if err := t.Append(row); err != nil {
			return err
		}
	}
	return t.Render()
}

// printable keeps what another user's stack says from steering the terminal.
func printable(r rune) rune {
	if strconv.IsPrint(r) {
		return r
	}
	return '?'
}

func (s *Stack) row() []string {
	prefix := s.Prefix
	if prefix == "" {
		prefix = "/"
	}
	pid := "-"
	if s.PID > 0 {
		pid = fmt.Sprint(s.PID)
	}
	if s.Error != "" {
		return []string{prefix, pid, "-", "-", "(" + s.Error + ")"}
	}
	var ifs []string
	for _, i := range s.Interfaces {
		text := i.Name
		if !i.Up {
			text += "*"
		}
		if len(i.Addresses) > 0 {
			text += " " + strings.Join(i.Addresses, " ")
		}
		ifs = append(ifs, text)
	}
	return []string{prefix, pid, s.User, uptime(s.Uptime), strings.Join(ifs, ", ")}
}

// uptime is "41s", "3m05s", "2h07m", "5d03h".
func uptime(s int64) string {
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}
