package rtsold

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"ionet/client"
	"ionet/daemon/life"
	"ionet/daemon/nd"
)

const (
	nodeForwarding = "net.inet6.ip6.forwarding"
	nodeAccept     = "net.inet6.ip6.accept_rtadv"
)

// scriptTime bounds the script of -O.
const scriptTime = time.Minute

// errNobody is what rtsol ends with where nobody has answered.
type errNobody []string

func (e errNobody) Error() string {
	return "no router has answered on " + strings.Join(e, ", ")
}

// logger takes sentences.
type logger interface {
	Warnf(format string, a ...any)
	Debugf(format string, a ...any)
	Dumpf(format string, a ...any)
}

// daemon are the solicitors and what is around them.
type daemon struct {
	options
	log    logger
	links  func() ([]life.Link, error)
	conn   nd.Conn
	script func(iface string) // -O
	all    []*solicitor
}

// configure makes the solicitors.
func (d *daemon) configure() error {
	links, err := d.links()
	if err != nil {
		return err
	}
	names := d.ifaces
	if d.auto {
		for _, l := range links {
			if !l.Loopback && l.HW != nil {
				names = append(names, l.Name)
			}
		}
		if len(names) == 0 {
			return errors.New("-a: the stack has no interface to solicit on")
		}
	}
	for _, name := range names {
		i := slices.IndexFunc(links, func(l life.Link) bool { return l.Name == name })
		if i < 0 {
			return fmt.Errorf("%s: there is no such interface: ifconfig -l lists them", name)
		}
		if links[i].Loopback {
			return fmt.Errorf("%s is a loopback interface: no router is there", name)
		}
		d.all = append(d.all, &solicitor{name: name, mobile: d.mobile, random: func(n time.Duration) time.Duration { return rand.N(n) }})
	}
	return nil
}

// refresh asks the stack how the interfaces are.
func (d *daemon) refresh(now time.Time) error {
	links, err := d.links()
	if err != nil {
		return err
	}
	for _, s := range d.all {
		var l life.Link
		if i := slices.IndexFunc(links, func(l life.Link) bool { return l.Name == s.name }); i >= 0 {
			l = links[i]
		}
		before := s.state
		s.setLink(now, l)
		if s.state != before {
			d.log.Debugf("%s: %s, was %s", s.name, stateNames[s.state], stateNames[before])
		}
	}
	return nil
}

// turn sends what is to be sent and answers when the next thing is to be done.
func (d *daemon) turn(now time.Time) (next time.Time) {
	for _, s := range d.all {
		if s.expire(now) {
			d.log.Debugf("%s: solicitation %d", s.name, s.solicits)
			if err := d.conn.Send(s.packet()); err != nil {
				d.log.Warnf("%s: sending a solicitation: %v", s.name, err)
			}
		} else if s.gaveUp && s.state == idle && s.solicits == maxSolicits {
			d.log.Debugf("%s: nobody has answered", s.name)
			s.solicits = 0
		}
		if !s.at.IsZero() && (next.IsZero() || s.at.Before(next)) {
			next = s.at
		}
	}
	return next
}

// take is a message that came.
func (d *daemon) take(now time.Time, p nd.Packet) {
	i := slices.IndexFunc(d.all, func(s *solicitor) bool { return s.link.Index == p.If && p.If != 0 })
	if i < 0 || d.all[i].own(p.Src) {
		return
	}
	s := d.all[i]
	m, err := nd.ParseAdvert(p)
	if err != nil {
		d.log.Debugf("%s: an advertisement of %s is dropped: %v", s.name, p.Src, err)
		return
	}
	d.log.Debugf("%s: %s advertises", s.name, p.Src)
	d.log.Dumpf("%s: %+v", s.name, *m)
	if s.hear(now, m) && d.script != nil {
		d.log.Debugf("%s: the O flag is set: %s %s", s.name, d.other, s.name)
		d.script(s.name)
	}
}

// over says that -1 or rtsol has done its work; nobody are the interfaces without
// an answer, for which rtsol does not wait longer.
func (d *daemon) over() (over bool, nobody errNobody) {
	if !d.once {
		return false, nil
	}
	for _, s := range d.all {
		switch {
		case s.heard > 0:
		case d.oneShot && (s.gaveUp || s.state == down):
			nobody = append(nobody, s.name)
		default:
			return false, nil
		}
	}
	return true, nobody
}

// ready: the stack takes what the routers will say, or -F makes it.
func (d *daemon) ready(s *client.Stack) error {
	for _, x := range []struct{ node, want, why string }{
		{nodeForwarding, "0", "this is a router, which believes no other"},
		{nodeAccept, "1", "the stack pays no heed to advertisements"},
	} {
		v, err := s.Sysctl(x.node)
		if err != nil {
			return fmt.Errorf("%s: %w", x.node, err)
		}
		switch {
		case v == x.want:
		case !d.force:
			return fmt.Errorf("%s is %s: %s; -F changes it", x.node, v, x.why)
		default:
			if _, err := s.SetSysctl(x.node, x.want); err != nil {
				return fmt.Errorf("%s: %w", x.node, err)
			}
		}
	}
	return nil
}

// serve is the daemon's life on the stack.
func serve(l *life.Daemon, o *options) error {
	s, err := client.Open(l.Prefix)
	if err != nil {
		return err
	}
	defer s.Close()
	d := &daemon{options: *o, log: l, links: func() ([]life.Link, error) { return life.Links(s) }}
	if err := d.ready(s); err != nil {
		return err
	}
	if d.other != "" {
		d.script = func(iface string) { go run1(l, d.other, iface) }
	}
	if err := d.configure(); err != nil {
		return err
	}
	r, err := client.OpenRoute(l.Prefix)
	if err != nil {
		return err
	}
	defer r.Close()
	conn, err := nd.Open(l.Prefix, nd.TypeAdvert)
	if err != nil {
		return err
	}
	defer conn.Close()
	d.conn = conn
	if err := d.refresh(time.Now()); err != nil {
		return err
	}
	l.Serves()
	return d.loop(l, r, conn)
}

// run1 runs the script of -O.
func run1(l logger, script, iface string) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTime)
	defer cancel()
	if out, err := exec.CommandContext(ctx, script, iface).CombinedOutput(); err != nil {
		l.Warnf("%s %s: %v: %s", script, iface, err, strings.TrimSpace(string(out)))
	}
}

// loop is the daemon's life between the first word and the last.
func (d *daemon) loop(l *life.Daemon, r *client.RouteSocket, conn nd.Conn) error {
	h := life.Listen(r, conn)
	defer h.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := d.turn(time.Now())
		if over, nobody := d.over(); over {
			if nobody != nil {
				return nobody
			}
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
				var b strings.Builder
				for _, s := range d.all {
					s.dump(&b, time.Now())
				}
				l.WriteDump(b.String())
			case syscall.SIGHUP: // the terminal has gone, and it is none of ours
			default:
				return nil
			}
		case err := <-h.Failed:
			return err
		}
	}
}
