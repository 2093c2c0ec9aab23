package ifconfig

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ionet/protocol"
	"ionet/tool/cli"
)

// Options are ifconfig's command line.
type Options struct {
	All        bool // -a
	Broadcast  bool // -b: only interfaces that broadcast
	Cloners    bool // -C
	Down       bool // -d: only those that are down
	Lifetimes  bool // -L
	List       bool // -l: names only
	Media      bool // -m
	Connected  bool // -s: only those with a carrier
	Up         bool // -u: only those that are up
	Deprecated bool // -A
	Wait       int  // -w: seconds until no address may be tentative; 0 not given
	JSON       bool

	Interface string
	Family    string // "", "inet", "inet6"
	Change    *Change
}

// Change is what is to be done to an interface.
type Change struct {
	Create, Destroy bool
	Steps           []Step // at once, in their order

	Alias     int    // 1 alias, -1 delete, 0 neither
	Addr      *Host  // the address
	Bits      int    // of Addr/Bits or prefixlen; -1 none
	Mask      *Host  // netmask
	Dst       *Host  // the second address
	Broadcast *Host  // broadcast
	Flags6    uint32 // IN6_IFF_*
	Preferred *int   // pltime, seconds
	Valid     *int   // vltime
	EUI64     bool   // eui64: the lower half of Addr is the interface's own
}

// Step is one change that is no address.
type Step struct {
	Kind  StepKind
	Word  string // as it was typed
	Set   uint32 // SetFlags
	Clear uint32
	Value int              // SetMTU, SetMetric, SetVLAN
	Text  string           // SetMedia; of SetVLAN the parent
	Link  net.HardwareAddr // SetLink
	Ends  *Ends            // SetTunnel
}

// StepKind says what a step does.
type StepKind uint8

// Kinds of steps.
const (
	SetFlags StepKind = iota + 1
	SetMTU
	SetMetric
	SetMedia
	SetMediaOpt
	ClearMediaOpt
	SetInstance
	SetLink
	SetTunnel
	DeleteTunnel
	SetVLAN
	ClearVLAN
	Unsupported // Text is the request that a driver of ours never knows
)

// Host is an address as it was typed; Addr is invalid when it is a name that
// has to be looked up.
type Host struct {
	Text string
	Addr netip.Addr
}

func badValue(s string) error { return fmt.Errorf("%s: bad value", s) }

// Parse reads ifconfig's command line, without the command's name: getopt(3)'s
// letters, an interface, a family, and then words.
func Parse(args []string) (*Options, error) {
	flags, rest, err := cli.Getopt("AabCdLlmsuw:", args)
	if err != nil {
		return nil, &cli.UsageError{Text: err.Error()}
	}
	o := &Options{}
	for _, f := range flags {
		switch f.Name {
		case "w":
			n, err := strconv.Atoi(f.Value)
			if err != nil || n < 1 || n > 1<<20 {
				return nil, fmt.Errorf("%s: -w takes a number of seconds from 1 on", f.Value)
			}
			o.Wait = n
		default:
			*map[string]*bool{"A": &o.Deprecated, "a": &o.All, "b": &o.Broadcast, "C": &o.Cloners, "d": &o.Down,
				"L": &o.Lifetimes, "l": &o.List, "m": &o.Media, "s": &o.Connected, "u": &o.Up}[f.Name] = true
		}
	}
	switch {
	case o.List && (o.All || o.Media || o.Lifetimes || len(rest) > 0):
		return nil, cli.Misuse("-l shows names of interfaces and goes with -b, -d, -u and -s only")
	case o.Cloners && (len(rest) > 0 || len(flags) > 1):
		return nil, cli.Misuse("-C goes with nothing else")
	case o.Wait > 0 && (len(rest) > 0 || len(flags) > 1):
		return nil, cli.Misuse("-w goes with nothing else")
	case o.List, o.Cloners, o.Wait > 0:
		return o, nil
	case o.All:
		if len(rest) == 1 && isFamily(rest[0]) {
			o.Family = rest[0]
		} else if len(rest) > 0 {
			return nil, cli.Misuse("%q: -a is followed by inet or inet6 only", rest[0])
		}
		return o, nil
	case len(rest) == 0 && o.Deprecated:
		return nil, cli.Misuse("-A is deprecated")
	case len(rest) == 0:
		return nil, cli.Misuse("an interface, -a, -l or -C is needed")
	}
	o.Interface, rest = rest[0], rest[1:]
	if len(o.Interface) > protocol.IfNameLen-1 {
		return nil, fmt.Errorf("%s: an interface's name has at most %d letters", o.Interface, protocol.IfNameLen-1)
	}
	if len(rest) > 0 && isFamily(rest[0]) {
		o.Family, rest = rest[0], rest[1:]
	}
	if len(rest) == 0 {
		return o, nil
	}
	if o.Connected || o.Media || o.Lifetimes {
		return nil, cli.Misuse("-s, -m and -L show an interface: they do not go with changes to it")
	}
	o.Change, err = parseChange(o.Family, rest)
	return o, err
}

