package driver

import (
	"errors"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	want := errors.New("hang-up")
	if err := Guard(func() error { return want }); err != want {
		t.Errorf("got %v, want %v", err, want)
	}
	err := Guard(func() error {
		var p *Arg
		p.Name = "x"
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "panicked") || !strings.Contains(err.Error(), "guard_test.go") {
		t.Errorf("a panic comes back as %v", err)
	}
}
