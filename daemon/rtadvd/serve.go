package rtadvd

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"ionet/client"
	"ionet/daemon/life"
	"ionet/daemon/nd"
)

// nodeForwarding says whether the stack is a router.
const nodeForwarding = "net.inet6.ip6.forwarding"

// stack is what the daemon asks of the stack.
type stack interface {
	links() ([]life.Link, error)
	prefixes() (map[int][]netip.Prefix, error) // by interface index
	forwarding() (bool, error)
}

// running is the stack of the client.
type running struct{ *client.Stack }

func (r running) links() ([]life.Link, error)               { return life.Links(r.Stack) }
func (r running) prefixes() (map[int][]netip.Prefix, error) { return life.Prefixes(r.Stack) }
func (r running) forwarding() (bool, error) {
	v, err := r.Sysctl(nodeForwarding)
	return v != "0", err
}

// logger takes sentences.
type logger interface {
	Warnf(format string, a ...any)
	Debugf(format string, a ...any)
	Dumpf(format string, a ...any)
}

// daemon are the advertisers and what is around them.
type daemon struct {
	options
	log   logger
	stack stack
	conn  nd.Conn
	all   []*advertiser
	joint map[int]bool // interfaces on which we hear solicitations
}

// configure makes the advertisers as the file has them.
func (d *daemon) configure(text, path string, now time.Time) error {
	db, err := parseDatabase(text)
	if err != nil {
		return fmt.Errorf("%s, %w", path, err)
	}
	links, err := d.stack.links()
	if err != nil {
		return err
	}
	for _, name := range d.ifaces {
		i := slices.IndexFunc(links, func(l life.Link) bool { return l.Name == name })
		if i < 0 {
			return fmt.Errorf("%s: there is no such interface: ifconfig -l lists them", name)
		}
		if links[i].Loopback {
			return fmt.Errorf("%s is a loopback interface: nobody is there to advertise to", name)
		}
		c, said, unknown, err := readConfig(db, name, d.mobile)
		if err != nil {
			return fmt.Errorf("%s, %w", path, err)
		}
		if err := c.fits(name, links[i].MTU); err != nil {
			return fmt.Errorf("%s, %w", path, err)
		}
		for _, u := range unknown {
			d.log.Warnf("%s, %s: %s is no capability of this file", path, name, u)
		}
		if !said {
			d.log.Debugf("%s says nothing of %s: the defaults are taken", path, name)
		}
		d.all = append(d.all, newAdvertiser(name, c, now, func(n time.Duration) time.Duration { return rand.N(n) }))
	}
	return nil
}

// refresh asks the stack how things are.
func (d *daemon) refresh(now time.Time) error {
	links, err := d.stack.links()
	if err != nil {
		return err
	}
	prefixes := map[int][]netip.Prefix{}
	if !d.static {
		if prefixes, err = d.stack.prefixes(); err != nil {
			return err
		}
	}
	for _, a := range d.all {
		i := slices.IndexFunc(links, func(l life.Link) bool { return l.Name == a.name })
		if i < 0 {
			if a.link.index != 0 {
				d.log.Warnf("%s has gone", a.name)
				delete(d.joint, a.link.index)
			}
			a.setLink(now, link{})
			continue
		}
		l := links[i]
		if l.Up && !d.joint[l.Index] {
			if err := d.conn.Join(nd.AllRouters, l.Index); err != nil {
				d.log.Warnf("%s: joining %s, where solicitations go: %v", a.name, nd.AllRouters, err)
			} else {
				d.joint[l.Index] = true
			}
		}
		next := link{index: l.Index, mtu: l.MTU, hw: l.HW, up: l.Up && l.Local.IsValid(), own: l.Own}
		if next.up != a.link.up {
			d.log.Debugf("%s is %s", a.name, map[bool]string{true: "up", false: "down, or has no link-local address yet"}[next.up])
		}
		// Prefixes first: the first advertisement of a link that comes up has them.
		if !d.static {
			before := a.fromStack
			a.setPrefixes(now, prefixes[l.Index])
			if !slices.Equal(before, a.fromStack) {
				d.log.Debugf("%s: the prefixes of its routes are %v", a.name, a.fromStack)
			}
		}
		a.setLink(now, next)
	}
	return nil
}

