package autoconf

import (
	"testing"
	"time"

	"ionet/stack/netif"
)

const (
	asksNameless = ":: > ff02::2 who routes"
	asks         = "fe80::ff:fe00:1 > ff02::2 who routes tell 02:00:00:00:00:01"
)

// The link-local address is being asked for while routers are solicited from no
// address, and again from the address when that may be used.
func TestSolicitsBesideDAD(t *testing.T) {
	b := open(t)
	b.InterfaceUp(b.en0)
	b.pass(150 * time.Millisecond)
	b.wantSent(asksNameless)
	b.pass(time.Second)
	b.wantSent(asks)
	b.hear(r1, say(time.Hour))
	b.pass(time.Hour - 2*time.Second)
	b.wantSent()
}

// With no duplicate address detection before use, nothing is waited for.
func TestSolicitsAtOnce(t *testing.T) {
	b := open(t)
	b.ip.dad = 0
	b.InterfaceUp(b.en0)
	b.pass(10 * time.Millisecond)
	b.wantSent(asks)
}

// Nobody answers: 4, 8, 16 … seconds, at last an hour, each a tenth more or
// less (RFC 7559).
func TestSolicitsAgain(t *testing.T) {
	b := open(t)
	b.ip.dad = 0
	b.InterfaceUp(b.en0)
	b.pass(10 * time.Millisecond)
	last := b.now
	for want := 4 * time.Second; want < 5*time.Hour; want = min(2*want, 2*time.Hour) {
		b.sent = nil
		for len(b.sent) == 0 {
			b.pass(100 * time.Millisecond)
		}
		got, at := time.Duration(b.now-last), min(want, time.Hour)
		// The tenths add up: each interval doubles the one before.
		if got < at*65/100 || got > at*135/100 {
			t.Errorf("after %v, want about %v", got, at)
		}
		if last = b.now; want >= 2*time.Hour {
			break
		}
	}
}

func TestASilentRouterIsSolicitedAgain(t *testing.T) {
	b := start(t)
	b.hear(r1, say(30*time.Minute))
	b.pass(10 * time.Minute)
	b.wantSent()
	b.unreachable(r1)
	b.pass(time.Second)
	b.wantSent(asks)
	b.hear(r1, say(0)) // it is none: that is no answer
	b.pass(5 * time.Second)
	b.wantSent(asks)
	b.hear(r1, say(30*time.Minute))
	b.pass(31 * time.Minute) // its time is up
	if len(b.sent) == 0 {
		t.Error("nobody is asked after the last router's lifetime")
	}
}

func TestWhoDoesNotSolicit(t *testing.T) {
	for name, prepare := range map[string]func(b *bench){
		"told not to":             func(b *bench) { b.set("accept_rtadv", "0") },
		"a router":                func(b *bench) { b.ip.forward = true },
		"told not to on this one": func(b *bench) { b.nd.deaf = true },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			prepare(b)
			b.InterfaceUp(b.en0)
			b.pass(time.Minute)
			b.wantSent()
			b.hear(r1, say(time.Hour, day(netA)))
			b.wantAddrs()
			b.wantRoutes()
			if b.count("unwanted router advertisement") != 1 {
				t.Error("the advertisement was not counted")
			}
		})
	}
}

func TestSolicitByHand(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour))
	b.Solicit(b.en0)
	b.pass(time.Second)
	b.wantSent(asks)
	b.work(func(w *netif.Work) { b.Ready(w, b.en0, false) })
	b.Solicit(b.en0)
	b.pass(time.Minute)
	b.wantSent()
}
