package stackd

import (
	"log/slog"
	"runtime"
	"testing"
)

func runtimeStack(b []byte) int { return runtime.Stack(b, true) }

// fuzzServer is one server for all inputs, without doors: nothing is mounted
// (-s), and a stop does not end it.
func fuzzServer(f *testing.F) *server {
	o, p := Options{}, DefaultTCPIP()
	ps := paths{prefix: f.TempDir()}
	log := slog.New(slog.DiscardHandler)
	eng, err := newEngine(log, ps, &o, &p)
	if err != nil {
		f.Fatal(err)
	}
	s, err := newServer(log, eng, ps)
	if err != nil {
		f.Fatal(err)
	}
	s.static = true
	f.Cleanup(func() { s.shut(func() { eng.Close() }) })
	return s
}
