// Package all is every driver by name: those that there are, and the names that
// QNX's hardware drivers had, which one of those stands in for.
package all

import (
	"fmt"
	"maps"
	"os"
	"path"
	"strings"

	"ionet/driver"
	"ionet/driver/impair"
	"ionet/driver/packet"
	"ionet/driver/qemu"
	"ionet/driver/tap"
	"ionet/driver/wire"
	"ionet/driver/xdp"
	"ionet/stack/netif"
)

// Env names the driver that stands in for hardware, with its options, such as
// "tap,name=tap0". Without it that is wire.
const Env = "IONET_HARDWARE"

// devices are those with an outside of their own.
var devices = driver.Set{
	"wire":   wire.Open,
	"tap":    tap.Open,
	"packet": packet.Open,
	"xdp":    xdp.Open,
	"qemu":   qemu.Open,
}

// present are all that there are.
var present = func() driver.Set {
	s := maps.Clone(devices)
	s["impair"] = impair.Open(devices)
	return s
}()

// hardware are the drivers of the original (io-net, -d) and of its field.
var hardware = strings.Fields(`
	artesyn asix bcm43xx cpci-mcp750 crys8900 dm9102 eepro el509 el589 el900
	epic fd gt64260 i82544 klsi lance ne2000 ne2000-403 ns83815 orinoco pcnet
	pegasus ppc405 ppc860_mii ppc8260 prism rhine rlan2 rtl sis9 smc9000 speedo
	tulip tulip-p5064 via-rhine wd`)

// family is a name of the original that stood for several, ppc800-*.
const family = "ppc800-"

// Drivers are all of them.
var Drivers = drivers()

func drivers() driver.Set {
	s := maps.Clone(present)
	for _, name := range hardware {
		s[name] = standIn(name)
	}
	return s
}

// Lookup finds a driver as io-net's -d names it: by name, with or without
// "devn-" or "devnp-" and ".so", or by the path of such a file, which need not
// exist. notice is a line for the user about interface ifname, opened with o,
// or "" when the driver is what it is called.
func Lookup(name string) (open driver.Open, notice func(ifname string, o driver.Options) string, ok bool) {
	name = Name(name)
	if open, ok := present[name]; ok {
		return open, func(string, driver.Options) string { return "" }, true
	}
	open, ok = Drivers[name]
	if !ok && strings.HasPrefix(name, family) && name != family {
		open, ok = standIn(name), true
	}
	if !ok {
		return nil, nil, false
	}
	return open, func(ifname string, o driver.Options) string {
		if backing := os.Getenv(Env); backing != "" {
			return fmt.Sprintf("%s: %s simulated by %s (%s)", ifname, name, backing, Env)
		}
		return fmt.Sprintf("%s: %s simulated on %s; for a real interface use -d packet if=…", ifname, name, segment(o))
	}, true
}

// Name is a driver's bare name.
func Name(s string) string {
	s = strings.TrimSuffix(path.Base(s), ".so")
	if bare, ok := strings.CutPrefix(s, "devnp-"); ok {
		return bare
	}
	return strings.TrimPrefix(s, "devn-")
}

func segment(o driver.Options) string {
	if path, ok := o.Get("path"); ok {
		return "the segment in " + path
	}
	return fmt.Sprintf("segment %d", max(o.Lan, 0))
}

// standIn opens the driver that stands in for hardware called name.
func standIn(name string) driver.Open {
	return func(o driver.Options) (driver.Driver, error) {
		backing, where := os.Getenv(Env), segment(o)
		open, o, err := backed(backing, o)
		if err != nil {
			return nil, err
		}
		d, err := open(o)
		if err != nil {
			return nil, err
		}
		if backing != "" {
			where, _, _ = strings.Cut(backing, ",")
		}
		return &simulated{d, fmt.Sprintf("%s simulated on %s", name, where)}, nil
	}
}

// backed reads the value of Env and joins its options with those given; what
// was given counts.
func backed(backing string, o driver.Options) (driver.Open, driver.Options, error) {
	if backing == "" {
		return wire.Open, o, nil
	}
	name, text, _ := strings.Cut(backing, ",")
	open, ok := present[Name(name)]
	if !ok {
		return nil, o, fmt.Errorf("%s=%s: no driver %q; want one of %s, with its options behind a comma", Env, backing, name, strings.Join(present.Names(), ", "))
	}
	e, err := driver.ParseOptions(text)
	if err != nil {
		return nil, o, fmt.Errorf("%s=%s: %w", Env, backing, err)
	}
	if o.MAC == (netif.MAC{}) {
		o.MAC = e.MAC
	}
	if o.MTU == 0 {
		o.MTU = e.MTU
	}
	o.Promisc = o.Promisc || e.Promisc
	o.Verbose = max(o.Verbose, e.Verbose)
	o.Args = append(e.Args, o.Args...)
	return open, o, nil
}

// simulated is a driver under the name of hardware.
type simulated struct {
	driver.Driver
	description string
}

// Info is the driver's own but for the name.
func (s *simulated) Info() driver.Info {
	i := s.Driver.Info()
	i.Description = s.description
	return i
}

// SetFilter passes on what the interface wants to hear, if the driver can be
// told.
func (s *simulated) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	if f, ok := s.Driver.(netif.Filter); ok {
		f.SetFilter(promisc, allmulti, groups)
	}
}
