package stackd

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/ipsec"
	"ionet/stack/packet"
)

// keyDump is what is still to be sent of a dump.
type keyDump struct {
	sas      []*ipsec.SA
	policies []*ipsec.Policy
	asked    protocol.KeyMessage // the request
}

func (d *keyDump) left() int { return len(d.sas) + len(d.policies) }

// next is the next message.
func (d *keyDump) next(s *server, x *keySaid) (m *protocol.KeyMessage) {
	if len(d.sas) > 0 {
		m, d.sas = x.sa(s, d.sas[0], true), d.sas[1:]
	} else {
		m, d.policies = x.policy(s, d.policies[0]), d.policies[1:]
	}
	m.Type, m.PID, m.Seq = d.asked.Type, d.asked.PID, uint32(d.left())
	return m
}

// dumpKeys begins a dump: the last message has the sequence number 0. ENOENT: there is nothing.
func (c *conn) dumpKeys(m *protocol.KeyMessage, d keyDump) error {
	if d.left() == 0 {
		return unix.ENOENT
	}
	d.asked = *reply(m)
	c.keys.dump = d
	gather := c.keys.gather
	c.keys.gather = false
	c.answered() // what was asked before
	c.keys.gather = gather
	c.keys.goOn(c)
	return nil
}

// goOn sends what its reader has room for of a dump; false: there is more.
func (k *keyState) goOn(c *conn) (done bool) {
	for k.dump.left() > 0 {
		c.mu.Lock()
		full := c.queued >= stallAt || c.dead || c.closed
		c.mu.Unlock()
		if full {
			return false
		}
		b, n := c.room()[:0], 0
		for x := c.say(); k.dump.left() > 0 && len(b) < protocol.MaxFrame/2; n++ {
			next, err := protocol.AppendKeyMessage(b, k.dump.next(c.s, x))
			if err != nil {
				c.s.log.Error("an entry cannot be dumped", "err", err)
			}
			x.wipe()
			b = next
		}
		c.s.keys.countOut(k.dump.asked.Type, n, len(b), cntKeyToOne)
		c.send(b)
		clear(b) // keys
		k.answers = b[:0]
	}
	k.dump = keyDump{}
	return true
}

// keySaid is a message that an association or a policy is shown by, in one piece of memory that may be used again.
type keySaid struct {
	protocol.KeyMessage
	itself              protocol.KeySA
	sa2                 protocol.KeySA2
	src, dst            protocol.KeyAddress
	current, soft, hard protocol.KeyLifetime
	encrypt, auth       protocol.Key
	replay              uint32
	action              protocol.KeyPolicy
	keys                []byte
}

// say is where the client's next message about an association or policy goes. The one before must have been sent.
func (c *conn) say() *keySaid {
	if c.keys.said == nil {
		c.keys.said = new(keySaid)
	}
	return c.keys.said
}

// wipe forgets the keys.
func (x *keySaid) wipe() { clear(x.keys) }

// sa is an SA as it is shown, with its keys or without.
func (x *keySaid) sa(s *server, a *ipsec.SA, keys bool) *protocol.KeyMessage {
	i, m := a.Info(), &x.KeyMessage
	*m = protocol.KeyMessage{SAType: satypeOf(i.Proto), Refs: 1, PID: i.PID, Seq: i.Seq}
	x.src, x.dst = *keyAddress(i.Src), *keyAddress(i.Dst)
	m.Src, m.Dst = &x.src, &x.dst
	x.itself = protocol.KeySA{SPI: i.SPI, Replay: uint8(min(i.Replay/8, 255)), State: uint8(i.State), Auth: i.Aalg, Encrypt: i.Ealg}
	if m.SA = &x.itself; i.Proto == packet.ProtoIPComp {
		m.SA.Encrypt = i.Calg
	}
	for _, f := range [...]struct {
		flag uint32
		on   bool
	}{{protocol.SADBXSAFlagsESN, i.ESN}, {protocol.SADBXExtCycSeq, i.Cyclic}, {protocol.SADBXExtRawCPI, i.RawCPI},
		{protocol.SADBXExtPRand, i.Pad == ipsec.PadRandom}, {protocol.SADBXExtPZero, i.Pad == ipsec.PadZero}} {
		if f.on {
			m.SA.Flags |= f.flag
		}
	}
	x.sa2 = protocol.KeySA2{Mode: i.Mode, Seq: uint32(i.Number), ReqID: i.ReqID}
	x.current = protocol.KeyLifetime{Allocations: uint32(min(i.Packets, 1<<32-1)), Bytes: i.Bytes, AddTime: s.unix(i.Made), UseTime: s.unix(i.Last)}
	x.soft, x.hard = keyLifetime(i.Soft), keyLifetime(i.Hard)
	m.SA2, m.Current, m.Soft, m.Hard = &x.sa2, &x.current, &x.soft, &x.hard
	m.TFC = uint32(i.TFC)
	if i.Replay/8 > 255 {
		x.replay = uint32(i.Replay)
		m.Replay = &x.replay
	}
	if i.NATT.Type != 0 {
		m.NATT = &protocol.KeyNATT{Type: i.NATT.Type, SrcPort: i.NATT.Sport, DstPort: i.NATT.Dport}
		if i.NATT.OA.IsValid() {
			m.NATT.OAI = keyAddress(i.NATT.OA)
		}
	}
	if keys {
		x.withKeys(a)
	}
	return m
}

