package host_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/netip"

	"ionet/driver"
	"ionet/driver/wire"
	"ionet/host"
	"ionet/stack"
	"ionet/stack/netif"
)

// bringUp is a stack with one address on a segment in memory. A program that
// talks to the world attaches what one of the drivers opens instead.
func bringUp(seg *wire.Segment, mac byte, addr string) *host.Stack {
	h, err := host.New(host.Config{})
	if err != nil {
		log.Fatal(err)
	}
	en0, err := h.Attach(seg.Attach(netif.MAC{2, 0, 0, 0, 0, mac}, 1500), driver.Options{Lan: -1})
	if err != nil {
		log.Fatal(err)
	}
	p := netip.MustParsePrefix(addr)
	if err := h.Engine().AddAddr(en0, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}); err != nil {
		log.Fatal(err)
	}
	return h
}

// Two stacks in one program, and a connection between them.
func Example() {
	seg := wire.NewSegment()
	alice, bob := bringUp(seg, 1, "10.0.0.1/24"), bringUp(seg, 2, "10.0.0.2/24")
	defer alice.Close()
	defer bob.Close()

	l, err := bob.Listen("tcp", ":7")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		io.Copy(c, c) // an echo
	}()

	c, err := alice.Dial("tcp", "10.0.0.2:7")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello, bob")
	if err := c.(*host.TCPConn).CloseWrite(); err != nil {
		log.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s from %v\n", answer, c.RemoteAddr())
	// Output: hello, bob from 10.0.0.2:7
}

// An HTTP server on one stack and a client on another: whatever takes a
// listener or a dial function works over a stack.
func ExampleStack_DialContext() {
	seg := wire.NewSegment()
	alice, bob := bringUp(seg, 1, "10.0.0.1/24"), bringUp(seg, 2, "10.0.0.2/24")
	defer alice.Close()
	defer bob.Close()

	l, err := bob.Listen("tcp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "you asked %s for %s", r.Host, r.URL.Path)
	})}
	go server.Serve(l)
	defer server.Close()

	client := &http.Client{Transport: &http.Transport{DialContext: alice.DialContext}}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://10.0.0.2/index.html")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Status, string(page))
	// Output: 200 OK you asked 10.0.0.2 for /index.html
}

// A datagram socket, as package net has it.
func ExampleStack_ListenPacket() {
	seg := wire.NewSegment()
	alice, bob := bringUp(seg, 1, "10.0.0.1/24"), bringUp(seg, 2, "10.0.0.2/24")
	defer alice.Close()
	defer bob.Close()

	pc, err := bob.ListenPacket("udp", ":9000")
	if err != nil {
		log.Fatal(err)
	}
	defer pc.Close()
	c, err := alice.Dial("udp", "10.0.0.2:9000")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "one datagram")

	buf := make([]byte, 2048)
	n, from, err := pc.ReadFrom(buf)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(buf[:n]), "from alice:", from.String() == c.LocalAddr().String())
	// Output: one datagram from alice: true
}
