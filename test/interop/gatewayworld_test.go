package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

// gateway is a stack that forwards between three kernels in namespaces of their
// own, each on a TAP, tap0, whose other end is en0, en1 and en2.
type gateway struct {
	*play.User        // of the stack; its commands run in the first host's namespace
	prefix     string // where the stack is
	hosts      [3]*gatewayHost
}

// The hosts of a gateway.
const (
	insideA = iota // 10.1.0.2, 2001:db8:1::2
	insideB        // 10.2.0.2, 2001:db8:2::2
	outside        // 192.0.2.2, 2001:db8:9::2
)

// gatewayHost is a kernel behind a gateway, its default routes over it. As a user
// it is the superuser there.
type gatewayHost struct {
	*play.User
	ns   *need.NS
	nets map[string]string // by family, the network's address without its last number
}

// own is the host's address, and router the gateway's on the same link.
func (h *gatewayHost) own(v family) string    { return h.nets[v.name] + "2" }
func (h *gatewayHost) router(v family) string { return h.nets[v.name] + "1" }

// newGateway makes one, forwarding in both families as the options say.
func newGateway(t *testing.T) *gateway {
	t.Helper()
	need.File(t, "/dev/net/tun")
	g := &gateway{}
	var line []string
	for i, net4 := range []string{"10.1.0.", "10.2.0.", "192.0.2."} {
		ns := need.Namespace(t)
		h := &gatewayHost{User: play.NewRoot(t, ns), ns: ns}
		h.nets = map[string]string{"ip4": net4, "ip6": fmt.Sprintf("2001:db8:%d::", []int{1, 2, 9}[i])}
		g.hosts[i] = h
		line = append(line, "-d", "tap", "name=tap0")
		if i > 0 {
			line[len(line)-1] += ",netns=" + ns.Name
		}
	}
	u := g.hosts[insideA].User
	g.prefix = filepath.Join(u.Dir, "s")
	u.Ionet(g.prefix, append(line, "-ptcpip", "prefix="+g.prefix+",forward,forward6")...)
	g.User = u.At(g.prefix)
	g.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	for i := range g.hosts {
		g.connect(i)
	}
	return g
}

// connect gives both ends of host i's link their addresses, and the host its
// default routes.
func (g *gateway) connect(i int) {
	g.T.Helper()
	h, en := g.hosts[i], fmt.Sprint("en", i)
	h.ns.Exec("ip", "link", "set", "tap0", "up")
	for _, v := range families {
		h.ns.Exec("ip", "addr", "replace", v.prefix(h.own(v)), "dev", "tap0", "nodad")
		h.ns.Exec("ip", "route", "replace", "default", "via", h.router(v))
	}
	g.Must("ifconfig", en, h.router(families[0])+"/24")
	g.Must("ifconfig", en, "inet6", h.router(families[1]), "prefixlen", "64")
}

// forgetMTU has a host forget what it learnt of paths.
func (h *gatewayHost) forgetMTU() {
	h.ns.Exec("ip", "route", "flush", "cache")
	h.ns.Exec("ip", "-6", "route", "flush", "cache")
}

// pings is what the kernel's ping says, of one probe to to, with more options.
func (h *gatewayHost) pings(to string, more ...string) string {
	h.T.Helper()
	r := h.Try("/usr/bin/ping", append(append([]string{"-n", "-c", "1", "-W", "2"}, more...), to)...)
	return r.Out + r.Err
}

// watch has tcpdump tell what matches filter on the host's link while f runs, and answers its
// lines. An echo of its own, to all nodes of the link, says when everything before it has been told.
func (h *gatewayHost) watch(filter string, f func()) []string {
	h.T.Helper()
	tcpdump := need.Command(h.T, "tcpdump", "tcpdump")
	const mark = `payload length: 1119\).*ICMP6, echo request`
	j := h.Serves("listening on tap0.*\n", tcpdump, "-i", "tap0", "-n", "-l", "-v", "--immediate-mode", "-Z", "root",
		"("+filter+") or (ip6 and dst ff02::1 and ip6[4:2] == 1119)")
	f()
	h.pings("ff02::1%tap0", "-s", "1111")
	j.Says(mark)
	out := j.Err.String()
	_ = j.Cmd.Process.Signal(os.Interrupt)
	j.Wait()
	out = out[strings.Index(out, "listening on"):]
	_, out, _ = strings.Cut(out, "\n")
	if out = strings.TrimSpace(out[:regexp.MustCompile(".*" + mark).FindStringIndex(out)[0]]); out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

// serveFiles has nginx serve the host's folder at port 8080 of both families.
func (h *gatewayHost) serveFiles() {
	h.T.Helper()
	nginx := need.Command(h.T, "nginx", "nginx-light")
	conf := h.Write("nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid %[1]s/nginx.pid; error_log stderr notice;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
	server { listen 8080; listen [::]:8080; root %[1]s; }
}
`, h.Dir), 0o644)
	h.Serves(`using the "epoll" event method`, nginx, "-p", h.Dir, "-c", conf)
}

// serveMeasures has an iperf3 server at port 5201 of both families.
func (h *gatewayHost) serveMeasures() {
	h.T.Helper()
	h.Serves(`Server listening`, need.Command(h.T, "iperf3", "iperf3"), "-s", "--forceflush", "-p", "5201")
}

// serveShell has an sshd at port 2222 of both families, and answers the file of a
// key that the superuser may come in with.
func (h *gatewayHost) serveShell() (key string) {
	h.T.Helper()
	sshd := need.Command(h.T, "sshd", "openssh-server")
	keygen := need.Command(h.T, "ssh-keygen", "openssh-client")
	for _, name := range []string{"host", "user"} {
		h.Must(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(h.Dir, name))
	}
	conf := h.Write("sshd_config", fmt.Sprintf(`Port 2222
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/user.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
`, h.Dir), 0o600)
	h.Serves(`Server listening on :: port 2222`, "sh", "-c", `mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"`, "sh",
		sshd, "-D", "-e", "-f", conf)
	return filepath.Join(h.Dir, "user")
}
