package pfil

import (
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Verdict is what became of a packet that a [Translator] was asked about.
type Verdict uint8

const (
	Untouched  Verdict = iota // no rule or session concerns it
	Translated                // changed; the Info is parsed anew
	Refused                   // it ought to be translated and cannot be: the caller drops it
	Taken                     // gone, into the translator's hands
)

// Translator is the part of a filter that changes addresses (NAT). Rules see
// inner addresses: a packet that comes in is translated before they are asked,
// one that goes out after it.
type Translator interface {
	In(w *netif.Work, i *Info) Verdict
	Out(w *netif.Work, i *Info) Verdict
	// Track is as [Filter]'s; the Tracker changes a packet as In and Out would.
	// It comes after the filter's own has passed the packet.
	Track(w *netif.Work, in, out *netif.Interface, first *Flow, pkt *packet.Buf) (t Tracker, ok bool)
	// Generation changes with the rules. A Tracker of a session that has ended
	// refuses by itself: sessions end all the time.
	Generation() uint64
}

// Expecter is a [Translator] that knows of connections to come, as a proxy that reads what
// another one says.
type Expecter interface {
	// Expected reports whether i, whose addresses are inner ones, begins a connection that has been
	// announced by another one, and which that is.
	Expected(i *Info) (control Flow, ok bool)
}
