// Package capture is the command that shows, writes and reads packets.
package capture

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/bpf"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/capture/filter"
	"ionet/tool/cli"
)

type options struct {
	iface, write, read     string
	count, snap            int
	list, program, numeric bool
	print                  Printer
	filter                 string
}

func parse(ctx *cli.Context, args []string) (*options, error) {
	o := &options{}
	flags, rest, err := cli.Getopt("i:nc:evqStxXs:w:r:Dd", args)
	if err != nil {
		return nil, err
	}
	number := func(f cli.Flag, min, max int) int {
		n, e := strconv.Atoi(f.Value)
		if e != nil || n < min || n > max {
			err = fmt.Errorf("-%s %s: a number from %d to %d would be right", f.Name, f.Value, min, max)
		}
		return n
	}
	for _, f := range flags {
		switch f.Name {
		case "i":
			if o.iface = f.Value; o.iface == "any" {
				o.iface = ""
			}
		case "n":
			o.numeric = true
		case "c":
			o.count = number(f, 1, 1<<31-1)
		case "s":
			o.snap = number(f, 0, filter.DefaultSnapLen)
		case "w":
			o.write = f.Value
		case "r":
			o.read = f.Value
		case "D":
			o.list = true
		case "d":
			o.program = true
		case "e":
			o.print.Ether = true
		case "v":
			o.print.Verbose = true
		case "q":
			o.print.Quiet = true
		case "S":
			o.print.Absolute = true
		case "t":
			o.print.NoTime = true
		case "x":
			o.print.Hex = true
		case "X":
			o.print.ASCII = true
		}
	}
	o.print.Verbose = o.print.Verbose || ctx.Verbose
	o.print.Interface = o.iface == "" && o.read == ""
	o.filter = strings.Join(rest, " ")
	if err == nil && o.read != "" && o.iface != "" {
		err = errors.New("-r reads a file, -i a stack: only one of them")
	}
	return o, err
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(ctx, args)
	if err != nil {
		return ctx.Usage(err)
	}
	c, stop := ctx.Interruptible()
	defer stop()
	var stack *client.Stack
	if o.read == "" && !o.program {
		if stack, err = client.Open(ctx.Sock); err != nil {
			return ctx.Errorf("%v", err)
		}
		defer stack.Close()
	}
	if o.list {
		return list(ctx, stack)
	}
	fo := filter.Options{SnapLen: o.snap}
	if stack != nil {
		fo.Lookup = func(name string) ([]netip.Addr, error) { return stack.LookupHost(c, name) }
	}
	prog, err := filter.Compile(o.filter, fo)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	if o.program {
		fmt.Fprint(ctx.Stdout, filter.Print(prog))
		return 0
	}
	s := &session{ctx: ctx, o: o}
	if !o.numeric && stack != nil {
		o.print.Names = func(a netip.Addr) string {
			if s, err := stack.LookupAddr(c, a); err == nil && s != "" {
				return s
			}
			return a.String()
		}
	}
	if o.write != "" {
		out := ctx.Stdout
		if o.write != "-" {
			f, err := os.Create(o.write)
			if err != nil {
				return ctx.Errorf("%v", err)
			}
			defer f.Close()
			out = f
		}
		snap := o.snap
		if snap == 0 {
			snap = filter.DefaultSnapLen
		}
		s.file = NewWriter(out, snap)
	}
	if o.read != "" {
		stop() // a read that waits for a pipe is ended by the signal itself
		return s.fromFile(prog)
	}
	return s.live(c, stack, prog)
}

func list(ctx *cli.Context, s *client.Stack) int {
	if s == nil {
		return ctx.Errorf("-D lists a stack's interfaces: -r and -d have none")
	}
	rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "")
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	for _, r := range rows {
		fmt.Fprintf(ctx.Stdout, "%d.%s\n", r.Index, r.Name)
	}
	return 0
}

// session is one run.
type session struct {
	ctx  *cli.Context
	o    *options
	file *Writer
	n    int
}

// packet shows or writes one packet; done when the count is reached.
func (s *session) packet(p *Packet) (done bool, err error) {
	s.n++
	switch {
	case s.file != nil:
		err = s.file.Write(p)
	case s.ctx.JSON:
		err = json.NewEncoder(s.ctx.Stdout).Encode(s.o.print.object(p))
	default:
		_, err = io.WriteString(s.ctx.Stdout, s.o.print.Line(p)+"\n")
	}
	return s.o.count > 0 && s.n >= s.o.count, err
}

