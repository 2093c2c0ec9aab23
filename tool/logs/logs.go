// Package logs is ionet log: the log of a stack, and what is added to it.
package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"ionet/client"
	"ionet/tool/cli"
)

// Command is log.
var Command = cli.Command{
	Name:     "log",
	Word:     true,
	Aliases:  []string{"sloginfo"},
	Short:    "show the log of a stack",
	Synopsis: []string{"[-f] [-n lines]"},
	Long:     `log prints the stack's log, $SOCK/var/log/io-net.log, from its beginning; what has been rotated away (io-net.log.1 and older) is read where -n reaches back so far. The stack need not live any more when --sock or SOCK names it.`,
	Options: []cli.Opt{
		{Flags: "-f", Text: "Go on with what is added, over rotation and a restart of the stack, until interrupted."},
		{Flags: "-n lines", Text: "Only so many of the last lines."},
	},
	JSON:  "One object a line: the keys of the record as it was logged (time, level, msg and others), all values strings; a line that is no record, as of a crash report, has text alone.",
	Files: []cli.Item{{Name: "$SOCK/var/log/io-net.log", Text: "The log; .1, .2 and .3 are older."}},
	Examples: []cli.Item{
		{Name: "ionet log -n 20 -f", Text: "The last 20 lines, and what follows."},
	},
	SeeAlso: []string{"io-net(8)", "ionet-ps(8)"},
	Run:     run,
}

// keep is how many rotated logs there may be.
const keep = 3

func run(ctx *cli.Context, args []string) int {
	follow, lines, err := parse(args)
	if err != nil {
		return ctx.Usage(err)
	}
	prefix, err := client.Find(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	path := strings.TrimSuffix(prefix, "/") + "/var/log/io-net.log"
	c, stop := ctx.Interruptible()
	defer stop()
	w := bufio.NewWriter(ctx.Stdout)
	defer w.Flush()
	p := &printer{w: w, json: ctx.JSON}
	if follow {
		err = p.follow(c, path, lines)
	} else {
		err = p.show(path, lines)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ctx.Errorf("%s: there is no log: the stack has not run with this prefix", path)
	case err != nil && c.Err() == nil:
		return ctx.Errorf("%v", err)
	}
	return 0
}

// parse reads a command line; lines -1 is all of the log.
func parse(args []string) (follow bool, lines int, err error) {
	flags, rest, err := cli.Getopt("fn:", args)
	if err != nil {
		return false, 0, err
	}
	lines = -1
	for _, f := range flags {
		switch f.Name {
		case "f":
			follow = true
		case "n":
			n, err := strconv.ParseUint(f.Value, 10, 31)
			if err != nil {
				return false, 0, fmt.Errorf("-n %s: a number of lines belongs there", f.Value)
			}
			lines = int(n)
		}
	}
	if len(rest) > 0 {
		return false, 0, fmt.Errorf("%q: log takes no arguments", rest[0])
	}
	return follow, lines, nil
}

// printer prints lines of a log.
type printer struct {
	w    *bufio.Writer
	json bool
}

// show prints the log, or its last lines.
func (p *printer) show(path string, lines int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return p.begin(f, path, lines)
}

// begin prints what f holds, or the last lines of the log that f is.
func (p *printer) begin(f *os.File, path string, lines int) error {
	if lines < 0 {
		return p.copy(bufio.NewReader(f), nil)
	}
	tail := make([]string, 0, min(lines, 1<<16))
	add := func(line string) {
		if lines == 0 {
			return
		}
		if len(tail) == lines {
			tail = append(tail[:0], tail[1:]...)
		}
		tail = append(tail, line)
	}
	count, err := countLines(f)
	if err != nil {
		return err
	}
	// Older files first, as far back as is needed.
	old := 0
	for total := count; total < lines && old < keep; old++ {
		n, err := countFile(rotated(path, old+1))
		if err != nil {
			break
		}
		total += n
	}
	for ; old > 0; old-- {
		g, err := os.Open(rotated(path, old))
		if err != nil {
			continue // rotated away meanwhile
		}
		err = p.copy(bufio.NewReader(g), add)
		g.Close()
		if err != nil {
			return err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := p.copy(bufio.NewReader(f), add); err != nil {
		return err
	}
	for _, line := range tail {
		if err := p.line(line); err != nil {
			return err
		}
	}
	return p.w.Flush()
}

func rotated(path string, n int) string { return fmt.Sprintf("%s.%d", path, n) }

func countFile(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return countLines(f)
}

func countLines(r io.Reader) (n int, err error) {
	buf := make([]byte, 64<<10)
	for {
		k, err := r.Read(buf)
		n += strings.Count(string(buf[:k]), "\n")
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// copy hands whole and last lines to add, or prints them.
func (p *printer) copy(r *bufio.Reader, add func(string)) error {
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			if line = strings.TrimSuffix(line, "\n"); add != nil {
				add(line)
			} else if err := p.line(line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return p.w.Flush()
		}
		if err != nil {
			return err
		}
	}
}

func (p *printer) line(line string) error {
	if p.json {
		b, err := json.Marshal(record(line))
		if err != nil {
			return err
		}
		line = string(b)
	}
	p.w.WriteString(line)
	return p.w.WriteByte('\n')
}

// record takes a line of log/slog's text form apart.
func record(line string) map[string]string {
	out := map[string]string{}
	for rest := line; rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		if !ok || key == "" || strings.ContainsAny(key, " \"") {
			return map[string]string{"text": line}
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			q, err := strconv.QuotedPrefix(after)
			if err != nil {
				return map[string]string{"text": line}
			}
			value, _ = strconv.Unquote(q)
			after = after[len(q):]
			if after != "" && after[0] != ' ' {
				return map[string]string{"text": line}
			}
			rest = strings.TrimPrefix(after, " ")
		} else {
			value, rest, _ = strings.Cut(after, " ")
		}
		out[key] = value
	}
	return out
}

// follow prints the log and then what is added, until ctx ends.
func (p *printer) follow(ctx context.Context, path string, lines int) error {
	t, err := newTail(path)
	if err != nil {
		return err
	}
	defer t.close()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := p.begin(f, path, lines); err != nil {
		f.Close()
		return err
	}
	return p.tail(ctx, t, path, f)
}
