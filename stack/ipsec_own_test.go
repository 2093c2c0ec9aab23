package stack_test

import (
	"errors"
	"syscall"
	"testing"

	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// own gives a socket of the pair a policy.
func (p *pair) own(t testing.TB, so *socket.Socket, dir uint8, kind ipsec.Kind, r ...ipsec.Request) {
	t.Helper()
	q := &ipsec.Policy{Dir: dir, Kind: kind, Requests: r}
	if err := errors.Join(q.CheckOwn(), so.SetPolicy(p.v6, dir == ipsec.Out, q)); err != nil {
		t.Fatal(err)
	}
}

// says sends a datagram from stack i, and reports whether it is received.
func (p *pair) says(t testing.TB, i int, from, to *socket.Socket, text string) bool {
	t.Helper()
	p.call(i, func(w *netif.Work) {
		if _, err := from.Send(w, &socket.Msg{Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	})
	m := socket.Msg{Data: make([]byte, 100)}
	err := to.Recv(p.w[1-i], &m)
	if err == nil && string(m.Data) != text {
		t.Errorf("%q came as %q", text, m.Data)
	}
	return err == nil
}

// TestOwnPolicies: a socket's policy comes before the stack's, in what it sends and in what it takes.
func TestOwnPolicies(t *testing.T) {
	esp := ipsec.Request{Proto: packet.ProtoESP, Mode: ipsec.ModeTransport, Level: ipsec.Require}
	spec := ipsec.Spec{Proto: 50, SPI: 1000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgAESGCM16, Replay: 32}
	for fam, v6 := range families {
		t.Run(fam, func(t *testing.T) {
			p := securedPair(t, v6)
			var seen [256]int
			p.wires(func(b []byte) {
				if b[0]>>4 == 4 {
					seen[b[9]]++
				} else {
					seen[b[6]]++
				}
			})
			a, b := p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000)), p.socket(t, 1, p.addr(2, 2000), p.addr(1, 1000))
			plainA, plainB := p.socket(t, 0, p.addr(1, 1001), p.addr(2, 2001)), p.socket(t, 1, p.addr(2, 2001), p.addr(1, 1001))
			p.own(t, a, ipsec.Out, ipsec.Protect, esp)
			p.own(t, b, ipsec.In, ipsec.Protect, esp)
			if p.says(t, 0, a, b, "without an SA") {
				t.Error("it left without an SA")
			}
			for i := range 2 {
				spec.Ekey = key(20, 1)
				p.sa(t, i, spec)
			}
			p.deliver()
			if m := (socket.Msg{Data: make([]byte, 100)}); b.Recv(p.w[1], &m) != nil || string(m.Data) != "without an SA" {
				t.Errorf("what has waited for an SA came as %q", m.Data)
			}
			if !p.says(t, 0, a, b, "protected") || seen[packet.ProtoESP] != 2 || seen[packet.ProtoUDP] != 0 {
				t.Errorf("on the wire: %d ESP, %d UDP", seen[packet.ProtoESP], seen[packet.ProtoUDP])
			}
			if !p.says(t, 1, b, a, "who answers has no policy for what leaves") || seen[packet.ProtoUDP] != 1 {
				t.Error("the answer did not come in clear")
			}
			if !p.says(t, 0, plainA, plainB, "others have none") || seen[packet.ProtoUDP] != 2 {
				t.Error("another socket is not as it was")
			}
			if err := a.SetPolicy(v6, true, nil); err != nil {
				t.Fatal(err)
			}
			if p.says(t, 0, a, b, "in clear") {
				t.Error("in clear to who wants it protected")
			}
			if n := p.count(1, "udp", "unsecured"); n != 1 {
				t.Errorf("%d datagrams against the policy of a socket are counted", n)
			}

			// With a policy of the stack, some bypass it, as IKE does.
			p.policies(t, packet.ProtoUDP, esp)
			p.own(t, a, ipsec.Out, ipsec.Bypass)
			p.own(t, b, ipsec.In, ipsec.Bypass)
			before := seen
			if !p.says(t, 0, a, b, "by") || seen[packet.ProtoUDP] != before[packet.ProtoUDP]+1 {
				t.Error("bypass was in vain")
			}
			if !p.says(t, 0, plainA, plainB, "protected as the stack says") || seen[packet.ProtoESP] != before[packet.ProtoESP]+1 {
				t.Error("the others are not protected")
			}
			p.own(t, plainA, ipsec.Out, ipsec.Bypass)
			if p.says(t, 0, plainA, plainB, "in clear") {
				t.Error("in clear to a socket without a policy, against the stack's")
			}
			p.own(t, plainB, ipsec.In, ipsec.Entrust)
			if p.says(t, 0, plainA, plainB, "in clear") {
				t.Error("in clear to a socket that entrusts it to the stack")
			}
			p.own(t, b, ipsec.In, ipsec.Discard)
			if p.says(t, 0, a, b, "gone") {
				t.Error("delivered to who discards")
			}
			// A closed port is silent to who is not protected.
			closed := p.socket(t, 0, p.addr(1, 1002), p.addr(2, 2002))
			p.own(t, closed, ipsec.Out, ipsec.Bypass)
			before = seen
			p.call(0, func(w *netif.Work) { _, _ = closed.Send(w, &socket.Msg{Data: []byte("x")}) })
			if icmp := [2]int{seen[packet.ProtoICMP] - before[packet.ProtoICMP], seen[packet.ProtoICMPv6] - before[packet.ProtoICMPv6]}; icmp != [2]int{} {
				t.Errorf("a closed port answered what came in clear: %d", icmp)
			}
		})
	}
}

// TestOwnPoliciesOfStreams: a connection is protected from its first segment on, and a listener's policies are those of
// the connections that it accepts.
func TestOwnPoliciesOfStreams(t *testing.T) {
	esp := ipsec.Request{Proto: packet.ProtoESP, Mode: ipsec.ModeTransport, Level: ipsec.Require}
	for fam, v6 := range families {
		t.Run(fam, func(t *testing.T) {
			p := securedPair(t, v6)
			clear := 0
			p.wires(func(b []byte) {
				if b[0]>>4 == 4 && b[9] == packet.ProtoTCP || b[0]>>4 == 6 && b[6] == packet.ProtoTCP {
					clear++
				}
			})
			for i := range 2 {
				p.sa(t, i, ipsec.Spec{Proto: 50, SPI: 1000, Mode: ipsec.ModeTransport, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 32})
			}
			all := func(so *socket.Socket) {
				p.own(t, so, ipsec.Out, ipsec.Protect, esp)
				p.own(t, so, ipsec.In, ipsec.Protect, esp)
			}
			x, y := p.streamsWith(t, all)
			data := make([]byte, 100_000)
			p.stream(t, 0, x, y, 1<<20, data, make([]byte, 70000))
			p.stream(t, 1, y, x, 1<<20, data, make([]byte, 70000))
			if clear != 0 {
				t.Errorf("%d segments in clear", clear)
			}
			if own, err := y.Policy(v6, true); err != nil || own == nil {
				t.Errorf("who was accepted has policy %v, %v", own, err)
			}
		})
	}
}

func TestWhoseOwnPolicies(t *testing.T) {
	bad := map[string]*ipsec.Policy{
		"none":        {Dir: ipsec.Out, Kind: ipsec.None},
		"a direction": {Dir: ipsec.Forward, Kind: ipsec.Bypass},
		"nothing":     {Dir: ipsec.Out, Kind: ipsec.Protect},
	}
	for name, p := range bad {
		if err := p.CheckOwn(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := newPairOf(t, 0, nil)
	if err := p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000)).SetPolicy(false, true, &ipsec.Policy{}); err != syscall.ENOPROTOOPT {
		t.Errorf("without IPsec: %v", err)
	}
}
