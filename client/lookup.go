package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"ionet/protocol/door"
)

// reverseBudget is what all reverse look-ups of one Stack may take together;
// then addresses stay numbers.
const reverseBudget = time.Second

// attempt is how long a name server may take for one answer.
const attempt = 2 * time.Second

// lookups is what a Stack knows of names.
type lookups struct {
	once    sync.Once
	hosts   map[string][]netip.Addr
	names   map[netip.Addr]string
	servers []netip.AddrPort
	search  []string

	mu    sync.Mutex
	spent time.Duration
	cache map[netip.Addr]string
}

// load reads hosts and resolv.conf: the stack's own below its prefix, then the
// host's hosts too, and the host's resolv.conf when there is no other.
func (s *Stack) load() {
	l := &s.lookups
	l.hosts, l.names, l.cache = map[string][]netip.Addr{}, map[netip.Addr]string{}, map[netip.Addr]string{}
	own := door.Path(s.prefix, "etc/hosts")
	l.readHosts(own)
	if own != "/etc/hosts" {
		l.readHosts("/etc/hosts")
	}
	path := door.Path(s.prefix, "etc/resolv.conf")
	conf, err := dns.ClientConfigFromFile(path)
	foreign := path == "/etc/resolv.conf"
	if err != nil {
		path, foreign = "/etc/resolv.conf", true
		if conf, err = dns.ClientConfigFromFile(path); err != nil {
			return
		}
	}
	l.search = conf.Search
	for _, a := range conf.Servers {
		ip, err := netip.ParseAddr(a)
		switch {
		case err != nil:
			slog.Warn("resolv.conf has a name server that is no address", "file", path, "server", a)
		case foreign && ip.IsLoopback():
			slog.Warn("the host's own resolver cannot be reached from the stack and is skipped", "file", path, "server", a)
		case ip.Unmap().Is4():
			l.servers = append(l.servers, netip.AddrPortFrom(ip.Unmap(), 53))
		}
	}
}

func (l *lookups) readHosts(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for in := bufio.NewScanner(f); in.Scan(); {
		line, _, _ := strings.Cut(in.Text(), "#")
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(w[0])
		if err != nil {
			continue
		}
		if _, ok := l.names[ip]; !ok {
			l.names[ip] = w[1]
		}
		for _, name := range w[1:] {
			name = strings.ToLower(name)
			l.hosts[name] = append(l.hosts[name], ip)
		}
	}
}

// LookupHost answers the IPv4 addresses of a name: from hosts, else from the
// name servers, asked over the stack's own sockets. A numeric name is itself.
func (s *Stack) LookupHost(ctx context.Context, name string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{ip}, nil
	}
	l := &s.lookups
	l.once.Do(s.load)
	var out []netip.Addr
	for _, ip := range l.hosts[strings.ToLower(strings.TrimSuffix(name, "."))] {
		if ip.Is4() {
			out = append(out, ip)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	tries := []string{dns.Fqdn(name)}
	if !strings.HasSuffix(name, ".") {
		for _, d := range l.search {
			tries = append(tries, dns.Fqdn(name+"."+d))
		}
		if !strings.Contains(name, ".") && len(tries) > 1 {
			tries = append(tries[1:], tries[0])
		}
	}
	var last error
	for _, q := range tries {
		rrs, err := s.query(ctx, q, dns.TypeA)
		if err != nil {
			last = err
			continue
		}
		for _, rr := range rrs {
			if a, ok := rr.(*dns.A); ok {
				if ip, ok := netip.AddrFromSlice(a.A); ok {
					out = append(out, ip.Unmap())
				}
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	if e, ok := errors.AsType[*net.DNSError](last); ok {
		e.Name = name
		return nil, e
	}
	if last != nil {
		return nil, last
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// LookupAddr answers the name of an address, without the last dot. All calls
// together may take a second, after which they fail at once, so that a
// command's output never hangs on names.
func (s *Stack) LookupAddr(ctx context.Context, ip netip.Addr) (string, error) {
	l := &s.lookups
	l.once.Do(s.load)
	ip = ip.WithZone("")
	if name, ok := l.names[ip]; ok {
		return name, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	name, known := l.cache[ip]
	left := reverseBudget - l.spent
	if !known && len(l.servers) > 0 && left > 0 {
		ctx, cancel := context.WithTimeout(ctx, left)
		defer cancel()
		start := time.Now()
		arpa, err := dns.ReverseAddr(ip.String())
		if err == nil {
			var rrs []dns.RR
			rrs, err = s.query(ctx, arpa, dns.TypePTR)
			for _, rr := range rrs {
				if p, ok := rr.(*dns.PTR); ok {
					name = strings.TrimSuffix(p.Ptr, ".")
					break
				}
			}
		}
		l.spent += time.Since(start)
		l.cache[ip] = name
	}
	if name == "" {
		return "", &net.DNSError{Err: "no name", Name: ip.String(), IsNotFound: true}
	}
	return name, nil
}

// query asks the servers in order, twice.
func (s *Stack) query(ctx context.Context, name string, typ uint16) ([]dns.RR, error) {
	if len(s.lookups.servers) == 0 {
		return nil, &net.DNSError{Err: "no name server that the stack could reach", Name: name}
	}
	m := new(dns.Msg).SetQuestion(name, typ)
	var last error
	for range 2 {
		for _, server := range s.lookups.servers {
			if err := ctx.Err(); err != nil {
				return nil, &net.DNSError{Err: err.Error(), Name: name, Server: server.String(), IsTimeout: true}
			}
			r, err := s.exchange(ctx, m, server)
			if err != nil {
				last = &net.DNSError{Err: err.Error(), Name: name, Server: server.String()}
				continue
			}
			switch r.Rcode {
			case dns.RcodeSuccess:
				return r.Answer, nil
			case dns.RcodeNameError:
				return nil, &net.DNSError{Err: "no such host", Name: name, Server: server.String(), IsNotFound: true}
			}
			last = &net.DNSError{Err: "server answers " + dns.RcodeToString[r.Rcode], Name: name, Server: server.String()}
		}
	}
	return nil, last
}

func (s *Stack) exchange(ctx context.Context, m *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	conn, err := s.Dial("udp4", server.String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	deadline := time.Now().Add(attempt)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	c := &dns.Conn{Conn: conn, UDPSize: dns.DefaultMsgSize}
	if err := c.WriteMsg(m); err != nil {
		return nil, err
	}
	for {
		r, err := c.ReadMsg()
		if err != nil {
			return nil, err
		}
		if r.Id == m.Id && len(r.Question) == 1 && strings.EqualFold(r.Question[0].Name, m.Question[0].Name) {
			return r, nil
		}
		if len(r.Question) == 0 && r.Id == m.Id {
			return nil, fmt.Errorf("answer without its question")
		}
	}
}
