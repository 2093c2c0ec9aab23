package setkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/protocol/door"
	"ionet/tool/cli/golden"
)

// fakeStack is the door 29 of a stack that keeps what it is told, in order.
type fakeStack struct {
	t        *testing.T
	asked    *strings.Builder // what was asked, without number and process
	sas      []protocol.KeyMessage
	policies []protocol.KeyMessage
}

const made = 1006533360 // Unix seconds: when everything in the fake was added

// serve answers the door until the test ends, one client after the other.
func (f *fakeStack) serve() (prefix string) {
	prefix = f.t.TempDir()
	l, err := door.Listen(prefix, "dev/socket/29")
	if err != nil {
		f.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			f.client(c)
		}
	}()
	f.t.Cleanup(func() { _ = l.Close(); <-done })
	return prefix
}

func (f *fakeStack) client(c *net.UnixConn) {
	defer func() { _ = c.Close() }()
	b := make([]byte, protocol.MaxFrame)
	for {
		n, err := c.Read(b)
		if err != nil || n == 0 {
			return
		}
		var out []byte
		for rest := b[:n]; len(rest) > 0; {
			this := rest
			m, behind, err := protocol.NextKeyMessage(rest)
			if err != nil {
				f.t.Errorf("% x: %v", rest, err)
				return
			}
			this, rest = this[:len(this)-len(behind)], behind
			again, err := protocol.AppendKeyMessage(nil, m)
			if err != nil || !bytes.Equal(again, this) {
				f.t.Errorf("octets that mean the same are others: % x", this)
			}
			if m.PID != uint32(os.Getpid()) || m.Seq == 0 {
				f.t.Errorf("request under %d, %d", m.PID, m.Seq)
			}
			fmt.Fprintf(f.asked, "%x %x\n", this[:8], this[16:])
			for _, a := range f.answer(m) {
				a.PID = m.PID
				if out, err = protocol.AppendKeyMessage(out, &a); err != nil {
					f.t.Error(err)
				}
			}
		}
		_, _ = c.Write(out)
	}
}

// same says that x is the association or policy that m names.
func same(m, x *protocol.KeyMessage) bool {
	return m.SAType == x.SAType && reflect.DeepEqual(m.Src, x.Src) && reflect.DeepEqual(m.Dst, x.Dst) &&
		(m.SA == nil || m.SA.SPI == x.SA.SPI) && (m.Policy == nil || m.Policy.Dir == x.Policy.Dir)
}