// object is a packet as --json shows it.
type object struct {
	Time      string `json:"time"`
	Interface string `json:"interface,omitempty"`
	Direction string `json:"direction,omitempty"`
	Dropped   string `json:"dropped,omitempty"`
	LinkType  uint16 `json:"link_type"`
	Length    int    `json:"length"`
	Captured  int    `json:"captured"`
	Summary   string `json:"summary"`
	Data      string `json:"data"`
}

func (w *Printer) object(p *Packet) object {
	line := Printer{Names: w.Names, Ether: w.Ether, Quiet: w.Quiet, NoTime: true}
	o := object{Time: p.Time.UTC().Format("2006-01-02T15:04:05.000000000Z"), Interface: p.Interface, Dropped: p.Dropped, LinkType: p.Link,
		Length: p.OrigLen, Captured: len(p.Data), Summary: line.Line(p), Data: hex.EncodeToString(p.Data)}
	if p.Dropped == "" {
		o.Direction = "in"
		if p.Out {
			o.Direction = "out"
		}
	}
	return o
}

func (s *session) fromFile(prog []bpf.RawInstruction) int {
	in, name := s.ctx.Stdin, "standard input"
	if s.o.read != "-" {
		f, err := os.Open(s.o.read)
		if err != nil {
			return s.ctx.Errorf("%v", err)
		}
		defer f.Close()
		in, name = f, s.o.read
	}
	r, err := NewReader(in, name)
	if err != nil {
		return s.ctx.Errorf("%v", err)
	}
	match := func([]byte) bool { return true }
	if len(prog) > 0 {
		ins, _ := bpf.Disassemble(prog)
		vm, err := bpf.NewVM(ins)
		if err != nil {
			return s.ctx.Errorf("%v", err)
		}
		match = func(b []byte) bool { n, err := vm.Run(b); return err == nil && n > 0 }
	}
	for {
		p, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return s.ctx.Errorf("%v", err)
		}
		if !match(p.Frame()) {
			continue
		}
		if s.o.snap > 0 && len(p.Data) > s.o.snap {
			p.Data = p.Data[:s.o.snap]
		}
		done, err := s.packet(p)
		if err != nil {
			return s.ctx.Errorf("%v", err)
		}
		if done {
			break
		}
	}
	if s.file != nil && s.n == 0 { // a file without packets is a file all the same
		if err := s.file.Begin("", linkEthernet); err != nil {
			return s.ctx.Errorf("%v", err)
		}
	}
	return 0
}

func (s *session) live(c context.Context, stack *client.Stack, prog []bpf.RawInstruction) int {
	records, err := stack.Capture(protocol.CaptureRequest{Interface: s.o.iface, SnapLen: uint32(s.o.snap), Filter: prog})
	if err != nil {
		return s.ctx.Errorf("%v", err)
	}
	var once sync.Once
	end := func() { once.Do(func() { records.Close() }) }
	defer end()
	defer context.AfterFunc(c, end)()
	if s.file != nil && s.o.iface != "" {
		link := uint16(linkEthernet)
		if strings.HasPrefix(s.o.iface, "lo") {
			link = linkRaw
		}
		if err := s.file.Begin(s.o.iface, link); err != nil {
			return s.ctx.Errorf("%v", err)
		}
	}
	where := "all interfaces"
	if s.o.iface != "" {
		where = s.o.iface
	}
	fmt.Fprintf(s.ctx.Stderr, "listening on %s\n", where)
	status := s.follow(c, records.Next)
	lost := records.Lost()
	fmt.Fprintf(s.ctx.Stderr, "%d packets captured\n%d packets received by filter\n%d packets dropped\n", s.n, uint64(s.n)+lost, lost)
	return status
}

// follow shows what next answers until the count is reached or c ends.
func (s *session) follow(c context.Context, next func() ([]protocol.CaptureRecord, error)) int {
	for {
		recs, err := next()
		if c.Err() != nil {
			return 0
		}
		if err != nil {
			return s.ctx.Errorf("%v", err)
		}
		for i := range recs {
			r := &recs[i]
			done, err := s.packet(&Packet{Time: time.Unix(0, r.Time), Interface: r.IfName, Out: r.Out, Dropped: r.Dropped,
				Link: r.LinkType, OrigLen: max(r.OrigLen, len(r.Data)), Data: r.Data})
			if err != nil {
				return s.ctx.Errorf("%v", err)
			}
			if done {
				return 0
			}
		}
	}
}
