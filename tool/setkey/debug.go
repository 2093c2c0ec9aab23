package setkey

import (
	"encoding/binary"
	"fmt"
	"io"

	"ionet/protocol"
)

func itoa(n uint8) string { return fmt.Sprint(n) }

// hexDump prints octets, sixteen a line.
func hexDump(w io.Writer, b []byte) {
	for i, c := range b {
		if i%16 == 0 {
			fmt.Fprintf(w, "%08x: ", i)
		}
		fmt.Fprintf(w, "%02x ", c)
		if i%16 == 15 {
			fmt.Fprintln(w)
		}
	}
	if len(b)%16 != 0 {
		fmt.Fprintln(w)
	}
}

// structures prints a message field by field, as KAME's kdebug_sadb does. What
// is no message is said to be none.
func structures(w io.Writer, b []byte) {
	m, err := protocol.ParseKeyMessage(b)
	if len(b) < 16 {
		fmt.Fprintln(w, err)
		return
	}
	le := binary.LittleEndian
	fmt.Fprintf(w, "sadb_msg{ version=%d type=%d errno=%d satype=%d\n", b[0], m.Type, uint(m.Errno), m.SAType)
	fmt.Fprintf(w, "  len=%d reserved=%d seq=%d pid=%d\n", le.Uint16(b[4:]), m.Refs, m.Seq, m.PID)
	if err != nil {
		fmt.Fprintln(w, err)
		return
	}
	if m.Promisc != nil {
		return
	}
	for rest := b[16:]; len(rest) >= 8; {
		n, typ := le.Uint16(rest), le.Uint16(rest[2:])
		fmt.Fprintf(w, "sadb_ext{ len=%d type=%d }\n", n, typ)
		structure(w, m, typ)
		rest = rest[int(n)*8:]
	}
}