// turn does what is to be done now and answers when the next thing is.
func (d *daemon) turn(now time.Time) (next time.Time) {
	for _, a := range d.all {
		if at, ok := a.deadline(); ok && !now.Before(at) {
			d.checkForwarding(now, a)
			for _, o := range a.expire(now) {
				p := nd.Packet{If: a.link.index, Dst: o.to, HopLimit: nd.HopLimit, Data: o.msg.Append(nil)}
				d.log.Dumpf("%s: to %s: %+v", a.name, o.to, o.msg)
				if err := d.conn.Send(p); err != nil {
					d.log.Warnf("%s: sending to %s: %v", a.name, o.to, err)
				}
			}
		}
		if at, ok := a.deadline(); ok && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// checkForwarding: a stack that has ceased to forward is no router any more, and
// hosts are to know.
func (d *daemon) checkForwarding(now time.Time, a *advertiser) {
	on, err := d.stack.forwarding()
	if err != nil || on == a.router {
		return
	}
	if on {
		d.log.Warnf("%s: the stack forwards again", a.name)
	} else {
		d.log.Warnf("%s: %s is 0: the advertisements say that this is no router", a.name, nodeForwarding)
	}
	a.setRouter(now, on)
}

// take is a message that came.
func (d *daemon) take(now time.Time, p nd.Packet) {
	i := slices.IndexFunc(d.all, func(a *advertiser) bool { return a.link.index == p.If && p.If != 0 })
	if i < 0 || len(p.Data) == 0 {
		return
	}
	a := d.all[i]
	switch p.Data[0] {
	case nd.TypeSolicit:
		if err := nd.CheckSolicit(p); err != nil {
			d.log.Debugf("%s: a solicitation of %s is dropped: %v", a.name, p.Src, err)
			return
		}
		d.log.Debugf("%s: %s solicits", a.name, p.Src)
		a.solicit(now, p.Src)
	case nd.TypeAdvert:
		m, err := nd.ParseAdvert(p)
		if err != nil {
			d.log.Debugf("%s: an advertisement of %s is dropped: %v", a.name, p.Src, err)
			return
		}
		for _, s := range a.hear(now, p.Src, m) {
			d.log.Warnf("%s", s)
		}
	}
}

// farewell begins the end.
func (d *daemon) farewell(now time.Time) {
	for _, a := range d.all {
		a.farewell(now)
	}
}

// left says that the last word has been said.
func (d *daemon) left() bool {
	return !slices.ContainsFunc(d.all, func(a *advertiser) bool { return !a.left() })
}

// dump is the state of all.
func (d *daemon) dump(now time.Time) string {
	var b strings.Builder
	for _, a := range d.all {
		a.dump(&b, now)
	}
	return b.String()
}

// serve is the daemon's life on the stack at sock.
func serve(l *life.Daemon, o *options) error {
	s, err := client.Open(l.Prefix)
	if err != nil {
		return err
	}
	defer s.Close()
	d := &daemon{options: *o, log: l, stack: running{s}, joint: map[int]bool{}}
	if on, err := d.stack.forwarding(); err != nil {
		return fmt.Errorf("%s: %w", nodeForwarding, err)
	} else if !on {
		return errors.New(nodeForwarding + " is 0, so that this is no router: sysctl -w " + nodeForwarding + "=1 makes it one")
	}
	text, path := "", o.conf
	if path == "" {
		if text, path, err = life.File(l.Prefix, "rtadvd.conf"); errors.Is(err, fs.ErrNotExist) {
			l.Debugf("there is no etc/rtadvd.conf: everything is as by default")
			path, err = "rtadvd.conf", nil
		}
	} else {
		var b []byte
		b, err = os.ReadFile(path)
		text = string(b)
	}
	if err != nil {
		return err
	}
	now := time.Now()
	if err := d.configure(text, path, now); err != nil {
		return err
	}
	// The routing socket first: what changes from here on is heard.
	r, err := client.OpenRoute(l.Prefix)
	if err != nil {
		return err
	}
	defer r.Close()
	conn, err := nd.Open(l.Prefix, nd.TypeSolicit, nd.TypeAdvert)
	if err != nil {
		return err
	}
	defer conn.Close()
	d.conn = conn
	if err := d.refresh(now); err != nil {
		return err
	}
	l.Serves()
	return d.loop(l, r, conn)
}

// loop is the daemon's life between the first word and the last.
func (d *daemon) loop(l *life.Daemon, r *client.RouteSocket, conn nd.Conn) error {
	h := life.Listen(r, conn)
	defer h.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := d.turn(time.Now())
		if d.left() {
			return nil
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = time.Until(next)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-timer.C:
		case p := <-h.Packets:
			d.take(time.Now(), p)
		case <-h.Changed:
			if err := d.refresh(time.Now()); err != nil {
				return err
			}
		case sig := <-l.Signals:
			switch sig {
			case syscall.SIGUSR1:
				l.WriteDump(d.dump(time.Now()))
			case syscall.SIGHUP:
				// As in the original: the file is read at the start alone.
			default:
				if len(d.all) > 0 && d.all[0].leaving {
					return nil // asked twice
				}
				d.farewell(time.Now())
			}
		case err := <-h.Failed:
			return err
		}
	}
}
