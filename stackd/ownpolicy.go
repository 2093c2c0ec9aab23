package stackd

import (
	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/ipsec"
)

// policyOption reports the options by which a socket has policies of IPsec of its own, and of which version of IP.
func policyOption(o protocol.SockOpt) (v6, is bool) {
	switch {
	case o.Level == protocol.ProtoIP && o.Name == protocol.IPIPSecPolicy:
		return false, true
	case o.Level == protocol.ProtoIPv6 && o.Name == protocol.IPv6IPSecPolicy:
		return true, true
	}
	return false, false
}

// setPolicy gives a socket the policy of value, KAME's sadb_x_policy. EACCES: bypass is the superuser's; ENOPROTOOPT.
func (c *conn) setPolicy(sk *sock, v6 bool, value []byte) error {
	k, err := protocol.ParseKeyPolicy(value)
	if err != nil {
		return err
	}
	p, err := enginePolicy(k)
	if err != nil {
		return err
	}
	if err := p.CheckOwn(); err != nil {
		return err
	}
	out := p.Dir == ipsec.Out
	switch p.Kind {
	case ipsec.Bypass:
		if !c.super {
			return errf(unix.EACCES, "only the superuser or the stack's own user may bypass IPsec")
		}
	case ipsec.Entrust: // as without one
		return sk.so.SetPolicy(v6, out, nil)
	}
	return sk.so.SetPolicy(v6, out, p)
}

// getPolicy is the policy of a socket in the direction that value's policy, if any, has; else of what leaves.
func getPolicy(sk *sock, v6 bool, value []byte) ([]byte, error) {
	k := &protocol.KeyPolicy{Dir: ipsec.Out}
	if len(value) > 0 {
		var err error
		if k, err = protocol.ParseKeyPolicy(value); err != nil {
			return nil, err
		}
	}
	own, err := sk.so.Policy(v6, k.Dir == ipsec.Out)
	if err != nil {
		return nil, err
	}
	answer := protocol.KeyPolicy{Type: protocol.IPSecPolicyEntrust, Dir: k.Dir, Priority: protocol.IPSecPriorityDefault}
	if p, ok := own.(*ipsec.Policy); ok {
		answer = keyPolicy(p, nil)
	}
	return protocol.AppendKeyPolicy(nil, &answer)
}
