package ipsec

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/tool/cli/golden"
)

// probe is something that a file is to act on, from the first gateway to the second, or the kernels behind them.
type probe struct {
	network string // "tcp", "udp", "ping", or "hosts" for a ping from kernel to kernel
	port    string
	want    string // what is on the wire, as protocols by wire; nothing: it does not leave
}

// TestKAMEFiles: files in the way of KAME's manual are understood, printed back in its shape, and obeyed.
func TestKAMEFiles(t *testing.T) {
	v := newVPN(t, "")
	for _, tc := range []struct {
		file   string
		v6     bool
		probes []probe
	}{
		{"host-to-host", false, []probe{{"ping", "", "50"}, {"tcp", "80", "50"}, {"udp", "7", "50"}}},
		{"gateway-to-gateway", false, []probe{{"hosts", "", "50"}, {"ping", "", "1"}, {"tcp", "80", "6"}}},
		{"ipv6", true, []probe{{"ping", "", "58"}, {"tcp", "80", "51/6"}, {"udp", "7", "51/17"}}},
		{"ah-over-esp", false, []probe{{"ping", "", "51/50"}, {"tcp", "80", "51/50"}}},
		{"ipcomp", false, []probe{{"ping", "", "51/108"}, {"udp", "7", "51/17"}}},
		{"ports", false, []probe{{"ping", "", "1"}, {"tcp", "80", "6"}, {"tcp", "110", "50 0x5001 0x5002"}, {"tcp", "995", "50 0x5003 0x5004"}, {"udp", "123", "51/17"}, {"tcp", "23", ""}}},
	} {
		t.Run(tc.file, func(t *testing.T) {
			v := *v
			v.t = t
			text, err := os.ReadFile(filepath.Join("testdata", tc.file+".conf"))
			if err != nil {
				t.Fatal(err)
			}
			v.setkey(0, string(text))
			v.setkey(1, mirrored(string(text)))
			golden.Check(t, tc.file, steady(v.gw[0].Must("setkey", "-D"))+steady(v.gw[0].Must("setkey", "-DP")))
			for _, p := range tc.probes {
				var err error
				caught := v.watches(0, "en1", func() { err = v.probes(p, tc.v6) })
				if (err != nil) != (p.want == "") {
					t.Errorf("%+v: %v", p, err)
				}
				if got := seen(caught); got != p.want && !strings.HasPrefix(got, p.want+" ") {
					t.Errorf("%s %s: on the wire %q, want %q", p.network, p.port, got, p.want)
				}
			}
		})
	}
}

// mirrored is a file for the other end.
func mirrored(text string) string {
	return strings.NewReplacer("-P out ", "-P in ", "-P in ", "-P out ").Replace(text)
}

// steady is what setkey prints, without what is another every time; associations come in any order.
func steady(text string) string {
	for _, r := range [][2]string{
		{`[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}`, "DATE"}, {`diff: \d+\(s\)`, "diff: N(s)"}, {`(s?pid|sadb_seq)=\d+`, "$1=N"},
	} {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	if strings.Contains(text, "sadb_seq") {
		all := strings.Split(strings.ReplaceAll(text, "refcnt=1\n", "refcnt=1\n\x00"), "\x00")
		slices.Sort(all)
		text = strings.Join(all, "")
	}
	return text
}

// seen is what frames are of: protocols, behind AH with what that has in it; and the SPIs of ESP.
func seen(frames [][]byte) string {
	var protos, spis []string
	for _, f := range frames {
		h := headOf(f)
		name := fmt.Sprint(h.proto)
		switch {
		case h.later:
			continue
		case h.proto == 51:
			name += fmt.Sprint("/", h.rest[0])
		case h.proto == 50:
			spis = append(spis, fmt.Sprintf("%#x", binary.BigEndian.Uint32(h.rest)))
		}
		protos = append(protos, name)
	}
	slices.Sort(protos)
	slices.Sort(spis)
	return strings.Join(slices.Concat([]string{strings.Join(slices.Compact(protos), ",")}, slices.Compact(spis)), " ")
}

// probes does as p says; the error says that nothing came back.
func (v *vpn) probes(p probe, v6 bool) error {
	v.t.Helper()
	to := v.outer(1, v6)
	switch p.network {
	case "hosts":
		v.reaches(0, v.host(1, v6))
		v.reaches(1, v.host(0, v6))
		return nil
	case "ping":
		name := map[bool]string{false: "ping", true: "ping6"}[v6]
		if r := v.gw[0].Try(name, "-n", "-c", "1", "-s", "1000", to.String()); r.Status != 0 {
			return errors.New(r.Out + r.Err)
		}
		return nil
	}
	addr := net.JoinHostPort(to.String(), p.port)
	if p.network == "tcp" {
		l, err := v.s[1].Listen("tcp", addr)
		if err != nil {
			v.t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				sendBack(c)
			}
		}()
	} else {
		l, err := v.s[1].ListenPacket("udp", addr)
		if err != nil {
			v.t.Fatal(err)
		}
		defer l.Close()
		go func() {
			b := make([]byte, 100)
			if n, from, err := l.ReadFrom(b); err == nil {
				_, _ = l.WriteTo(b[:n], from)
			}
		}()
	}
	patience := 10 * time.Second
	if p.want == "" {
		patience = time.Second
	}
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	c, err := v.s[0].DialFromContext(ctx, p.network, netip.AddrPortFrom(v.outer(0, v6), 0).String(), addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	b := []byte("hello")
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err = io.ReadFull(c, b)
	return err
}