// structure prints an extension of m.
func structure(w io.Writer, m *protocol.KeyMessage, typ uint16) {
	f := func(format string, a ...any) { fmt.Fprintf(w, format, a...) }
	switch typ {
	case protocol.SADBExtSA:
		s := m.SA
		f("sadb_sa{ spi=%d replay=%d state=%d\n  auth=%d encrypt=%d flags=0x%08x }\n", s.SPI, s.Replay, s.State, s.Auth, s.Encrypt, s.Flags)
	case protocol.SADBExtLifetimeCurrent:
		lifetimeStructure(w, m.Current)
	case protocol.SADBExtLifetimeHard:
		lifetimeStructure(w, m.Hard)
	case protocol.SADBExtLifetimeSoft:
		lifetimeStructure(w, m.Soft)
	case protocol.SADBExtAddressSrc:
		addressStructure(w, m.Src)
	case protocol.SADBExtAddressDst:
		addressStructure(w, m.Dst)
	case protocol.SADBExtAddressProxy:
		addressStructure(w, m.Proxy)
	case protocol.SADBXExtNATTOAI:
		addressStructure(w, m.NATT.OAI)
	case protocol.SADBXExtNATTOAR:
		addressStructure(w, m.NATT.OAR)
	case protocol.SADBExtKeyAuth:
		f("sadb_key{ bits=%d reserved=0\n  key=%s }\n", m.AuthKey.Bits, hexWords(m.AuthKey.Octets))
	case protocol.SADBExtKeyEncrypt:
		f("sadb_key{ bits=%d reserved=0\n  key=%s }\n", m.EncryptKey.Bits, hexWords(m.EncryptKey.Octets))
	case protocol.SADBExtIdentitySrc:
		f("sadb_ident_src{ type=%d id=%d\n  str=%q }\n", m.SrcIdent.Type, m.SrcIdent.ID, m.SrcIdent.Text)
	case protocol.SADBExtIdentityDst:
		f("sadb_ident_dst{ type=%d id=%d\n  str=%q }\n", m.DstIdent.Type, m.DstIdent.ID, m.DstIdent.Text)
	case protocol.SADBExtProposal:
		f("sadb_prop{ replay=%d\n", m.Proposal.Replay)
		for _, c := range m.Proposal.Combs {
			f("sadb_comb{ auth=%d encrypt=%d flags=0x%04x reserved=0x00000000\n", c.Auth, c.Encrypt, c.Flags)
			f("  auth_minbits=%d auth_maxbits=%d encrypt_minbits=%d encrypt_maxbits=%d\n", c.AuthMinBits, c.AuthMaxBits, c.EncryptMinBits, c.EncryptMaxBits)
			f("  soft_alloc=%d hard_alloc=%d soft_bytes=%d hard_bytes=%d\n", c.SoftAllocations, c.HardAllocations, c.SoftBytes, c.HardBytes)
			f("  soft_addtime=%d hard_addtime=%d soft_usetime=%d hard_usetime=%d }\n", c.SoftAddTime, c.HardAddTime, c.SoftUseTime, c.HardUseTime)
		}
		f("}\n")
	case protocol.SADBExtSupportedAuth:
		supportedStructure(w, m.SupportedAuth)
	case protocol.SADBExtSupportedEncrypt:
		supportedStructure(w, m.SupportedEncrypt)
	case protocol.SADBExtSPIRange:
		f("sadb_spirange{ min=%d max=%d }\n", m.SPIRange.Min, m.SPIRange.Max)
	case protocol.SADBXExtPolicy:
		o := m.Policy
		f("sadb_x_policy{ type=%d dir=%d id=%x priority=%d }\n", o.Type, o.Dir, o.ID, o.Priority)
		for _, r := range o.Requests {
			f(" { proto=%d mode=%d level=%d reqid=%d\n", r.Proto, r.Mode, r.Level, r.ReqID)
			if r.Src.IsValid() {
				f("sockaddr{ %v }\nsockaddr{ %v }\n", r.Src, r.Dst)
			}
			f(" }\n")
		}
	case protocol.SADBXExtSA2:
		f("sadb_x_sa2{ mode=%d reqid=%d\n  reserved1=0 reserved2=0 sequence=%d }\n", m.SA2.Mode, m.SA2.ReqID, m.SA2.Seq)
	case protocol.SADBXExtNATTType:
		f("sadb_x_nat_t_type{ type=%d }\n", m.NATT.Type)
	case protocol.SADBXExtNATTSPort:
		f("sadb_x_nat_t_port{ port=%d }\n", m.NATT.SrcPort)
	case protocol.SADBXExtNATTDPort:
		f("sadb_x_nat_t_port{ port=%d }\n", m.NATT.DstPort)
	case protocol.SADBXExtNATTFrag:
		f("sadb_x_nat_t_frag{ fraglen=%d }\n", m.NATT.Frag)
	case protocol.SADBXExtSAReplay:
		f("sadb_x_sa_replay{ replay=%d }\n", *m.Replay)
	case protocol.SADBXExtTFC:
		f("sadb_x_tfc{ octets=%d }\n", m.TFC)
	case protocol.SADBXExtText:
		f("sadb_x_text{ %q }\n", m.Text)
	}
}

func lifetimeStructure(w io.Writer, l *protocol.KeyLifetime) {
	fmt.Fprintf(w, "sadb_lifetime{ alloc=%d, bytes=%d\n  addtime=%d, usetime=%d }\n", l.Allocations, l.Bytes, l.AddTime, l.UseTime)
}

func addressStructure(w io.Writer, a *protocol.KeyAddress) {
	family, n := protocol.AFInet6, protocol.SockaddrIn6Len
	if a.IP.Is4() {
		family, n = protocol.AFInet, protocol.SockaddrInLen
	}
	fmt.Fprintf(w, "sadb_address{ proto=%d prefixlen=%d reserved=0x0000 }\n", a.Proto, a.Bits)
	fmt.Fprintf(w, "sockaddr{ len=%d family=%d port=%d addr=%v }\n", n, family, a.Port, a.IP)
}

func supportedStructure(w io.Writer, algs []protocol.KeyAlg) {
	fmt.Fprintln(w, "sadb_sup{")
	for _, a := range algs {
		fmt.Fprintf(w, "  { id=%d ivlen=%d min=%d max=%d }\n", a.ID, a.IVLen, a.MinBits, a.MaxBits)
	}
	fmt.Fprintln(w, "}")
}
