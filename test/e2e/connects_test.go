package e2e

import (
	"errors"
	"net"
	"testing"
	"time"
)

func init() {
	programs["dials"] = dials
}

// dials makes connections without waiting in connect(2), as package net does: it
// hears once, at the edge, that one can be written to, and then asks who its peer
// is.
func dials([]string) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	for range 300 {
		c, err := net.DialTimeout("tcp4", l.Addr().String(), 10*time.Second)
		if err != nil {
			return err
		}
		in, err := l.Accept()
		if err := errors.Join(err, in.Close(), c.Close()); err != nil {
			return err
		}
	}
	return nil
}

// A program that sees that it is connected is told that it is, whatever it asks
// and however fast.
func TestOnstackConnectsAtTheEdge(t *testing.T) {
	start(t).onstack(0, "dials").well()
}
