// Bench measures ionet beside its peers and beside the bare mechanism, and
// prints each figure with the ratio and the bar it is held to.
//
//	go run . [-time 1s] [-runs 5] [-bin ../build] [measure …]
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

var (
	perRun = flag.Duration("time", time.Second, "how long one run of a measure takes")
	runs   = flag.Int("runs", 5, "runs of a measure; the median is printed")
	tools  = flag.String("bin", "../build", "folder of the built commands")
)

// measure is one line of the list of measures.
type measure struct {
	name string
	what string
	run  func() error
}

var measures = []measure{
	{"udp", "64- and 1472-byte datagrams/s through two stacks in memory, beside gVisor's netstack", udpMeasure},
	{"route", "adding, dumping, looking up 1,000,000 routes", routeMeasure},
	{"wire", "frames/s over the wire between two processes, beside a bare stream relay", wireMeasure},
	{"tap", "ping round trips over TAP, beside a bare TAP echo loop and gVisor", tapMeasure},
	{"forward", "packets/s through a router in memory, beside gVisor's netstack", forwardMeasure},
	{"scale", "look-ups and forwarding among 250,000 routes and 100,000 neighbours of IPv6", scaleMeasure},
	{"addr", "from an interface that comes up to a global address, against radvd", addrMeasure},
	{"tcp-mem", "one TCP stream between two stacks in memory, beside gVisor's netstack", tcpMemMeasure},
	{"tcp-tap", "one TCP stream to and from a kernel host over TAP, beside bare TAP loops and gVisor", tcpTapMeasure},
	{"tcp-conn", "TCP connections/s in memory beside gVisor, and one-octet round trips over TAP beside gVisor and the kernel", tcpConnMeasure},
	{"tcp-idle", "memory of idle TCP endpoints, beside gVisor", tcpIdleMeasure},
	{"tcp-door", "one TCP stream between clients of two daemons, beside a bare chain of relays", tcpDoorMeasure},
	{"onstack", "iperf3 on two stacks beside a client in Go, the cost of a call that is looked at, and of a start", onstackMeasure},
	{"ipsec", "protecting and opening packets between two gateways in memory, beside the cipher alone", ipsecMeasure},
	{"forward-io", "64-byte frames/s through a router between two kernels, beside gVisor, the kernel and the bare drivers", forwardIOMeasure},
	{"forward-tcp", "one TCP stream of super-packets through a router between two kernels, beside the kernel", forwardTCPMeasure},
	{"ipsec-cores", "protecting and opening packets on all processors at once, beside one", ipsecCoresMeasure},
	{"ipsec-tunnel", "TCP between two kernels through two gateways with an ESP tunnel, beside wireguard-go and strongSwan's kernel-libipsec", ipsecTunnelMeasure},
	{"sad", "100,000 associations and 100,000 policies of IPsec through a key socket and by setkey, and printed", sadMeasure},
	{"tools", "processor time of ifconfig -a and netstat -rn, and 1,000,000 routes by netstat -rn", toolsMeasure},
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == childArg {
		if err := child(os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench %s: %v\n", os.Args[2], err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	fmt.Printf("machine: %s, %d processors, %s, %s\n", cpuName(), runtime.NumCPU(), runtime.GOARCH, runtime.Version())
	failed := false
	for _, m := range measures {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), m.name) {
			continue
		}
		fmt.Printf("\n%s: %s\n", m.name, m.what)
		stop := profile(m.name)
		err := m.run()
		stop()
		if err != nil {
			fmt.Printf("  not measured: %v\n", err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// profile writes a processor profile of this process, which is a measure or a
// child, to $BENCH_PROFILE/NAME.pprof, for who asks where the time goes.
func profile(name string) (stop func()) {
	dir := os.Getenv("BENCH_PROFILE")
	if dir == "" {
		return func() {}
	}
	f, err := os.Create(filepath.Join(dir, name+".pprof"))
	must(err)
	must(pprof.StartCPUProfile(f))
	return func() { pprof.StopCPUProfile(); f.Close() }
}

func cpuName() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for _, l := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown processor"
}

// samples are the outcomes of several rounds: [contender][round].
type samples [][]float64

// rates runs each contender by turns, so that a noisy moment hits all of them.
func rates(contenders ...func(d time.Duration) float64) samples {
	all := make(samples, len(contenders))
	for range *runs {
		for i, f := range contenders {
			all[i] = append(all[i], f(*perRun))
		}
	}
	return all
}

// contender is one who does a measure's work. A run answers its figure.
type contender struct {
	name string
	run  func(d time.Duration) (float64, error)
}

// figures runs the contenders by turns.
func figures(contenders []contender) (samples, error) {
	var errs []error
	run := make([]func(time.Duration) float64, len(contenders))
	for i, c := range contenders {
		run[i] = func(d time.Duration) float64 {
			v, err := c.run(d)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			}
			return v
		}
	}
	r := rates(run...)
	return r, errors.Join(errs...)
}

// median is the median of contender i.
func (s samples) median(i int) float64 { return median(slices.Clone(s[i])) }

// best is the contender with the largest median, of those from first to before end.
func (s samples) best(first, end int) (best int) {
	best = first
	for i := first; i < end; i++ {
		if s.median(i) > s.median(best) {
			best = i
		}
	}
	return best
}

// ratio is the median over the rounds of contender i's outcome by j's.
func (s samples) ratio(i, j int) float64 {
	return s.paired(i, j, func(x, y float64) float64 { return x / y })
}

// above is the median over the rounds of contender i's outcome less j's.
func (s samples) above(i, j int) float64 {
	return s.paired(i, j, func(x, y float64) float64 { return x - y })
}

func (s samples) paired(i, j int, f func(x, y float64) float64) float64 {
	v := make([]float64, len(s[i]))
	for k := range v {
		v[k] = f(s[i][k], s[j][k])
	}
	return median(v)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func percentile(v []float64, p float64) float64 {
	slices.Sort(v)
	return v[min(len(v)-1, int(p*float64(len(v))))]
}

// verdict is the last word of a line: the bar, and whether it is met.
func verdict(ok bool, bar string) string {
	if ok {
		return "met: " + bar
	}
	return "NOT met: " + bar
}
