package ipmon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/ruleset"
	"ionet/tool/services"
)

// log is a log of a stack; *client.RuleLog is one.
type log interface {
	Next() (rows []protocol.LogRow, lost uint32, err error)
	Close()
}

// stack is what ipmon asks of a stack.
type stack interface {
	Log(which uint8) log
	Waiting() ([3]int, error) // records, by log
	LookupAddr(ctx context.Context, a netip.Addr) (string, error)
}

// remote is a running stack.
type remote struct{ *client.Stack }

func (r remote) Log(which uint8) log { return r.RuleLog(which) }

func (r remote) Waiting() (n [3]int, err error) {
	rows, err := client.Table[protocol.FilterRow](r.Stack, protocol.TableFilter, "")
	if len(rows) > 0 {
		n = rows[0].Logs
	}
	return n, err
}

// tool carries a command line out.
type tool struct {
	ctx    context.Context
	o      *options
	json   bool
	stack  stack // nil: files are read
	stdin  io.Reader
	out    *output
	hup    <-chan os.Signal
	serves func() // says once that all is open; nil: nobody waits, or it was said
	zone   *time.Location
	hosts  map[netip.Addr]string // names; bound: maxHosts
}

// errEnd is the end of a source in peace.
var errEnd = errors.New("end")

// batch is what a source has brought. The last one of a source has an error.
type batch struct {
	from string
	rows []protocol.LogRow
	lost uint32
	err  error
}

// logNames are what the logs are of, by number.
var logNames = [3]string{"packets", "states", "NAT"}

// do prints what the sources bring until they end.
func (t *tool) do() error {
	var read []func(chan<- batch)
	for _, s := range t.o.sources {
		r, err := t.begin(s)
		if err != nil {
			return err
		}
		read = append(read, r)
	}
	if t.serves != nil {
		t.serves()
		t.serves = nil
	}
	ctx, stop := context.WithCancel(t.ctx)
	defer stop()
	t.ctx = ctx
	batches := make(chan batch)
	var all sync.WaitGroup
	for _, r := range read {
		all.Go(func() { r(batches) })
	}
	go func() {
		all.Wait()
		close(batches)
	}()
	var failed error
	for {
		select {
		case <-t.hup:
			if err := t.out.reopen(); err != nil && failed == nil {
				failed = err
				stop()
			}
		case b, more := <-batches:
			if !more {
				return failed
			}
			if err := t.print(b); err != nil && failed == nil {
				failed = err
				stop()
			}
		}
	}
}

// begin opens a source and answers what reads it until the context ends.
func (t *tool) begin(s source) (func(chan<- batch), error) {
	if s.file == "" {
		l := t.stack.Log(s.log)
		return func(to chan<- batch) { t.follow(l, logNames[s.log], to) }, nil
	}
	in, name := t.stdin, "stdin"
	if s.file != "-" {
		f, err := os.Open(s.file)
		if err != nil {
			return nil, err
		}
		in, name = f, s.file
	}
	return func(to chan<- batch) { t.replay(in, name, to) }, nil
}

// follow reads a log of the stack.
func (t *tool) follow(l log, name string, to chan<- batch) {
	stopped := context.AfterFunc(t.ctx, l.Close)
	defer stopped()
	for {
		b := batch{from: name}
		b.rows, b.lost, b.err = l.Next()
		switch {
		case b.err == nil:
		case errors.Is(b.err, net.ErrClosed) && t.ctx.Err() != nil:
			b.err = errEnd
		default: // it says itself that there is no filter, or no stack any more
			b.err = errors.New(ruleset.Reason(b.err))
		}
		to <- b
		if b.err != nil {
			return
		}
	}
}

// maxRecord bounds a record in a file, in octets: a packet's first ones in base64, and words.
const maxRecord = 1 << 20

