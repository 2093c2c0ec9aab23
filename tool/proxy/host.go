package proxy

import (
	"context"
	"net"
	"net/netip"
)

// Host is the host's own network.
type Host struct{}

// DialContext is [net.Dialer.DialContext].
func (Host) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// Listen is [net.Listen].
func (Host) Listen(network, addr string) (net.Listener, error) { return net.Listen(network, addr) }

// ListenPacket is [net.ListenPacket].
func (Host) ListenPacket(network, addr string) (net.PacketConn, error) {
	return net.ListenPacket(network, addr)
}

// LookupHost is [net.Resolver.LookupNetIP].
func (Host) LookupHost(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}
