package stackd

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/all"
	"ionet/host"
	"ionet/protocol/door"
	"ionet/stack/netif"
)

// engine is the stack with what the daemon knows of it besides.
type engine struct {
	*host.Stack
	log     *slog.Logger
	prefix  string
	mu      sync.Mutex
	drivers map[string]mounted // by interface
}

// mounted is how a driver came to be.
type mounted struct {
	name, options string
}

func newEngine(log *slog.Logger, p paths, o *Options, t *TCPIP) (*engine, error) {
	h, err := host.New(hostConfig(log, o, t))
	if err != nil {
		return nil, err
	}
	e := &engine{Stack: h, log: log, prefix: p.prefix, drivers: map[string]mounted{}}
	e.setKern(t)
	for _, f := range []struct {
		on   bool
		node string
		to   string
	}{{t.Forward, "net.inet.ip.forwarding", "1"}, {t.Forward6, "net.inet6.ip6.forwarding", "1"}, {t.Forward6, "net.inet6.ip6.accept_rtadv", "0"},
		{t.StrictRFC, "net.inet.tcp.strict_rfc", "1"},
		{!t.FastForward, "net.inet.ip.maxflows", "0"}, {!t.FastForward, "net.inet6.ip6.maxflows", "0"}} {
		if f.on && err == nil {
			_, err = h.Engine().Env.MIB.Set(f.node, f.to)
		}
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return e, nil
}

func hostConfig(log *slog.Logger, o *Options, t *TCPIP) host.Config {
	c := host.Config{Log: log, V4Only: t.Module == "tcpip-v4", IPsec: t.IPsec, FilterFirst: t.PfilIPsec, ReuseportUnicast: t.ReusePortUnicast, NoCache: !t.Cache || o.NoCache,
		Burst: t.RecvCtxt / minContext, SystemRandom: t.Random}
	if t.RxPrioGiven {
		c.InputPriority = t.RxPrio
	}
	if t.TimerPrioGiven {
		c.TimerPriority = t.TimerPrio
	}
	return c
}

// mount loads a driver and answers its interface's name and sentences for
// the user: what stands in for hardware, options that steer nothing.
func (e *engine) mount(name, options string) (ifname string, notices []string, err error) {
	open, notice, ok := all.Lookup(name)
	if !ok {
		return "", nil, errf(unix.ENODEV, "no driver %q (known: wire, tap, packet, xdp, qemu, impair, and the names of QNX's hardware drivers)", all.Name(name))
	}
	o, err := driver.ParseOptions(options)
	if err != nil {
		return "", nil, errf(unix.EINVAL, "%v", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if o.Lan < 0 {
		_, o.Lan = netif.Unit(e.Engine().Env.Ifs.FreeName("en"))
	} else if n := fmt.Sprintf("en%d", o.Lan); e.Engine().Env.Ifs.ByName(n) != nil {
		return "", nil, errf(unix.EEXIST, "%s is there already; choose another lan=", n)
	}
	o.Seed = e.prefix
	if o.User, err = door.UserDir(); err != nil {
		e.log.Warn("no folder for the user's own segments", "err", err)
	}
	d, err := open(o)
	if err != nil {
		return "", nil, fmt.Errorf("unable to init dll devn-%s: %w", all.Name(name), err)
	}
	ifp, err := e.Attach(d, o)
	if err != nil {
		d.Close()
		return "", nil, fmt.Errorf("unable to attach devn-%s: %w", all.Name(name), err)
	}
	e.drivers[ifp.Name] = mounted{all.Name(name), options}
	if s := notice(ifp.Name, o); s != "" {
		notices = append(notices, s)
	}
	for _, a := range o.Args {
		if driver.HardwareOption(a.Name) {
			notices = append(notices, fmt.Sprintf("%s: option %s steers real hardware only and has no effect", ifp.Name, a.Name))
		}
	}
	return ifp.Name, notices, nil
}

// umount takes a driver and its interface away.
func (e *engine) umount(ifname string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.Detach(ifname); err != nil {
		return err
	}
	delete(e.drivers, ifname)
	return nil
}

// driverName is what an interface was mounted as; "" for lo0.
func (e *engine) driverName(ifname string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.drivers[ifname].name
}

// isProtocol reports whether a module's file is the tcpip protocol itself.
func isProtocol(module string) bool {
	return strings.HasPrefix(moduleName(module), "tcpip") || strings.HasPrefix(module[strings.LastIndexByte(module, '/')+1:], "npm-")
}
