package rtadvd

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"ionet/daemon/nd"
)

// Bounds of RFC 4861 §6.2.1, in seconds.
const (
	leastMax     = 4
	mostMax      = 1800
	leastMin     = 3
	mostLifetime = 9000
	defaultMax   = 600
	minMTU       = 1280 // RFC 8200 §5
	suffixes     = 100  // addr, addr0 … addr99
)

// Lifetimes are those of a prefix, in seconds; one that falls ends so many seconds
// after the daemon's start.
type Lifetimes struct {
	Valid, Preferred           uint32
	ValidFalls, PreferredFalls bool
}

// PrefixConfig is a prefix as the file has it.
type PrefixConfig struct {
	Prefix netip.Prefix
	Flags  uint8 // nd.OnLink, nd.Autonomous, nd.RouterAddr
	Lifetimes
}

// Config is what is said of an interface.
type Config struct {
	MaxInterval, MinInterval time.Duration // between advertisements to all
	ClockSkew                time.Duration // by how much lifetimes that fall may differ from another router's
	HopLimit                 uint8
	Flags                    uint8 // nd.Managed, nd.Other, nd.HomeAgent, nd.Pref*
	Lifetime                 uint16
	Reachable, Retrans       uint32 // milliseconds
	MTU                      uint32 // 0: not said
	MTUAuto                  bool   // the interface's
	NoLinkAddr, NoIfPrefix   bool
	Agent                    *nd.Agent // with -m

	Prefixes []PrefixConfig // none: those of the interface's routes, as Template has it
	Template PrefixConfig
	Routes   []nd.Route
	Servers  []nd.Servers
	Search   []nd.Search
}

// reader takes capabilities out of an entry.
type reader struct {
	iface string
	caps  map[string]capability
	used  map[string]bool
	err   error
}

func (r *reader) fail(format string, a ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: "+format, append([]any{r.iface}, a...)...)
	}
}

func (r *reader) get(name string) (capability, bool) {
	c, ok := r.caps[name]
	r.used[name] = true
	return c, ok && c.kind != '@'
}

// number is a capability name#n between low and high, or other.
func (r *reader) number(name string, other, low, high int64) int64 {
	c, ok := r.get(name)
	switch {
	case !ok:
		return other
	case c.kind != '#':
		r.fail("%s is a number: write %s#%d", name, name, other)
	case c.num < low || c.num > high:
		r.fail("%s#%d is out of range: %d to %d belong there", name, c.num, low, high)
	default:
		return c.num
	}
	return other
}

// lifetime is a number of seconds; -1 is for ever.
func (r *reader) lifetime(name string, other uint32) uint32 {
	n := r.number(name, int64(other), -1, nd.Infinity)
	if n < 0 {
		return nd.Infinity
	}
	return uint32(n)
}

// text is a capability name=string.
func (r *reader) text(name string) (string, bool) {
	c, ok := r.get(name)
	if ok && c.kind != '=' {
		r.fail("%s is a string: write %s=\"…\"", name, name)
		return "", false
	}
	return c.str, ok
}

func (r *reader) flag(name string) bool {
	c, ok := r.get(name)
	if ok && c.kind != 0 {
		r.fail("%s stands alone", name)
	}
	return ok && c.kind == 0
}

// flags are a number of bits, or a string of letters.
func (r *reader) flags(name string, other uint8, letters map[rune]uint8) uint8 {
	c, ok := r.get(name)
	switch {
	case !ok:
		return other
	case c.kind == '#' && c.num >= 0 && c.num <= 255:
		return uint8(c.num)
	case c.kind != '=':
		r.fail("%s is a number of bits from 0 to 255, or a string of letters", name)
		return other
	}
	var bits uint8
	for _, l := range c.str {
		b, ok := letters[l]
		if !ok {
			r.fail("%s=%q: %q is no flag of it", name, c.str, l)
		}
		bits |= b
	}
	return bits
}

