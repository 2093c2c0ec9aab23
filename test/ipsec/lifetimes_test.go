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
	slow   bool   // the connection carries a little at a time

	enough     chan struct{} // there were enough of them
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
		{cell: cell{proto: "ah", mode: "transport", auth: sha}, limits: "-ls 1 -lh 2", slow: true},
		{cell: cell{proto: "esp", mode: "transport", enc: gcm}, limits: "-bh 500000", hard: true},
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
	done := make(chan error, len(all))
	for _, a := range all {
		there, back := a.states()
		n := a.them().BitLen()
		f.k.Require(back, there, netip.PrefixFrom(a.them(), n), netip.PrefixFrom(a.us(), n))
		f.setkey(a.policy("out", there) + a.policy("in", back))
		f.renews(a, 0)
		f.renews(a, 1)
	}
	for _, a := range all {
		enough := a.enough
		go func() {
			err := a.carries(f.s, enough)
			if err != nil {
				err = fmt.Errorf("%s %s: %w", a.name(), a.limits, err)
			}
			done <- err
		}()
	}
	for left := len(all); left > 0; {
		select {
		case err := <-done:
			if left--; err != nil {
				t.Error(err)
			}
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
	out := f.u.Must("setkey", "-D")
	for _, a := range all {
		t.Logf("%s %s: %d associations, %d got old, %d were over", a.name(), a.limits, a.made, a.softs, a.end)
		for dir := range a.made {
			// Of each there is what is not over.
			sa := a.now[dir]
			there := len(regexp.MustCompile(fmt.Sprintf(`(?m)^%v(\[\d+\])? %v`, sa.Src, sa.Dst)).FindAllString(out, -1))
			if want := a.made[dir] - a.end[dir]; there != want {
				t.Errorf("%s: setkey -D shows %d of %v to %v, want %d\n%s", a.name(), there, sa.Src, sa.Dst, want, out)
			}
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
			if m.SA.SPI == sa.SPI && (m.Hard != nil || !a.hard) {
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

// renews has both sides have a new association of a, the receiver first.
func (f *facing) renews(a *aging, dir int) {
	f.u.T.Helper()
	a.made[dir]++
	c, n := a.cell, a.made[dir]
	for _, alg := range []*vm.Alg{&c.enc, &c.auth} {
		if alg.Name != "" {
			*alg = vm.NewAlg(alg.Name, len(alg.Key), byte(n))
		}
	}
	there, back := c.states()
	sa := [2]vm.SA{there, back}[dir]
	sa.SPI += uint32(n) << 16
	old := a.now[dir]
	a.now[dir] = sa
	ours := sa
	ours.More = strings.Fields(a.limits)
	if dir == 0 {
		f.k.XfrmState(sa)
		f.setkey(c.add(ours))
		return
	}
	f.setkey(c.add(ours))
	f.k.XfrmState(sa)
	if n > 1 {
		f.k.XfrmDelete(old)
	}
}

// is reports whether enough of a has got old, and was over if that is to be, in both directions.
func (a *aging) is() bool {
	for dir := range a.made {
		if !a.hard && a.softs[dir] < 3 || (a.hard || a.slow) && a.end[dir] < 3 {
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
		if a.slow {
			time.Sleep(20 * time.Millisecond)
			return 100
		}
		return 100_000
	})
}
