package main

import (
	"bufio"
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"ionet/driver"
	dpacket "ionet/driver/packet"
	"ionet/host"
	"ionet/stack"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

// tunnelGate is what gateways share: the side, the process in whose namespace the
// host is, and, of the gateway of side 1, the one in whose namespace the other gateway is.
type tunnelGate struct {
	side  int
	host  string
	other string
}

// tunnelStart makes a gateway's namespace ready and waits for its turn.
func tunnelStart(args []string) (g tunnelGate, err error) {
	if g.side, err = strconv.Atoi(args[0]); err != nil {
		return g, err
	}
	if g.host = args[1]; len(args) > 2 {
		g.other = args[2]
	}
	if g.side == 1 {
		err = ip(fmt.Sprintf("link add %s type veth peer name %s netns %s\n", tunnelLink(1), tunnelLink(0), g.other))
	}
	if err != nil {
		return g, err
	}
	fmt.Println("here")
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return g, errors.Join(errors.New("no word to go"), in.Err())
	}
	return g, errors.Join(ioQuiet(tunnelLink(g.side)), ip("link set "+tunnelLink(g.side)+" up\n"))
}

// veth makes a link to the host.
func (g tunnelGate) veth(own bool) error {
	near, mac := ioNear(g.side), ioMAC(g.side)
	if !own { // this kernel discards the frames at a glance
		mac[5]++
	}
	if err := ip(fmt.Sprintf("link add %s address %s type veth peer name %s netns %s\n", near, ioText(mac), ioLink(g.side), g.host)); err != nil {
		return err
	}
	return errors.Join(ioQuiet(near), ip("link set "+near+" up\n"))
}

// tunnelMAC is a stack's address on the link between the gateways.
func tunnelMAC(side int) netif.MAC { return netif.MAC{2, 0, 0, 0, 9, byte(1 + side)} }

// tunnelIonet is a stack between a link to a host and a packet socket on the link to
// the other gateway, with a tunnel or without.
func tunnelIonet(args []string) error {
	link, how := args[0], args[1]
	g, err := tunnelStart(args[2:])
	if err != nil {
		return err
	}
	if link != "tap" {
		if err := g.veth(false); err != nil {
			return err
		}
	}
	h, err := host.New(host.Config{IPsec: true})
	if err != nil {
		return err
	}
	defer h.Close()
	for _, node := range []string{"net.inet.ip.forwarding", "net.inet6.ip6.forwarding"} {
		sysctl(h, node, 1)
	}
	sysctl(h, "net.inet6.ip6.dad_count", 0)
	d, o, err := ioDriver(link, g.side, g.host)
	if err != nil {
		return err
	}
	outer := driver.Options{Lan: 2, MAC: tunnelMAC(g.side), Args: []driver.Arg{{Name: "if", Value: tunnelLink(g.side)}}}
	between, err := dpacket.Open(outer)
	if err != nil {
		return err
	}
	for i, at := range []struct {
		d    driver.Driver
		o    driver.Options
		addr func(v *version) netip.Prefix
	}{
		{d, o, func(v *version) netip.Prefix { return ioPrefix(v, g.side, 2) }},
		{between, outer, func(v *version) netip.Prefix { return tunnelOuter(v, g.side) }},
	} {
		ifp, err := h.Attach(at.d, at.o)
		if err != nil {
			return err
		}
		for _, v := range versions {
			p := at.addr(v)
			if err := h.Engine().AddAddr(ifp, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}); err != nil {
				return err
			}
			if i == 1 {
				far := tunnelOuter(v, 1-g.side).Addr()
				if err := h.Engine().AddNeighbour(ifp, far, tunnelMAC(1-g.side), 0, 0); err != nil {
					return err
				}
			}
		}
	}
	for _, v := range versions {
		if err := h.Engine().Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{
			Dst: ioPrefix(v, 1-g.side, 0), Gateway: tunnelOuter(v, 1-g.side).Addr(), Flags: route.FlagUp | route.FlagGateway | route.FlagStatic,
		}}})[0]; err != nil {
			return err
		}
		if how != "clear" {
			if err := g.protect(h.Engine().IPsec, v, how == "udp"); err != nil {
				return err
			}
		}
	}
	defer profile(fmt.Sprintf("ipsec-tunnel-ionet-%s-%s-%d-%d", link, how, g.side, os.Getpid()))()
	fmt.Println(os.Getpid())
	untilEnd()
	return nil
}

// protect has a version's packets between the hosts go through a tunnel, ESP with
// AES-128-GCM (RFC 4106), by itself or in UDP (RFC 3948).
func (g tunnelGate) protect(x *ipsec.IPsec, v *version, udp bool) error {
	var natt ipsec.NATT
	if udp {
		natt = ipsec.NATT{Type: 2, Sport: 4500, Dport: 4500}
	}
	for from := range 2 {
		key := make([]byte, 16+4)
		key[0] = byte(1 + from)
		near, far := tunnelOuter(v, from).Addr(), tunnelOuter(v, 1-from).Addr()
		if _, err := x.Add(ipsec.Spec{Proto: packet.ProtoESP, SPI: uint32(0x1000 + from), Mode: ipsec.ModeTunnel, Src: near, Dst: far,
			Ealg: crypt.EalgAESGCM16, Ekey: key, Replay: 1024, NATT: natt}); err != nil {
			return err
		}
		dir := uint8(ipsec.Out)
		if from != g.side {
			dir = ipsec.In
		}
		p := &ipsec.Policy{Dir: dir, Kind: ipsec.Protect, Requests: []ipsec.Request{{Proto: packet.ProtoESP, Mode: ipsec.ModeTunnel, Level: ipsec.Require, Src: near, Dst: far}}}
		p.Selector = ipsec.Selector{Src: ioPrefix(v, from, 0).Masked(), Dst: ioPrefix(v, 1-from, 0).Masked(), Proto: ipsec.AnyProto}
		if err := x.AddPolicy(p); err != nil {
			return err
		}
	}
	return nil
}