func (f *fakeStack) answer(m *protocol.KeyMessage) []protocol.KeyMessage {
	a := protocol.KeyMessage{Type: m.Type, SAType: m.SAType, Seq: m.Seq}
	list := &f.sas
	if m.Type >= protocol.SADBXSPDUpdate {
		list = &f.policies
	}
	at := slices.IndexFunc(*list, func(x protocol.KeyMessage) bool { return same(m, &x) })
	fail := func(errno syscall.Errno, text string) []protocol.KeyMessage {
		a.Errno, a.Text = errno, text
		return []protocol.KeyMessage{a}
	}
	switch m.Type {
	case protocol.SADBRegister:
		a.SupportedAuth = []protocol.KeyAlg{{ID: 2, MinBits: 128, MaxBits: 128}, {ID: 3, MinBits: 160, MaxBits: 160}, {ID: 5, MinBits: 256, MaxBits: 256},
			{ID: 7, MinBits: 512, MaxBits: 512}, {ID: 9, MinBits: 128, MaxBits: 128}, {ID: 249, MinBits: 128, MaxBits: 128}, {ID: 250, MinBits: 160, MaxBits: 160}}
		a.SupportedEncrypt = []protocol.KeyAlg{{ID: 2, IVLen: 8, MinBits: 64, MaxBits: 64}, {ID: 3, IVLen: 8, MinBits: 192, MaxBits: 192}, {ID: 11, MaxBits: 2048},
			{ID: 12, IVLen: 16, MinBits: 128, MaxBits: 256}, {ID: 13, IVLen: 8, MinBits: 160, MaxBits: 288}, {ID: 20, IVLen: 8, MinBits: 160, MaxBits: 288}}
	case protocol.SADBAdd, protocol.SADBXSPDAdd:
		if at >= 0 {
			return fail(syscall.EEXIST, "that is there already")
		}
		x := *m
		x.Current = &protocol.KeyLifetime{AddTime: made}
		if x.SA != nil {
			sa := *x.SA
			sa.State = protocol.SADBSAStateMature
			x.SA = &sa
			x.Current = &protocol.KeyLifetime{AddTime: made, UseTime: made + 30, Bytes: 1234, Allocations: 7}
		} else {
			p := *x.Policy
			p.ID = uint32(len(f.policies) + 1)
			x.Policy, x.Hard = &p, &protocol.KeyLifetime{}
		}
		x.Refs = 1
		*list = append(*list, x)
	case protocol.SADBXSPDUpdate:
		if at >= 0 {
			f.policies[at].Policy = m.Policy
		}
	case protocol.SADBGet:
		if at < 0 {
			return fail(syscall.ESRCH, "")
		}
		g := f.sas[at]
		g.Type, g.Seq = m.Type, m.Seq
		return []protocol.KeyMessage{g}
	case protocol.SADBDelete, protocol.SADBXSPDDelete:
		if at < 0 {
			return fail(syscall.ESRCH, "")
		}
		*list = slices.DeleteFunc(*list, func(x protocol.KeyMessage) bool { return same(m, &x) })
	case protocol.SADBFlush, protocol.SADBXSPDFlush:
		*list = nil
	case protocol.SADBDump, protocol.SADBXSPDDump:
		var all []protocol.KeyMessage
		for _, x := range *list {
			if m.SAType == 0 || m.SAType == x.SAType {
				x.Type = m.Type
				all = append(all, x)
			}
		}
		for i := range all {
			all[i].Seq = uint32(len(all) - 1 - i)
		}
		if len(all) == 0 {
			return fail(syscall.ENOENT, "")
		}
		return all
	case protocol.SADBXPromisc:
		b, err := protocol.AppendKeyMessage(nil, &protocol.KeyMessage{Type: protocol.SADBExpire, SAType: 3, Seq: 5, SA: &protocol.KeySA{SPI: 600}, Soft: &protocol.KeyLifetime{AddTime: 60}})
		if err != nil {
			f.t.Error(err)
		}
		return []protocol.KeyMessage{a, {Type: protocol.SADBXPromisc, Promisc: b}, {Type: protocol.SADBFlush, Seq: 3}}
	}
	return []protocol.KeyMessage{a}
}

var (
	numbers = regexp.MustCompile(`seq=[0-9]{4,} pid=[0-9]+`) // of a request
	process = regexp.MustCompile(`pid=[0-9]+`)
	octets  = regexp.MustCompile(`(00000000: (?:.. ){8}).*`) // a head, of which sequence number and process are last
)

// steady leaves out of what was printed what is another at every run.
func steady(s string) string {
	s = numbers.ReplaceAllString(s, "seq=N pid=N")
	return octets.ReplaceAllString(process.ReplaceAllString(s, "pid=N"), "${1}N")
}

// lookups has the hosts and interfaces that the tests know.
type lookups struct{}

func (lookups) LookupHost(_ context.Context, name string) ([]netip.Addr, error) {
	switch name {
	case "alpha":
		return []netip.Addr{netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("10.5.5.5")}, nil
	case "beta":
		return []netip.Addr{netip.MustParseAddr("10.6.6.6"), netip.MustParseAddr("2001:db8::6")}, nil
	}
	return nil, errors.New("no such host")
}

func (lookups) IfIndex(name string) (int, error) {
	if name == "en0" {
		return 2, nil
	}
	return 0, syscall.ENXIO
}

