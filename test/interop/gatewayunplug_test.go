package interop

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ionet/test/need"
)

// buffers is how many packet buffers the stack has in use.
func (g *gateway) buffers() int {
	g.T.Helper()
	m := regexp.MustCompile(`(\d+) mbufs? in use`).FindStringSubmatch(g.Must("netstat", "-m"))
	if m == nil {
		g.T.Fatal("netstat -m has no number of mbufs")
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// gaps are the runs of numbers up to last that ping has had no answer to.
func gaps(out string, last int) (runs []string) {
	answered := map[int]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ bytes from .* icmp_seq=(\d+) `).FindAllStringSubmatch(out, -1) {
		n, _ := strconv.Atoi(m[1])
		answered[n] = true
	}
	for n := 1; n <= last; n++ {
		if answered[n] {
			continue
		}
		from := n
		for n < last && !answered[n+1] {
			n++
		}
		runs = append(runs, fmt.Sprintf("%d-%d", from, n))
	}
	return runs
}

// An interface is taken out of a gateway and put in again while it carries everything: what was
// sent meanwhile is lost and nothing else, streams go on, and no buffer stays behind.
func TestGatewayUnplugged(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	iperf3 := need.Command(t, "iperf3", "iperf3")
	bySide(t, func(t *testing.T, v family, g *gateway) {
		const unplugs, pings = 3, 800
		a, b := g.hosts[insideA], g.hosts[insideB]
		for _, port := range []string{"5201", "5202"} {
			b.Serves(`Server listening`, iperf3, "-s", "--forceflush", "-p", port)
		}
		a.pings(b.own(v))
		before := g.buffers()
		ping := a.Begin(nil, "/usr/bin/ping", "-n", "-i", "0.01", "-c", strconv.Itoa(pings), "-W", "5", b.own(v))
		tcp := a.Begin(nil, iperf3, "-c", b.own(v), "-p", "5201", "-t", "8", "-b", "200M", "-J")
		udp := a.Begin(nil, iperf3, "-c", b.own(v), "-p", "5202", "-t", "8", "-u", "-b", "20M", "-J")
		for range unplugs {
			time.Sleep(1500 * time.Millisecond) // all of them run
			g.Must("umount", "/dev/io-net/en1")
			if r := g.Try("ifconfig", "en1"); r.Status == 0 {
				t.Errorf("en1 is there still:\n%s", r.Out)
			}
			g.Must("mount", "-T", "io-net", "-o", "name=tap0,netns="+b.ns.Name, "devn-tap.so")
			g.connect(insideB)
		}
		if status := ping.Wait(); status != 0 {
			t.Errorf("ping ends with %d", status)
		}
		if runs := gaps(ping.Out.String(), pings); len(runs) > unplugs {
			t.Errorf("%d pings without answer: %q, want %d runs at most", len(runs), runs, unplugs)
		} else {
			t.Logf("no answer to %q of %d", runs, pings)
		}
		for _, j := range []struct {
			what string
			wait func() int
			out  func() string
		}{{"TCP", tcp.Wait, tcp.Out.String}, {"UDP", udp.Wait, udp.Out.String}} {
			status := j.wait()
			var r struct {
				Intervals []struct{ Sum struct{ Bytes float64 } }
				End       struct {
					Received struct{ Bytes float64 } `json:"sum_received"`
					Sum      struct {
						Packets int
						Lost    int `json:"lost_packets"`
					}
				}
				Error string
			}
			if err := json.Unmarshal([]byte(j.out()), &r); err != nil || status != 0 || r.Error != "" || len(r.Intervals) < 8 {
				t.Errorf("%s: status %d, %v, %q, %d intervals", j.what, status, err, r.Error, len(r.Intervals))
				continue
			}
			if last := r.Intervals[len(r.Intervals)-1].Sum.Bytes; last == 0 {
				t.Errorf("%s stands still at the end", j.what)
			}
			t.Logf("%s: %.0f octets received, %d of %d datagrams lost", j.what, r.End.Received.Bytes, r.End.Sum.Lost, r.End.Sum.Packets)
		}
		after := 0
		for range 200 {
			if after = g.buffers(); after <= before {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if after > before {
			t.Errorf("%d buffers in use, %d before:\n%s", after, before, g.Must("netstat", "-m"))
		}
		if out := a.pings(b.own(v)); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("afterwards:\n%s", out)
		}
	})
}
