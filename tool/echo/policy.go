package echo

import (
	"errors"
	"fmt"
	"syscall"

	"ionet/protocol"
)

// Policies are what a socket's packets are to come through, in and out: one
// each at most.
type Policies []*protocol.KeyPolicy

// Add reads a policy, as ipsec_set_policy(3) has it.
func (p *Policies) Add(text string) error {
	policy, err := protocol.ParseIPSecPolicy(text)
	if err != nil {
		return err
	}
	if policy.Dir == protocol.IPSecDirFwd {
		return errors.New("a socket has policies of in and out, nothing is forwarded by it")
	}
	for _, other := range *p {
		if other.Dir == policy.Dir {
			return fmt.Errorf("%q is there already, and one policy a direction is enough", other)
		}
	}
	*p = append(*p, policy)
	return nil
}

// Set gives the policies to a socket by an option of it. A stack that has no
// such option has no IPsec.
func (p Policies) Set(set func(value []byte) error) error {
	for _, policy := range p {
		value, err := protocol.AppendKeyPolicy(nil, policy)
		if err != nil {
			return err
		}
		switch err := set(value); {
		case errors.Is(err, syscall.ENOPROTOOPT):
			return errors.New("the stack has no IPsec, and the packets would go in clear; io-net -ptcpip ipsec starts one that has it")
		case err != nil:
			return err
		}
	}
	return nil
}
