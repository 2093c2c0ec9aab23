package client

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
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
}

// parseResolvConf reads the text of path. A foreign one is the host's: its
// loopback addresses are the host's own, not the stack's.
func parseResolvConf(text []byte, path string, foreign bool) resolvConf {
	c := resolvConf{path: path, ndots: 1, attempts: 2, timeout: 5 * time.Second}
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
		case foreign && (ip.IsLoopback() || ip.IsUnspecified()):
			skip(server, "it is the host's own, which the stack cannot reach")
		case !ip.Is4():
			skip(server, "the stack has no IPv6 yet")
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
