package host

import (
	"bytes"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// fake is one end of a stream in memory: what a transport does at its
// socket's side, and nothing else. Its peer's octets wait in a small buffer.
type fake struct {
	so    *socket.Socket
	peer  *fake
	local socket.Addr

	mu       *sync.Mutex // of both ends
	in       bytes.Buffer
	size     int  // of in
	end      bool // the peer sends no more
	noRecv   bool
	noSend   bool
	closed   bool
	connects bool // Connect stays without an answer
	listens  bool
	queue    []*socket.Socket
}

// pipe makes two sockets that are connected to each other, with buffers of
// size octets.
func pipe(h *Stack, size int) (a, b *fake) {
	mu := new(sync.Mutex)
	a, b = lone(h, mu, size), lone(h, mu, size)
	a.peer, b.peer = b, a
	return a, b
}

func lone(h *Stack, mu *sync.Mutex, size int) *fake {
	f := &fake{mu: mu, size: size}
	f.so = socket.New(h.engine.Env, socket.AFInet, socket.Stream, 6, self, size, size, 0, new(atomic.Int64))
	f.so.H = f
	return f
}

func (f *fake) Bind(*netif.Work, socket.Addr) error { return nil }

func (f *fake) Connect(*netif.Work, socket.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connects = true
	return syscall.EINPROGRESS
}

// established ends a Connect, well or with an error.
func (f *fake) established(w *netif.Work, err syscall.Errno) {
	f.mu.Lock()
	f.connects = false
	f.mu.Unlock()
	if err != 0 {
		f.so.SetError(w, err)
	}
	f.so.Changed(w)
}

func (f *fake) Send(w *netif.Work, m *socket.Msg) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.noSend || f.closed || f.peer.closed {
		return 0, syscall.EPIPE
	}
	n := min(len(m.Data), f.peer.size-f.peer.in.Len())
	if n == 0 {
		return 0, syscall.EWOULDBLOCK
	}
	f.peer.in.Write(m.Data[:n])
	f.peer.so.Changed(w)
	return n, nil
}

func (f *fake) Recv(w *netif.Work, m *socket.Msg) error {
	if err := f.so.TakeError(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.in.Len() == 0 && !f.end && !f.noRecv {
		return syscall.EWOULDBLOCK
	}
	n, _ := f.in.Read(m.Data)
	m.Data, m.Size = m.Data[:n], n
	if f.peer != nil {
		f.peer.so.Changed(w)
	}
	return nil
}

func (f *fake) Shutdown(w *netif.Work, read, write bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noRecv = f.noRecv || read
	if write {
		f.noSend, f.peer.end = true, true
		f.peer.so.Changed(w)
	}
	return nil
}

func (f *fake) Close(w *netif.Work) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.peer != nil {
		f.peer.end = true
		f.peer.so.Changed(w)
	}
}

func (f *fake) Poll() (ev socket.Events) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.connects {
		return 0
	}
	if f.in.Len() > 0 || f.end || f.noRecv || len(f.queue) > 0 {
		ev |= socket.Readable
	}
	if f.peer != nil && f.peer.in.Len() < f.peer.size || f.noSend || f.end {
		ev |= socket.Writable
	}
	return ev
}

func (f *fake) Queued() (recv, send int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.in.Len(), f.peer.in.Len()
}

func (f *fake) Listen(*netif.Work, int) error { f.listens = true; return nil }

// arrive gives a listener a connection.
func (f *fake) arrive(w *netif.Work, so *socket.Socket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, so)
	f.so.Changed(w)
}

func (f *fake) Accept(*netif.Work) (*socket.Socket, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		return nil, syscall.EWOULDBLOCK
	}
	so := f.queue[0]
	f.queue = f.queue[1:]
	return so, nil
}

func (f *fake) Local() socket.Addr { return f.local }
func (f *fake) Peer() socket.Addr  { return f.local }

func (f *fake) SetOption(*netif.Work, int, int, []byte) error { return nil }
func (f *fake) Option(int, int) ([]byte, error)               { return nil, syscall.ENOPROTOOPT }
func (f *fake) Describe(*packet.Buf, *socket.Msg)             {}
func (f *fake) Buffers() (recv, send int)                     { return f.size, f.size }
func (f *fake) SetBuffer(*netif.Work, bool, int)              {}
func (f *fake) Abort(w *netif.Work)                           { f.so.SetError(w, syscall.ECONNRESET) }
func (f *fake) Listening() bool                               { return f.listens }
