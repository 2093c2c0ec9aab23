package stack_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
	"ionet/stack/tcp"
)

const (
	mss1460 = "mss 1460"
)

// syn is something of the SYN that we open a connection with.
func syn(look func(rig.Segment) any) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		e := r.End("10.0.0.2:80", "10.0.0.1:5000")
		_ = r.Stream("10.0.0.1:5000").Connect("10.0.0.2:80")
		return fmt.Sprint(look(e.Segments()[0]))
	}
}

// lines is how many segments there are for some to a port with a listener.
func lines(port string, segments ...string) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		r.Listen(":80", 5)
		e := r.End("10.0.0.2:5000", "10.0.0.1:"+port)
		e.Send(segments...)
		return fmt.Sprint(len(e.Lines()))
	}
}

// dialled is what shows of a connection to a peer 20 ms away.
func dialled(options string, see func(*rig.Rig, *rig.Socket, *rig.End) any) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		r.Delay = 20 * time.Millisecond
		s, e := r.Dial(options)
		return fmt.Sprint(see(r, s, e))
	}
}

// stateAfter is the state of the only connection after some time.
func stateAfter(d time.Duration, first func(s *rig.Socket, e *rig.End)) func(*rig.Rig, *rig.Socket, *rig.End) any {
	return func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		first(s, e)
		r.Pass(d)
		r.Sent()
		for _, x := range r.TCP.Rows() {
			return x.State
		}
		return "none"
	}
}

// linesAfter is how many segments there are meanwhile.
func linesAfter(d time.Duration, first func(s *rig.Socket, e *rig.End)) func(*rig.Rig, *rig.Socket, *rig.End) any {
	return func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		first(s, e)
		r.Sent()
		r.Pass(d)
		return len(e.Lines())
	}
}

func firstLen(_ *rig.Rig, s *rig.Socket, e *rig.End) any {
	s.Put(1, 3000)
	return len(e.Segments()[0].Data)
}

func burst(r *rig.Rig, s *rig.Socket, e *rig.End) any {
	s.Put(1, 60000)
	return len(e.Segments())
}

// afterPause is how many segments leave after 100 ms without any.
func afterPause(r *rig.Rig, s *rig.Socket, e *rig.End) any {
	s.Put(1, 10)
	r.Sent()
	r.Pass(20 * time.Millisecond)
	e.Send(". 1 ack 11")
	r.Pass(100 * time.Millisecond)
	s.Put(11, 60000)
	return len(e.Segments())
}

// warm has the connection past the acknowledgements that it sends at once, by
// one octet.
func warm(s *rig.Socket, e *rig.End) {
	for i := range 17 {
		e.Send(fmt.Sprintf("P. %d+1", i+1))
	}
}

func keep(s *rig.Socket, _ *rig.End) { s.Flag(socket.SOKeepAlive, 1) }

func closes(lines ...string) func(*rig.Socket, *rig.End) {
	return func(s *rig.Socket, e *rig.End) {
		s.Close()
		e.Send(lines...)
	}
}

// grown reports whether a buffer is larger than at first after six round trips
// that filled it.
func grown(look func(tcp.Info) int) func(*rig.Rig, *rig.Socket, *rig.End) any {
	return func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		data := string(make([]byte, 1<<17))
		at := 1
		for range 6 {
			_, _ = s.Write(data, 0)
			r.Pass(20 * time.Millisecond)
			for _, f := range r.Sent() {
				e.Take(f)
			}
			for range 40 {
				e.Send(fmt.Sprintf("P. %d+1460", at))
				at += 1460
			}
			s.Read(1<<17, 0)
		}
		i, _ := r.TCP.InfoOf(s.ID)
		return look(i) > 1<<16
	}
}

const idle = "net.inet.tcp.keepidle=20"

