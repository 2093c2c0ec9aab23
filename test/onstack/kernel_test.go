package onstack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

// TestProgramsAndAKernelHost has programs on a stack meet programs of a Linux
// kernel beside it on a TAP, whose is the first address of each family.
func TestProgramsAndAKernelHost(t *testing.T) {
	ns, root, prefix := play.KernelHost(t)
	six(root, families[1].there)
	ns.Exec("ip", "addr", "add", families[1].here+"/64", "dev", "tap0", "nodad")
	if err := os.Chmod(root.Dir, 0o755); err != nil { // the programs are nobody's
		t.Fatal(err)
	}
	user := play.NewUser(t).In(ns)
	kernel, stack := side{user, true}, side{User: user.At(prefix)}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			d := &desk{User: user, family: f, ns: ns, a: kernel, b: stack}
			t.Run("the stack serves", func(t *testing.T) { d.each(t, anywhere) })
			d = &desk{User: user, family: f, ns: ns, a: stack, b: kernel}
			d.here, d.there = f.there, f.here
			t.Run("the kernel serves", func(t *testing.T) {
				d.each(t, anywhere)
				d.each(t, []program{
					{"ping", (*desk).ping},
					{"dig", (*desk).kernelNames},
					{"ssh", func(d *desk, t *testing.T) { d.kernelShell(t, root) }},
				})
			})
		})
	}
}

// kernelShell has ssh meet an sshd of root's.
func (d *desk) kernelShell(t *testing.T, root *play.User) {
	sshd := need.Command(t, "sshd", "openssh-server")
	ssh := need.Command(t, "ssh", "openssh-client")
	keygen := need.Command(t, "ssh-keygen", "openssh-client")
	root = root.For(t)
	root.Must(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(root.Dir, "host-"+d.name))
	d.Must(keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(d.Dir, "user-"+d.name))
	key, err := os.ReadFile(filepath.Join(d.Dir, "user-"+d.name+".pub"))
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(sshdConfig, d.there, filepath.Join(root.Dir, "host-"+d.name), root.Write("keys", string(key), 0o600))
	// It wants a folder in /run. The one that it sees is its own.
	ends(root.Serves(`Server listening on `+d.there+` port 2222`, "sh", "-c", `mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"`, "sh",
		sshd, "-D", "-e", "-f", root.Write("sshd_config", config, 0o600)))
	line := append(append([]string{ssh, "-p", "2222"}, sshOptions(filepath.Join(d.Dir, "user-"+d.name))...), "root@"+d.there, "cat")
	j := d.a.begins(bytes.NewReader(large), line...)
	if s := j.Wait(); s != 0 || !bytes.Equal(j.Out.Bytes(), large) {
		t.Errorf("ssh cat: status %d, %d octets of %d\n%s", s, j.Out.Len(), len(large), j.Err.String())
	}
}

// kernelNames has dig ask the kernel's dnsmasq.
func (d *desk) kernelNames(t *testing.T) {
	dnsmasq, dig := need.Command(t, "dnsmasq", "dnsmasq-base"), need.Command(t, "dig", "bind9-dnsutils")
	d.b.serves(`dnsmasq.*started`, dnsmasq, "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port=5353",
		"--listen-address="+d.there, "--bind-interfaces", "--user=", "--group=", "--pid-file=", "--address=/web.example/10.0.0.9")
	for _, more := range []string{"+notcp", "+tcp"} {
		if out := d.a.runs(dig, "+short", "+tries=2", "+time=5", more, "-p", "5353", "@"+d.there, "web.example"); strings.TrimSpace(out) != "10.0.0.9" {
			t.Errorf("dig %s says %q", more, out)
		}
	}
}
