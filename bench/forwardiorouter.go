package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ionet/driver"
	dpacket "ionet/driver/packet"
	"ionet/driver/tap"
	"ionet/driver/xdp"
	"ionet/host"
	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// ioNear is the name of a router's end of a link, if it is an interface.
func ioNear(side int) string { return [2]string{"near0", "near1"}[side] }

// ioVeths makes the links to the kernels in the namespaces of two processes.
// The router's address is the interface's own if the router is this kernel; if
// it is not, this kernel discards the frames at a glance.
func ioVeths(pids []string, own bool) error {
	for side, pid := range pids {
		near, mac := ioNear(side), ioMAC(side)
		if !own {
			mac[5]++
		}
		if err := ip(fmt.Sprintf("link add %s address %s type veth peer name %s netns %s\n", near, ioText(mac), ioLink(side), pid)); err != nil {
			return err
		}
		if err := ioQuiet(near); err != nil {
			return err
		}
		if err := ip("link set " + near + " up\n"); err != nil {
			return err
		}
	}
	return nil
}

func ioText(mac [6]byte) string { return netif.MAC(mac).String() }

// ioDriver opens a driver's end of a link, by the names that the router has.
func ioDriver(name string, side int, pid string) (driver.Driver, driver.Options, error) {
	o := driver.Options{Lan: side, MAC: ioMAC(side)}
	arg := func(name, value string) { o.Args = append(o.Args, driver.Arg{Name: name, Value: value}) }
	open := map[string]driver.Open{"tap": tap.Open, "packet": dpacket.Open, "xdp": xdp.Open}[name]
	if name == "tap" {
		arg("name", ioLink(side))
		arg("netns", pid)
	} else {
		arg("if", ioNear(side))
	}
	d, err := open(o)
	return d, o, err
}

// ioIonet is a stack between two links of a driver.
func ioIonet(args []string) error {
	name, pids := args[0], args[1:]
	if name != "tap" {
		if err := ioVeths(pids, false); err != nil {
			return err
		}
	}
	h, err := host.New(host.Config{})
	if err != nil {
		return err
	}
	defer h.Close()
	for _, node := range []string{"net.inet.ip.forwarding", "net.inet6.ip6.forwarding"} {
		sysctl(h, node, 1)
	}
	sysctl(h, "net.inet6.ip6.dad_count", 0)
	for side, pid := range pids {
		d, o, err := ioDriver(name, side, pid)
		if err != nil {
			return err
		}
		ifp, err := h.Attach(d, o)
		if err != nil {
			return err
		}
		for _, v := range versions {
			p := ioPrefix(v, side, 2)
			if err := h.Engine().AddAddr(ifp, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}); err != nil {
				return err
			}
			if side == 1 {
				if err := h.Engine().AddNeighbour(ifp, ioAddr(v, 1, ioNothing), ioNobody, 0, 0); err != nil {
					return err
				}
			}
		}
	}
	defer profile("forward-io-ionet-" + name + "-" + strconv.Itoa(os.Getpid()))()
	fmt.Println("ready")
	untilEnd()
	return nil
}

// ioBare reads frames with a driver and writes them with another, and does
// nothing between but to change the addresses: to the kernel's on the other
// side, or, when args says "flood", to nobody's.
func ioBare(args []string) error {
	name, flood, pids := args[0], args[1] == "flood", args[2:]
	if name != "tap" {
		if err := ioVeths(pids, false); err != nil {
			return err
		}
	}
	pool := packet.NewPool(256 << 20)
	var devices [2]driver.Driver
	for side, pid := range pids {
		d, _, err := ioDriver(name, side, pid)
		if err != nil {
			return err
		}
		defer d.Close()
		devices[side] = d
	}
	for side, d := range devices {
		s := &bareSink{pool: pool, to: devices[1-side], dst: ioKernelMAC(1 - side), src: ioMAC(1 - side)}
		if flood {
			s.dst = ioNobody
		}
		go func() { must(d.Run(s)) }()
	}
	defer profile("forward-io-bare-" + name + "-" + strconv.Itoa(os.Getpid()))()
	fmt.Println("ready")
	untilEnd()
	return nil
}

// bareSink passes on what it gets.
type bareSink struct {
	pool     *packet.Pool
	to       driver.Driver
	dst, src [6]byte
}

func (s *bareSink) Receiving()             {}
func (s *bareSink) Pool() *packet.Pool     { return s.pool }
func (s *bareSink) Dropped(int)            {}
func (s *bareSink) Malformed(int)          {}
func (s *bareSink) LinkState(bool)         {}
func (s *bareSink) Verbose(string, ...any) {}
func (s *bareSink) Input(burst []*packet.Buf) {
	for _, b := range burst {
		f := b.Bytes()
		copy(f, s.dst[:])
		copy(f[6:], s.src[:])
	}
	s.to.Transmit(nil, burst)
}

// ioKernelRouter is a kernel that forwards between two veths: on the processor
// of who sends, or, when args says "spread", on the router's.
func ioKernelRouter(args []string) error {
	how, pids := args[0], args[1:]
	if err := ioVeths(pids, true); err != nil {
		return err
	}
	script := ""
	for side := range pids {
		for _, v := range versions {
			script += fmt.Sprintf("address add %v dev %s", ioPrefix(v, side, 2), ioNear(side))
			if v == v6 {
				script += " nodad"
			}
			script += "\n"
		}
		script += "address add fe80::2/64 dev " + ioNear(side) + " nodad\n" // to solicit from
	}
	for _, v := range versions {
		script += fmt.Sprintf("neighbour add %v lladdr %s dev %s\n", ioAddr(v, 1, ioNothing), ioText(ioNobody), ioNear(1))
	}
	if err := ip(script); err != nil {
		return err
	}
	for _, f := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+f, []byte("1"), 0); err != nil {
			return err
		}
	}
	if how == "spread" {
		// sysfs shows the namespace that it was mounted in.
		var set unix.CPUSet
		must(unix.SchedGetaffinity(0, &set))
		cmd := exec.Command("unshare", "--mount", "sh", "-c", fmt.Sprintf("mount -t sysfs sysfs /sys && for q in /sys/class/net/near*/queues/rx-*/rps_cpus; do echo %x > $q; done", uint64(set[0])))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	fmt.Println("ready")
	untilEnd()
	return nil
}
