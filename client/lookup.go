package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"ionet/protocol"
	"ionet/protocol/door"
)

const (
	// lookupBudget is what the look-up of one name may take.
	lookupBudget = 10 * time.Second
	// reverseBudget is what all reverse look-ups of one Stack may take
	// together; then addresses stay numbers.
	reverseBudget = time.Second
	// edns is the datagram that we can take (RFC 6891 §6.2.3).
	edns = 4096
	// maxChain bounds the CNAMEs of a name, over all answers.
	maxChain = 16
)

// lookups is what a Stack knows of names.
type lookups struct {
	once  sync.Once
	hosts []hosts // the stack's own, then the host's
	conf  resolvConf
	told  sync.Once // what is skipped

	mu    sync.Mutex // guards the reverse look-ups; held over one
	spent time.Duration
	cache map[netip.Addr]string
}

// load reads the files of names: those below the stack's prefix, and the
// host's below root ("" outside tests). The hosts of both count, the stack's
// first; of resolv.conf the first that is there.
func (l *lookups) load(prefix, root string) {
	l.cache = map[netip.Addr]string{}
	own := door.Path(prefix, "etc/hosts")
	for _, path := range []string{own, root + "/etc/hosts"} {
		if text, err := readNames(path); err == nil {
			l.hosts = append(l.hosts, parseHosts(text))
		}
	}
	own, host := door.Path(prefix, "etc/resolv.conf"), root+"/etc/resolv.conf"
	text, err := readNames(own)
	if errors.Is(err, os.ErrNotExist) {
		own = host
		text, err = readNames(host)
	}
	l.conf = parseResolvConf(text, own, own == host)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.conf.skipped = append(l.conf.skipped, err.Error())
	}
}

// usable says why there is no name server. What was skipped is said once, and
// only to whom has to ask a server.
func (l *lookups) usable(conf *resolvConf) error {
	l.told.Do(func() {
		for _, s := range l.conf.skipped {
			slog.Warn(s)
		}
	})
	if len(conf.servers) == 0 {
		return &net.DNSError{Err: "no name server that the stack can reach in " + conf.path}
	}
	return nil
}

// resolver is what resolv.conf says together with what routers have told the
// stack (RFC 8106).
func (s *Stack) resolver() *resolvConf {
	c, _ := s.resolverAndSource()
	return c
}

// resolverAndSource reports, too, whether routers have told anything.
func (s *Stack) resolverAndSource() (c *resolvConf, told bool) {
	l := &s.lookups
	l.once.Do(func() { l.load(s.prefix, "") })
	rows, err := Table[protocol.ResolverRow](s, protocol.TableResolver, "")
	if err != nil || len(rows) == 0 {
		return &l.conf, false
	}
	return l.conf.with(rows), true
}

// ResolvConf is what lookups go by, as a resolv.conf(5), and whether any of it
// is what routers have told of (RFC 8106). The host's own servers that the
// stack cannot reach are left out.
func (s *Stack) ResolvConf() (text string, told bool) {
	c, told := s.resolverAndSource()
	return c.String(), told
}

// LookupHost answers the addresses of a name, of both families, the best first:
// it is [Stack.LookupNetIP] of "ip".
func (s *Stack) LookupHost(ctx context.Context, name string) ([]netip.Addr, error) {
	return s.LookupNetIP(ctx, "ip", name)
}

