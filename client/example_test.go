package client_test

import (
	"fmt"
	"log"

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
