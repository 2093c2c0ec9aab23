// Package setkey is the command setkey: security associations and policies of IPsec, by hand.
package setkey

import (
	"context"
	"fmt"
	"os"
	"time"

	"ionet/client"
	"ionet/tool/cli"
)

// Command is setkey.
var Command = cli.Command{
	Name:  "setkey",
	Short: "change and show the associations and policies of IPsec",
	Synopsis: []string{
		"[-dhknrv] -c",
		"[-dhknrv] -f file",
		"[-aPhlpv] -D",
		"[-Phpv] -F",
		"[-h] -x",
		"-V",
	},
	Long: "A stack that was started with io-net -ptcpip ipsec has two databases: associations (SAD), which say how packets are protected between two addresses, and " +
		"policies (SPD), which say what packets are to be. setkey changes both, with statements in the language of KAME's, each done before the next one is read. " +
		"A statement goes on over lines and ends with a semicolon; # begins a comment.\n\n" +
		"\tadd|update [-46n] src dst protocol spi [extensions] algorithms ;\n" +
		"\tgetspi [-46n] src dst protocol spi [extensions] ;\n" +
		"\tget|delete [-46n] src dst protocol spi ;\n" +
		"\tdeleteall [-46n] src dst protocol ;\n" +
		"\tflush|dump [protocol] ;\n" +
		"\tspdadd|spdupdate [-46n] src[/len][[port]] dst[/len][[port]] upper [type,code] -P policy ;\n" +
		"\tspddelete [-46n] src[/len][[port]] dst[/len][[port]] upper [type,code] -P direction ;\n" +
		"\tspdflush|spddump ;\n" +
		"\texit ;\n\n" +
		"getspi makes an association without keys and prints it, with an spi of 0 one that the stack chooses; update gives it keys within net.key.larval_lifetime seconds, " +
		"and other lifetimes to one that has keys.\n\n" +
		"src and dst are addresses, or names that the stack's resolver is asked for: of an association for every pair of one family, of all others one address each. -4 and -6 choose a family, " +
		"-n lets no name be looked up. A port is a number, a name of services(5), or any.\n\n" +
		"protocol: ah, ah-old, esp, esp-old, esp-udp [original address] (ports of add, 4500 without), ipcomp. spi: above 255, decimal or 0x.\n\n" +
		"extensions: -m any|transport|tunnel|beet; -u reqid, which policies name; -r octets of the window against replays, 8 packets each; " +
		"-f zero-pad|random-pad|seq-pad|cyclic-seq|nocyclic-seq|esn; -lh, -ls seconds, -bh, -bs octets, -nh, -ns packets: hard and soft ends of the association; " +
		"-tfc octets (of this setkey alone): packets in a tunnel of esp are padded to so many, 9000 at most, that nobody sees how long they are.\n\n" +
		"algorithms: esp -E algorithm key [-A algorithm key], esp-old -E, ah -A, ipcomp -C deflate [-R]. A key is text in quotes or 0x and digits; null has none. " +
		"-E: aes-gcm-16 (also 12, 8), aes-ccm-16 (12, 8), chacha20-poly1305, aes-gmac, with the salt at the key's end and without -A; rijndael-cbc (aes-cbc), aes-ctr, null; weak: 3des-cbc, des-cbc, des-deriv, des-32iv, " +
		"blowfish-cbc, cast128-cbc, twofish-cbc. -A: hmac-sha2-256, hmac-sha2-384, hmac-sha2-512, hmac-sha1, aes-xcbc-mac, aes-cmac, aes128-gmac, aes192-gmac, aes256-gmac, null; weak: hmac-md5, keyed-md5, keyed-sha1. " +
		"Each weak one is told of once. Names of racoon and racoon2 are understood too, aes256_cbc for one.\n\n" +
		"upper: any, tcp, udp, icmp, icmp6, ip4, a name of protocols(5) or a number. policy: in|out|fwd [priority p] discard|none, or ipsec and one or more of protocol/mode/src-dst/level: esp, ah or ipcomp; transport, " +
		"or tunnel or beet with the ends' addresses, and ports if ESP is in UDP there (they are kept and shown; addresses and reqid choose the association); default, use, require, unique or unique:reqid. p is a number, the more the earlier, or high, def or low, with + or - a number.",
	Options: []cli.Opt{
		{Flags: "-c", Text: "Read statements from standard input. One that is wrong is told of, and the next one is read."},
		{Flags: "-f file", Text: "Read statements from a file; - is standard input. The first that is not understood ends it; those before it are done."},
		{Flags: "-D", Text: "Print the associations, with -P the policies."},
		{Flags: "-F", Text: "Remove all associations, with -P all policies."},
		{Flags: "-x", Text: "Print every message between key sockets and the stack, until interrupted. -xx prints times in seconds."},
		{Flags: "-P", Text: "See -D and -F."},
		{Flags: "-a", Text: "With -D: the dead associations too."},
		{Flags: "-l", Text: "With -D: a line each, every second until interrupted."},
		{Flags: "-n", Text: "Send nothing: check the statements. Needs no stack but for names."},
		{Flags: "-d", Text: "As -n -v."},
		{Flags: "-p", Text: "Show ports, which is done anyway."},
		{Flags: "-r", Text: "With each policy of in add one of fwd for packets that are forwarded, as on Linux."},
		{Flags: "-k", Text: "Without it, which is how it is anyway."},
		{Flags: "-v", Text: "Print the messages that go to the stack and come back, keys included."},
		{Flags: "-h, -H", Text: "Print their octets too."},
		{Flags: "-V", Text: "Print the version."},
	},
	JSON: "Of -D, one object a line. An association: src, dst, protocol, mode, spi, reqid, encryption, encryption_key, authentication, authentication_key (hexadecimal), compression, " +
		"udp (src_port, dst_port, original), seq, window (packets), esn, tfc (octets; only with -tfc), flags, state, created, used (Unix seconds, 0 never), bytes, packets, hard and soft (bytes, packets, seconds, use_seconds; 0 no limit). " +
		"A policy (-P): id, src, dst (prefixes), src_port, dst_port, icmp_type, icmp_code, upper, direction, action, priority (the smaller the earlier), requests (protocol, mode, level, src, dst, reqid), " +
		"policy (in the words of the language), created, used, lifetime, valid_time (seconds).",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success; also when there is nothing to print."},
		{Status: 1, Text: "Wrong usage, no stack or none with IPsec, a statement that is not understood (line N: … at [token]), or one that the stack refused (The result of line N: …)."},
	},
	Files: []cli.Item{{Name: "/etc/ipsec.conf", Text: "Where statements are usually kept."}},
	Examples: []cli.Item{
		{Name: "setkey -f /etc/ipsec.conf", Text: "Do what the file says; it usually begins with flush; spdflush;"},
		{Name: `echo 'add 10.0.0.1 10.0.0.2 esp 0x1001 -E aes-gcm-16 0x…;' | setkey -c`, Text: "One association."},
		{Name: `echo 'spdadd 10.1.0.0/16 10.2.0.0/16 any -P out ipsec esp/tunnel/192.0.2.1-192.0.2.2/require;' | setkey -c`, Text: "What goes from one network to the other goes through a tunnel."},
		{Name: "setkey -D; setkey -DP", Text: "What there is."},
		{Name: "setkey -nvf ipsec.conf", Text: "Check a file, and see what would be asked."},
	},
	SeeAlso: []string{"io-net(8)", "netstat(1)", "ping(8)", "sysctl(8)"},
	Run:     run,
}

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("acdDFhHklnpPrvVxf:", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	o, ports := &options{}, false
	set := func(m mode) {
		if o.mode != 0 && o.mode != m && err == nil {
			err = cli.Misuse("one of -c, -f, -D, -F and -x")
		}
		o.mode = m
	}
	for _, f := range flags {
		switch f.Name {
		case "a":
			o.all = true
		case "c":
			set(interactive)
		case "d":
			o.dry, o.verbose = true, true
		case "D":
			set(dump)
		case "F":
			set(flush)
		case "f":
			if o.file != "" {
				return nil, cli.Misuse("-f is for one file")
			}
			set(script)
			o.file = f.Value
		case "h", "H":
			o.hex = true
		case "k":
			o.fwd = false
		case "l":
			o.forever = true
		case "n":
			o.dry = true
		case "p":
			ports = true
		case "P":
			o.policies = true
		case "r":
			o.fwd = true
		case "v":
			o.verbose = true
		case "V":
			o.version = true
			return o, nil
		case "x":
			o.raw = o.mode == listen
			set(listen)
		}
	}
	switch {
	case err != nil:
	case len(rest) > 0:
		err = cli.Misuse("%q: a file is named by -f", rest[0])
	case o.mode == 0:
		err = cli.Misuse("one of -c, -f, -D, -F and -x is needed")
	case (o.policies || ports) && o.mode != dump && o.mode != flush:
		err = cli.Misuse("-P and -p go with -D or -F")
	case (o.all || o.forever) && (o.mode != dump || o.policies):
		err = cli.Misuse("-a and -l go with -D, without -P")
	case (o.dry || o.fwd) && o.mode != interactive && o.mode != script:
		err = cli.Misuse("-d, -n and -r go with -c or -f")
	}
	return o, err
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	if err == nil && ctx.JSON && (o.mode != dump || o.forever) {
		err = cli.Misuse("--json is there for -D, without -l")
	}
	if err != nil {
		return ctx.Refuse(err)
	}
	if o.version {
		fmt.Fprintf(ctx.Stdout, "setkey (ionet) %s\n", cli.BuildVersion())
		return 0
	}
	o.verbose = o.verbose || ctx.Verbose
	in := ctx.Stdin
	if o.mode == script && o.file != "-" {
		f, err := os.Open(o.file)
		if err != nil {
			return ctx.Errorf("%v", err)
		}
		defer f.Close()
		in = f
	}
	c := ctx.Ctx
	if c == nil {
		c = context.Background()
	}
	if o.mode == listen || o.forever {
		stopped, stop := ctx.Interruptible()
		defer stop()
		c = stopped
	}
	var s *client.Stack
	stack := func() (_ *client.Stack, err error) {
		if s == nil {
			s, err = client.Open(ctx.Sock)
		}
		return s, err
	}
	defer func() {
		if s != nil {
			s.Close()
		}
	}()
	t := &tool{options: *o, json: ctx.JSON, out: ctx.Stdout, errw: ctx.Stderr, warned: map[string]bool{},
		world: world{ctx: c, stack: func() (Resolver, error) { return stack() }},
		printer: printer{now: time.Now, zone: time.Local, name: func(index int) string {
			s, err := stack()
			if err != nil {
				return ""
			}
			name, _ := s.IfName(index)
			return name
		}},
		open: func(trace func(bool, []byte)) (Keys, error) {
			k, err := client.OpenKey(ctx.Sock)
			if err != nil {
				return nil, err
			}
			k.Trace = trace
			return k, nil
		}}
	err = t.do(in)
	if t.k != nil {
		_ = t.k.Close()
	}
	switch {
	case err != nil:
		return ctx.Errorf("%v", err)
	case t.failed:
		return 1
	}
	return 0
}
