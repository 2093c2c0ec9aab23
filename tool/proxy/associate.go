package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxDatagram = 65535
	// nameLife is how long an association remembers an address, and maxNames
	// how many.
	nameLife = time.Minute
	maxNames = 256
	// nameWait is what a look-up may hold up the datagrams behind it.
	nameWait = 5 * time.Second
)

// parseDatagram reads the header of a client's datagram (RFC 1928 §7).
// Fragments are an error: reassembly is optional and nobody sends any.
func parseDatagram(b []byte) (to target, data []byte, err error) {
	if len(b) < 3 {
		return to, nil, io.ErrUnexpectedEOF
	}
	if b[2] != 0 {
		return to, nil, errors.New("a fragment")
	}
	r := bytes.NewReader(b[3:])
	if to, err = readTarget(r); err != nil {
		return to, nil, err
	}
	return to, b[len(b)-r.Len():], nil
}

// association is a UDP ASSOCIATE: datagrams between one client and the stack.
type association struct {
	s      *server
	client net.PacketConn // the host's side
	stack  net.PacketConn
	from   netip.Addr                     // of the client
	peer   atomic.Pointer[netip.AddrPort] // where its datagrams come from
	names  map[string]knownName
	in     int
	out    atomic.Int64
}

type knownName struct {
	ip    netip.Addr
	until time.Time
}

// socksAssociate serves UDP ASSOCIATE as long as the client's connection
// stands (RFC 1928 §7).
func (s *server) socksAssociate(c *conn) error {
	fail := func(err error) error {
		_, _ = c.Write(appendReply(nil, replyOf(err), netip.AddrPort{}))
		return err
	}
	local := addrPort(c.LocalAddr()).Addr()
	client, err := s.host.ListenPacket("udp", netip.AddrPortFrom(local, 0).String())
	if err != nil {
		return fail(err)
	}
	defer client.Close()
	stack, err := s.stack.ListenPacket("udp", "")
	if err != nil {
		return fail(err)
	}
	defer stack.Close()
	if _, err := c.Write(appendReply(nil, repSucceeded, addrPort(client.LocalAddr()))); err != nil {
		return err
	}
	a := &association{s: s, client: client, stack: stack, from: addrPort(c.RemoteAddr()).Addr().Unmap(), names: map[string]knownName{}}
	s.log.Debug("associated", "via", "socks5", "from", c.RemoteAddr().String(), "at", client.LocalAddr().String())
	var ways sync.WaitGroup
	ways.Go(func() { a.outward(); c.Close() })
	ways.Go(func() { a.inward(); c.Close() })
	_, err = io.Copy(io.Discard, c) // nothing more is said there; its end is the end
	client.Close()
	stack.Close()
	ways.Wait()
	s.log.Debug("closed", "via", "socks5", "from", c.RemoteAddr().String(), slog.Int("datagrams_in", a.in), slog.Int64("datagrams_out", a.out.Load()))
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// outward carries the client's datagrams to the stack. What cannot be
// delivered is lost, as datagrams are.
func (a *association) outward() {
	b := make([]byte, maxDatagram)
	for {
		n, from, err := a.client.ReadFrom(b)
		if err != nil {
			if temporary(err) { // an ICMP error of an earlier one
				continue
			}
			return
		}
		src := addrPort(from)
		if src.Addr().Unmap() != a.from { // not our client's
			continue
		}
		to, data, err := parseDatagram(b[:n])
		if err != nil {
			a.s.log.Debug("datagram dropped", "from", src.String(), "error", err.Error())
			continue
		}
		a.peer.Store(&src)
		ip, err := a.lookup(to.host)
		if err == nil {
			_, err = a.stack.WriteTo(data, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, to.port)))
		}
		if err != nil {
			a.s.log.Debug("datagram dropped", "from", src.String(), "to", to.String(), "error", err.Error())
			continue
		}
		a.out.Add(1)
	}
}

// inward carries what comes from the stack to where the client last sent from.
func (a *association) inward() {
	b := make([]byte, maxDatagram)
	var out []byte
	for {
		n, from, err := a.stack.ReadFrom(b)
		if err != nil {
			if temporary(err) {
				continue
			}
			return
		}
		peer := a.peer.Load()
		if peer == nil {
			continue
		}
		out = append(appendTarget(append(out[:0], 0, 0, 0), addrPort(from)), b[:n]...)
		if _, err := a.client.WriteTo(out, net.UDPAddrFromAddrPort(*peer)); err == nil {
			a.in++
		}
	}
}

// lookup is the address of a host, remembered for a while.
func (a *association) lookup(host string) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, nil
	}
	now := time.Now()
	if k, ok := a.names[host]; ok && now.Before(k.until) {
		return k.ip, nil
	}
	ctx, cancel := context.WithTimeout(a.s.ctx, nameWait)
	defer cancel()
	ips, err := a.s.stack.LookupHost(ctx, host)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(a.names) >= maxNames {
		clear(a.names)
	}
	a.names[host] = knownName{ips[0], now.Add(nameLife)}
	return ips[0], nil
}