var (
	raLetters     = map[rune]uint8{'m': nd.Managed, 'o': nd.Other, 'a': nd.HomeAgent, 'h': nd.PrefHigh, 'l': nd.PrefLow}
	prefixLetters = map[rune]uint8{'l': nd.OnLink, 'a': nd.Autonomous, 'r': nd.RouterAddr}
	routeLetters  = map[rune]uint8{'h': nd.PrefHigh, 'l': nd.PrefLow}
)

// preference is bits 3 and 4 of flags, of which one pattern is reserved.
func (r *reader) preference(name string, flags uint8) {
	if flags&nd.PrefMask == nd.PrefReserved {
		r.fail("%s#%#x: the preference in bits 3 and 4 is reserved; 0x08 is high, 0x18 low", name, flags)
	}
}

// readConfig is what db says of an interface. said: it has an entry, else
// everything is as RFC 4861 has it by default. unknown are capabilities that mean
// nothing.
func readConfig(db database, iface string, mobile bool) (c Config, said bool, unknown []string, err error) {
	caps, said, err := db.resolve(iface)
	if err != nil {
		return c, said, nil, err
	}
	r := &reader{iface: iface, caps: caps, used: map[string]bool{}}
	maxi := r.number("maxinterval", defaultMax, leastMax, mostMax)
	mini := max(maxi/3, leastMin)
	if _, ok := r.get("mininterval"); ok {
		mini = r.number("mininterval", mini, leastMin, max(leastMin, maxi*3/4))
	}
	c.MaxInterval, c.MinInterval = time.Duration(maxi)*time.Second, time.Duration(mini)*time.Second
	c.ClockSkew = time.Duration(r.number("clockskew", 0, 0, 1<<31)) * time.Second
	c.HopLimit = uint8(r.number("chlim", 64, 0, 255))
	c.Flags = r.flags("raflags", 0, raLetters)
	r.preference("raflags", c.Flags)
	c.Lifetime = uint16(r.number("rltime", 1800, 0, mostLifetime))
	if c.Lifetime != 0 && int64(c.Lifetime) < maxi {
		r.fail("rltime#%d is shorter than maxinterval (%d s): hosts would lose their router between two advertisements", c.Lifetime, maxi)
	}
	c.Reachable = uint32(r.number("rtime", 0, 0, 3600000)) // RFC 4861 §6.2.1: an hour
	c.Retrans = uint32(r.number("retrans", 0, 0, nd.Infinity))
	r.mtu(&c)
	c.NoLinkAddr = r.flag("nolladdr")
	c.NoIfPrefix = r.flag("noifprefix")
	agent := &nd.Agent{Preference: uint16(r.number("hapref", 0, 0, 65535)), Lifetime: uint16(r.number("hatime", int64(c.Lifetime), 0, 65535))}
	if mobile && c.Flags&nd.HomeAgent != 0 {
		c.Agent = agent
	}
	r.prefixes(&c)
	r.routes(&c)
	r.servers(&c, maxi)
	if r.err != nil {
		return c, said, nil, r.err
	}
	for _, name := range slices.Sorted(maps.Keys(caps)) {
		if !r.used[name] {
			unknown = append(unknown, name)
		}
	}
	return c, said, unknown, nil
}

func (r *reader) mtu(c *Config) {
	x, ok := r.get("mtu")
	switch {
	case !ok:
	case x.kind == '=' && x.str == "auto":
		c.MTUAuto = true
	case x.kind == '#' && x.num == 0:
	case x.kind == '#' && x.num >= minMTU && x.num <= nd.Infinity:
		c.MTU = uint32(x.num)
	default:
		r.fail("mtu is 0 (not said), mtu=auto (the interface's), or a number from %d on", minMTU)
	}
}

// suffixed calls f for "", "0" … "99" where the entry has base and the suffix.
func (r *reader) suffixed(base string, f func(suffix, value string)) {
	for i := -1; i < suffixes; i++ {
		suffix := ""
		if i >= 0 {
			suffix = strconv.Itoa(i)
		}
		if _, there := r.caps[base+suffix]; !there {
			continue
		}
		if v, ok := r.text(base + suffix); ok {
			f(suffix, v)
		}
	}
}