// setkey runs a command line against the stack behind prefix.
func setkey(ctx context.Context, prefix, line, stdin string) (out string, status int) {
	return setkeyUntil(ctx, prefix, line, stdin, &output{})
}

// output is what a command prints; stop is called when enough of it is there.
type output struct {
	strings.Builder
	enough func(string) bool
	stop   func()
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Builder.Write(b)
	if o.enough != nil && o.enough(o.String()) {
		o.stop()
	}
	return n, err
}

func setkeyUntil(ctx context.Context, prefix, line, stdin string, b *output) (out string, status int) {
	args, asJSON := strings.CutSuffix(line, " --json")
	o, err := parse(strings.Fields(args))
	if err != nil {
		return fmt.Sprintf("usage: %v\n", err), 1
	}
	t := &tool{options: *o, json: asJSON, out: b, errw: b, warned: map[string]bool{},
		world: world{ctx: ctx, stack: func() (Resolver, error) { return lookups{}, nil }},
		printer: printer{now: func() time.Time { return time.Unix(made+60, 0) }, zone: time.UTC,
			name: func(i int) string { return map[int]string{2: "en0"}[i] }},
		open: func(trace func(bool, []byte)) (Keys, error) {
			k, err := client.OpenKey(prefix)
			if err != nil {
				return nil, err
			}
			k.Trace = trace
			return k, nil
		}}
	in := strings.NewReader(stdin)
	if o.file != "" && o.file != "-" {
		text, err := os.ReadFile(filepath.Join("testdata", o.file))
		if err != nil {
			return err.Error(), 1
		}
		in = strings.NewReader(string(text))
	}
	err = t.do(in)
	if t.k != nil {
		_ = t.k.Close()
	}
	if err != nil {
		fmt.Fprintf(b, "setkey: %v\n", strings.ReplaceAll(err.Error(), prefix, "PREFIX"))
	}
	if err != nil || t.failed {
		return b.String(), 1
	}
	return b.String(), 0
}

// TestFiles: what each example asks, octet for octet, and how it is printed
// back.
func TestFiles(t *testing.T) {
	for _, name := range []string{"host", "gateway", "inet6", "nested", "ipcomp", "ports", "refused"} {
		t.Run(name, func(t *testing.T) {
			var asked, b strings.Builder
			f := &fakeStack{t: t, asked: &asked}
			prefix := f.serve()
			for _, line := range []string{"-f " + name + ".conf", "-D", "-DP", "-D --json", "-DP --json"} {
				asked.Reset()
				out, status := setkey(t.Context(), prefix, line, "")
				fmt.Fprintf(&b, "$ setkey %s\n%s", line, out)
				if strings.HasPrefix(line, "-f") {
					fmt.Fprintf(&b, "asked:\n%s", asked.String())
				}
				if status != 0 {
					fmt.Fprintf(&b, "status %d\n", status)
				}
			}
			golden.Check(t, name, steady(b.String()))
		})
	}
}

// TestPrintedBack: a policy as -DP prints it is the same when it is read.
func TestPrintedBack(t *testing.T) {
	for _, name := range []string{"host", "gateway", "inet6", "nested", "ipcomp", "ports"} {
		var first []protocol.KeyMessage
		for round := range 2 {
			f := &fakeStack{t: t, asked: &strings.Builder{}}
			prefix := f.serve()
			if round == 0 {
				if out, status := setkey(t.Context(), prefix, "-f "+name+".conf", ""); status != 0 {
					t.Fatalf("%s: %s", name, out)
				}
				first = f.policies
				continue
			}
			var script strings.Builder
			p := &printer{now: time.Now, zone: time.UTC, name: func(int) string { return "en0" }}
			for _, m := range first {
				fmt.Fprintf(&script, "spdadd %s %s %s -P %s;\n", p.selector(m.Src), p.selector(m.Dst), upperSpec(m.Src, m.Dst), p.policyText(m.Policy, "\n\t"))
			}
			if out, status := setkey(t.Context(), prefix, "-f -", script.String()); status != 0 {
				t.Fatalf("%s: %s\n%s", name, out, script.String())
			}
			for i := range first {
				first[i].Seq, f.policies[i].Seq = 0, 0
				first[i].Policy.ID, f.policies[i].Policy.ID = 0, 0
			}
			if !reflect.DeepEqual(first, f.policies) {
				t.Errorf("%s: %+v became %+v", name, first, f.policies)
			}
		}
	}
}

