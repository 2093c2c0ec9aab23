package ipsec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ionet/test/vm"
)

// stranger is somebody on the line.
type stranger struct {
	*facing
	c cell
	n int // datagrams sent
	d net.Conn
}

// hostile: what somebody on the line makes of protected packets is neither delivered by the stack nor by the kernel, and each
// of them counts it.
func (f *facing) hostile() {
	gcm, cbc, sha := vm.NewAlg("aes-gcm-16", 20, 7), vm.NewAlg("aes-cbc", 32, 7), vm.NewAlg("hmac-sha2-256", 32, 9)
	for _, c := range []cell{
		{proto: "esp", mode: "transport", enc: gcm},
		{proto: "esp", mode: "tunnel", v6: true, enc: cbc, auth: sha},
		{proto: "esp", mode: "transport", v6: true, enc: gcm, esn: true},
		{proto: "esp", mode: "transport", enc: cbc, auth: sha, encap: true},
		{proto: "ah", mode: "transport", auth: sha},
		{proto: "ah", mode: "tunnel", v6: true, auth: sha, esn: true},
	} {
		c.n, c.line = 1, true
		f.u.T.(*testing.T).Run(c.name(), func(t *testing.T) {
			h := &stranger{facing: f.in(t), c: c}
			h.settle(c)
			h.key(c)
			var err error
			if h.d, err = f.s.DialFrom("udp", netip.AddrPortFrom(c.us(), 0).String(), net.JoinHostPort(c.them().String(), echoPort)); err != nil {
				t.Fatal(err)
			}
			defer h.d.Close()
			h.send(1)
			h.hears(1)
			for _, w := range []way{toKernel, toStack} {
				h.tampers(w)
				h.reorders(w)
				h.strangers(w)
			}
		})
	}
}

// send sends n datagrams to the kernel's echo, each of them with its number.
func (h *stranger) send(n int) {
	h.u.T.Helper()
	for range n {
		h.n++
		if _, err := fmt.Fprintf(h.d, "datagram %d", h.n); err != nil {
			h.u.T.Fatal(err)
		}
	}
}

// hears has the datagrams of these numbers come back, and nothing between them.
func (h *stranger) hears(numbers ...int) {
	h.u.T.Helper()
	b := make([]byte, 2000)
	for _, n := range numbers {
		if err := h.d.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			h.u.T.Fatal(err)
		}
		k, err := h.d.Read(b)
		if want := fmt.Sprint("datagram ", n); err != nil || string(b[:k]) != want {
			h.u.T.Fatalf("%q, %v; want %q", b[:k], err, want)
		}
	}
}

// keeping takes n packets that go w off the line; from then on none does.
func (h *stranger) keeping(w way, n int) [][]byte {
	h.u.T.Helper()
	h.keep(w, true)
	h.send(n)
	return h.take(w, n)
}

// arrives puts packets onto the line that have to come in this order, as datagrams of these numbers: the echo is heard of them.
func (h *stranger) arrives(w way, frames [][]byte, numbers ...int) {
	h.u.T.Helper()
	h.put(w, frames...)
	h.hears(numbers...)
}

// tampers changes a packet in every octet, cuts it everywhere, gives it another SPI, and repeats it.
func (h *stranger) tampers(w way) {
	h.u.T.Helper()
	good := h.keeping(w, 1)[0]
	at := protectionAt(good)
	var bad [][]byte
	for i := at; i < len(good); i++ {
		f := bytes.Clone(good)
		f[i] ^= 1 << (i % 8)
		bad = append(bad, f)
	}
	shortest := at
	if h.c.encap {
		shortest = at + 20 // what is shorter may be IKE's, or keep a NAT's entry alive; the kernel does not count it
	}
	for n := shortest; n < len(good); n++ {
		bad = append(bad, cutTo(good, n))
	}
	before := h.counts(w)
	h.put(w, bad...)
	h.arrives(w, [][]byte{good}, h.n)
	h.counted(w, before, "changed and cut", len(bad), "")
	if h.c.proto == "ah" { // it has the addresses too
		f := bytes.Clone(good)
		if h.c.v6 {
			f[14+23] ^= 1
		} else {
			f[14+15] ^= 1
			f = cutTo(f, len(f))
		}
		bad = append(bad[:0], f)
		before = h.counts(w)
		h.put(w, bad...)
		h.send(1)
		h.arrives(w, h.take(w, 1), h.n)
		h.counted(w, before, "from elsewhere", 1, "")
	}

	before = h.counts(w)
	f := bytes.Clone(good)
	binary.BigEndian.PutUint32(f[at+map[string]int{"esp": 0, "ah": 4}[h.c.proto]:], 0x9999)
	h.put(w, f, f, f)
	h.send(1)
	h.arrives(w, h.take(w, 1), h.n)
	h.counted(w, before, "of another SPI", 3, [...]string{"XfrmInNoStates", "dropped; no TDB"}[w])

	before = h.counts(w)
	h.put(w, good, good, good, good)
	h.send(1)
	h.arrives(w, h.take(w, 1), h.n)
	h.counted(w, before, "repeated", 4, [...]string{"XfrmInStateSeqError", "possible replay"}[w])
	h.keep(w, false)
}

