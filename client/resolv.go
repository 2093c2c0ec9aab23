package client

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"ionet/protocol"
)

// Bounds of a resolv.conf, those of resolver(5).
const (
	maxServers  = 3
	maxSearch   = 6
	maxAttempts = 5
	maxTimeout  = 30 * time.Second
)

// maxNamesFile is how much of a hosts or resolv.conf is read.
const maxNamesFile = 16 << 20

// resolvConf is a resolv.conf(5) as far as the stack can use it.
type resolvConf struct {
	path     string
	servers  []netip.AddrPort
	search   []string // without final dots
	ndots    int
	attempts int
	timeout  time.Duration // for one answer
	skipped  []string      // a sentence for each server that is not used
	foreign  bool          // it is the host's
}

// with adds what routers have told: servers behind those of a file of the
// stack's own and before those of the host's, search domains unless the stack's
// own file has some.
func (c *resolvConf) with(rows []protocol.ResolverRow) *resolvConf {
	out := *c
	out.servers, out.search = nil, nil
	for _, r := range rows {
		if ip, err := netip.ParseAddr(r.Server); err == nil {
			out.servers = append(out.servers, netip.AddrPortFrom(ip, uint16(dnsPort)))
		}
		domain := strings.TrimSuffix(r.Search, ".")
		if hostName(domain) && len(out.search) < maxSearch {
			out.search = append(out.search, domain)
		}
	}
	if c.foreign {
		out.servers = append(out.servers, c.servers...)
	} else {
		out.servers = append(slices.Clone(c.servers), out.servers...)
	}
	if len(out.search) == 0 || !c.foreign && len(c.search) > 0 {
		out.search = c.search
	}
	out.servers = out.servers[:min(len(out.servers), maxServers)]
	return &out
}

// String is the file that says so.
func (c *resolvConf) String() string {
	var b strings.Builder
	for _, s := range c.servers {
		fmt.Fprintf(&b, "nameserver %v\n", s.Addr())
	}
	if len(c.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.search, " "))
	}
	fmt.Fprintf(&b, "options ndots:%d timeout:%d attempts:%d\n", c.ndots, c.timeout/time.Second, c.attempts)
	return b.String()
}

// parseResolvConf reads the text of path. A foreign one is the host's: its
// loopback addresses, and those of its links, are the host's own, not the stack's.
func parseResolvConf(text []byte, path string, foreign bool) resolvConf {
	c := resolvConf{path: path, foreign: foreign, ndots: 1, attempts: 2, timeout: 5 * time.Second}
	conf, err := dns.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil {
		return c
	}
	c.ndots = conf.Ndots
	c.attempts = min(conf.Attempts, maxAttempts)
	c.timeout = min(time.Duration(min(conf.Timeout, 1000))*time.Second, maxTimeout)
	skip := func(server, why string) {
		c.skipped = append(c.skipped, fmt.Sprintf("%s: name server %s is skipped: %s", path, server, why))
	}
	for _, server := range conf.Servers {
		ip, err := netip.ParseAddr(server)
		ip = ip.Unmap()
		switch {
		case err != nil:
			skip(server, "it is no address")
		case foreign && (ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast()):
			skip(server, "it is the host's own, which the stack cannot reach")
		case len(c.servers) == maxServers:
			skip(server, fmt.Sprintf("%d are enough", maxServers))
		default:
			c.servers = append(c.servers, netip.AddrPortFrom(ip, uint16(dnsPort)))
		}
	}
	for _, domain := range conf.Search {
		domain = strings.TrimSuffix(domain, ".")
		if hostName(domain) && len(c.search) < maxSearch {
			c.search = append(c.search, domain)
		}
	}
	return c
}

const dnsPort = 53

// candidates are the full names to ask for, in order: with fewer dots than
// ndots a name is first looked for in the search domains.
func (c *resolvConf) candidates(name string) []string {
	full := dns.Fqdn(name)
	if strings.HasSuffix(name, ".") {
		return []string{full}
	}
	var out []string
	for _, domain := range c.search {
		if q := full + domain + "."; hostName(q) {
			out = append(out, q)
		}
	}
	if strings.Count(name, ".") >= c.ndots {
		return append([]string{full}, out...)
	}
	return append(out, full)
}

// hostName says whether name may be asked for: labels of letters, digits,
// '-' and '_' (RFC 1123 §2.1, and what is in use besides).
func hostName(name string) bool {
	if _, ok := dns.IsDomainName(name); !ok || name == "" || name == "." {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// hosts is a hosts(5).
type hosts struct {
	addrs map[string][]netip.Addr // by name in small letters
	names map[netip.Addr]string   // the first name of the first line
}

// parseHosts reads a hosts file; lines that it does not understand are left
// out.
func parseHosts(text []byte) hosts {
	h := hosts{map[string][]netip.Addr{}, map[netip.Addr]string{}}
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte{'#'})
		w := strings.Fields(string(line))
		if len(w) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(w[0])
		if err != nil {
			continue
		}
		ip = ip.Unmap()
		for _, name := range w[1:] {
			if !hostName(name) {
				continue
			}
			if _, ok := h.names[ip]; !ok {
				h.names[ip] = name
			}
			key := hostKey(name)
			h.addrs[key] = append(h.addrs[key], ip)
		}
	}
	return h
}

func hostKey(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// readNames reads a regular file; a pipe in its place would hang a command.
func readNames(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxNamesFile))
}