func (x *keySaid) withKeys(a *ipsec.SA) {
	if x.keys == nil {
		x.keys = make([]byte, 0, 256) // keys that are longer are copied more often
	}
	var n int
	x.keys, n = a.AppendKeys(x.keys[:0])
	for _, k := range []struct {
		octets []byte
		key    *protocol.Key
		at     **protocol.Key
	}{{x.keys[:n], &x.encrypt, &x.EncryptKey}, {x.keys[n:], &x.auth, &x.AuthKey}} {
		if len(k.octets) > 0 {
			*k.key = protocol.Key{Bits: uint16(len(k.octets) * 8), Octets: k.octets}
			*k.at = k.key
		}
	}
}

// policy is a policy as it is shown.
func (x *keySaid) policy(s *server, p *ipsec.Policy) *protocol.KeyMessage {
	m := &x.KeyMessage
	*m = protocol.KeyMessage{Type: protocol.SADBXSPDDump, Refs: 1, PID: p.PID}
	x.src, x.dst = where(p.Src, p.SrcPort, p.Proto), where(p.Dst, p.DstPort, p.Proto)
	m.Src, m.Dst = &x.src, &x.dst
	x.action = keyPolicy(p, x.action.Requests[:0])
	m.Policy = &x.action
	x.current = protocol.KeyLifetime{AddTime: s.unix(p.Made), UseTime: s.unix(p.Last())}
	x.hard = protocol.KeyLifetime{AddTime: uint64(p.Life.Add), UseTime: uint64(p.Life.Use)}
	m.Current, m.Hard = &x.current, &x.hard
	return m
}

// keyPolicy is enginePolicy the other way round; its requests are appended to r.
func keyPolicy(p *ipsec.Policy, r []protocol.KeyRequest) protocol.KeyPolicy {
	k := protocol.KeyPolicy{Type: uint16(p.Kind), Dir: p.Dir, ID: p.ID, Priority: p.Priority, Requests: r}
	for _, r := range p.Requests {
		q := protocol.KeyRequest{Proto: uint16(r.Proto), Mode: r.Mode, Level: uint8(r.Level), ReqID: uint16(r.ReqID)}
		if r.Src.IsValid() {
			q.Src, q.Dst = protocol.AddrFrom(r.Src, r.SrcPort), protocol.AddrFrom(r.Dst, r.DstPort)
		}
		k.Requests = append(k.Requests, q)
	}
	return k
}

// where is a policy's ends as an address of a message.
func where(p netip.Prefix, port uint16, proto uint8) protocol.KeyAddress {
	return protocol.KeyAddress{IP: p.Addr(), Port: port, Bits: uint8(p.Bits()), Proto: proto}
}

func keyLifetime(l ipsec.Lifetime) protocol.KeyLifetime {
	return protocol.KeyLifetime{Allocations: l.Packets, Bytes: l.Bytes, AddTime: uint64(l.Add), UseTime: uint64(l.Use)}
}