var tcpEffects = map[string]effect{
	"net.inet.tcp.rfc1323":    {"0", "", syn(func(s rig.Segment) any { return [2]bool{s.Opt.HasWScale, s.Opt.HasTimestamp} }), "[true true]", "[false false]"},
	"net.inet.tcp.win_scale":  {"0", "", syn(func(s rig.Segment) any { return s.Opt.HasWScale }), "true", "false"},
	"net.inet.tcp.timestamps": {"0", "", syn(func(s rig.Segment) any { return s.Opt.HasTimestamp }), "true", "false"},
	"net.inet.tcp.sack":       {"0", "", syn(func(s rig.Segment) any { return s.Opt.SACKOK }), "true", "false"},
	"net.inet.tcp.ecn":        {"2", "", syn(func(s rig.Segment) any { return s.Flags&packet.TCPEce != 0 }), "true", "false"},
	"net.inet.tcp.sendspace":  {"4096", "", buffer(socket.Stream, 0, socket.SOSndBuf), "65536", "4096"},
	"net.inet.tcp.recvspace":  {"4096", "", buffer(socket.Stream, 0, socket.SORcvBuf), "65536", "4096"},
	"net.inet.tcp.sendbuf_auto": {"0", "", dialled(mss1460+" wscale 7", grown(func(i tcp.Info) int { return i.SendBuf })),
		"true", "false"},
	"net.inet.tcp.recvbuf_auto": {"0", "", dialled(mss1460+" wscale 7", grown(func(i tcp.Info) int { return i.RecvBuf })),
		"true", "false"},
	"net.inet.tcp.mssdflt": {"1000", "", dialled("", firstLen), "512", "1000"},
	"net.inet.tcp.minmss":  {"100", "", dialled("mss 1", firstLen), "216", "100"},
	"net.inet.tcp.mss_ifmtu": {"1", "", func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		_ = r.Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{Dst: netip.MustParsePrefix("99.0.0.0/8"),
			Gateway: netip.MustParseAddr("10.0.0.2"), Flags: route.FlagUp | route.FlagGateway, Metrics: &route.Metrics{MTU: 1000}}}})
		_ = r.Stream("").Connect("99.0.0.1:80")
		f := packet.TCP(r.Sent()[0][34:])
		var o packet.TCPOptions
		o.Parse(f.Options())
		return fmt.Sprint(o.MSS)
	}, "960", "1460"},
	"net.inet.tcp.init_win":    {"2", "", dialled(mss1460, burst), "10", "2"},
	"net.inet.tcp.ack_on_push": {"1", "", dialled(mss1460, linesAfter(60*time.Millisecond, warm)), "1", "0"},
	"net.inet.tcp.delack":      {"200", "", dialled(mss1460, linesAfter(60*time.Millisecond, warm)), "1", "0"},
	"net.inet.tcp.keepidle":    {"20", "", dialled(mss1460, linesAfter(11*time.Second, keep)), "0", "1"},
	"net.inet.tcp.keepintvl":   {"4", idle, dialled(mss1460, linesAfter(15*time.Second, keep)), "1", "3"},
	"net.inet.tcp.keepcnt":     {"1", idle + " net.inet.tcp.keepintvl=4", dialled(mss1460, stateAfter(20*time.Second, keep)), "ESTABLISHED", "none"},
	"net.inet.tcp.compat_42": {"1", idle, dialled(mss1460, func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		keep(s, e)
		r.Pass(11 * time.Second)
		return len(e.Segments()[0].Data)
	}), "0", "1"},
	"net.inet.tcp.keepinit": {"20", "", func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		s := r.Stream("")
		_ = s.Connect("10.0.0.2:80")
		r.Pass(11 * time.Second)
		r.Sent()
		return s.Read(9, 0)
	}, "resource temporarily unavailable", "connection timed out"},
	"net.inet.tcp.msl":              {"10", "", dialled(mss1460, stateAfter(11*time.Second, closes("F. 1 ack 2"))), "TIME_WAIT", "none"},
	"net.inet.tcp.maxtimewait":      {"0", "", dialled(mss1460, stateAfter(0, closes("F. 1 ack 2"))), "TIME_WAIT", "none"},
	"net.inet.tcp.finwait2_timeout": {"20", "", dialled(mss1460, stateAfter(11*time.Second, closes(". 1 ack 2"))), "FIN_WAIT_2", "none"},
	"net.inet.tcp.syn_cache_limit": {"0", "", func(r *rig.Rig) string {
		lines("80", "S 0")(r)
		return fmt.Sprint(rig.Counter(r.Stack, "tcp", "cookies sent"))
	}, "0", "1"},
	"net.inet.tcp.syn_bucket_limit": {"1", "", func(r *rig.Rig) string {
		r.Listen(":80", 5)
		for i := range 400 {
			r.End(fmt.Sprint("10.0.0.2:", 1000+i), "10.0.0.1:80").Send("S 0")
		}
		r.Sent()
		return fmt.Sprint(rig.Counter(r.Stack, "tcp", "cookies sent") > 0)
	}, "false", "true"},
	"net.inet.tcp.syn_cookies": {"0", "net.inet.tcp.syn_cache_limit=0", lines("80", "S 0"), "1", "0"},
	"net.inet.tcp.syn_cache_interval": {"5", "", func(r *rig.Rig) string {
		lines("80", "S 0")(r)
		r.Pass(4 * time.Second)
		return fmt.Sprint(len(r.Sent()))
	}, "2", "0"},
	"net.inet.tcp.log_refused": {"1", "", func(r *rig.Rig) string {
		var b bytes.Buffer
		r.Env.Log = slog.New(slog.NewTextHandler(&b, nil))
		lines("81", "S 0")(r)
		return fmt.Sprint(strings.Contains(b.String(), "refused"))
	}, "false", "true"},
	"net.inet.tcp.rstppslimit": {"1", "", lines("81", "S 0", "S 0", "S 0"), "3", "1"},
	"net.inet.tcp.strict_rfc": {"1", "", dialled(mss1460, stateAfter(0, func(_ *rig.Socket, e *rig.End) { e.Send("R 5") })),
		"ESTABLISHED", "none"},
	"net.inet.tcp.ackppslimit": {"1", "", dialled(mss1460, func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		n := 0
		for range 3 {
			e.Send("R 5")
			n += len(e.Lines())
		}
		return n
	}), "3", "1"},
	"net.inet.tcp.congctl.selected": {"newreno", "", dialled(mss1460, func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		i, _ := r.TCP.InfoOf(s.ID)
		return i.Congestion
	}), "cubic", "newreno"},
	"net.inet.tcp.newreno": {"0", "", dialled(mss1460, func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		burst(r, s, e)
		e.Send(". 1 ack 1", ". 1 ack 1", ". 1 ack 1", ". 1 ack 1461")
		i, _ := r.TCP.InfoOf(s.ID)
		return i.Phase
	}), "recovery", "open"},
	"net.inet.tcp.cwm":           {"1", "", dialled(mss1460, afterPause), "10", "4"},
	"net.inet.tcp.cwm_burstsize": {"2", "net.inet.tcp.cwm=1", dialled(mss1460, afterPause), "4", "2"},
	"net.inet.tcp.rtomin": {"1000", "net.inet.tcp.tlp=0", dialled(mss1460, linesAfter(300*time.Millisecond, func(s *rig.Socket, e *rig.End) { s.Put(1, 10) })),
		"1", "0"},
	"net.inet.tcp.tlp": {"0", "", dialled(mss1460+" sackOK", linesAfter(50*time.Millisecond, func(s *rig.Socket, e *rig.End) { s.Put(1, 3000) })),
		"1", "0"},
	"net.inet.tcp.frto": {"0", "net.inet.tcp.tlp=0", dialled(mss1460, func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		burst(r, s, e)
		r.Pass(300 * time.Millisecond)
		e.Send(". 1 ack 1461")
		e.Send(". 1 ack 2921")
		return rig.Counter(r.Stack, "tcp", "needless timeouts")
	}), "1", "0"},
	// Delay that grows ends slow start: afterwards a round trip does not double
	// the window any more.
	"net.inet.tcp.hystart": {"0", "", dialled(mss1460+" wscale 7", func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		s.Flag(socket.SOSndBuf, 4<<20)
		una := 1
		for round := range 5 {
			for {
				if n, _ := s.Write(string(make([]byte, 1<<20)), 0); n == 0 {
					break
				}
			}
			e.Lines()
			r.Pass(time.Duration(20+20*round) * time.Millisecond)
			for end := int(e.Next()); una < end; {
				una = min(una+2920, end)
				e.Send(fmt.Sprint(". 1 ack ", una))
			}
		}
		i, _ := r.TCP.InfoOf(s.ID)
		return i.Cwnd >= 1460*10*16
	}), "false", "true"},
	"net.inet.tcp.fastopen.client_enable": {"0", "", func(r *rig.Rig) string {
		e, s := r.End("10.0.0.2:80", "10.0.0.1:5000"), r.Stream("10.0.0.1:5000")
		_ = s.Set(tcp.LevelTCP, tcp.FastOpen, socket.Value32(1))
		_ = s.Connect("10.0.0.2:80")
		return fmt.Sprint(e.Segments()[0].Opt.HasFastOpen)
	}, "true", "false"},
	"net.inet.tcp.fastopen.server_enable": {"0", "", func(r *rig.Rig) string {
		l, e := r.Listen(":80", 5), r.End("10.0.0.2:5000", "10.0.0.1:80")
		_ = l.Set(tcp.LevelTCP, tcp.FastOpen, socket.Value32(5))
		e.Put(rig.Segment{Flags: packet.TCPSyn, Opt: packet.TCPOptions{HasFastOpen: true}}, false)
		return fmt.Sprint(e.Segments()[0].Opt.HasFastOpen)
	}, "true", "false"},
	"net.inet.tcp.mtudisc_blackhole": {"0", "net.inet.ip.mtudisc=1", dialled(mss1460, func(r *rig.Rig, s *rig.Socket, e *rig.End) any {
		burst(r, s, e)
		r.Pass(2 * time.Second)
		return rig.Counter(r.Stack, "tcp", "black holes")
	}), "1", "0"},
	"kern.somaxconn": {"140", "", func(r *rig.Rig) string {
		l := r.Listen(":80", 1000)
		for i := range 150 {
			e := r.End(fmt.Sprint("10.0.0.2:", 1000+i), "10.0.0.1:80")
			e.Send("S 0")
			if len(e.Lines()) == 1 {
				e.Send(". 1")
			}
		}
		r.Sent()
		return fmt.Sprint(l.Queued())
	}, "128", "140"},
}