// reorders sends packets backwards, which come all, and one that is older than the window, which does not.
func (h *stranger) reorders(w way) {
	h.u.T.Helper()
	const n = 25 // the window is 32
	frames := h.keeping(w, n)
	before := h.counts(w)
	var numbers []int
	for i := range n {
		h.put(w, frames[n-1-i])
		numbers = append(numbers, h.n-i)
	}
	h.hears(numbers...)
	old := h.keeping(w, 1)
	h.keep(w, false)
	first := h.n
	h.send(40)
	numbers = nil
	for i := range 40 {
		numbers = append(numbers, first+1+i)
	}
	h.hears(numbers...)
	h.put(w, old...)
	h.send(1)
	h.hears(h.n)
	word := [...]string{"XfrmInStateSeqError", "possible replay"}[w]
	if h.c.esn { // it is taken for one that is far ahead (RFC 4303 A2.2)
		word = ""
	}
	h.counted(w, before, "older than the window", 1, word)
}

// strangers has the sender have another key than the receiver.
func (h *stranger) strangers(w way) {
	h.u.T.Helper()
	c := h.c
	h.key(h.c)
	there, back := c.states()
	other := func(a vm.Alg) vm.Alg {
		if a.Name != "" {
			a = vm.NewAlg(a.Name, len(a.Key), a.Key[0]+1)
		}
		return a
	}
	if w == toKernel {
		s := c
		s.enc, s.auth = other(c.enc), other(c.auth)
		wrong, _ := s.states()
		h.u.Must("setkey", "-f", h.u.Write("wrong.conf", fmt.Sprintf("delete %v %v %s %#x;\n", there.Src, there.Dst, c.proto, there.SPI)+s.add(wrong), 0o600))
	} else {
		h.k.XfrmDelete(back)
		back.Enc, back.Auth = other(c.enc), other(c.auth)
		h.k.XfrmState(back)
	}
	before := h.counts(w)
	h.send(3)
	h.await(w, before, 3, [...]string{"XfrmInStateProtoError", "bad authentication detected"}[w])
	h.key(h.c)
	h.send(1)
	h.hears(h.n)
}

// counts is what the receiver of what goes w counts of packets that it does not take, by its words for them.
func (h *stranger) counts(w way) map[string]int {
	h.u.T.Helper()
	all := map[string]int{}
	if w == toKernel {
		for line := range strings.Lines(h.k.Must("cat", "/proc/net/xfrm_stat")) {
			if f := strings.Fields(line); len(f) == 2 && strings.HasPrefix(f[0], "XfrmIn") {
				all[f[0]], _ = strconv.Atoi(f[1])
			}
		}
		return all
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(\d+) (possible replay )?packets? (.*)$`).FindAllStringSubmatch(h.u.Must("netstat", "-s", "-p", h.c.proto), -1) {
		if what := m[2] + m[3]; what != "in" && what != "out" {
			all[what], _ = strconv.Atoi(m[1])
		}
	}
	return all
}

// counted fails unless exactly n more packets are counted as not taken, all of them in this word if there is one.
func (h *stranger) counted(w way, before map[string]int, what string, n int, word string) {
	h.u.T.Helper()
	got, as := 0, []string{}
	for name, v := range h.counts(w) {
		if d := v - before[name]; d != 0 {
			as = append(as, fmt.Sprintf("%d %s", d, name))
			if strings.Contains(name, word) {
				got += d
			}
		}
	}
	if got != n {
		h.u.T.Errorf("%d packets %s, %v: counted as %q", n, what, w, as)
	}
}

// await waits until n packets more are counted.
func (h *stranger) await(w way, before map[string]int, n int, word string) {
	h.u.T.Helper()
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		for name, v := range h.counts(w) {
			if strings.Contains(name, word) && v-before[name] == n {
				return
			}
		}
		if time.Now().After(late) {
			h.counted(w, before, "of a wrong key", n, word)
			return
		}
	}
}