// LookupNetIP answers the addresses of a name, of the families that network
// names ("ip", "ip4", "ip6"), the best first (RFC 6724): from the hosts of the
// stack ($SOCK/etc/hosts), those of the host (/etc/hosts), else from name
// servers, asked over the stack's own sockets: those of $SOCK/etc/resolv.conf
// and behind them those that routers have told of, or when there is no such
// file the routers' and behind them those of /etc/resolv.conf. A numeric name is
// itself, short forms as in inet_aton(3) too: 10.163 is 10.0.0.163. Errors are a
// *net.DNSError.
func (s *Stack) LookupNetIP(ctx context.Context, network, name string) ([]netip.Addr, error) {
	four, six := network != "ip6", network != "ip4"
	fail := func(err error) ([]netip.Addr, error) {
		if e, ok := errors.AsType[*net.DNSError](err); ok {
			e.Name = name
		}
		return nil, err
	}
	ip, err := netip.ParseAddr(name)
	if err != nil && four {
		ip, err = protocol.ParseInetAton(name)
	}
	switch {
	case err == nil && (ip.Is4() && four || ip.Is6() && six):
		return []netip.Addr{ip}, nil
	case err == nil:
		return fail(&net.DNSError{Err: "it is an address of the other family", IsNotFound: true})
	case strings.HasPrefix(name, "%"):
		return fail(&net.DNSError{Err: "an address is missing in front of " + name, IsNotFound: true})
	case !hostName(name):
		return fail(&net.DNSError{Err: "it is not a host name", IsNotFound: true})
	}
	l := &s.lookups
	l.once.Do(func() { l.load(s.prefix, "") })
	if out := l.local(name, four, six); len(out) > 0 {
		return s.sorted(out), nil
	}
	conf := s.resolver()
	if err := l.usable(conf); err != nil {
		return fail(err)
	}
	var types []uint16
	if four {
		types = append(types, dns.TypeA)
	}
	if six && (!four || s.speaks6()) {
		types = append(types, dns.TypeAAAA)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupBudget)
	defer cancel()
	var failure error
	for _, q := range conf.candidates(name) {
		out, err := s.addresses(ctx, conf, q, types)
		if err == nil {
			return s.sorted(out), nil
		}
		e, _ := errors.AsType[*net.DNSError](err)
		if failure == nil || e != nil && !e.IsNotFound {
			failure = err
		}
		if e != nil && e.IsTimeout {
			break // the others would take as long
		}
	}
	return fail(failure)
}

// resolutionDelay is how long the addresses of one family may be behind those
// of the other (RFC 8305 §3, which has 50 ms for a server nearby).
const resolutionDelay = 300 * time.Millisecond

