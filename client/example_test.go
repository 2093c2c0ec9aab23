package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"

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
	buf := make([]byte, 65535)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		if _, err := pc.WriteTo(buf[:n], from); err != nil {
			log.Print(err)
		}
	}
}

func ExampleStack_Dial() {
	s, err := client.Open("/alt")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	c, err := s.Dial("udp", "10.0.0.2:7") // a name is looked up through the stack
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello")
}

// An HTTP server on the stack: whatever takes a net.Listener works over it.
func ExampleStack_Listen() {
	s, err := client.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	l, err := s.Listen("tcp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	log.Print(http.Serve(l, http.FileServer(http.Dir("."))))
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
	r, err := c.Get("http://10.0.0.2/")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	fmt.Printf("%s, %v", body, err)
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
	l, err := lc.Listen(context.Background(), "tcp", "10.0.0.1:7")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
}

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
	fmt.Println("forwarding was", old)
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
			fmt.Println(ifp.Name, a.Address)
		}
	}
}
