package ipfstat

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"ionet/tool/cli"
)

// title is what stands above the states.
func title() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return fmt.Sprintf("%s - ionet %s - state top", host, cli.BuildVersion())
}

// page prints the states once, as rows with --json.
func (t *tool) page() error {
	rows, err := t.s.States()
	if err != nil {
		return err
	}
	v := view{sort: sortBytes}
	if t.json {
		for _, l := range t.lines(rows, v) {
			t.row(l.StateRow)
		}
		return nil
	}
	for _, l := range t.draw(rows, v, title(), t.now(), 0, 0) {
		fmt.Fprintln(t.out, l)
	}
	return nil
}

// What a terminal is told (ECMA-48, and xterm's other screen).
const (
	enter  = "\x1b[?1049h\x1b[?25l"
	leave  = "\x1b[?25h\x1b[?1049l"
	home   = "\x1b[H"
	toEnd  = "\x1b[K"
	below  = "\x1b[J"
	wipe   = "\x1b[2J"
	bold   = "\x1b[1m"
	normal = "\x1b[m"
)

// watch shows the states again and again, until q or a signal.
func (t *tool) watch(ctx *cli.Context) error {
	out, ok := ctx.Stdout.(*os.File)
	if !ok || !isTerminal(out) {
		return t.page()
	}
	c, stop := ctx.Interruptible()
	defer stop()
	if in, ok := ctx.Stdin.(*os.File); ok && isTerminal(in) {
		restore, err := keys(in)
		if err != nil {
			return err
		}
		defer restore()
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	pressed := make(chan byte)
	go func() { // ends with the process: a read of a terminal is not to be interrupted
		var b [1]byte
		for {
			if n, err := ctx.Stdin.Read(b[:]); n == 0 || err != nil {
				return
			}
			select {
			case pressed <- b[0]:
			case <-c.Done():
				return
			}
		}
	}()
	fmt.Fprint(out, enter)
	defer fmt.Fprint(out, leave)
	v, name, whole := view{sort: sortBytes}, title(), true
	for {
		rows, err := t.s.States()
		if err != nil {
			return err
		}
		width, height := size(out)
		if _, err := out.Write(screen(t.draw(rows, v, name, t.now(), width, height), whole)); err != nil {
			return err
		}
		whole = false
		select {
		case <-c.Done():
			return nil
		case <-resized:
			whole = true
		case k := <-pressed:
			var done bool
			if done, whole = v.key(k); done {
				return nil
			}
		case <-time.After(t.refresh): // behind the page: to read many states takes a while
		}
	}
}

// screen is a page as a terminal takes it; whole wipes what it had.
func screen(page []string, whole bool) []byte {
	var b bytes.Buffer
	if whole {
		b.WriteString(wipe)
	}
	b.WriteString(home)
	for i, l := range page {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if i == 0 || i == 4 { // the title, and the names of columns
			l = bold + l + normal
		}
		b.WriteString(l + toEnd)
	}
	b.WriteString(below)
	return b.Bytes()
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// keys has the terminal hand over each key as it is pressed.
func keys(in *os.File) (restore func(), err error) {
	fd := int(in.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	now := *was
	now.Lflag &^= unix.ICANON | unix.ECHO
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	now.Cc[unix.VSUSP], now.Cc[unix.VQUIT] = 0, 0 // they would leave the screen as it is
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &now); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETSW, was) }, nil // it was taken before
}

// size is that of the terminal; of one that does not know 80 and 24.
func size(out *os.File) (width, height int) {
	w, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Col == 0 || w.Row == 0 {
		return 80, 24
	}
	return int(w.Col), int(w.Row)
}