// addresses asks for records of several types at once. One answer is enough.
func (s *Stack) addresses(ctx context.Context, conf *resolvConf, name string, types []uint16) (out []netip.Addr, err error) {
	if len(types) == 1 {
		rrs, err := s.resolve(ctx, conf, name, types[0])
		return addresses(rrs), err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		rrs []dns.RR
		err error
	}
	ch := make(chan answer, len(types))
	for _, typ := range types {
		go func() {
			rrs, err := s.resolve(ctx, conf, name, typ)
			ch <- answer{rrs, err}
		}()
	}
	for range types {
		a := <-ch
		if a.err == nil {
			out = append(out, addresses(a.rrs)...)
			defer time.AfterFunc(resolutionDelay, cancel).Stop()
			continue
		}
		e, _ := errors.AsType[*net.DNSError](a.err)
		if err == nil || e != nil && !e.IsNotFound {
			err = a.err
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	return nil, err
}

// local looks a name up without asking anybody.
func (l *lookups) local(name string, four, six bool) (out []netip.Addr) {
	key := hostKey(name)
	for _, h := range l.hosts {
		for _, ip := range h.addrs[key] {
			if ip.Is4() && four || ip.Is6() && six {
				out = append(out, ip)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	if key == "localhost" || strings.HasSuffix(key, ".localhost") { // RFC 6761 §6.3
		if six {
			out = append(out, netip.IPv6Loopback())
		}
		if four {
			out = append(out, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		}
	}
	return out
}

func addresses(rrs []dns.RR) (out []netip.Addr) {
	for _, rr := range rrs {
		var b []byte
		switch rr := rr.(type) {
		case *dns.A:
			b = rr.A.To4()
		case *dns.AAAA:
			b = rr.AAAA
		}
		if ip, ok := netip.AddrFromSlice(b); ok {
			out = append(out, ip)
		}
	}
	return out
}

// LookupAddr answers the name of an address, without the last dot. All calls
// together may take a second, after which they fail at once, so that a
// command's output never hangs on names.
func (s *Stack) LookupAddr(ctx context.Context, ip netip.Addr) (string, error) {
	l := &s.lookups
	l.once.Do(func() { l.load(s.prefix, "") })
	ip = ip.WithZone("").Unmap()
	for _, h := range l.hosts {
		if name, ok := h.names[ip]; ok {
			return name, nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	name, known := l.cache[ip]
	if left := reverseBudget - l.spent; !known && left > 0 {
		ctx, cancel := context.WithTimeout(ctx, left)
		defer cancel()
		start := time.Now()
		name = s.reverse(ctx, ip)
		l.spent += time.Since(start)
		l.cache[ip] = name
	}
	if name == "" {
		return "", &net.DNSError{Err: "no name", Name: ip.String(), IsNotFound: true}
	}
	return name, nil
}

// reverse asks for the name of ip; "" when there is none.
func (s *Stack) reverse(ctx context.Context, ip netip.Addr) string {
	arpa, err := dns.ReverseAddr(ip.String())
	if err != nil {
		return ""
	}
	rrs, err := s.resolve(ctx, s.resolver(), arpa, dns.TypePTR)
	if err != nil {
		return ""
	}
	for _, rr := range rrs {
		// What is not a host name would only spoil a terminal.
		if p, ok := rr.(*dns.PTR); ok && hostName(p.Ptr) {
			return strings.TrimSuffix(p.Ptr, ".")
		}
	}
	return ""
}

// resolve answers the records of a type that name has, be it through CNAMEs.
func (s *Stack) resolve(ctx context.Context, conf *resolvConf, name string, typ uint16) ([]dns.RR, error) {
	for links := 0; links <= maxChain; {
		r, server, err := s.ask(ctx, conf, name, typ)
		if err != nil {
			return nil, err
		}
		found, end, n := follow(r.Answer, name, typ)
		switch {
		case len(found) > 0:
			return found, nil
		case r.Rcode == dns.RcodeNameError:
			return nil, &net.DNSError{Err: "no such host", Server: server, IsNotFound: true}
		case n == 0:
			return nil, &net.DNSError{Err: "the name is known but has no " + typeName(typ), Server: server, IsNotFound: true}
		}
		links, name = links+n, end
	}
	return nil, &net.DNSError{Err: "its CNAMEs do not come to an end"}
}

func typeName(typ uint16) string {
	switch typ {
	case dns.TypeA:
		return "IPv4 address"
	case dns.TypeAAAA:
		return "IPv6 address"
	}
	return dns.TypeToString[typ] + " record"
}

// follow walks the CNAMEs of an answer from name. It answers the records of
// the type that its end has, that end, and how many links there were. Records
// of other names are nobody's.
func follow(rrs []dns.RR, name string, typ uint16) (found []dns.RR, end string, links int) {
	for ; links <= maxChain; links++ {
		next := ""
		for _, rr := range rrs {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name) {
				continue
			}
			if c, ok := rr.(*dns.CNAME); ok {
				next = c.Target
			}
			if h.Rrtype == typ {
				found = append(found, rr)
			}
		}
		if len(found) > 0 || next == "" {
			return found, name, links
		}
		name = next
	}
	return nil, name, links
}

// ask puts one question to the servers in turn, as often as resolv.conf says,
// and answers the first reply that says something about the name.
func (s *Stack) ask(ctx context.Context, conf *resolvConf, name string, typ uint16) (*dns.Msg, string, error) {
	servers := conf.servers
	if err := s.lookups.usable(conf); err != nil {
		return nil, "", err
	}
	var failure *net.DNSError
	note := func(e *net.DNSError) {
		if failure == nil || failure.IsTimeout {
			failure = e
		}
	}
	var plain, useless [maxServers]bool
	for try := range conf.attempts {
		for i, server := range servers {
			if useless[i] {
				continue
			}
			text := server.Addr().String()
			wait, err := conf.wait(ctx, (conf.attempts-try)*len(servers)-i)
			if err != nil {
				note(&net.DNSError{UnwrapErr: err, Err: "no answer in time", Server: text, IsTimeout: errors.Is(err, context.DeadlineExceeded)})
				return nil, "", failure
			}
			r, err := s.exchange(ctx, server, name, typ, !plain[i], wait)
			if err == nil && !plain[i] && (r.Rcode == dns.RcodeFormatError || r.Rcode == dns.RcodeNotImplemented) {
				plain[i] = true // it does not know EDNS (RFC 6891 §7)
				r, err = s.exchange(ctx, server, name, typ, false, wait)
			}
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
				note(&net.DNSError{UnwrapErr: err, Err: "no answer in time", Server: text, IsTimeout: !errors.Is(err, context.Canceled)})
			case err != nil:
				note(&net.DNSError{UnwrapErr: err, Err: protocol.Strerror(err), Server: text, IsTemporary: true})
			case r.Truncated:
				useless[i] = true
				note(&net.DNSError{Err: fmt.Sprintf("the answer does not fit a datagram of %d octets, and the stack cannot ask by TCP yet", edns), Server: text})
			case r.Rcode == dns.RcodeSuccess, r.Rcode == dns.RcodeNameError:
				return r, text, nil
			default:
				note(&net.DNSError{Err: "the server answers " + rcodeName(r.Rcode), Server: text, IsTemporary: r.Rcode == dns.RcodeServerFailure})
			}
		}
	}
	return nil, "", failure
}

func rcodeName(rcode int) string {
	if s := dns.RcodeToString[rcode]; s != "" {
		return s
	}
	return fmt.Sprintf("RCODE %d", rcode)
}

// wait is how long the next of so many tries may take.
func (c *resolvConf) wait(ctx context.Context, tries int) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	wait := c.timeout
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end)/time.Duration(tries))
	}
	return wait, nil
}

// exchange asks one server once, from a socket of its own and under a new id:
// both are random, since they are what a forger has to guess (RFC 5452 §9.2).
func (s *Stack) exchange(ctx context.Context, server netip.AddrPort, name string, typ uint16, ext bool, wait time.Duration) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, typ)
	if ext {
		m.SetEdns0(edns, false)
	}
	q, err := m.Pack()
	if err != nil {
		return nil, err
	}
	conn, err := s.dialRandom(server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(q); err != nil {
		return nil, err
	}
	buf := make([]byte, 0xffff)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if r, err := answer(buf[:n], m); r != nil || err != nil {
			return r, err
		}
	}
}