// kernel has this namespace's kernel forward between the host and a tunnel that is
// beside it.
func (g tunnelGate) kernel() error {
	if err := g.veth(true); err != nil {
		return err
	}
	script := fmt.Sprintf("address add %v dev %s\naddress add %v dev %s\n", ioPrefix(v4, g.side, 2), ioNear(g.side), tunnelOuter(v4, g.side), tunnelLink(g.side))
	return errors.Join(ip(script), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
}

// tunnelWireguard is wireguard-go on a TUN, as its own program starts it.
func tunnelWireguard(args []string) error {
	g, err := tunnelStart(args)
	if err != nil {
		return err
	}
	if err := g.kernel(); err != nil {
		return err
	}
	const name, port = "wg0", 51820
	t, err := tun.CreateTUN(name, device.DefaultMTU)
	if err != nil {
		return err
	}
	dev := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, "wireguard-go: "))
	defer dev.Close()
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		b := make([]byte, 32)
		b[0], b[31] = 8, 64+byte(i)
		if keys[i], err = ecdh.X25519().NewPrivateKey(b); err != nil {
			return err
		}
	}
	if err := dev.IpcSet(fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%v:%d\nallowed_ip=%v\n",
		hex.EncodeToString(keys[g.side].Bytes()), port, hex.EncodeToString(keys[1-g.side].PublicKey().Bytes()),
		tunnelOuter(v4, 1-g.side).Addr(), port, ioPrefix(v4, 1-g.side, 0).Masked())); err != nil {
		return err
	}
	if err := errors.Join(ip(fmt.Sprintf("link set %s up\nroute add %v dev %s\n", name, ioPrefix(v4, 1-g.side, 0).Masked(), name)), dev.Up()); err != nil {
		return err
	}
	defer profile(fmt.Sprintf("ipsec-tunnel-wireguard-%d-%d", g.side, os.Getpid()))()
	fmt.Println(os.Getpid())
	untilEnd()
	return nil
}

// strongSwanPlugin is ESP outside of the kernel.
const strongSwanPlugin = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"

// strongSwanMissing says what strongSwan lacks.
func strongSwanMissing() error {
	var errs []error
	for name, of := range map[string]string{"charon-systemd": "charon-systemd", "swanctl": "strongswan-swanctl"} {
		if _, err := exec.LookPath(name); err != nil {
			errs = append(errs, fmt.Errorf("%w (Debian's %s)", err, of))
		}
	}
	if _, err := os.Stat(strongSwanPlugin); err != nil {
		errs = append(errs, fmt.Errorf("%w (Debian's libcharon-extra-plugins)", err))
	}
	return errors.Join(errs...)
}

// tunnelStrongSwan is strongSwan's charon with ESP of its own, on a TUN. The gateway of side
// 1 begins.
func tunnelStrongSwan(args []string) (err error) {
	runtime.LockOSThread() // charon ends with this thread
	g, err := tunnelStart(args)
	if err != nil {
		return err
	}
	if err := g.kernel(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ionet-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	vici := "unix://" + filepath.Join(dir, "vici")
	for name, text := range map[string]string{
		"strongswan.conf": fmt.Sprintf(`charon-systemd {
	load = random nonce aesni openssl kdf hmac sha2 kernel-libipsec kernel-netlink socket-default vici updown
	plugins { vici { socket = %s } }
	filelog { f { path = %s
		default = 1 } }
}
`, vici, filepath.Join(dir, "log")),
		"swanctl.conf": fmt.Sprintf(`connections { gate {
	version = 2
	local_addrs = %v
	remote_addrs = %v
	proposals = aes128-sha256-ecp256
	encap = yes
	local { auth = psk
		id = gate%d }
	remote { auth = psk
		id = gate%d }
	children { net {
		local_ts = %v
		remote_ts = %v
		esp_proposals = aes128gcm16
	} }
} }
secrets { ike { secret = both } }
`, tunnelOuter(v4, g.side).Addr(), tunnelOuter(v4, 1-g.side).Addr(), g.side, 1-g.side, ioPrefix(v4, g.side, 0).Masked(), ioPrefix(v4, 1-g.side, 0).Masked()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	charon := exec.Command("charon-systemd")
	charon.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(dir, "strongswan.conf"))
	charon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := charon.Start(); err != nil {
		return err
	}
	defer func() {
		_ = charon.Process.Signal(unix.SIGTERM)
		end := time.AfterFunc(3*time.Second, func() { _ = charon.Process.Kill() })
		defer end.Stop()
		_ = charon.Wait()
	}()
	steps := [][]string{{"--load-all", "--file", filepath.Join(dir, "swanctl.conf")}}
	if g.side == 1 {
		steps = append(steps, []string{"--initiate", "--child", "net", "--timeout", "5"})
	}
	for _, s := range steps {
		if err := swanctl(vici, s...); err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("%w\n%s", err, log)
		}
	}
	fmt.Println(charon.Process.Pid)
	untilEnd()
	return nil
}

// swanctl tells charon something, as soon as it listens.
func swanctl(vici string, args ...string) (err error) {
	for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(50 * time.Millisecond) {
		if _, err = os.Stat(strings.TrimPrefix(vici, "unix://")); err != nil {
			continue
		}
		out, err := exec.Command("swanctl", append(args, "--uri", vici)...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("swanctl %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return err
	}
	return err
}