// TestCommandLine: options, and one statement after the other from standard
// input.
func TestCommandLine(t *testing.T) {
	var asked, b strings.Builder
	f := &fakeStack{t: t, asked: &asked}
	prefix := f.serve()
	for _, c := range []struct{ line, in string }{
		{"-D", ""}, {"-DP", ""}, {"-D --json", ""},
		{"-c", "add alpha beta esp 700 -E aes-cbc 0x000102030405060708090a0b0c0d0e0f; add -4 alpha beta ah 701 -A null;\nflush ah; delete 10.5.5.5 10.6.6.6 ah 701;"},
		{"-c", "add 10.0.0.1 10.0.0.2 esp 5;; add 10.1 10.2 esp 300 -E simple;\nnonsense; dump esp; quit; flush;"},
		{"-r -f -", "spdadd 10.0.0.1 10.0.0.2 any -P in ipsec esp/tunnel/10.0.0.1-10.0.0.2/unique:5 ah/transport//use;"},
		{"-v -c", "get 10.0.0.1 10.0.0.2 esp 300;"},
		{"-vh -c", "spdflush;"},
		{"-nv -c", "add 10.0.0.1 10.0.0.2 esp 300 -r 4096 -E aes-gcm 0x00;"},
		{"-F", ""}, {"-FP", ""}, {"-v -F", ""},
		{"", ""}, {"-D -F", ""}, {"-f a -f b", ""}, {"-c file", ""}, {"-P -c", ""}, {"-a -F", ""}, {"-n -D", ""}, {"-z", ""}, {"-l -DP", ""},
	} {
		asked.Reset()
		out, status := setkey(t.Context(), prefix, c.line, c.in)
		fmt.Fprintf(&b, "$ setkey %s\n", c.line)
		for line := range strings.Lines(c.in) {
			fmt.Fprintf(&b, "< %s\n", strings.TrimSuffix(line, "\n"))
		}
		fmt.Fprintf(&b, "%s", out)
		if c.in != "" {
			fmt.Fprintf(&b, "asked:\n%s", asked.String())
		}
		fmt.Fprintf(&b, "status %d\n", status)
	}
	golden.Check(t, "commandline", steady(b.String()))
}