func isFamily(s string) bool { return s == "inet" || s == "inet6" }

// flagWords set or, with '-' before them, clear a flag. arp is the other way
// round.
var flagWords = map[string]uint32{
	"debug": protocol.IFFDebug, "link0": protocol.IFFLink0, "link1": protocol.IFFLink1, "link2": protocol.IFFLink2,
	"promisc": protocol.IFFPromisc,
}

// IPv6 address flags (KAME's IN6_IFF_*).
const (
	in6Anycast    = 0x1
	in6Tentative  = 0x2
	in6Duplicated = 0x4
	in6Detached   = 0x8
	in6Deprecated = 0x10
	in6Autoconf   = 0x40
	in6Temporary  = 0x80
)

var in6Words = map[string]uint32{"anycast": in6Anycast, "tentative": in6Tentative, "deprecated": in6Deprecated, "autoconf": in6Autoconf}

// unsupported are the words about hardware that the stack has none of: how
// many values follow, and the request that they stand for.
var unsupported = map[string]struct {
	values  int
	request string
}{
	"nwid": {1, "SIOCS80211NWID"}, "nwkey": {1, "SIOCS80211NWKEY"}, "-nwkey": {0, "SIOCS80211NWKEY"},
}

// parser reads the words behind an interface.
type parser struct {
	*Change
	family string
	words  []string
	seen   map[StepKind]bool // of media
	vlan   int               // the number; 0: none yet
	vlanif string
}

// parseChange reads the words behind interface and family.
func parseChange(family string, words []string) (*Change, error) {
	p := &parser{Change: &Change{Bits: -1}, family: family, words: words, seen: map[StepKind]bool{}}
	if p.family == "" {
		p.family = "inet"
	}
	switch words[0] {
	case "create", "destroy":
		if len(words) > 1 {
			return nil, cli.Misuse("%q: %s goes with nothing else", words[1], words[0])
		}
		p.Create, p.Destroy = words[0] == "create", words[0] == "destroy"
		return p.Change, nil
	}
	for len(p.words) > 0 {
		word := p.words[0]
		p.words = p.words[1:]
		if err := p.word(word); err != nil {
			return nil, err
		}
	}
	return p.Change, p.check()
}

// check refuses what does not go together.
func (p *parser) check() error {
	switch {
	case (p.vlan != 0) != (p.vlanif != ""):
		return fmt.Errorf("must specify both `vlan' and `vlanif'")
	case p.Mask != nil && p.Bits >= 0:
		return fmt.Errorf("netmask and a prefix length say the same: give one of them")
	case p.Dst != nil && p.Broadcast != nil:
		return fmt.Errorf("%s: an interface has a broadcast address or a destination, not both", p.Dst.Text)
	case p.Flags6 != 0 && p.Addr == nil:
		return fmt.Errorf("flags of an address need the address")
	case (p.Preferred != nil || p.Valid != nil) && p.Addr == nil:
		return fmt.Errorf("lifetimes of an address need the address")
	case p.Preferred != nil && p.Valid != nil && *p.Preferred > *p.Valid:
		return fmt.Errorf("pltime %d is more than vltime %d: an address is not preferred for longer than it is valid", *p.Preferred, *p.Valid)
	case p.EUI64 && p.Addr == nil:
		return fmt.Errorf("eui64 needs an address whose lower half is left free, as in 2001:db8:1:: prefixlen 64 eui64")
	case p.Alias > 0 && p.Addr == nil:
		return fmt.Errorf("alias needs an address")
	}
	return nil
}

// value takes the word behind a word.
func (p *parser) value(of string) (string, error) {
	if len(p.words) == 0 {
		return "", fmt.Errorf("'%s' requires argument", of)
	}
	v := p.words[0]
	p.words = p.words[1:]
	return v, nil
}

