package mproxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"ionet/client"
	"ionet/daemon/life"
	"ionet/protocol"
)

// family is the proxy of one version of IP, and its stack.
type family struct {
	name string
	*proxy
	sys *system
}

// daemon are the proxies and what is around them.
type daemon struct {
	options
	log    *life.Daemon
	ifs    func() ([]iface, error)
	all    []*family
	missed map[string]bool // interfaces whose absence has been logged
}

// heard is a message of a family's socket.
type heard struct {
	f *family
	m protocol.Msg
}

// waiting is how many messages may wait for the daemon; then they wait in the stack's sockets.
const waiting = 64

// serve is the daemon's life on the stack.
func serve(l *life.Daemon, o *options) error {
	s, err := client.Open(l.Prefix)
	if err != nil {
		return err
	}
	defer s.Close()
	d := &daemon{options: *o, log: l, ifs: func() ([]iface, error) { return ifaces(s) }, missed: map[string]bool{}}
	if err := d.check(); err != nil {
		return err
	}
	r, err := client.OpenRoute(l.Prefix)
	if err != nil {
		return err
	}
	defer r.Close()
	defer func() {
		for _, f := range d.all {
			f.sys.close()
		}
	}()
	for _, v6 := range []bool{false, true} {
		if err := d.start(l, v6); err != nil {
			return err
		}
	}
	if err := d.refresh(time.Now()); err != nil {
		return err
	}
	l.Serves()
	return d.loop(l, r)
}

// check sees that the interfaces are there, at the start.
func (d *daemon) check() error {
	all, err := d.ifs()
	if err != nil {
		return err
	}
	for _, name := range d.ifaces {
		i := slices.IndexFunc(all, func(i iface) bool { return i.name == name })
		switch {
		case i < 0:
			return fmt.Errorf("%s: there is no such interface: ifconfig -l lists them", name)
		case all[i].loopback:
			return fmt.Errorf("%s is a loopback interface: nobody is there", name)
		case !all[i].groups:
			return fmt.Errorf("%s has no groups", name)
		}
	}
	return nil
}

// start makes the proxy of a version of IP, unless only the other one is wanted.
func (d *daemon) start(l *life.Daemon, v6 bool) error {
	name, asked, other := "IPv4", d.four, d.six
	if v6 {
		name, asked, other = "IPv6", d.six, d.four
	}
	if other && !asked {
		return nil
	}
	sys, err := open(l, l.Prefix, v6, d.older, len(d.ifaces))
	switch {
	case err == nil:
	case !v6 || !noIPv6(err):
		return err
	case asked:
		return errors.New("the stack has no IPv6: it runs tcpip-v4")
	default:
		l.Debugf("the stack has no IPv6")
		return nil
	}
	d.all = append(d.all, &family{name, newProxy(sys, d.conf, len(d.ifaces)-1), sys})
	return nil
}