// TestErrors: what is wrong, in which line, at which token.
func TestErrors(t *testing.T) {
	var b strings.Builder
	for _, s := range []string{
		"frobnicate;", "add", "add 10.0.0.1;", "add 10.0.0.1 10.0.0.2;", "add 10.0.0.1 10.0.0.2 gre 500;", "add 10.0.0.1 10.0.0.2 tcp 500;",
		"add 10.0.0.1 10.0.0.2 esp;", "add 10.0.0.1 10.0.0.2 esp 255 -E null;", "add 10.0.0.1 10.0.0.2 esp 0x100000000 -E null;", "add 10.0.0.1 10.0.0.2 esp 500;",
		"add 10.0.0.1 10.0.0.2 esp 500 -x;", "add 10.0.0.1 10.0.0.2 esp 500 -ctx 1 1 \"x\" -E null;", "add 10.0.0.1 10.0.0.2 esp 500 -m both -E null;",
		"add 10.0.0.1 10.0.0.2 esp 500 -r many -E null;", "add 10.0.0.1 10.0.0.2 esp-old 500 -r 4 -E null;", "add 10.0.0.1 10.0.0.2 esp 500 -f some-pad -E null;",
		"add 10.0.0.1 10.0.0.2 esp 500 -nh 4294967296 -E null;", "add 10.0.0.1 10.0.0.2 esp 500 -A hmac-sha1 \"x\";", "add 10.0.0.1 10.0.0.2 ah 500 -E null;",
		"add 10.0.0.1 10.0.0.2 esp 500 -E null -E null;", "add 10.0.0.1 10.0.0.2 esp 500 -E idea \"x\";", "add 10.0.0.1 10.0.0.2 esp 500 -E aes-cbc;",
		"add 10.0.0.1 10.0.0.2 esp 500 -E aes-cbc \"\";", "add 10.0.0.1 10.0.0.2 esp 500 -E aes-gcm-16 0x00 -A null;", "add 10.0.0.1 10.0.0.2 esp-old 500 -E null -A null;",
		"add 10.0.0.1 10.0.0.2 esp 500 -E des-32iv \"8 octets\";", "add 10.0.0.1 10.0.0.2 esp-old 500 -E des-deriv \"8 octets\";",
		"add 10.0.0.1 10.0.0.2 esp 500 -E aes-cbc \"open", "add 10.0.0.1 10.0.0.2 ipcomp 500 -C lzs;", "add 10.0.0.1 10.0.0.2 ipcomp 500 -C zip;", "add 10.0.0.1 10.0.0.2 ipcomp 0x10000 -C deflate -R;",
		"add gamma 10.0.0.2 esp 500 -E null;", "add -n alpha 10.0.0.2 esp 500 -E null;", "add -6 10.0.0.1 10.0.0.2 esp 500 -E null;", "add 10.0.0.1 ::1 esp 500 -E null;", "add ::ffff:10.0.0.1 ::1 esp 500 -E null;",
		"add 10.0.0.1[x] 10.0.0.2 esp 500 -E null;", "add 10.0.0.1[70000] 10.0.0.2 esp 500 -E null;", "add 10.0.0.1[1 10.0.0.2 esp 500 -E null;", "add fe80::1%en9 fe80::2 esp 500 -E null;",
		"get alpha 10.0.0.2 esp 500;", "flush everything;", "spdflush now;",
		"spdadd tagged \"x\" -P in none;", "spdadd 10.0.0.0/33 10.0.0.0/8 any -P in none;", "spdadd 10.0.0.0/x 10.0.0.0/8 any -P in none;", "spdadd 10.0.0.0/8 10.0.0.0/8 -P in none;",
		"spdadd 10.0.0.0/8 10.0.0.0/8 quux -P in none;", "spdadd 10.0.0.0/8 10.0.0.0/8 256 -P in none;", "spdadd 10.0.0.0/8 10.0.0.0/8 any;", "spdadd 10.0.0.0/8 10.0.0.0/8 any -ctx 1 1 \"x\" -P in none;",
		"spdadd 10.0.0.0/8 10.0.0.0/8 tcp 8,0 -P in none;", "spdadd 10.0.0.0/8 10.0.0.0/8 icmp 8,x -P in none;", "spdadd 10.0.0.0/8[5] 10.0.0.0/8 icmp -P in none;",
		"spdadd 10.0.0.0/8 10.0.0.0/8 any -P in;", "spdadd 10.0.0.0/8 10.0.0.0/8 any -P\nin ipsec\n esp/tunnel//use;", "spdadd 10.0.0.0/8 10.0.0.0/8 any -P in ipsec esp/tunnel/fe80::1%en9-fe80::2/use;",
		"spddelete 10.0.0.0/8 10.0.0.0/8 any -P up;", "spddelete 10.0.0.0/8 10.0.0.0/8 any -P in some;", "spdadd 10.0.0.0/8 10.0.0.0/8 any -P in none", "flush;\n# a comment\n  @;", "flush\x00;",
	} {
		fmt.Fprintf(&b, "%q\n", s)
		out, status := setkey(t.Context(), "", "-n -f -", s)
		if status != 1 {
			t.Errorf("%q: status %d", s, status)
		}
		b.WriteString(out)
	}
	golden.Check(t, "errors", b.String())
}