// replay reads a file of records.
func (t *tool) replay(in io.Reader, name string, to chan<- batch) {
	if f, ok := in.(*os.File); ok && name != "stdin" {
		defer f.Close()
	} else { // what is read from a terminal or a pipe ends with ipmon, and no read can be broken off
		r, w := io.Pipe()
		go func() {
			_, err := io.Copy(w, t.stdin)
			w.CloseWithError(err)
		}()
		defer context.AfterFunc(t.ctx, func() { w.Close() })()
		in = r
	}
	r := bufio.NewReaderSize(in, 64<<10)
	var part []byte
	for n := 1; ; {
		text, err := r.ReadSlice('\n')
		part = append(part, text...)
		long := len(part) > maxRecord
		switch {
		case long:
		case errors.Is(err, io.EOF) && t.o.tail: // the line goes on when the writer does
			select {
			case <-t.ctx.Done():
				to <- batch{from: name, err: errEnd}
				return
			case <-time.After(tailPause):
			}
			continue
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			to <- batch{from: name, err: err}
			return
		}
		b := batch{from: name}
		if len(part) > 0 && string(part) != "\n" {
			var row protocol.LogRow
			if e := json.Unmarshal(part, &row); long || e != nil || row.Time == 0 {
				b.err = fmt.Errorf("%s:%d: no record that ipmon -B or --json has written", name, n)
			} else {
				b.rows = []protocol.LogRow{row}
			}
		}
		if b.err == nil && err != nil || t.ctx.Err() != nil {
			b.err = errEnd
		}
		to <- b
		if b.err != nil {
			return
		}
		part, n = part[:0], n+1
	}
}

// tailPause is how often the end of a file is looked at again.
const tailPause = 200 * time.Millisecond

// print prints a batch; the error ends all.
func (t *tool) print(b batch) error {
	p := printer{zone: t.zone, date: !t.o.syslog, verbose: t.o.verbose, host: t.host, port: t.port}
	if b.lost > 0 {
		lost := fmt.Appendf(nil, "ipmon: %d records of %s were lost: more had waited than the log holds", b.lost, b.from)
		if err := t.out.note(severityWarning, lost, t.json); err != nil {
			return err
		}
	}
	for i := range b.rows {
		r := &b.rows[i]
		record, err := json.Marshal(r)
		if err == nil {
			err = t.out.keep(record)
		}
		if err != nil {
			return err
		}
		at := t.severity(r)
		if t.json {
			if err := t.out.write(at, record); err != nil {
				return err
			}
			continue
		}
		for _, line := range t.lines(&p, r, record) {
			if err := t.out.write(at, line); err != nil {
				return err
			}
		}
	}
	if err := t.out.flush(); err != nil {
		return err
	}
	if b.err == errEnd {
		return nil
	}
	return b.err
}

// lines are a record's line and what the options want below it.
func (t *tool) lines(p *printer, r *protocol.LogRow, record []byte) [][]byte {
	lines := [][]byte{p.line(r)}
	if t.o.record {
		lines = append(lines, record)
	}
	switch {
	case t.o.hex:
		lines = append(lines, dump(r.Packet)...)
	case t.o.body:
		if q, ok := decode(r.Packet); ok {
			lines = append(lines, dump(q.payload())...)
		}
	}
	return lines
}

// flush throws away what waits.
func (t *tool) flush(out io.Writer) error {
	waiting, err := t.stack.Waiting()
	if err != nil {
		return err
	}
	for log, n := range waiting {
		gone := 0
		l := t.stack.Log(uint8(log))
		// Another reader may be faster: then nothing comes.
		timer := time.AfterFunc(2*time.Second, l.Close)
		for gone < n {
			rows, lost, err := l.Next()
			if errors.Is(err, net.ErrClosed) {
				break
			}
			if err != nil {
				return err
			}
			gone += len(rows) + int(lost)
		}
		timer.Stop()
		l.Close()
		if _, err := fmt.Fprintf(out, "%d records of %s flushed from log buffer\n", gone, logNames[log]); err != nil {
			return err
		}
	}
	return nil
}

// maxHosts bounds the names that are remembered; then they are asked for anew.
const maxHosts = 4096

// host is an address, with -n "name[address]".
func (t *tool) host(a netip.Addr) string {
	if !t.o.names || t.stack == nil {
		return a.String()
	}
	s, known := t.hosts[a]
	if known {
		return s
	}
	s = a.String()
	ctx, stop := context.WithTimeout(t.ctx, 2*time.Second)
	defer stop()
	if name, err := t.stack.LookupAddr(ctx, a); err == nil && name != "" {
		s = name + "[" + s + "]"
	}
	if t.hosts == nil || len(t.hosts) >= maxHosts {
		t.hosts = map[netip.Addr]string{}
	}
	t.hosts[a] = s
	return s
}

func (t *tool) port(n, proto int) string {
	if t.o.names && !t.o.numbers {
		if s := services.Host().Name(n, ruleset.Protocol(proto)); s != "" {
			return s
		}
	}
	return strconv.Itoa(n)
}
