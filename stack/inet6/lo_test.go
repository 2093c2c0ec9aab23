package inet6_test

import (
	"net/netip"
	"testing"

	"ionet/stack/socket"
	"ionet/stack/stacktest"
)

// Two sockets of ::1 hear each other.
func TestLoopback(t *testing.T) {
	r := stacktest.Bare(t, stacktest.Dual)
	w := r.Env.Begin(r.Now())
	a, err := r.Stack.Socket(w, socket.AFInet6, socket.Dgram, 0, socket.Cred{})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := r.Stack.Socket(w, socket.AFInet6, socket.Dgram, 0, socket.Cred{})
	here := socket.Addr{IP: netip.IPv6Loopback(), Port: 7000}
	if err := a.Bind(w, here); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Send(w, &socket.Msg{Addr: here, Data: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	w.End()
	w = r.Env.Begin(r.Now())
	m := socket.Msg{Data: make([]byte, 100)}
	if err := a.Recv(w, &m); err != nil || string(m.Data) != "hello" || m.Addr.IP != netip.IPv6Loopback() {
		t.Fatal(err, m)
	}
	a.Close(w)
	b.Close(w)
	w.End()
}