// TestKeys: what the stack's algorithms do not take is not sent.
func TestKeys(t *testing.T) {
	var asked strings.Builder
	f := &fakeStack{t: t, asked: &asked}
	prefix := f.serve()
	for in, want := range map[string]string{
		`add 10.0.0.1 10.0.0.2 ah 500 -A hmac-sha1 "short";`:               "line 1: hmac-sha1: a key of 40 bits, 160 are right at [the key]\n",
		`add 10.0.0.1 10.0.0.2 esp 500 -E aes-cbc "short";`:                "line 1: aes-cbc: a key of 40 bits, 128 to 256 are right at [the key]\n",
		`add 10.0.0.1 10.0.0.2 esp 500 -E cast128-cbc "sixteen octets!!";`: "line 1: cast128-cbc is not there in this stack at [the key]\n",
	} {
		asked.Reset()
		out, status := setkey(t.Context(), prefix, "-c", in)
		if out != want || status != 1 {
			t.Errorf("%s: %q, %d; want %q", in, out, status, want)
		}
		if n := strings.Count(asked.String(), "\n"); n != 1 {
			t.Errorf("%s: %d messages, REGISTER alone is right", in, n)
		}
	}
}

// TestListen: -x, and -l, until they are stopped.
func TestListen(t *testing.T) {
	f := &fakeStack{t: t, asked: &strings.Builder{}}
	prefix := f.serve()
	if out, status := setkey(t.Context(), prefix, "-c", "add 10.0.0.1 10.0.0.2 esp 600 -lh 60 -E null;"); status != 0 {
		t.Fatal(out)
	}
	var b strings.Builder
	for _, line := range []string{"-x", "-hxx", "-lD"} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		out, status := setkeyUntil(ctx, prefix, line, "", &output{stop: cancel, enough: func(s string) bool {
			_, last, flushed := strings.Cut(s, "type=9 errno")
			return flushed && strings.Contains(last, "\n\n") || strings.HasSuffix(s, "-> 10.0.0.2\n")
		}})
		fmt.Fprintf(&b, "$ setkey %s\n%sstatus %d\n", line, out, status)
	}
	golden.Check(t, "listen", steady(b.String()))
}

// TestNoStack: the sentence when there is none, or none with IPsec.
func TestNoStack(t *testing.T) {
	dir := t.TempDir()
	out, status := setkey(t.Context(), dir, "-D", "")
	if status != 1 || !strings.HasPrefix(out, "setkey: no stack at PREFIX") {
		t.Errorf("%q, %d", out, status)
	}
}

// TestNames: the tables hold each number's printed name first, and no name
// twice.
func TestNames(t *testing.T) {
	for _, list := range [][]algorithm{ealgs, aalgs, calgs} {
		seen := map[string]bool{}
		for _, a := range list[1:] {
			if seen[a.name] {
				t.Errorf("%s twice", a.name)
			}
			seen[a.name] = true
			if b, ok := find(list, nameOf(list, a.number)); !ok || b.number != a.number {
				t.Errorf("%s is printed as %s", a.name, nameOf(list, a.number))
			}
		}
	}
}

func FuzzStatements(f *testing.F) {
	files, err := filepath.Glob("testdata/*.conf")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		w := world{ctx: t.Context(), stack: func() (Resolver, error) { return lookups{}, nil }}
		p := newParser(newLexer(strings.NewReader(text)), func() (a, e supported) { return nil, nil })
		for range 1000 {
			s, err := p.next()
			if err == nil && s == nil {
				return
			}
			var all []*protocol.KeyMessage
			if err == nil {
				all, err = w.messages(s)
			}
			if err != nil {
				if e, ok := errors.AsType[*syntaxError](err); !ok || e.line < 1 || e.line > strings.Count(text, "\n")+1 {
					t.Fatalf("%v", err)
				}
				if err := p.skip(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			for _, m := range all {
				b, err := protocol.AppendKeyMessage(nil, m)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := protocol.ParseKeyMessage(b); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
