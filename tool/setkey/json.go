package setkey

import (
	"encoding/hex"

	"ionet/protocol"
)

// limitsRow is a lifetime; nothing is no limit.
type limitsRow struct {
	Bytes      uint64 `json:"bytes"`
	Packets    uint32 `json:"packets"`
	Seconds    uint64 `json:"seconds"`
	UseSeconds uint64 `json:"use_seconds"`
}

func limits(l *protocol.KeyLifetime) *limitsRow {
	if l == nil {
		return nil
	}
	return &limitsRow{l.Bytes, l.Allocations, l.AddTime, l.UseTime}
}

type nattRow struct {
	SrcPort  uint16 `json:"src_port"`
	DstPort  uint16 `json:"dst_port"`
	Original string `json:"original,omitempty"`
}

// saRow is an association.
type saRow struct {
	Src         string     `json:"src"`
	Dst         string     `json:"dst"`
	Protocol    string     `json:"protocol"`
	Mode        string     `json:"mode"`
	SPI         uint32     `json:"spi"`
	ReqID       uint32     `json:"reqid"`
	Encryption  string     `json:"encryption,omitempty"`
	EncryptKey  string     `json:"encryption_key,omitempty"`
	Auth        string     `json:"authentication,omitempty"`
	AuthKey     string     `json:"authentication_key,omitempty"`
	Compression string     `json:"compression,omitempty"`
	NATT        *nattRow   `json:"udp,omitempty"`
	Seq         uint32     `json:"seq"`
	Window      uint32     `json:"window"`
	ESN         bool       `json:"esn"`
	TFC         uint32     `json:"tfc,omitempty"`
	Flags       uint32     `json:"flags"`
	State       string     `json:"state"`
	Created     uint64     `json:"created"`
	Used        uint64     `json:"used"`
	Bytes       uint64     `json:"bytes"`
	Packets     uint32     `json:"packets"`
	Hard        *limitsRow `json:"hard,omitempty"`
	Soft        *limitsRow `json:"soft,omitempty"`
}

func (p *printer) saRow(m *protocol.KeyMessage) saRow {
	r := saRow{Protocol: saType(m.SAType), TFC: m.TFC, Hard: limits(m.Hard), Soft: limits(m.Soft)}
	if m.Src != nil && m.Dst != nil {
		r.Src, r.Dst = p.addr(m.Src.IP), p.addr(m.Dst.IP)
	}
	if s := m.SA2; s != nil {
		r.Mode, r.ReqID, r.Seq = pick(modes, s.Mode), s.ReqID, s.Seq
	}
	if s := m.SA; s != nil {
		r.SPI, r.Flags, r.State, r.ESN = s.SPI, s.Flags, pick(states, s.State), s.Flags&protocol.SADBXSAFlagsESN != 0
		r.Window = uint32(s.Replay) * 8
		switch {
		case s.Encrypt == 0:
		case m.SAType == protocol.SADBSATypeIPComp:
			r.Compression = nameOf(calgs, s.Encrypt)
		default:
			r.Encryption = nameOf(ealgs, s.Encrypt)
		}
		if s.Auth != 0 {
			r.Auth = nameOf(aalgs, s.Auth)
		}
	}
	if m.Replay != nil {
		r.Window = *m.Replay
	}
	if m.EncryptKey != nil {
		r.EncryptKey = hex.EncodeToString(m.EncryptKey.Octets)
	}
	if m.AuthKey != nil {
		r.AuthKey = hex.EncodeToString(m.AuthKey.Octets)
	}
	if n := m.NATT; n != nil && n.Type != 0 {
		r.NATT = &nattRow{SrcPort: n.SrcPort, DstPort: n.DstPort}
		if n.OAI != nil {
			r.NATT.Original = p.addr(n.OAI.IP)
		}
	}
	if c := m.Current; c != nil {
		r.Created, r.Used, r.Bytes, r.Packets = c.AddTime, c.UseTime, c.Bytes, c.Allocations
	}
	return r
}

type requestRow struct {
	Protocol string `json:"protocol"`
	Mode     string `json:"mode"`
	Level    string `json:"level"`
	Src      string `json:"src,omitempty"`
	Dst      string `json:"dst,omitempty"`
	ReqID    uint16 `json:"reqid"`
}

// policyRow is a policy; one of a socket has neither src nor dst.
type policyRow struct {
	ID        uint32       `json:"id"`
	Src       string       `json:"src,omitempty"`
	Dst       string       `json:"dst,omitempty"`
	SrcPort   *uint16      `json:"src_port,omitempty"`
	DstPort   *uint16      `json:"dst_port,omitempty"`
	Type      *uint16      `json:"icmp_type,omitempty"`
	Code      *uint16      `json:"icmp_code,omitempty"`
	Upper     string       `json:"upper,omitempty"`
	Direction string       `json:"direction"`
	Action    string       `json:"action"`
	Priority  uint32       `json:"priority"`
	Requests  []requestRow `json:"requests"`
	Text      string       `json:"policy"`
	Created   uint64       `json:"created"`
	Used      uint64       `json:"used"`
	Lifetime  uint64       `json:"lifetime"`
	ValidTime uint64       `json:"valid_time"`
}

func (p *printer) policyRow(m *protocol.KeyMessage) policyRow {
	r := policyRow{Requests: []requestRow{}}
	if a, b := m.Src, m.Dst; a != nil && b != nil {
		r.Src, r.Dst, r.Upper = p.addr(a.IP)+"/"+itoa(a.Bits), p.addr(b.IP)+"/"+itoa(b.Bits), upperName(a.Proto)
		src, dst := &r.SrcPort, &r.DstPort
		if a.Proto == 1 || a.Proto == 58 {
			src, dst = &r.Type, &r.Code
		}
		if a.Port != 0 || b.Port != 0 {
			*src, *dst = &a.Port, &b.Port
		}
	}
	if o := m.Policy; o != nil {
		r.ID, r.Priority, r.Text = o.ID, o.Priority, p.policyText(o, " ")
		r.Direction = pick([]string{"any", "in", "out", "fwd"}, o.Dir)
		r.Action = pick([]string{"discard", "none", "ipsec", "entrust", "bypass"}, uint8(min(o.Type, 255)))
		for _, q := range o.Requests {
			x := requestRow{Protocol: upperName(uint8(min(q.Proto, 255))), Mode: pick(modes, q.Mode), Level: pick([]string{"default", "use", "require", "unique"}, q.Level), ReqID: q.ReqID}
			if q.Src.IsValid() {
				x.Src, x.Dst = p.addr(q.Src.IP), p.addr(q.Dst.IP)
			}
			r.Requests = append(r.Requests, x)
		}
	}
	if c := m.Current; c != nil {
		r.Created, r.Used = c.AddTime, c.UseTime
	}
	if h := m.Hard; h != nil {
		r.Lifetime, r.ValidTime = h.AddTime, h.UseTime
	}
	return r
}
