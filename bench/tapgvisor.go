package main

import (
	"bytes"
	"errors"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// tapGvisor is gVisor's netstack on its own link for descriptors, without
// offloads.
func tapGvisor([]string) error {
	fd, err := openTap(0)
	if err != nil {
		return err
	}
	link, err := fdbased.New(&fdbased.Options{
		FDs: []int{fd}, MTU: 1500, EthernetHeader: true,
		Address: tcpip.LinkAddress(stackMAC[:]),
	})
	if err != nil {
		return err
	}
	s := gvisorStack(link, servers()...)
	defer s.Close()
	if err := kernelSide(); err != nil {
		return err
	}
	type echoer struct {
		tcpip.Endpoint
		ready chan struct{}
	}
	echoers := map[string]echoer{} // by version: a port that is given back is not free at once
	for _, v := range versions {
		protocol := icmp.ProtocolNumber4
		if v == v6 {
			protocol = icmp.ProtocolNumber6
		}
		wq := new(waiter.Queue)
		ep, terr := s.NewEndpoint(protocol, gvisorVersion(v.client), wq)
		gmust(terr)
		entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
		wq.EventRegister(&entry)
		gmust(ep.Bind(tcpip.FullAddress{Port: echoID}))
		gmust(ep.Connect(gvisorAddr(v.client, 0)))
		echoers[v.name] = echoer{ep, ready}
	}
	return serve(func(version string) error {
		v, err := versionNamed(version)
		if err != nil {
			return err
		}
		ep := echoers[version]
		var rd bytes.Reader
		var got bytes.Buffer
		return pings(v, func(m []byte) error {
			rd.Reset(m)
			if _, err := ep.Write(&rd, tcpip.WriteOptions{}); err != nil {
				return errors.New(err.String())
			}
			return nil
		}, func() ([]byte, error) {
			for {
				got.Reset()
				_, err := ep.Read(&got, tcpip.ReadOptions{})
				if _, ok := err.(*tcpip.ErrWouldBlock); ok {
					<-ep.ready
					continue
				}
				if err != nil {
					return nil, errors.New(err.String())
				}
				return got.Bytes(), nil
			}
		})
	})
}