// prefix makes one of an address and a length.
func (r *reader) prefix(name, addr string, bits int64) netip.Prefix {
	a, err := netip.ParseAddr(addr)
	if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
		r.fail("%s=%q: an IPv6 address belongs there", name, addr)
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(bits)).Masked()
}

func (r *reader) prefixes(c *Config) {
	r.number("addrs", 0, 0, suffixes) // how many there are is seen
	one := func(suffix string) PrefixConfig {
		p := PrefixConfig{Flags: r.flags("pinfoflags"+suffix, nd.OnLink|nd.Autonomous, prefixLetters)}
		p.Valid = r.lifetime("vltime"+suffix, 2592000)
		p.Preferred = r.lifetime("pltime"+suffix, 604800)
		p.ValidFalls, p.PreferredFalls = r.flag("vltimedecr"+suffix), r.flag("pltimedecr"+suffix)
		if p.Preferred > p.Valid {
			r.fail("pltime%s is longer than vltime%s: hosts would pass over the prefix (RFC 4862 §5.5.3)", suffix, suffix)
		}
		return p
	}
	c.Template = one("")
	r.number("prefixlen", 64, 0, 128)
	r.suffixed("addr", func(suffix, v string) {
		p := one(suffix)
		p.Prefix = r.prefix("addr"+suffix, v, r.number("prefixlen"+suffix, 64, 0, 128))
		if p.Prefix.IsValid() && (p.Prefix.Addr().IsLinkLocalUnicast() || p.Prefix.Addr().IsMulticast()) {
			r.fail("addr%s=%q: link-local and group prefixes are never advertised (RFC 4861 §4.6.2)", suffix, v)
		}
		c.Prefixes = append(c.Prefixes, p)
	})
}

func (r *reader) routes(c *Config) {
	r.suffixed("rtprefix", func(suffix, v string) {
		x := nd.Route{Pref: r.flags("rtflags"+suffix, 0, routeLetters)}
		r.preference("rtflags"+suffix, x.Pref)
		x.Prefix = r.prefix("rtprefix"+suffix, v, r.number("rtplen"+suffix, 64, 0, 128))
		x.Lifetime = r.lifetime("rtltime"+suffix, 2592000)
		c.Routes = append(c.Routes, x)
	})
}

func (r *reader) servers(c *Config, maxi int64) {
	life := uint32(3 * maxi) // RFC 8106 §5.1
	r.suffixed("rdnss", func(suffix, v string) {
		s := nd.Servers{Lifetime: r.lifetime("rdnssltime"+suffix, life)}
		for _, f := range list(v) {
			a, err := netip.ParseAddr(f)
			if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" || a.IsMulticast() || a.IsUnspecified() {
				r.fail("rdnss%s=%q: %q is no IPv6 address of a server", suffix, v, f)
			}
			s.Addrs = append(s.Addrs, a)
		}
		if len(s.Addrs) == 0 || len(s.Addrs) > 127 {
			r.fail("rdnss%s: 1 to 127 addresses belong there, separated by commas", suffix)
		}
		c.Servers = append(c.Servers, s)
	})
	r.suffixed("dnssl", func(suffix, v string) {
		s := nd.Search{Lifetime: r.lifetime("dnsslltime"+suffix, life)}
		octets := 0
		for _, f := range list(v) {
			f = strings.TrimSuffix(f, ".")
			if err := nd.CheckName(f); err != nil {
				r.fail("dnssl%s: %v", suffix, err)
			}
			octets += len(f) + 2
			s.Domains = append(s.Domains, f)
		}
		if len(s.Domains) == 0 || octets > 1000 {
			r.fail("dnssl%s: domains of at most 1000 octets belong there, separated by commas", suffix)
		}
		c.Search = append(c.Search, s)
	})
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
}

// fits holds a configuration against the interface that it is for.
func (c *Config) fits(iface string, mtu int) error {
	if int64(c.MTU) > int64(mtu) {
		return errors.New(iface + ": mtu#" + strconv.Itoa(int(c.MTU)) + " is more than the " + strconv.Itoa(mtu) + " octets that the interface takes")
	}
	return nil
}