func (p *parser) number(of string, most int) (int, error) {
	v, err := p.value(of)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > most {
		return 0, badValue(v)
	}
	return n, nil
}

func (p *parser) step(s Step) { p.Steps = append(p.Steps, s) }

func (p *parser) word(word string) (err error) {
	plain := strings.TrimPrefix(word, "-")
	clear := plain != word
	if f, ok := flagWords[plain]; ok {
		s := Step{Kind: SetFlags, Word: word, Set: f}
		if clear {
			s.Set, s.Clear = 0, f
		}
		p.step(s)
		return nil
	}
	if f, ok := in6Words[plain]; ok {
		if p.family != "inet6" {
			return fmt.Errorf("%s not allowed for the AF", word)
		}
		p.Flags6 |= f
		if clear {
			p.Flags6 &^= f
		}
		return nil
	}
	if u, ok := unsupported[word]; ok {
		for range u.values {
			if _, err := p.value(word); err != nil {
				return err
			}
		}
		p.step(Step{Kind: Unsupported, Word: word, Text: u.request})
		return nil
	}
	switch word {
	case "eui64":
		if p.family != "inet6" {
			return fmt.Errorf("%s not allowed for the AF", word)
		}
		p.EUI64 = true
	case "pltime", "vltime":
		if p.family != "inet6" {
			return fmt.Errorf("%s not allowed for the AF", word)
		}
		n, err := p.number(word, 1<<31-1)
		if err != nil {
			return err
		}
		if word == "pltime" {
			p.Preferred = &n
		} else {
			p.Valid = &n
		}
	case "up":
		p.step(Step{Kind: SetFlags, Word: word, Set: protocol.IFFUp})
	case "down":
		p.step(Step{Kind: SetFlags, Word: word, Clear: protocol.IFFUp})
	case "arp":
		p.step(Step{Kind: SetFlags, Word: word, Clear: protocol.IFFNoARP})
	case "-arp":
		p.step(Step{Kind: SetFlags, Word: word, Set: protocol.IFFNoARP})
	case "mtu", "metric":
		s := Step{Kind: SetMTU, Word: word}
		if word == "metric" {
			s.Kind = SetMetric
		}
		if s.Value, err = p.number(word, 1<<31-1); err != nil {
			return err
		}
		p.step(s)
	case "tunnel":
		src, err := p.value(word)
		if err != nil {
			return err
		}
		dst, err := p.value(word)
		if err != nil {
			return err
		}
		e, err := ParseEnds("", src, dst)
		if err != nil {
			return err
		}
		p.step(Step{Kind: SetTunnel, Word: word, Ends: e})
	case "deletetunnel":
		p.step(Step{Kind: DeleteTunnel, Word: word})
	case "vlan", "vlanif":
		return p.vlanWord(word)
	case "-vlanif":
		p.step(Step{Kind: ClearVLAN, Word: word})
	case "media", "mediaopt", "-mediaopt", "instance", "inst":
		return p.media(word)
	case "lladdr":
		v, err := p.value(word)
		if err != nil {
			return err
		}
		hw, err := net.ParseMAC(v)
		if err != nil || len(hw) != 6 {
			return badValue(v)
		}
		p.step(Step{Kind: SetLink, Word: word, Link: hw})
	case "alias":
		p.Alias = 1
	case "delete", "-alias":
		p.Alias = -1
	case "netmask":
		p.Mask, err = p.hostValue(word)
		if err == nil && protocol.MaskBits(protocol.AddrFrom(p.Mask.Addr, 0)) < 0 {
			return badValue(p.Mask.Text)
		}
	case "broadcast":
		p.Broadcast, err = p.hostValue(word)
	case "prefixlen":
		most := 128
		if p.family == "inet" {
			most = 32
		}
		if p.Bits >= 0 {
			return fmt.Errorf("only one prefix length may be given")
		}
		p.Bits, err = p.number(word, most)
	case "create", "destroy":
		return cli.Misuse("%s goes with nothing else", word)
	default:
		return p.address(word)
	}
	return err
}