// answer reads a datagram as the answer to m. What does not belong to the
// question is nothing; what does and cannot be read is an error, unless it
// was cut.
func answer(b []byte, m *dns.Msg) (*dns.Msg, error) {
	if len(b) < 12 || binary.BigEndian.Uint16(b) != m.Id {
		return nil, nil
	}
	r := new(dns.Msg)
	err := r.Unpack(b)
	if !r.Response || r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 {
		return nil, nil
	}
	q, want := r.Question[0], m.Question[0]
	if !strings.EqualFold(q.Name, want.Name) || q.Qtype != want.Qtype || q.Qclass != want.Qclass {
		return nil, nil
	}
	if err != nil && !r.Truncated {
		return nil, fmt.Errorf("the answer cannot be read: %w", err)
	}
	return r, nil
}

// dialRandom connects a UDP socket of a random port.
func (s *Stack) dialRandom(server netip.AddrPort) (net.Conn, error) {
	to, err := s.scoped(protocol.AddrFrom(server.Addr(), server.Port()))
	if err != nil {
		return nil, err
	}
	udp := kind{typ: protocol.SockDgram, proto: protocol.ProtoUDP, family: to.Family}
	for range 8 {
		port := uint16(1<<15 + rand.N(1<<15))
		c, err := s.dial(context.Background(), "udp", udp, protocol.AddrFrom(wildcard(to.Family), port), to)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return c, err
		}
	}
	return s.dial(context.Background(), "udp", udp, protocol.Addr{}, to)
}
