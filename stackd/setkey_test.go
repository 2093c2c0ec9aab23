package stackd

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ionet/tool/cli"
	"ionet/tool/setkey"
)

// setkeyOn runs setkey on a stack, and answers what it prints.
func setkeyOn(t *testing.T, d *daemon, stdin string, args ...string) (out, errs string, status int) {
	t.Helper()
	var o, e strings.Builder
	c := &cli.Context{Ctx: context.Background(), Sock: d.paths.prefix, Stdin: strings.NewReader(stdin), Stdout: &o, Stderr: &e}
	status = setkey.Command.Run(c, args)
	return o.String(), e.String(), status
}

// words are statements of setkey's language, each for a word or more of it, with what -D, or -DP of policies, has of it then;
// "!" begins what is refused with. {n} is a key of n bits.
var words = []struct{ say, want string }{
	// Protocols, with SPIs of both kinds.
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-16 {160};", "\tesp mode=any spi=4096(0x00001000) reqid=0(0x00000000)\n\tE: aes-gcm-16 "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha1 {160};", "\tah mode=any spi=300(0x0000012c) "},
	{"add 10.0.0.1 10.0.0.2 ipcomp 0x1000 -C deflate;", "\tipcomp mode=any spi=4096(0x00001000) reqid=0(0x00000000)\n\tC: deflate "},
	{"add 10.0.0.1 10.0.0.2 ipcomp 0x1000 -C deflate -R;", "flags=0x000000c0"},
	{"add 10.0.0.1 10.0.0.2 esp-udp 0x1000 -m tunnel -E aes-cbc {128} -A hmac-sha1 {160};", "10.0.0.1[4500] 10.0.0.2[4500] \n\tesp-udp mode=tunnel "},
	{"add 10.0.0.1[5000] 10.0.0.2[6000] esp-udp 192.0.2.1 0x1000 -E aes-cbc {128} -A hmac-sha1 {160};", "10.0.0.1[5000] 10.0.0.2[6000] \n\tesp-udp mode=any spi=4096(0x00001000) reqid=0(0x00000000)\n\tNAT OA=192.0.2.1\n"},
	{"add 10.0.0.1 10.0.0.2 esp-old 0x1000 -E des-cbc {64};", "!the old forms of ESP and AH"},
	{"add 10.0.0.1 10.0.0.2 ah-old 0x1000 -A keyed-md5 {128};", "!the old forms of ESP and AH"},
	{"add 10.0.0.1 10.0.0.2 esp-old 0x1000 -E des-32iv {64};", "!the old forms of ESP and AH"},
	{"add 10.0.0.1 10.0.0.2 tcp 0x1000 -A tcp-md5 \"secret\";", "!signatures of TCP (RFC 2385) are not supported"},
	// Addresses.
	{"add -6n 2001:db8::1 2001:db8::2 esp 0x1000 -E aes-gcm-16 {160};", "2001:db8::1 2001:db8::2 \n\tesp "},
	{"add -4 -n 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-16 {160};", "10.0.0.1 10.0.0.2 \n\tesp "},
	{"add -6 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-16 {160};", "!no address of the family that -6 says"},
	// Extensions.
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -m transport -E aes-gcm-16 {160};", "mode=transport"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -m tunnel -E aes-gcm-16 {160};", "mode=tunnel"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -m any -E aes-gcm-16 {160};", "mode=any"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -u 77 -E aes-gcm-16 {160};", "reqid=77(0x0000004d)"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -r 8 -E aes-gcm-16 {160};", "replay=8 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -r 512 -E aes-gcm-16 {160};", "replay=512 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -f zero-pad -E aes-gcm-16 {160};", "flags=0x00000240"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -f random-pad -E aes-gcm-16 {160};", "flags=0x00000140"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -f seq-pad -E aes-gcm-16 {160};", "flags=0x00000040"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -f nocyclic-seq -E aes-gcm-16 {160};", "flags=0x00000000"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -f nocyclic-seq -f cyclic-seq -E aes-gcm-16 {160};", "flags=0x00000040"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -r 4 -f esn -E aes-gcm-16 {160};", "flags=0x00000440"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -lh 90 -ls 80 -E aes-gcm-16 {160};", "\thard: 90(s)\tsoft: 80(s)\n\tlast"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -bh 9000 -bs 8000 -E aes-gcm-16 {160};", "current: 0(bytes)\thard: 9000(bytes)\tsoft: 8000(bytes)\n"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -nh 9 -ns 8 -E aes-gcm-16 {160};", "\tallocated: 0\thard: 9\tsoft: 8\n"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -m tunnel -tfc 1400 -E aes-gcm-16 {160};", "state=mature \n\ttfc=1400\n"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -m transport -tfc 1400 -E aes-gcm-16 {160};", "!packets are padded by ESP in tunnel mode alone"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -m tunnel -tfc 9001 -E aes-gcm-16 {160};", "!packets are padded by ESP in tunnel mode alone, to 9000 octets at most"},
	{"add 10.0.0.1 10.0.0.2 ah 0x1000 -tfc 1400 -A hmac-sha1 {160};", "!esp alone pads packets"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -ctx 1 1 \"x\" -E aes-gcm-16 {160};", "!security contexts are not supported"},
	// Encryption.
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E des-cbc \"ESP SA!!\" -A hmac-sha1 {160};", "\tE: des-cbc  45535020 53412121\n"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E des-deriv {64} -A hmac-sha1 {160};", "\tE: des-cbc "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E 3des-cbc {192} -A hmac-sha1 {160};", "\tE: 3des-cbc "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E null -A hmac-sha1 {160};", "\tE: null "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E simple -A hmac-sha1 {160};", "\tE: null "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E blowfish-cbc {448} -A hmac-sha1 {160};", "\tE: blowfish-cbc "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E cast128-cbc {128} -A hmac-sha1 {160};", "\tE: cast128-cbc "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E twofish-cbc {256} -A hmac-sha1 {160};", "\tE: twofish-cbc "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E rijndael-cbc {192} -A hmac-sha1 {160};", "\tE: rijndael-cbc "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-cbc {256} -A hmac-sha1 {160};", "\tE: rijndael-cbc "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-ctr {160} -A hmac-sha1 {160};", "\tE: aes-ctr "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-ccm-8 {152};", "\tE: aes-ccm-8 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-ccm-12 {216};", "\tE: aes-ccm-12 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-ccm-16 {280};", "\tE: aes-ccm-16 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-8 {160};", "\tE: aes-gcm-8 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-12 {224};", "\tE: aes-gcm-12 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm {288};", "\tE: aes-gcm-16 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gmac {160};", "\tE: aes-gmac "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E chacha20-poly1305 {288};", "\tE: chacha20-poly1305 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes256_cbc {256} -A hmac_sha1 {160};", "\tE: rijndael-cbc "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes256_cbc {128} -A hmac_sha1 {160};", "!aes256_cbc: a key of 128 bits, 256 are right"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E 3des {192} -A hmac_sha1 {160};", "\tE: 3des-cbc "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E null_enc -A hmac_sha1 {160};", "\tE: null "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E camellia-cbc {128};", "!unsupported algorithm"},
	// Authentication.
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-md5 {128};", "\tA: hmac-md5 "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A keyed-md5 {128};", "\tA: md5 "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A keyed-sha1 {160};", "\tA: sha "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha2-256 {256};", "\tA: hmac-sha2-256 "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha256 {256};", "\tA: hmac-sha2-256 "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha2-384 {384};", "\tA: hmac-sha2-384 "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha384 {384};", "\tA: hmac-sha2-384 "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha2-512 {512};", "\tA: hmac-sha2-512 "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha512 {512};", "\tA: hmac-sha2-512 "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A aes-xcbc-mac {128};", "\tA: aes-xcbc-mac "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A aes_xcbc {128};", "\tA: aes-xcbc-mac "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A aes-cmac {128};", "\tA: aes-cmac "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A aes128-gmac {160};", "\tA: aes128-gmac "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A aes-gmac-256 {288};", "\tA: aes256-gmac "},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A null;", "!null authentication makes no check values"},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-ripemd160 {160};", "!unsupported algorithm"},
	// Compression.
	{"add 10.0.0.1 10.0.0.2 ipcomp 0x1000 -C lzs;", "!lzs is not supported, deflate is"},
	{"add 10.0.0.1 10.0.0.2 ipcomp 0x1000 -C oui;", "!oui is not supported, deflate is"},
	// The other statements about associations.
	{"getspi 10.0.0.1 10.0.0.2 esp 0x1000 -m tunnel -u 5;", "\tesp mode=tunnel spi=4096(0x00001000) reqid=5(0x00000005)\n\tseq=0x00000000 replay=0 flags=0x00000040 state=larval"},
	{"getspi 10.0.0.1 10.0.0.2 ah 0;", "state=larval"},
	{"getspi 10.0.0.1 10.0.0.2 esp 255;", "!SPIs up to 255 are reserved"},
	{"getspi 10.0.0.1 10.0.0.2 esp 0x1000; update 10.0.0.1 10.0.0.2 esp 0x1000 -m transport -r 4 -E aes-gcm-16 {160};", "mode=transport spi=4096(0x00001000) reqid=0(0x00000000)\n\tE: aes-gcm-16 "},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-16 {160}; update 10.0.0.1 10.0.0.2 esp 0x1000 -lh 70 -ls 60 -E aes-gcm-16 {160};", "\thard: 70(s)\tsoft: 60(s)\n\tlast"},
	{"update 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-16 {160};", "!No entry"},
	{"get 10.0.0.1 10.0.0.2 esp 0x1000;", "!No entry"},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-16 {160}; delete 10.0.0.1 10.0.0.2 esp 0x1000;", "No SAD entries."},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-16 {160}; deleteall 10.0.0.1 10.0.0.2 esp;", "No SAD entries."},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-16 {160}; flush;", "No SAD entries."},
	{"add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-gcm-16 {160}; flush ah;", "\tesp mode=any"},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha1 {160}; flush ah;", "No SAD entries."},
	{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha1 {160}; flush ipcomp; flush esp; # a comment\n", "\tah mode=any"},
	{"exit; add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha1 {160};", "No SAD entries."},
	{"quit; add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha1 {160};", "No SAD entries."},
	{"bye; add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha1 {160};", "No SAD entries."},
	// Policies: networks, ports, upper-layer protocols.
	{"spdadd 10.1.0.0/16 10.2.0.0/16 any -P out none;", "10.1.0.0/16[any] 10.2.0.0/16[any] any\n\tout none\n"},
	{"spdadd 10.0.0.1[21] 10.0.0.2[any] tcp -P out discard;", "10.0.0.1[21] 10.0.0.2[any] tcp\n\tout discard\n"},
	{"spdadd 10.0.0.1[domain] 10.0.0.2 udp -P out discard;", "10.0.0.1[53] 10.0.0.2[any] udp\n"},
	{"spdadd -6 ::/0 ::/0 icmp6 135,0 -P in none;", "::/0 ::/0 icmp6 135,0\n\tin none\n"},
	{"spdadd 0.0.0.0/0 0.0.0.0/0 icmp 8,0 -P in none;", "0.0.0.0/0 0.0.0.0/0 icmp 8,0\n\tin none\n"},
	{"spdadd 10.0.0.1 10.0.0.2 ip4 -P out discard;", "] ip4\n"},
	{"spdadd 10.0.0.1 10.0.0.2 gre -P out discard;", "] gre\n"},
	{"spdadd 10.0.0.1 10.0.0.2 gre 1234 -P out discard;", "!keys of gre are not told apart"},
	{"spdadd 10.0.0.1 10.0.0.2 132 -P out discard;", "] sctp\n"},
	{"spdadd 10.0.0.1 10.0.0.2 nonesuch -P out discard;", "!invalid upper layer protocol"},
	{"spdadd tagged \"x\" -P out discard;", "!policies about tagged packets are not supported"},
	{"spdadd 10.0.0.1 10.0.0.2 any -ctx 1 1 \"x\" -P out discard;", "!security contexts are not supported"},
	// What they do.
	{"spdadd 10.0.0.1 10.0.0.2 any -P fwd discard;", "\n\tfwd discard\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//use;", "\n\tout ipsec\n\tesp/transport//use\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out ipsec ah/transport//default;", "\n\tah/transport//default\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out ipsec ipcomp/transport//require;", "\n\tipcomp/transport//require\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//unique:9;", "\n\tesp/transport//unique:9\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/tunnel/192.0.2.1-192.0.2.2/unique;", "\n\tesp/tunnel/192.0.2.1-192.0.2.2/unique"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/tunnel/192.0.2.1[4500]-192.0.2.2[30000]/require;", "\n\tesp/tunnel/192.0.2.1[4500]-192.0.2.2[30000]/require\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require ah/tunnel/192.0.2.1-192.0.2.2/require;", "\n\tesp/transport//require\n\tah/tunnel/192.0.2.1-192.0.2.2/require\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out priority high none;", "\n\tout prio high none\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out prio low - 7 none;", "\n\tout prio low - 7 none\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out prio 12 none;", "\n\tout prio def + 12 none\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P sideways none;", "!in, out or fwd"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out none; spdupdate 10.0.0.1 10.0.0.2 any -P out discard;", "\n\tout discard\n"},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out none; spddelete 10.0.0.1 10.0.0.2 any -P out;", "No SPD entries."},
	{"spdadd 10.0.0.1 10.0.0.2 any -P out none; spdflush;", "No SPD entries."},
}

// TestWords: every word of setkey's language is understood, acts, and is printed back; or is refused by name.
func TestWords(t *testing.T) {
	d := daemonWith(t, "ipsec,", "-dwire", "path="+t.TempDir())
	key := regexp.MustCompile(`\{(\d+)\}`)
	for _, c := range words {
		if _, errs, status := setkeyOn(t, d, "flush; spdflush;", "-c"); status != 0 {
			t.Fatal(errs)
		}
		say := key.ReplaceAllStringFunc(c.say, func(s string) string {
			n, err := strconv.Atoi(s[1 : len(s)-1])
			if err != nil {
				t.Fatal(err)
			}
			return "0x" + fmt.Sprintf("%0*x", n/4, 0x0123456789abcdef)
		})
		_, errs, status := setkeyOn(t, d, say, "-c")
		if refusal, refused := strings.CutPrefix(c.want, "!"); refused {
			if status != 1 || !strings.Contains(errs, refusal) {
				t.Errorf("%s\n%q, status %d; want %q", c.say, errs, status, refusal)
			}
			continue
		}
		show := "-D"
		if strings.HasPrefix(c.say, "spd") {
			show = "-DPp"
		}
		out, _, _ := setkeyOn(t, d, "", show)
		if status != 0 || !strings.Contains(out, c.want) {
			t.Errorf("%s\n%s%s; want %q", c.say, errs, out, c.want)
		}
	}
	// What is printed where it stands.
	const four = "add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha1 \"twenty octets of key\"; spdadd 10.0.0.1 10.0.0.2 any -P in none; "
	for say, want := range map[string]string{
		"get 10.0.0.1 10.0.0.2 ah 300;": "\tah mode=any spi=300",
		"dump;":                         "\tah mode=any spi=300",
		"dump ah;":                      "\tah mode=any spi=300",
		"dump esp;":                     "No SAD entries",
		"spddump;":                      "\tin none\n",
		"getspi -4n 10.0.0.1 10.0.0.2 esp 0x999;": "10.0.0.1 10.0.0.2 \n\tesp mode=any spi=2457(0x00000999) reqid=0(0x00000000)\n",
	} {
		setkeyOn(t, d, "flush; spdflush;", "-c")
		if out, errs, status := setkeyOn(t, d, four+say, "-c"); status != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: %s%s; want %q", say, out, errs, want)
		}
	}
	// Options: what goes over the key socket is shown, nothing is sent, and of a policy of in there is one of fwd.
	setkeyOn(t, d, "flush; spdflush;", "-c")
	if out, errs, status := setkeyOn(t, d, four, "-nvH", "-c"); status != 0 || !strings.Contains(out, "sadb_sa{ spi=300") || !strings.Contains(out, "02 03 00 02") && !strings.Contains(out, "02030002") {
		t.Errorf("-nvH: %s%s", out, errs)
	}
	if out, errs, status := setkeyOn(t, d, four, "-d", "-c"); status != 0 || !strings.Contains(out, "sadb_sa{ spi=300") {
		t.Errorf("-d: %s%s", out, errs)
	}
	if out, _, _ := setkeyOn(t, d, "", "-D"); out != "No SAD entries.\n" {
		t.Errorf("with -n something was sent:\n%s", out)
	}
	for flags, fwd := range map[string]bool{"-c": false, "-kc": false, "-rc": true, "-krc": true, "-rkc": false} {
		setkeyOn(t, d, "flush; spdflush;", "-c")
		if _, errs, status := setkeyOn(t, d, four, flags); status != 0 {
			t.Fatal(errs)
		}
		if out, _, _ := setkeyOn(t, d, "", "-DP"); strings.Contains(out, "\tfwd none\n") != fwd || !strings.Contains(out, "\tin none\n") {
			t.Errorf("%s:\n%s", flags, out)
		}
	}
	for _, flags := range []string{"-F", "-FP"} {
		if _, errs, status := setkeyOn(t, d, "", flags); status != 0 {
			t.Error(errs)
		}
	}
	for show, want := range map[string]string{"-D": "No SAD entries.\n", "-DP": "No SPD entries.\n"} {
		if out, _, status := setkeyOn(t, d, "", show); out != want || status != 0 {
			t.Errorf("%s: %q, %d", show, out, status)
		}
	}
	if out, _, status := setkeyOn(t, d, "", "-V"); status != 0 || !strings.HasPrefix(out, "setkey (ionet) ") {
		t.Errorf("-V: %q", out)
	}
}
