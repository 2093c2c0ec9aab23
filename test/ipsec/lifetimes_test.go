package ipsec

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/test/vm"
)

// aging is a cell whose associations get old.
type aging struct {
	cell
	limits string // as setkey has them
	hard   bool   // there are new ones when the old ones are over, not when they get old
	slow   int    // octets that the connection carries at a time; 0: what it can

	enough     chan struct{} // there were enough of them
	ended      bool          // the connection has
	made       [2]int        // associations, by direction: there and back
	now        [2]vm.SA      // the newest
	softs, end [2]int        // how many got old, and were over
}

// lifetimes: associations get old and end under connections, by what they carry and by time, and get successors on both sides by who
// listens to a key socket; no connection notices it.
func (f *facing) lifetimes() {
	t := f.u.T.(*testing.T)
	gcm, cbc, sha := vm.NewAlg("aes-gcm-16", 20, 7), vm.NewAlg("aes-cbc", 32, 7), vm.NewAlg("hmac-sha2-256", 32, 9)
	all := []*aging{
		{cell: cell{proto: "esp", mode: "tunnel", enc: gcm}, limits: "-bs 500000 -bh 5000000"},
		{cell: cell{proto: "esp", mode: "transport", v6: true, enc: cbc, auth: sha, esn: true}, limits: "-ns 300 -nh 5000"},
		{cell: cell{proto: "ah", mode: "transport", auth: sha}, limits: "-ls 1 -lh 4", slow: 100},
		{cell: cell{proto: "esp", mode: "transport", enc: gcm}, limits: "-bh 100000", hard: true, slow: 2000},
	}
	f.u.Must("sysctl", "-w", "net.key.preferred_oldsa=0")
	defer f.u.Must("sysctl", "-w", "net.key.preferred_oldsa=1")
	listens, err := client.OpenKey(f.prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer listens.Close()
	for _, proto := range []uint8{protocol.SADBSATypeESP, protocol.SADBSATypeAH} {
		if _, err := listens.Request(&protocol.KeyMessage{Type: protocol.SADBRegister, SAType: proto}); err != nil {
			t.Fatal(err)
		}
	}
	f.key()
	var cells []cell
	for i, a := range all {
		a.n, a.enough = i+1, make(chan struct{})
		cells = append(cells, a.cell)
	}
	f.settle(cells...)
	type end struct {
		*aging
		err error
	}
	done := make(chan end, len(all))
	var states []vm.SA
	for _, a := range all {
		there, back := a.states()
		n := a.them().BitLen()
		f.k.Require(back, there, netip.PrefixFrom(a.them(), n), netip.PrefixFrom(a.us(), n))
		f.setkey(a.policy("out", there) + a.policy("in", back))
		for n := range ahead {
			states = append(states, a.generation(0, n+1))
		}
	}
	f.k.XfrmState(states...)
	for _, a := range all {
		f.renews(a, 0)
		f.renews(a, 1)
	}
	for _, a := range all {
		enough := a.enough
		go func() {
			start := time.Now()
			err := a.carries(f.s, enough)
			t.Logf("%s %s: over after %v", a.name(), a.limits, time.Since(start))
			done <- end{a, err}
		}()
	}
	for left := len(all); left > 0; {
		select {
		case e := <-done:
			if e.ended = true; e.err != nil {
				t.Errorf("%s %s: %v", e.name(), e.limits, e.err)
			}
			left--
			continue
		default:
		}
		if err := listens.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		m, err := listens.Next()
		if os.IsTimeout(err) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if m.Type == protocol.SADBExpire {
			f.expired(all, m)
		}
	}
	for _, a := range all {
		t.Logf("%s %s: %d associations, %d got old, %d were over", a.name(), a.limits, a.made, a.softs, a.end)
	}
	// Of all there is what is not over, until that is too.
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out := f.u.Must("setkey", "-D")
		wrong := ""
		for _, a := range all {
			for dir, sa := range a.now {
				there := len(regexp.MustCompile(fmt.Sprintf(`(?m)^%v %v`, sa.Src, sa.Dst)).FindAllString(out, -1))
				if strings.Contains(a.limits, "-lh") && there > 0 || !strings.Contains(a.limits, "-lh") && there != a.made[dir]-a.end[dir] {
					wrong += fmt.Sprintf("%s: setkey -D shows %d of %v to %v; %d were made, %d are over\n", a.name(), there, sa.Src, sa.Dst, a.made[dir], a.end[dir])
				}
			}
		}
		if wrong == "" {
			return
		} else if time.Now().After(late) {
			t.Fatalf("%s%s", wrong, out)
		}
	}
}

// expired gives the association that a key socket's message is about a successor, if it is to have one.
func (f *facing) expired(all []*aging, m *protocol.KeyMessage) {
	f.u.T.Helper()
	for _, a := range all {
		for dir, sa := range a.now {
			if m.Src.IP != sa.Src || m.Dst.IP != sa.Dst {
				continue
			}
			if m.Hard != nil {
				a.end[dir]++
			} else {
				a.softs[dir]++
			}
			if m.SA.SPI == sa.SPI && (m.Hard != nil || !a.hard) && !a.ended {
				f.renews(a, dir)
			}
			if a.is() && a.enough != nil {
				close(a.enough)
				a.enough = nil
			}
			return
		}
	}
	f.u.T.Errorf("EXPIRE of what nobody has made: %v to %v, %+v", m.Src.IP, m.Dst.IP, m.SA)
}

// ahead is how many associations from the stack the kernel has from the beginning: who renews them is slow on a busy machine.
const ahead = 12

// generation is the nth association of a direction, with keys of its own.
func (a *aging) generation(dir, n int) vm.SA {
	c := a.cell
	for _, alg := range []*vm.Alg{&c.enc, &c.auth} {
		if alg.Name != "" {
			*alg = vm.NewAlg(alg.Name, len(alg.Key), byte(n))
		}
	}
	there, back := c.states()
	sa := [2]vm.SA{there, back}[dir]
	sa.SPI += uint32(n) << 16
	return sa
}

// renews has both sides have a new association of a, the receiver first.
func (f *facing) renews(a *aging, dir int) {
	f.u.T.Helper()
	a.made[dir]++
	n, old := a.made[dir], a.now[dir]
	sa := a.generation(dir, n)
	a.now[dir] = sa
	ours := sa
	ours.More = strings.Fields(a.limits)
	if dir == 0 && n > ahead {
		f.k.XfrmState(sa)
	}
	f.setkey(a.add(ours))
	if dir == 1 {
		f.k.XfrmState(sa)
		if n > 1 {
			f.k.XfrmDelete(old)
		}
	}
}

// is reports whether enough of a has got old, and was over if that is to be, in both directions.
func (a *aging) is() bool {
	for dir := range a.made {
		if !a.hard && a.softs[dir] < 3 || a.slow > 0 && a.end[dir] < 2 {
			return false
		}
	}
	return true
}

// carries has a connection carry what it is given until there is enough.
func (a *aging) carries(s *client.Stack, enough <-chan struct{}) error {
	return echoesWhile(s, a.us(), a.them(), func(at int) int {
		select {
		case <-enough:
			return 0
		default:
		}
		if a.slow > 0 {
			time.Sleep(20 * time.Millisecond)
			return a.slow
		}
		return 100_000
	})
}
