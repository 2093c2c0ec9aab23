// Package driver is what a network driver looks like to the host that runs
// it. The drivers themselves are in the folders below, one each.
package driver

import (
	"fmt"
	"sort"
	"strings"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Sink is where a running driver delivers. Its methods may be called from
// several goroutines at once.
type Sink interface {
	// Receiving is called once by every goroutine that will call Input, before
	// it first does: the host may give it a thread of a certain priority.
	Receiving()
	// Pool is where receive buffers come from. A nil buffer means the budget
	// is spent: the driver drops the frame and counts it by Dropped.
	Pool() *packet.Pool
	// Input takes over a burst of frames, each from its Ethernet header on,
	// with checksum state and segment size set, and runs it to completion.
	// The slice is the caller's again afterwards.
	Input(burst []*packet.Buf)
	// Dropped counts n received frames lost before Input, for want of buffers.
	Dropped(n int)
	// Malformed counts n received frames that were no frames.
	Malformed(n int)
	// LinkState reports a change of carrier.
	LinkState(up bool)
	// Verbose logs, when the option verbose is given.
	Verbose(msg string, args ...any)
}

// Driver is one device.
type Driver interface {
	netif.Driver
	// Info says what the device is. It is called before Run and any time after.
	Info() Info
	// Run receives until Close, and then answers nil; any other error takes
	// the interface down with it as the last error.
	Run(sink Sink) error
	// Close ends Run and frees everything, files in the file system included.
	// It may be called twice.
	Close() error
}

// Info describes a device.
type Info struct {
	Family      string // "en"
	Description string // one line for nicinfo
	MAC         netif.MAC
	MTU         int // 1500 unless the option says otherwise
	MaxMTU      int
	Caps        netif.Caps
	Rate        uint64 // bits/s, 0 unknown
	// Details are further lines for nicinfo, such as the segment and its members.
	Details []Detail
}

// Detail is one "name ..... value" line of nicinfo.
type Detail struct{ Name, Value string }

// Options are what every driver is given.
type Options struct {
	Lan     int       // enN; -1: the next free number, which the host settles before Open
	MAC     netif.MAC // zero: the driver's choice
	MTU     int       // 0: the driver's choice
	Promisc bool
	Verbose int
	// Seed is what a stable address is derived from: the stack's prefix.
	Seed string
	// User is the user's own folder for segments (…/ionet), mode 0700.
	User string
	// Args are the options that only the driver knows, in order.
	Args []Arg
}

// Arg is one name=value option; Value is "" without "=".
type Arg struct{ Name, Value string }

// Get is the value of the last option called name.
func (o *Options) Get(name string) (value string, ok bool) {
	for _, a := range o.Args {
		if a.Name == name {
			value, ok = a.Value, true
		}
	}
	return value, ok
}

// Unknown answers an error that names an option of o that is not in known.
// Hardware options pass: the caller warns of them.
func (o *Options) Unknown(driver string, known ...string) error {
	for _, a := range o.Args {
		found := HardwareOption(a.Name)
		for _, k := range known {
			found = found || k == a.Name
		}
		if !found {
			return fmt.Errorf("driver %s: unknown option %q (it knows %s)", driver, a.Name, strings.Join(known, ", "))
		}
	}
	return nil
}

// Open makes a device from its options.
type Open func(o Options) (Driver, error)

// Set is a choice of drivers by name.
type Set map[string]Open

// Names are the drivers' names in order.
func (s Set) Names() []string {
	var out []string
	for n := range s {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}