// vlanWord reads one of the two words that make a step together.
func (p *parser) vlanWord(word string) error {
	v, err := p.value(word)
	if err != nil {
		return err
	}
	if word == "vlanif" {
		p.vlanif = v
	} else if p.vlan, err = strconv.Atoi(v); err != nil || p.vlan < 1 || p.vlan > 4094 {
		return fmt.Errorf("%s: a VLAN has a number from 1 to 4094", v)
	}
	if p.vlan != 0 && p.vlanif != "" {
		p.step(Step{Kind: SetVLAN, Word: word, Value: p.vlan, Text: p.vlanif})
	}
	return nil
}

// media reads the words about the medium, and keeps their order.
func (p *parser) media(word string) error {
	v, err := p.value(word)
	if err != nil {
		return err
	}
	switch kinds := p.seen; word {
	case "media":
		switch {
		case kinds[SetMedia]:
			return fmt.Errorf("only one `media' command may be issued")
		case kinds[SetMediaOpt], kinds[ClearMediaOpt]:
			return fmt.Errorf("may not issue `media' after `mediaopt' commands")
		}
		p.mediaStep(SetMedia, word, v)
	case "mediaopt":
		switch {
		case kinds[SetMediaOpt]:
			return fmt.Errorf("only one `mediaopt' command may be issued")
		case kinds[SetInstance]:
			return fmt.Errorf("may not issue `mediaopt' after `instance'")
		}
		p.mediaStep(SetMediaOpt, word, v)
	case "-mediaopt":
		switch {
		case kinds[ClearMediaOpt]:
			return fmt.Errorf("only one `-mediaopt' command may be issued")
		case kinds[SetMedia]:
			return fmt.Errorf("may not issue both `media' and `-mediaopt'")
		}
		p.mediaStep(ClearMediaOpt, word, v)
	default:
		switch {
		case kinds[SetInstance]:
			return fmt.Errorf("only one `instance' command may be issued")
		case !kinds[SetMedia]:
			return fmt.Errorf("must specify `media' before `instance'")
		}
		if n, err := strconv.Atoi(v); err != nil || n < 0 || n > 15 {
			return fmt.Errorf("invalid media instance: %s", v)
		}
		p.mediaStep(SetInstance, word, v)
	}
	return nil
}

func (p *parser) mediaStep(k StepKind, word, text string) {
	p.seen[k] = true
	p.step(Step{Kind: k, Word: word, Text: text})
}

// address is a word that is none of the others: the address, then the
// destination.
func (p *parser) address(word string) error {
	switch {
	case p.Addr == nil:
		text, bits, slash := strings.Cut(word, "/")
		h, err := p.host(text)
		if err != nil {
			return badValue(word)
		}
		if slash {
			if p.Bits >= 0 {
				return fmt.Errorf("only one prefix length may be given")
			}
			most := 128
			if p.family == "inet" {
				most = 32
			}
			n, err := strconv.Atoi(bits)
			if err != nil || n < 0 || n > most || bits[0] == '+' || bits[0] == '-' {
				return badValue(word)
			}
			p.Bits = n
		}
		p.Addr = h
	case p.Dst == nil:
		h, err := p.host(word)
		if err != nil {
			return badValue(word)
		}
		p.Dst = h
	default:
		return badValue(word)
	}
	return nil
}

// hostValue is the address behind a word.
func (p *parser) hostValue(of string) (*Host, error) {
	v, err := p.value(of)
	if err != nil {
		return nil, err
	}
	h, err := p.host(v)
	if err != nil || !h.Addr.IsValid() && of == "netmask" {
		return nil, badValue(v)
	}
	return h, nil
}

// host reads an address of the family, in inet_aton's way for inet, or keeps
// what may be a host's name.
func (p *parser) host(s string) (*Host, error) {
	h := &Host{Text: s}
	if p.family == "inet6" {
		if a, err := netip.ParseAddr(s); err == nil && a.Is6() && !a.Is4In6() {
			h.Addr = a
			return h, nil
		}
	} else if a, err := protocol.ParseInetAton(s); err == nil {
		h.Addr = a
		return h, nil
	}
	if !isName(s) {
		return nil, badValue(s)
	}
	return h, nil
}

// isName says that s may be a host's name: letters, digits, dots and dashes,
// with a letter at the beginning.
func isName(s string) bool {
	if s == "" || len(s) > 253 || !isLetter(s[0]) {
		return false
	}
	return !slices.ContainsFunc([]byte(s), func(c byte) bool {
		return !isLetter(c) && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_'
	})
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
