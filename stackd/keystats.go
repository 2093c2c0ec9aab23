package stackd

import (
	"strings"

	"ionet/protocol"
	"ionet/stack/mib"
)

// Counters of key sockets, in KAME's words and order. What KAME counts as memory that cannot be had
// is a queue that is full here.
var (
	cntKeyIn        = mib.NewCounter("pfkey", "requests", "# request{s} sent from userland")
	cntKeyInOctets  = mib.NewCounter("pfkey", "octets in", "# byte{s} sent from userland")
	cntKeyInTypes   = keyTypes("from")
	cntKeyFaults    = keyFaults()
	cntKeyErrors    = mib.NewCounter("pfkey", "errors", "# request{s} answered with an error")
	cntKeyOut       = mib.NewCounter("pfkey", "sent", "# request{s} sent to userland")
	cntKeyOutOctets = mib.NewCounter("pfkey", "octets out", "# byte{s} sent to userland")
	cntKeyOutTypes  = keyTypes("to")
	cntKeyToOne     = mib.NewCounter("pfkey", "to one", "# message{s} toward single socket")
	cntKeyToAll     = mib.NewCounter("pfkey", "to all", "# message{s} toward all sockets")
	cntKeyToSome    = mib.NewCounter("pfkey", "to registered", "# message{s} toward registered sockets")
	cntLostKeys     = mib.NewCounter("pfkey", "lost", "# message{s} lost because a key socket was not read")
)

// keyTypes are the lines of a histogram of message types; the last is of those that are unknown.
func keyTypes(way string) (all [protocol.KeyTypes + 1]mib.Counter) {
	for i := range all {
		name := "unknown"
		switch {
		case i == 0:
			name = "reserved"
		case i < protocol.KeyTypes:
			name = strings.ToLower(protocol.KeyTypeName(uint8(i)))
		}
		all[i] = mib.NewCounterUnder("histogram by message type", "pfkey", way+" "+name, name+": #")
	}
	return all
}

func keyFaults() (all [protocol.KeyFaults]mib.Counter) {
	for _, f := range []struct {
		fault protocol.KeyFault
		what  string
	}{
		{protocol.KeyFaultLength, "with invalid length field"},
		{protocol.KeyFaultVersion, "with invalid version field"},
		{protocol.KeyFaultType, "with invalid message type field"},
		{protocol.KeyFaultShort, "too short"},
		{protocol.KeyFaultTwice, "with duplicate extension"},
		{protocol.KeyFaultExtension, "with invalid extension type"},
		{protocol.KeyFaultSAType, "with invalid sa type"},
		{protocol.KeyFaultAddress, "with invalid address extension"},
	} {
		all[f.fault] = mib.NewCounter("pfkey", f.what, "# message{s} "+f.what)
	}
	return all
}

// countIn counts a message that came, of octets.
func (k *keyHub) countIn(typ uint8, octets int) {
	v := k.s.eng.Engine().Env.MIB
	v.Add(cntKeyIn, 1)
	v.Add(cntKeyInOctets, uint64(octets))
	v.Add(cntKeyInTypes[min(int(typ), protocol.KeyTypes)], 1)
}

// countError counts a message that is answered with an error.
func (k *keyHub) countError(err error) {
	v := k.s.eng.Engine().Env.MIB
	v.Add(cntKeyErrors, 1)
	if f := protocol.KeyFaultOf(err); f != protocol.KeyFaultNone {
		v.Add(cntKeyFaults[f], 1)
	}
}

// countOut counts n messages of a type, of octets together, that are sent to whom target counts.
func (k *keyHub) countOut(typ uint8, n, octets int, target mib.Counter) {
	v := k.s.eng.Engine().Env.MIB
	v.Add(cntKeyOut, uint64(n))
	v.Add(cntKeyOutOctets, uint64(octets))
	v.Add(cntKeyOutTypes[min(int(typ), protocol.KeyTypes)], uint64(n))
	v.Add(target, uint64(n))
}
