package onstack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"strings"
	"sync"
	"time"

	"ionet/tool/background"
	"ionet/tool/cli"
)

// openServiceLog opens the log of a service: the file at path, or else the host's
// syslog, where it has the name tag; and standard error from the level quiet on.
func openServiceLog(ctx *cli.Context, path, tag string, quiet slog.Leveler) (*slog.Logger, error) {
	var h slog.Handler
	if path != "" {
		f, err := background.OpenLog(path, background.LogSize, true)
		if err != nil {
			return nil, fmt.Errorf("cannot open the log: %w", err)
		}
		h = records(ctx, f)
	} else {
		w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, tag)
		if err != nil {
			return nil, fmt.Errorf("there is no syslog here: name a file for the log with -l (%w)", err)
		}
		h = newSyslogHandler(ctx, w)
	}
	return slog.New(slog.NewMultiHandler(h, slog.NewTextHandler(ctx.Stderr, &slog.HandlerOptions{Level: quiet}))), nil
}

// records writes records as the command line wants them.
func records(ctx *cli.Context, w io.Writer) slog.Handler {
	o := &slog.HandlerOptions{}
	if ctx.Verbose {
		o.Level = slog.LevelDebug
	}
	if ctx.JSON {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// syslogHandler sends records to syslogd, with their level as its severity and
// its own time.
type syslogHandler struct {
	slog.Handler // writes to line
	mu           *sync.Mutex
	line         *bytes.Buffer
	w            *syslog.Writer
}

func newSyslogHandler(ctx *cli.Context, w *syslog.Writer) syslogHandler {
	line := new(bytes.Buffer)
	return syslogHandler{records(ctx, line), new(sync.Mutex), line, w}
}

func (h syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	r.Time = time.Time{}
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	text := strings.TrimSuffix(h.line.String(), "\n")
	switch {
	case r.Level >= slog.LevelError:
		return h.w.Err(text)
	case r.Level >= slog.LevelWarn:
		return h.w.Warning(text)
	case r.Level >= slog.LevelInfo:
		return h.w.Info(text)
	}
	return h.w.Debug(text)
}

// WithAttrs is that of slog.Handler.
func (h syslogHandler) WithAttrs(a []slog.Attr) slog.Handler {
	h.Handler = h.Handler.WithAttrs(a)
	return h
}

// WithGroup is that of slog.Handler.
func (h syslogHandler) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}
