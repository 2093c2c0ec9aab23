package route

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"ionet/protocol"
)

// batchSize is how many changes travel together: about one frame. At most
// batchWindow such frames wait for their replies while the next is read, so
// that tool and stack work at the same time; what the replies to them take is
// well below what the stack keeps for a routing socket that does not read.
const (
	batchSize   = 256
	batchWindow = 4
)

// patience is how long a batch is silent on standard error.
const patience = 2 * time.Second

// queued is a change that waits for its reply.
type queued struct {
	line  int
	c     change
	errno syscall.Errno
	done  bool
}

// flight is the changes of one frame.
type flight struct {
	first    int      // sequence number of waiting[0]
	waiting  []queued // never grown: messages point into it
	messages []protocol.Message
	left     int // replies to come
}

// batch is a file of changes on its way to the stack.
type batch struct {
	t              *tool
	pid, seq       int
	filling        *flight
	sent           []*flight // the oldest first
	spare          []*flight
	lines, failed  int
	started, spoke time.Time

	args  []string
	words words
	reply protocol.RouteMessage
}

// runBatch sends the changes of a file, one a line, many to a frame. A line
// that fails is told with its number; the others go on.
func (t *tool) runBatch(ctx context.Context) error {
	f, err := t.openFile(t.batch)
	if err != nil {
		return err
	}
	defer f.Close()
	b := &batch{t: t, pid: os.Getpid(), started: t.now(), seq: 1}
	b.spoke = b.started
	b.filling = b.flight()
	in := bufio.NewScanner(f)
	in.Buffer(make([]byte, 64<<10), 64<<10)
	for in.Scan() {
		b.lines++
		b.args = lineWords(b.args[:0], in.Text())
		if len(b.args) == 0 {
			continue
		}
		if err := b.add(ctx); err != nil {
			b.complain(b.lines, err.Error())
			continue
		}
		if len(b.filling.waiting) == batchSize {
			if err := b.send(); err != nil {
				return err
			}
		}
	}
	if err := in.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("%s:%d: the line is longer than 64 KiB", t.batch, b.lines+1)
		}
		return err
	}
	if err := b.send(); err != nil {
		return err
	}
	for len(b.sent) > 0 {
		if err := b.land(); err != nil {
			return err
		}
	}
	if b.failed > 0 {
		t.out.Flush()
		fmt.Fprintf(t.err, "route: %d of %d lines of %s failed\n", b.failed, b.lines, t.batch)
		return errSaid
	}
	return nil
}

// lineWords appends the words of a line of a batch: comments begin with #,
// and the command's own name may stand in front.
func lineWords(words []string, line string) []string {
	if i := strings.IndexByte(line, '#'); i >= 0 {
		line = line[:i]
	}
	for w := range strings.FieldsSeq(line) {
		if len(words) > 0 || w != "route" {
			words = append(words, w)
		}
	}
	return words
}

// flight is an empty one.
func (b *batch) flight() *flight {
	if n := len(b.spare); n > 0 {
		f := b.spare[n-1]
		b.spare = b.spare[:n-1]
		f.first, f.waiting, f.messages = b.seq, f.waiting[:0], f.messages[:0]
		return f
	}
	return &flight{first: b.seq, waiting: make([]queued, 0, batchSize), messages: make([]protocol.Message, 0, batchSize)}
}

// add puts a line's change on the next frame.
func (b *batch) add(ctx context.Context) error {
	if b.args[0] == "get" {
		return errors.New("a batch changes routes: add, delete and change are known")
	}
	f := b.filling
	n := len(f.waiting)
	f.waiting = f.waiting[:n+1]
	q := &f.waiting[n]
	*q = queued{line: b.lines}
	err := q.c.parse(ctx, &b.words, b.args, b.t.names, b.t.now)
	if err == nil {
		err = b.t.zones.number(&q.c.msg)
	}
	if err != nil {
		f.waiting = f.waiting[:n]
		return err
	}
	q.c.msg.PID, q.c.msg.Seq = b.pid, b.seq
	b.seq++
	f.messages = append(f.messages, &q.c.msg)
	return nil
}

// send sends the frame that was filled, and lands the oldest if the window
// is full.
func (b *batch) send() error {
	f := b.filling
	if len(f.waiting) == 0 {
		return nil
	}
	if !b.t.debug && !b.t.test {
		if err := b.t.sock.Write(f.messages...); err != nil {
			return err
		}
		f.left = len(f.messages)
	}
	b.sent = append(b.sent, f)
	var err error
	if len(b.sent) == batchWindow {
		err = b.land()
	}
	b.filling = b.flight()
	return err
}

// land reads replies until the oldest frame has all of its own, and tells
// what became of its changes.
func (b *batch) land() error {
	f := b.sent[0]
	for f.left > 0 {
		page, err := b.t.sock.ReadRaw()
		if err != nil {
			return err
		}
		if err := b.replies(page); err != nil {
			return err
		}
	}
	for i := range f.waiting {
		switch q := &f.waiting[i]; {
		case q.errno != 0:
			b.complain(q.line, q.c.sentence()+": "+failure(q.errno))
		case b.t.verbose:
			fmt.Fprintln(b.t.out, q.c.sentence())
		}
	}
	b.sent = append(b.sent[:0], b.sent[1:]...)
	b.spare = append(b.spare, f)
	if now := b.t.now(); now.Sub(b.spoke) >= patience && !b.t.quiet {
		b.spoke = now
		fmt.Fprintf(b.t.err, "route: %d lines, %.0f a second\n", b.lines, float64(b.lines)/now.Sub(b.started).Seconds())
	}
	return nil
}

// replies takes a frame of messages.
func (b *batch) replies(page []byte) error {
	for len(page) > 0 {
		if rest, err := b.reply.Decode(page); err == nil {
			page = rest
			b.match(&b.reply)
			continue
		}
		m, rest, err := protocol.NextMessage(page)
		if err != nil {
			return err
		}
		page = rest
		if m, ok := m.(*protocol.DesyncMessage); ok {
			first, last := b.sent[0].waiting, b.sent[len(b.sent)-1].waiting
			return fmt.Errorf("%s: lines %d to %d: the stack lost %d messages, and with them what became of these lines",
				b.t.batch, first[0].line, last[len(last)-1].line, m.Lost)
		}
	}
	return nil
}

// match finds the change that a reply is to, if it is to one of ours.
func (b *batch) match(m *protocol.RouteMessage) {
	if m.PID != b.pid {
		return
	}
	for _, f := range b.sent {
		i := m.Seq - f.first
		if i < 0 || i >= len(f.waiting) {
			continue
		}
		if q := &f.waiting[i]; !q.done && m.Type == q.c.msg.Type {
			q.done, q.errno = true, m.Errno
			f.left--
		}
		return
	}
}

func (b *batch) complain(line int, text string) {
	b.failed++
	fmt.Fprintf(b.t.err, "%s:%d: %s\n", b.t.batch, line, text)
}
