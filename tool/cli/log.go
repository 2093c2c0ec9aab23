package cli

import (
	"context"
	"io"
	"log/slog"
	"strings"
)

// sentences is the log of a command: a warning of a package below becomes a
// sentence on standard error, as the command's own are.
type sentences struct {
	w    io.Writer
	name string
	with []slog.Attr
}

func (h sentences) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h sentences) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(h.name + ": " + r.Message)
	add := func(a slog.Attr) bool {
		b.WriteString(" " + a.String())
		return true
	}
	for _, a := range h.with {
		add(a)
	}
	r.Attrs(add)
	b.WriteByte('\n')
	_, err := io.WriteString(h.w, b.String())
	return err
}

func (h sentences) WithAttrs(as []slog.Attr) slog.Handler {
	h.with = append(h.with[:len(h.with):len(h.with)], as...)
	return h
}

func (h sentences) WithGroup(string) slog.Handler { return h }
