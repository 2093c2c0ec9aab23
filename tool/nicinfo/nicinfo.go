// Package nicinfo is the nicinfo command: drivers and their counters.
package nicinfo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"strings"
	"syscall"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
)

// Command is nicinfo.
var Command = cli.Command{
	Name:     "nicinfo",
	Short:    "show network drivers and their counters",
	Synopsis: []string{"[device ...]"},
	Long: `A device is an interface's name (en0) or its file (/dev/io-net/en0, which is looked for below the stack's prefix too, or the whole path of the file). Without one all are shown.

What the driver adds of its own (the segment of a wire and its members) stands before the counters, and so does the last error of a driver that failed.`,
	JSON: "An array of drivers: name, driver, description, mac, permanent_mac, rate (bits a second), mtu, mru, promiscuous, multicast, link_up, last_error, details (name, value) and counters, which is the interface as netstat -i --json shows it.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, no stack, or no such device."},
	},
	Examples: []cli.Item{{Name: "nicinfo en0", Text: "The driver of en0."}},
	SeeAlso:  []string{"ifconfig(8)", "io-net(8)", "netstat(1)"},
	Run:      run,
}

func run(ctx *cli.Context, args []string) int {
	_, devices, err := cli.Getopt("", args)
	if err != nil {
		return ctx.Usage(err)
	}
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	read := func(name string) ([]protocol.NICRow, error) {
		return client.Table[protocol.NICRow](s, protocol.TableNIC, name)
	}
	rows, errs := collect(devices, s.Prefix(), read)
	if err := write(ctx.Stdout, rows, ctx.JSON); err != nil {
		errs = append(errs, err)
	}
	for _, err := range errs {
		ctx.Errorf("%v", err)
	}
	return min(len(errs), 1)
}

// collect reads the drivers of the devices, or all of them.
func collect(devices []string, prefix string, read func(name string) ([]protocol.NICRow, error)) (rows []protocol.NICRow, errs []error) {
	if len(devices) == 0 {
		rows, err := read("")
		if err != nil {
			return nil, []error{err}
		}
		return rows, nil
	}
	for _, d := range devices {
		name, err := device(d, prefix)
		var r []protocol.NICRow
		if err == nil {
			r, err = read(name)
		}
		switch {
		case errors.Is(err, syscall.ENXIO), err == nil && len(r) == 0:
			errs = append(errs, fmt.Errorf("%s: %s: no driver of this name", d, protocol.Strerror(syscall.ENXIO)))
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", d, err))
		default:
			rows = append(rows, r...)
		}
	}
	return rows, errs
}

// device is the interface that an argument names.
func device(arg, prefix string) (string, error) {
	if !strings.Contains(arg, "/") {
		if arg == "" || len(arg) >= protocol.IfNameLen {
			return "", fmt.Errorf("%q is no device: a name like en0 or a file like /dev/io-net/en0 belongs there", arg)
		}
		return arg, nil
	}
	clean := path.Clean(arg)
	dir, name := path.Split(clean)
	dir = strings.TrimRight(strings.TrimSuffix(dir, "/"), "0123456789")
	head, ok := strings.CutSuffix(dir, "/dev/io-net")
	if !ok || name == "" {
		return "", fmt.Errorf("%s is no device: its file stands in dev/io-net", arg)
	}
	if head != "" && head != prefix && !sameFolder(head, prefix) {
		return "", fmt.Errorf("%s belongs to another stack: this one's files are below %s/", arg, prefix)
	}
	return name, nil
}

func sameFolder(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b + "/")
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// leaders is where the dots between names and values end.
const leaders = 46

func write(out io.Writer, rows []protocol.NICRow, asJSON bool) error {
	w := bufio.NewWriter(out)
	if asJSON {
		b, err := json.MarshalIndent(append([]protocol.NICRow{}, rows...), "", "  ")
		if err != nil {
			return err
		}
		w.Write(append(b, '\n'))
		return w.Flush()
	}
	for i, r := range rows {
		if i > 0 {
			fmt.Fprintln(w)
		}
		show(w, &r)
	}
	return w.Flush()
}

// show prints one driver in the original's shape.
func show(w io.Writer, r *protocol.NICRow) {
	line := func(name string, value any) {
		dots := max(leaders-2-len(name)-1, 3)
		fmt.Fprintf(w, "  %s %s %v\n", name, strings.Repeat(".", dots), value)
	}
	fmt.Fprintf(w, "%s: \n  %s Ethernet Controller\n\n", r.Name, strings.TrimSuffix(r.Description, " Ethernet Controller"))
	line("Physical Node ID", node(r.PermanentMAC))
	line("Current Physical Node ID", node(r.MAC))
	rate := "Unknown"
	switch {
	case !r.LinkUp:
		rate = "Link is down"
	case r.Rate > 0:
		rate = fmt.Sprintf("%.2f Mb/s full-duplex", float64(r.Rate)/1e6)
	}
	line("Current Operation Rate", rate)
	line("Active Interface Type", r.Driver)
	line("Maximum Transmittable data Unit", r.MTU)
	line("Maximum Receivable data Unit", r.MRU)
	line("Promiscuous Mode", choose(r.Promiscuous, "On", "Off"))
	line("Multicast Support", choose(r.Multicast, "Enabled", "Disabled"))
	for _, d := range r.Details {
		line(d.Name, d.Value)
	}
	if r.LastError != "" {
		line("Last Error", r.LastError)
	}
	fmt.Fprintln(w)
	c := &r.InterfaceRow
	for _, x := range []struct {
		name  string
		value uint64
	}{
		{"Packets Transmitted OK", c.OutPackets}, {"Bytes Transmitted OK", c.OutBytes}, {"Multicast Packets Transmitted OK", c.OutMcast},
		{"Transmit Errors", c.OutErrors}, {"Packets Dropped on Transmit", c.OutDrops}, {"Collisions on Transmit", c.Collisions},
		{"Packets Received OK", c.InPackets}, {"Bytes Received OK", c.InBytes}, {"Multicast Packets Received OK", c.InMcast},
		{"Receive Errors", c.InErrors}, {"Packets Dropped on Receive", c.InDrops}, {"Packets of unknown Protocols Received", c.NoProto},
	} {
		line(x.name, x.value)
	}
}

func choose(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// node is a link address as the original prints it: "0050DA C82F96".
func node(s string) string {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return choose(s == "", "None", s)
	}
	return fmt.Sprintf("%02X%02X%02X %02X%02X%02X", hw[0], hw[1], hw[2], hw[3], hw[4], hw[5])
}
