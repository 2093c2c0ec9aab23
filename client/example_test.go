package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/netip"
	"strings"
	"syscall"

	"ionet/client"
	"ionet/protocol"
)

// A UDP echo server on the stack that SOCK names, or the user's own.
func ExampleStack_ListenPacket() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err) // no stack is running: start one with …
	}
	defer s.Close()
	pc, err := s.ListenPacket("udp", ":7")
	if err != nil {
		log.Fatal(err)
	}
	defer pc.Close()
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			if _, err := pc.WriteTo(buf[:n], from); err != nil {
				log.Print(err)
			}
		}
	}()

	c, err := s.Dial("udp", "10.0.0.1:7")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello")
	b := make([]byte, 100)
	n, err := c.Read(b)
	fmt.Printf("%s %v\n", b[:n], err)
	// Output: hello <nil>
}

// A connection of the stack is a net.Conn. The host may be a name, which is
// looked up through the stack.
func ExampleStack_Dial() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	c, err := s.Dial("tcp", "10.0.0.1:80")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.0\r\nHost: stack\r\n\r\n")
	answer, err := io.ReadAll(c)
	head, page, _ := strings.Cut(string(answer), "\r\n\r\n")
	fmt.Println(head[:len("HTTP/1.0 200 OK")], page, err)
	// Output: HTTP/1.0 200 OK welcome to stack <nil>
}

// Errors are those of package net, around the number that BSD has for them.
func ExampleStack_Dial_refused() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	_, err = s.Dial("tcp", "10.0.0.1:81")
	fmt.Println(err)
	fmt.Println(errors.Is(err, syscall.ECONNREFUSED))
	// Output:
	// dial tcp 10.0.0.1:81: Connection refused
	// true
}

// An HTTP server on the stack: whatever takes a net.Listener works over it.
func ExampleStack_Listen() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	l, err := s.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", r.URL.Path, r.RemoteAddr[:8])
	}))
	defer l.Close()

	c := http.Client{Transport: &http.Transport{DialContext: s.DialContext, DisableKeepAlives: true}}
	r, err := c.Get("http://10.0.0.1:8080/page")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	fmt.Printf("%s %v\n", body, err)
	// Output: /page for 10.0.0.1 <nil>
}

// An HTTP client whose connections, and whose look-ups of names, are the
// stack's.
func ExampleStack_DialContext() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	c := http.Client{Transport: &http.Transport{DialContext: s.DialContext}}
	defer c.CloseIdleConnections()
	r, err := c.Get("http://10.0.0.1/")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	fmt.Printf("%s: %s %v\n", r.Status, body, err)
	// Output: 200 OK: welcome to 10.0.0.1 <nil>
}

// A listener with options of its own: a short queue, and several programs on
// one port.
func ExampleListenConfig() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	lc := client.ListenConfig{
		Stack: s, Backlog: 16, ReusePort: true,
		Control: func(network, address string, k *client.Socket) error {
			return k.SetInt(protocol.SolSocket, protocol.SoRcvBuf, 1<<20)
		},
	}
	for range 2 {
		l, err := lc.Listen(context.Background(), "tcp", "10.0.0.1:7")
		if err != nil {
			log.Fatal(err)
		}
		defer l.Close()
		fmt.Println("listening on", l.Addr())
	}
	// Output:
	// listening on 10.0.0.1:7
	// listening on 10.0.0.1:7
}

// What ifconfig asks for: the MTU of an interface. Most requests have
// a method of their own, here [client.Stack.MTU].
func ExampleStack_Ioctl() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	b, err := s.Ioctl(protocol.SIOCGIFMTU, protocol.AppendIfReq(nil, protocol.IfReq{Name: "en0"}))
	if err != nil {
		log.Fatal(err)
	}
	r, err := protocol.ParseIfReq(protocol.SIOCGIFMTU, b)
	fmt.Println(r.Name, r.Value, err)

	_, err = s.MTU("en9")
	fmt.Println(err)
	// Output:
	// en0 1500 <nil>
	// Device not configured
}

// How far packets go; "sysctl -a" shows every node.
func ExampleStack_Sysctl() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	ttl, err := s.Sysctl("net.inet.ip.ttl")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("packets leave with a TTL of", ttl)
	// Output: packets leave with a TTL of 64
}

// The stack becomes a router, for a while.
func ExampleStack_SetSysctl() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	old, err := s.SetSysctl("net.inet.ip.forwarding", "1")
	if err != nil {
		log.Fatal(err) // "only the superuser … may set net.inet.ip.forwarding"
	}
	defer s.SetSysctl("net.inet.ip.forwarding", old)
	fmt.Println("forwarding was", old)
	// Output: forwarding was 0
}

// A route is added, and another socket hears of it.
func ExampleRouteSocket() {
	r, err := client.OpenRoute("")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	listener, err := client.OpenRoute("")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()

	inet := func(s string) protocol.Addr { return protocol.AddrFrom(netip.MustParseAddr(s), 0) }
	add := protocol.RouteMessage{
		Type: protocol.RTMAdd, Flags: protocol.RTFUp | protocol.RTFGateway | protocol.RTFStatic,
		Dst: inet("192.168.0.0"), Netmask: inet("255.255.0.0"), Gateway: inet("10.0.0.9"),
	}
	if _, err := r.Request(add); err != nil {
		log.Fatal(err) // "File exists", when there is one
	}
	news, err := listener.Read()
	if err != nil {
		log.Fatal(err)
	}
	heard := news[0].(*protocol.RouteMessage)
	fmt.Println("a route to", heard.Dst, "through", heard.Gateway)

	// Which way a packet would take:
	way, err := r.Request(protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet("192.168.7.7")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the way to 192.168.7.7 is through", way.Gateway)

	add.Type = protocol.RTMDelete
	if _, err := r.Request(add); err != nil {
		log.Fatal(err)
	}
	// Output:
	// a route to 192.168.0.0 through 10.0.0.9
	// the way to 192.168.7.7 is through 10.0.0.9
}

// The addresses of every interface.
func ExampleTable() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "")
	if err != nil {
		log.Fatal(err)
	}
	for _, ifp := range rows {
		for _, a := range ifp.Addresses {
			if a.Family == "inet" {
				fmt.Println(ifp.Name, a.Address)
			}
		}
	}
	// Output:
	// lo0 127.0.0.1
	// en0 10.0.0.1
}