// noIPv6 is what a stack without IPv6 answers: it has no such door.
func noIPv6(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// refresh asks the stack how the interfaces are.
func (d *daemon) refresh(now time.Time) error {
	all, err := d.ifs()
	if err != nil {
		return err
	}
	state := make([]iface, len(d.ifaces))
	for n, name := range d.ifaces {
		i := slices.IndexFunc(all, func(i iface) bool { return i.name == name })
		if i >= 0 {
			state[n] = all[i]
		} else if !d.missed[name] {
			d.log.Warnf("%s has gone", name)
		}
		d.missed[name] = i < 0
		state[n].name = name
	}
	for _, f := range d.all {
		rejoin := f.sys.set(state)
		for n := range f.links {
			was := f.links[n].Querier()
			f.setAddr(now, n+1, f.sys.addr(state[n+1]))
			if is := f.links[n].Querier(); is != was {
				d.log.Debugf("%s, %s: the link is %s", d.ifaces[n+1], f.name, map[bool]string{true: "up", false: "down, or we have no address there"}[is])
			}
		}
		if rejoin {
			f.rejoin()
		}
	}
	return nil
}

// take is what came by a family's socket.
func (d *daemon) take(now time.Time, f *family, m protocol.Msg) {
	c, err := f.sys.read(m)
	switch {
	case errors.Is(err, errIgnored), errors.Is(err, errNotOurs), errors.Is(err, errStays):
		return
	case err != nil:
		d.log.Debugf("%s of %v is dropped: %v", f.name, m.Addr.IP, err)
		return
	case c.flow != nil:
		f.asked(now, c.vif, *c.flow)
		return
	}
	name := d.ifaces[c.vif]
	if c.query != nil {
		d.log.Dumpf("%s: %v asks: %+v", name, c.from, *c.query)
	}
	for _, r := range c.records {
		d.log.Dumpf("%s: %v reports, version %d: %+v", name, c.from, c.version, r)
	}
	l := f.links[c.vif-1]
	was := l.Querier()
	f.proxy.take(now, c.vif, c.from, c.message)
	if was && !l.Querier() {
		d.log.Warnf("%s, %s: %v asks here, and serves the link", name, f.name, l.Other())
	}
}

// turn does what is due and answers when the next thing is.
func (d *daemon) turn(now time.Time) (next time.Time) {
	for _, f := range d.all {
		if at := f.proxy.turn(now); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// loop is the daemon's life between the first word and the last.
func (d *daemon) loop(l *life.Daemon, r *client.RouteSocket) error {
	messages, changed, failed, stop := make(chan heard, waiting), make(chan struct{}, 1), make(chan error, 3), make(chan struct{})
	defer close(stop)
	go func() {
		failed <- life.Watch(r, func() {
			select {
			case changed <- struct{}{}:
			default: // one is on its way
			}
		})
	}()
	for _, f := range d.all {
		go func() {
			for {
				m, err := f.sys.recv()
				if err != nil {
					failed <- err
					return
				}
				select {
				case messages <- heard{f, m}:
				case <-stop:
					return
				}
			}
		}()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := time.Hour
		if next := d.turn(time.Now()); !next.IsZero() {
			wait = time.Until(next)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-timer.C:
		case h := <-messages:
			d.take(time.Now(), h.f, h.m)
		case <-changed:
			if err := d.refresh(time.Now()); err != nil {
				return err
			}
		case sig := <-l.Signals:
			switch sig {
			case syscall.SIGUSR1:
				l.WriteDump(d.dump())
			case syscall.SIGHUP: // the terminal has gone, and it is none of ours
			default:
				return nil
			}
		case err := <-failed:
			return err
		}
	}
}

// dump is the state of all.
func (d *daemon) dump() string {
	var b strings.Builder
	for _, f := range d.all {
		fmt.Fprintf(&b, "%s, upstream %s\n", f.name, d.ifaces[upstream])
		for n, l := range f.links {
			role := "we ask"
			switch {
			case l.Other().IsValid():
				role = l.Other().String() + " asks"
			case !l.Querier():
				role = "down"
			}
			fmt.Fprintf(&b, "  %s: %s\n", d.ifaces[n+1], role)
			for _, g := range l.Groups() {
				include, sources := l.Filter(g)
				fmt.Fprintf(&b, "    %v %s\n", g, filter{include, sources})
			}
			if l.Refused > 0 {
				fmt.Fprintf(&b, "    %d groups and sources refused: there are too many\n", l.Refused)
			}
		}
		for _, k := range f.flows() {
			e := f.entries[k]
			fmt.Fprintf(&b, "  %v to %v: from %s to %s\n", k.origin, k.group, d.ifaces[e.parent], f.sys.names(e.out))
		}
		if f.refused > 0 {
			fmt.Fprintf(&b, "  %d flows without an entry: there are too many\n", f.refused)
		}
	}
	return b.String()
}
