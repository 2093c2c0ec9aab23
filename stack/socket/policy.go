package socket

import (
	"sync/atomic"
	"syscall"
)

// Policies are a socket's own policies of IPsec: ipsec's, for what comes and for what leaves.
type Policies struct{ in, out atomic.Pointer[any] }

func (o *Policies) at(out bool) *atomic.Pointer[any] {
	if out {
		return &o.out
	}
	return &o.in
}

// Policy is the one for what leaves, or for what comes; nil: there is none.
func (o *Policies) Policy(out bool) any {
	if p := o.at(out).Load(); p != nil {
		return *p
	}
	return nil
}

// SetPolicy changes it; nil: there is none from now on.
func (o *Policies) SetPolicy(out bool, p any) {
	if p == nil {
		o.at(out).Store(nil)
		return
	}
	o.at(out).Store(&p)
}

// Inherit gives o what another socket has.
func (o *Policies) Inherit(from *Policies) {
	o.in.Store(from.in.Load())
	o.out.Store(from.out.Load())
}

// network are the options of a socket at its network's level; ENOPROTOOPT.
func (so *Socket) network() (NetOptions, error) {
	if h, ok := so.H.(interface{ NetOptions() NetOptions }); ok {
		return h.NetOptions(), nil
	}
	return nil, syscall.ENOPROTOOPT
}

// SetPolicy gives the socket a policy of its own for what leaves in packets of a version of IP, or for what comes;
// nil: none. ENOPROTOOPT: it has no such packets, or its stack no IPsec.
func (so *Socket) SetPolicy(v6, out bool, p any) error {
	o, err := so.network()
	if err != nil {
		return err
	}
	return o.SetPolicy(v6, out, p)
}

// Policy is what SetPolicy has set; nil: nothing. ENOPROTOOPT.
func (so *Socket) Policy(v6, out bool) (any, error) {
	o, err := so.network()
	if err != nil {
		return nil, err
	}
	return o.Policy(v6, out), nil
}
