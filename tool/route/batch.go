package route

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"ionet/protocol"
)

// batchSize is how many changes are sent before their replies are read: about
// one frame.
const batchSize = 256

// patience is how long a batch is silent on standard error.
const patience = 2 * time.Second

// queued is a change that waits for its reply.
type queued struct {
	line int
	c    *change
	err  error
	done bool
}

// batch is a file of changes on its way to the stack.
type batch struct {
	t              *tool
	pid, seq       int
	waiting        []queued // by sequence number, from first on
	first          int
	messages       []protocol.Message
	lines, failed  int
	started, spoke time.Time
}

// runBatch sends the changes of a file, one a line, many to a frame. A line
// that fails is told with its number; the others go on.
func (t *tool) runBatch(ctx context.Context) error {
	f, err := t.openFile(t.batch)
	if err != nil {
		return err
	}
	defer f.Close()
	b := &batch{t: t, pid: os.Getpid(), started: t.now(), seq: 1, first: 1}
	b.spoke = b.started
	in := bufio.NewScanner(f)
	in.Buffer(make([]byte, 64<<10), 64<<10)
	for in.Scan() {
		b.lines++
		args := lineWords(in.Text())
		if len(args) == 0 {
			continue
		}
		if err := b.add(ctx, args); err != nil {
			b.complain(b.lines, err.Error())
			continue
		}
		if len(b.messages) == batchSize {
			if err := b.exchange(); err != nil {
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
	if err := b.exchange(); err != nil {
		return err
	}
	if b.failed > 0 {
		t.out.Flush()
		fmt.Fprintf(t.err, "route: %d of %d lines of %s failed\n", b.failed, b.lines, t.batch)
		return errSaid
	}
	return nil
}

// lineWords are the words of a line of a batch: comments begin with #, and
// the command's own name may stand in front.
func lineWords(line string) []string {
	if i := strings.IndexByte(line, '#'); i >= 0 {
		line = line[:i]
	}
	args := strings.Fields(line)
	if len(args) > 0 && args[0] == "route" {
		args = args[1:]
	}
	return args
}

// add puts a line's change on the next frame.
func (b *batch) add(ctx context.Context, args []string) error {
	if args[0] == "get" {
		return errors.New("a batch changes routes: add, delete and change are known")
	}
	c, _, err := parse(ctx, args, b.t.names, b.t.now().Unix())
	if err != nil {
		return err
	}
	c.msg.PID, c.msg.Seq = b.pid, b.seq
	b.seq++
	b.waiting = append(b.waiting, queued{line: b.lines, c: c})
	b.messages = append(b.messages, &c.msg)
	return nil
}

// exchange sends what is there and reads the reply to each.
func (b *batch) exchange() error {
	left := len(b.messages)
	if left > 0 && !b.t.debug && !b.t.test {
		if err := b.t.sock.Write(b.messages...); err != nil {
			return err
		}
		for left > 0 {
			msgs, err := b.t.sock.Read()
			if err != nil {
				return err
			}
			for _, m := range msgs {
				switch m := m.(type) {
				case *protocol.DesyncMessage:
					return fmt.Errorf("%s: lines %d to %d: the stack lost %d messages, and with them what became of these lines",
						b.t.batch, b.waiting[0].line, b.waiting[len(b.waiting)-1].line, m.Lost)
				case *protocol.RouteMessage:
					i := m.Seq - b.first
					if m.PID != b.pid || i < 0 || i >= len(b.waiting) || b.waiting[i].done || m.Type != b.waiting[i].c.msg.Type {
						continue
					}
					b.waiting[i].done = true
					if m.Errno != 0 {
						b.waiting[i].err = m.Errno
					}
					left--
				}
			}
		}
	}
	for _, q := range b.waiting {
		switch {
		case q.err != nil:
			b.complain(q.line, q.c.sentence()+": "+failure(q.err))
		case b.t.verbose:
			fmt.Fprintln(b.t.out, q.c.sentence())
		}
	}
	b.first = b.seq
	b.waiting, b.messages = b.waiting[:0], b.messages[:0]
	if now := b.t.now(); now.Sub(b.spoke) >= patience && !b.t.quiet {
		b.spoke = now
		fmt.Fprintf(b.t.err, "route: %d lines, %.0f a second\n", b.lines, float64(b.lines)/now.Sub(b.started).Seconds())
	}
	return nil
}

func (b *batch) complain(line int, text string) {
	b.failed++
	fmt.Fprintf(b.t.err, "%s:%d: %s\n", b.t.batch, line, text)
}
