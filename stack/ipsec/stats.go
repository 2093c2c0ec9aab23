package ipsec

import (
	"ionet/stack/crypt"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// What happens is counted twice, as it is asked for twice: by the version of IP, in KAME's words (netstat -s -p ipsec, ipsec6),
// and by the protocol, in FreeBSD's (-p esp, ah, ipcomp). What neither has a word for has one of ours, at the end of its list.
var (
	ipStats    = [2]versionStats{newVersionStats("ipsec"), newVersionStats("ipsec6")}
	protoStats = [3]protocolStats{newProtocolStats(0, "esp", "ESP"), newProtocolStats(1, "ah", "AH"), newProtocolStats(2, "ipcomp", "COMP")}
)

// versionStats are the counters of a version of IP, that of the header in front of the protection.
type versionStats struct {
	in, inPolicy, inNoSA, inInvalid, inNoMem, inNotReady, inReplayAH, inReplayESP, inAuthentic, inForged mib.Counter
	inBy                                                                                                 [3]histogram // by protocol
	out, outPolicy, outNoSA, outInvalid, outNoMem, outNoRoute                                            mib.Counter
	outBy                                                                                                [3]histogram
	inDeep, inCE, outBig, acquired, waited                                                               mib.Counter
}

// protocolStats are the counters of a protocol. Which of them it has, newProtocolStats says.
type protocolStats struct {
	short, noSA, badLen, wrap, badPad, forged, badICVLen, replay mib.Counter
	in, out, notReady, inOctets, outOctets, big, policy          mib.Counter
	corrupt, tunnel                                              mib.Counter
	outBy                                                        histogram
	small, useless                                               mib.Counter
	over, carrier, dummy                                         mib.Counter
}

// histogram counts by the number of an algorithm.
type histogram [256]mib.Counter

// algorithms are those of ESP, AH and IPComp that a protocol's histograms are about.
var algorithms = [3]func() []crypt.Algorithm{crypt.Ealgs, crypt.Aalgs, crypt.Calgs}

func newHistogram(group, heading string, proto int) (h histogram) {
	for _, a := range algorithms[proto]() {
		h[a.Number] = mib.NewCounterUnder(heading+" histogram", group, heading+" "+a.Name, a.Name+": #")
	}
	return h
}

func newVersionStats(group string) (s versionStats) {
	c := func(name, sentence string) mib.Counter { return mib.NewCounter(group, name, sentence) }
	s.in = c("in", "# inbound packet{s} processed successfully")
	s.inPolicy = c("in policy", "# inbound packet{s} violated process security policy")
	s.inNoSA = c("in no SA", "# inbound packet{s} with no SA available")
	s.inInvalid = c("in invalid", "# invalid inbound packet{s}")
	s.inNoMem = c("in no memory", "# inbound packet{s} failed due to insufficient memory")
	s.inNotReady = c("in SPI", "# inbound packet{s} failed getting SPI")
	s.inReplayAH = c("in AH replay", "# inbound packet{s} failed on AH replay check")
	s.inReplayESP = c("in ESP replay", "# inbound packet{s} failed on ESP replay check")
	s.inAuthentic = c("in authentic", "# inbound packet{s} considered authentic")
	s.inForged = c("in authentication", "# inbound packet{s} failed on authentication")
	s.inBy = newHistograms(group, "input")
	s.out = c("out", "# outbound packet{s} processed successfully")
	s.outPolicy = c("out policy", "# outbound packet{s} violated process security policy")
	s.outNoSA = c("out no SA", "# outbound packet{s} with no SA available")
	s.outInvalid = c("out invalid", "# invalid outbound packet{s}")
	s.outNoMem = c("out no memory", "# outbound packet{s} failed due to insufficient memory")
	s.outNoRoute = c("out no route", "# outbound packet{s} with no route")
	s.outBy = newHistograms(group, "output")
	s.inDeep = c("in nested", "# inbound packet{s} protected too often")
	s.inCE = c("in congestion", "# inbound packet{s} dropped that had met congestion and could not be marked")
	s.outBig = c("out too big", "# outbound packet{s} larger than what is left of the path's MTU")
	s.acquired = c("acquire", "# SA{s} asked for")
	s.waited = c("waited", "# packet{s} that waited for an SA")
	return s
}

// newHistograms are in KAME's order: AH is first.
func newHistograms(group, way string) (h [3]histogram) {
	h[1] = newHistogram(group, "AH "+way, 1)
	h[0] = newHistogram(group, "ESP "+way, 0)
	h[2] = newHistogram(group, "IPComp "+way, 2)
	return h
}

func newProtocolStats(proto int, group, title string) (s protocolStats) {
	c := func(name, sentence string) mib.Counter { return mib.NewCounter(group, name, sentence) }
	esp, ah, comp := proto == 0, proto == 1, proto == 2
	s.short = c("short", "# packet{s} shorter than header shows")
	s.noSA = c("no SA", "# packet{s} dropped; no TDB")
	if esp {
		s.badLen = c("length", "# packet{s} dropped; bad ilen")
	}
	if !comp {
		s.wrap = c("exhausted", "# replay counter wrap{s}")
	}
	if esp {
		s.badPad = c("padding", "# packet{s} dropped; bad encryption detected")
	}
	if !comp {
		s.forged = c("authentication", "# packet{s} dropped; bad authentication detected")
	}
	if ah {
		s.badICVLen = c("authentication length", "# packet{s} dropped; bad authentication length")
	}
	if !comp {
		s.replay = c("replay", "# possible replay packet{s} detected")
	}
	s.in = c("in", "# packet{s} in")
	s.out = c("out", "# packet{s} out")
	s.notReady = c("not ready", "# packet{s} dropped; invalid TDB")
	s.inOctets = c("octets in", "# byte{s} in")
	s.outOctets = c("octets out", "# byte{s} out")
	s.big = c("too big", "# packet{s} dropped; larger than IP_MAXPACKET")
	s.policy = c("policy", "# packet{s} blocked due to policy")
	if comp {
		s.corrupt = c("corrupt", "# crypto processing failure{s}")
	}
	s.tunnel = c("tunnel", "# tunnel sanity check failure{s}")
	s.outBy = newHistogram(group, title+" output", proto)
	if comp {
		s.small = c("small", "# packet{s} sent uncompressed; size < compr. algo. threshold")
		s.useless = c("useless", "# packet{s} sent uncompressed; compression was useless")
	}
	s.over = c("lifetime", "# packet{s} dropped; lifetime of the SA is over")
	if esp {
		s.carrier = c("carrier", "# packet{s} dropped; in UDP against the SA, or not in UDP")
		s.dummy = c("dummy", "# dummy packet{s} received")
	}
	return s
}

// protoIndex is a protocol's place in what there is three of.
func protoIndex(proto uint8) int {
	switch proto {
	case packet.ProtoESP:
		return 0
	case packet.ProtoAH:
		return 1
	}
	return 2
}

// statsOf are the counters of the version of IP of a packet, L3 marked.
func statsOf(pkt *packet.Buf) *versionStats { return &ipStats[side(pkt.L3()[0]>>4 == 6)] }

// saStats are what an SA counts by, found once.
type saStats struct {
	ip            *versionStats
	proto         *protocolStats
	in, out, proc mib.Counter // of its algorithm
}

func (s *SA) findStats() {
	n, alg := protoIndex(s.Proto), s.Calg
	switch s.Proto {
	case packet.ProtoESP:
		alg = s.Ealg
	case packet.ProtoAH:
		alg = s.Aalg
	}
	v, p := &ipStats[side(s.Dst.Is6())], &protoStats[n]
	s.stats = saStats{v, p, v.inBy[n][alg], v.outBy[n][alg], p.outBy[alg]}
}

// cameIn counts a packet that was opened, of octets of payload.
func (s *SA) cameIn(w *netif.Work, octets int) {
	w.Count(s.stats.ip.in)
	w.Count(s.stats.in)
	w.CountN(s.stats.proto.inOctets, uint32(octets))
}

// wentOut counts a packet that was protected, of octets of payload.
func (s *SA) wentOut(w *netif.Work, octets int) {
	w.Count(s.stats.ip.out)
	w.Count(s.stats.out)
	w.Count(s.stats.proto.out)
	w.Count(s.stats.proc)
	w.CountN(s.stats.proto.outOctets, uint32(octets))
}

// drop ends the walk of a packet for a reason that has a counter in each way of counting.
func drop(w *netif.Work, pkt *packet.Buf, version, proto mib.Counter) {
	w.Count(version)
	w.Drop(pkt, proto)
}
