package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// The server of a measure reads what comes to streamPort, writes to who
	// connects to fillPort, and echoes at echoPort.
	streamPort = 5001
	fillPort   = 5002
	echoPort   = 5003
	// streamChunk is what one call writes, and the most that one call reads.
	streamChunk = 64 << 10
	// streamWarmUp is how long a stream runs before it is measured: its
	// windows have grown, its buffers have been made.
	streamWarmUp = 300 * time.Millisecond
	// streamPatience is how long after its time a stream may take to end.
	streamPatience = 10 * time.Second
)

// network is two stacks in this process and the link between them. The server
// listens at streamPort.
type network struct {
	name   string
	dial   func(from netip.Addr) (net.Conn, error) // the server's address of the same version
	listen func(v *version) (net.Listener, error)
	frames func() uint64 // sent so far, by both
	close  func() error
}

// connect makes one connection.
func (n *network) connect(v *version) (client, server net.Conn, err error) {
	l, err := n.listen(v)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	accepted := make(chan error, 1)
	go func() {
		var err error
		server, err = l.Accept()
		accepted <- err
	}()
	if client, err = n.dial(v.client); err != nil {
		return nil, nil, err
	}
	return client, server, <-accepted
}

// streamed is the outcome of one stream.
type streamed struct {
	gbps   float64
	allocs float64 // of the whole process, a frame
	cpu    float64 // nanoseconds of processor time of both stacks a KiB
}

// stream sends one way through a network for d.
func stream(n *network, v *version, d time.Duration) (r streamed, err error) {
	from, to, err := n.connect(v)
	if err != nil {
		return r, fmt.Errorf("%s: %w", n.name, err)
	}
	end := time.Now().Add(streamWarmUp + d + streamPatience)
	if err := errors.Join(from.SetDeadline(end), to.SetDeadline(end)); err != nil {
		return r, err
	}
	var stop atomic.Bool
	var got atomic.Uint64
	sent, received := make(chan error, 1), make(chan error, 1)
	go func() { sent <- errors.Join(fill(from, &stop), from.Close()) }()
	go func() { received <- errors.Join(drain(to, &got), to.Close()) }()
	time.Sleep(streamWarmUp)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	octets, frames, cpu, start := got.Load(), n.frames(), cpuTime(), time.Now()
	time.Sleep(d)
	octets, frames, cpu = got.Load()-octets, n.frames()-frames, cpuTime()-cpu
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	stop.Store(true)
	if err := errors.Join(<-sent, <-received); err != nil {
		return r, fmt.Errorf("%s: %w", n.name, err)
	}
	return streamed{
		gbps:   float64(octets) * 8 / float64(took.Nanoseconds()),
		allocs: float64(after.Mallocs-before.Mallocs) / float64(max(frames, 1)),
		cpu:    float64(cpu.Nanoseconds()) / (float64(max(octets, 1)) / 1024),
	}, nil
}

// fill writes to c until stop is set.
func fill(c io.Writer, stop *atomic.Bool) error {
	chunk := make([]byte, streamChunk)
	for !stop.Load() {
		if _, err := c.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

// drain reads c to its end and counts.
func drain(c io.Reader, got *atomic.Uint64) error {
	buf := make([]byte, streamChunk)
	for {
		n, err := c.Read(buf)
		got.Add(uint64(n))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
