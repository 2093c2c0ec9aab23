package cli

import (
	"log/slog"
	"strings"
	"testing"
)

func TestWarningsAreSentences(t *testing.T) {
	var b strings.Builder
	l := slog.New(sentences{w: &b, name: "ping"})
	l.Info("not this")
	l.With("server", "127.0.0.53").Warn("the host's own resolver is skipped", "file", "/etc/resolv.conf")
	if got, want := b.String(), "ping: the host's own resolver is skipped server=127.0.0.53 file=/etc/resolv.conf\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
