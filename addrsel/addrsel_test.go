package addrsel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSort are the examples of RFC 6724 §10.2, and what was found besides. A
// source is "address/bits", with "!" behind it when it is deprecated.
func TestSort(t *testing.T) {
	for _, c := range []struct{ name, in, out string }{
		{"matching scope", "198.51.100.121<-169.254.13.78/16 2001:db8:1::1<-2001:db8:1::2/64", "2001:db8:1::1 198.51.100.121"},
		{"matching scope, IPv4", "2001:db8:1::1<-fe80::1/64 198.51.100.121<-198.51.100.117/24", "198.51.100.121 2001:db8:1::1"},
		{"higher precedence", "10.1.2.3<-10.1.2.4/8 2001:db8:1::1<-2001:db8:1::2/64", "2001:db8:1::1 10.1.2.3"},
		{"smaller scope", "2001:db8:1::1<-2001:db8:1::2/64 fe80::1<-fe80::2/64", "fe80::1 2001:db8:1::1"},
		{"not deprecated", "2001:db8:1::1<-2001:db8:1::2/64! 2001:db8:2::1<-2001:db8:2::2/64", "2001:db8:2::1 2001:db8:1::1"},
		{"longest prefix", "2001:db8:3ffe::1<-2001:db8:1::2/64 2001:db8:1::1<-2001:db8:1::2/64", "2001:db8:1::1 2001:db8:3ffe::1"},
		{"no longer than the network", "2001:db8:1:2::1<-2001:db8:1:3::2/48 2001:db8:1:3::1<-2001:db8:1:3::2/48", "2001:db8:1:2::1 2001:db8:1:3::1"},
		{"matching label", "2002:c633:6401::1<-fec0::1/64 2001:db8:1::1<-2001:db8:1::2/64", "2001:db8:1::1 2002:c633:6401::1"},
		{"a label before the precedence", "2001:db8:1::1<-2002:c633:6401::2/64 2002:c633:6401::1<-2002:c633:6401::2/64", "2002:c633:6401::1 2001:db8:1::1"},
		{"unusable last", "2001:db8::1 10.0.0.1<-10.0.0.2/8", "10.0.0.1 2001:db8::1"},
		{"the order of IPv4 stays", "10.9.0.1<-10.0.0.2/8 10.0.0.1<-10.0.0.2/8", "10.9.0.1 10.0.0.1"},
		{"loopback", "127.0.0.1<-127.0.0.1/8 ::1<-::1/128", "::1 127.0.0.1"},
		{"a group", "ff0e::1<-2001:db8::2/64 ff02::1<-fe80::2/64", "ff02::1 ff0e::1"},
	} {
		var dst []netip.Addr
		sources := map[netip.Addr]Source{}
		for w := range strings.FieldsSeq(c.in) {
			d, s, ok := strings.Cut(w, "<-")
			ip := netip.MustParseAddr(d)
			dst = append(dst, ip)
			if ok {
				s, deprecated := strings.CutSuffix(s, "!")
				p := netip.MustParsePrefix(s)
				sources[ip] = Source{Addr: p.Addr(), Bits: p.Bits(), Deprecated: deprecated}
			}
		}
		source := func(d netip.Addr) Source { return sources[d] }
		Sort(dst, source, Default)
		if got := strings.Trim(fmt.Sprint(dst), "[]"); got != c.out {
			t.Errorf("%s: %s, want %s", c.name, got, c.out)
		}
		Sort(dst, source, Default)
		if got := strings.Trim(fmt.Sprint(dst), "[]"); got != c.out {
			t.Errorf("%s, once more: %s", c.name, got)
		}
	}
}

// TestPolicy: a table of one's own puts IPv4 first, as administrators like to.
func TestPolicy(t *testing.T) {
	policy := append(slices.Clone(Default), Policy{netip.MustParsePrefix("::ffff:0:0/100"), 100, 4})
	dst := []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("1.2.3.4")}
	Sort(dst, func(d netip.Addr) Source { return Source{Addr: d, Bits: 24} }, policy)
	if !dst[0].Is4() {
		t.Error(dst)
	}
}

func TestInterleave(t *testing.T) {
	is6 := func(s string) bool { return strings.Contains(s, ":") }
	for in, want := range map[string]string{
		"":                "",
		"a":               "a",
		":1 :2 :3 a b":    ":1 a :2 b :3",
		"a b :1":          "a :1 b",
		"a :1 b :2 :3 :4": "a :1 b :2 :3 :4",
	} {
		if got := strings.Join(Interleave(strings.Fields(in), is6), " "); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// hurdle is how an attempt ends, and when.
type hurdle struct {
	after time.Duration
	err   error
}

func TestRace(t *testing.T) {
	refused, unreachable := errors.New("refused"), errors.New("unreachable")
	never := hurdle{time.Hour, nil}
	for _, c := range []struct {
		name    string
		in      []hurdle
		want    int
		err     error
		took    time.Duration
		dropped int
	}{
		{"the first at once", []hurdle{{0, nil}, never}, 0, nil, 0, 0},
		{"the second when the first has failed", []hurdle{{time.Millisecond, refused}, {time.Millisecond, nil}}, 1, nil, 2 * time.Millisecond, 0},
		{"the second beside a silent first", []hurdle{never, {time.Millisecond, nil}}, 1, nil, Delay + time.Millisecond, 0},
		{"the first, slow, beside the second", []hurdle{{Delay * 2, nil}, never}, 0, nil, 2 * Delay, 0},
		{"none", []hurdle{{2 * Delay, refused}, {time.Millisecond, unreachable}}, 0, unreachable, 2 * Delay, 0},
		{"alone", []hurdle{{time.Second, refused}}, 0, refused, time.Second, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			got, err := Race(t.Context(), len(c.in), func(ctx context.Context, i int) (int, error) {
				select {
				case <-time.After(c.in[i].after):
					return i, c.in[i].err
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			}, func(int) { t.Errorf("%s: a result is dropped", c.name) })
			if err != c.err || err == nil && got != c.want || time.Since(start) != c.took {
				t.Errorf("%s: %d, %v after %v; want %d, %v after %v", c.name, got, err, time.Since(start), c.want, c.err, c.took)
			}
		})
	}
}

// TestRaceDrops: who comes in second, in spite of the cancellation, is dropped.
func TestRaceDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dropped := make(chan int, 1)
		got, err := Race(t.Context(), 2, func(_ context.Context, i int) (int, error) {
			time.Sleep(Delay * 3 / 2 * time.Duration(1-i))
			return i, nil
		}, func(i int) { dropped <- i })
		if got != 1 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
		if i := <-dropped; i != 0 {
			t.Errorf("%d is dropped", i)
		}
	})
}

// TestRaceEnds: with ctx no other attempt begins.
func TestRaceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := Race(ctx, 9, func(ctx context.Context, i int) (int, error) {
			if i > 0 {
				t.Errorf("attempt %d", i)
			}
			<-ctx.Done()
			return 0, ctx.Err()
		}, nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
