package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"ionet/protocol"
	"ionet/protocol/door"
)

// KeySocket is a key socket (PF_KEY, RFC 2367). One goroutine may write while
// another reads. Request and Dump read too: they wait for a Next of another
// goroutine to end, so that who listens and asks has two sockets.
type KeySocket struct {
	conn *net.UnixConn
	path string

	// Trace, when it is there, is shown every message that goes out and every
	// one that comes in, before it is looked into. It may keep neither.
	Trace func(sent bool, msg []byte)

	wmu sync.Mutex
	out []byte

	rmu   sync.Mutex
	buf   []byte
	rest  []byte                 // of the frame that was read last
	queue []*protocol.KeyMessage // came while Request waited
	seq   uint32                 // begins anywhere: other sockets of this process send under its id too
}

// OpenKey opens a key socket of the stack at sock, as for [Open]. A stack
// without ipsec has none, which is an error of EPROTONOSUPPORT.
func OpenKey(sock string) (*KeySocket, error) {
	prefix, err := door.Find(sock)
	if err != nil {
		return nil, err
	}
	path := door.Socket(prefix, protocol.AFKey)
	conn, err := door.Dial(path)
	if err != nil {
		if door.Alive(prefix) {
			return nil, &protocol.Error{Errno: syscall.EPROTONOSUPPORT, Text: fmt.Sprintf("the stack at %s has no IPsec: start it with io-net -ptcpip ipsec", path)}
		}
		return nil, dialError(prefix, path, err)
	}
	return &KeySocket{conn: conn, path: path, buf: make([]byte, protocol.MaxFrame+1), seq: rand.Uint32N(1 << 30)}, nil
}

// Write sends a message as it is.
func (k *KeySocket) Write(m *protocol.KeyMessage) error {
	k.wmu.Lock()
	defer k.wmu.Unlock()
	b, err := protocol.AppendKeyMessage(k.out[:0], m)
	if err != nil {
		return err
	}
	k.out = b
	if len(b) > protocol.MaxFrame {
		return &protocol.Error{Errno: syscall.EMSGSIZE, Text: fmt.Sprintf("PF_KEY %s of %d octets; %d fit into a frame", protocol.KeyTypeName(m.Type), len(b), protocol.MaxFrame)}
	}
	if k.Trace != nil {
		k.Trace(true, b)
	}
	err = k.send(b)
	clear(b) // keys
	return err
}

func (k *KeySocket) send(b []byte) error {
	_, err := k.conn.Write(b)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return k.gone()
	}
	return err
}

func (k *KeySocket) gone() error {
	return fmt.Errorf("the stack at %s has gone: %w", k.path, syscall.ECONNRESET)
}

// Next waits for a message.
func (k *KeySocket) Next() (*protocol.KeyMessage, error) {
	k.rmu.Lock()
	defer k.rmu.Unlock()
	if len(k.queue) > 0 {
		m := k.queue[0]
		k.queue = k.queue[1:]
		return m, nil
	}
	return k.read()
}

// fill reads a frame if there is nothing left of the last one.
func (k *KeySocket) fill() error {
	if len(k.rest) > 0 {
		return nil
	}
	n, err := k.conn.Read(k.buf)
	if err != nil || n == 0 {
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
			err = k.gone()
		}
		return err
	}
	k.rest = k.buf[:n]
	return nil
}

// took passes over a message.
func (k *KeySocket) took(msg, rest []byte) {
	if k.Trace != nil {
		k.Trace(false, msg)
	}
	clear(msg) // keys
	k.rest = rest
}

func (k *KeySocket) read() (*protocol.KeyMessage, error) {
	if err := k.fill(); err != nil {
		return nil, err
	}
	b := k.rest
	m, rest, err := protocol.NextKeyMessage(b)
	k.took(b[:len(b)-len(rest)], rest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.path, err)
	}
	return m, nil
}

// ask sends m under this process's id and a new sequence number, with the
// time until which the replies may come.
func (k *KeySocket) ask(m *protocol.KeyMessage) (*protocol.KeyMessage, error) {
	k.seq++
	q := *m
	q.Seq, q.PID = k.seq, uint32(os.Getpid())
	if err := k.Write(&q); err != nil {
		return nil, err
	}
	return &q, k.patience()
}

func (k *KeySocket) patience() error {
	return k.conn.SetReadDeadline(time.Now().Add(requestTimeout))
}

// Request sends m under this process's id and a new sequence number, and
// waits for the reply of its type that has both. The reply's errno is the
// error, with what the stack says of it; what comes between is left for Next.
func (k *KeySocket) Request(m *protocol.KeyMessage) (*protocol.KeyMessage, error) {
	k.rmu.Lock()
	defer k.rmu.Unlock()
	q, err := k.ask(m)
	if err != nil {
		return nil, err
	}
	defer func() { _ = k.conn.SetReadDeadline(time.Time{}) }()
	for {
		a, err := k.read()
		if err != nil {
			return nil, err
		}
		if a.Type == q.Type && a.Seq == q.Seq && a.PID == q.PID {
			return a, keyFailure(a)
		}
		k.keep(a)
	}
}

// Dump sends m, a DUMP or X_SPDDUMP, and hands each entry to each. The errno
// of a reply is the error, ENOENT when there is no entry; an error of each
// ends it, and what is left of the dump is read and forgotten.
func (k *KeySocket) Dump(m *protocol.KeyMessage, each func(*protocol.KeyMessage) error) error {
	k.rmu.Lock()
	defer k.rmu.Unlock()
	q, err := k.ask(m)
	if err != nil {
		return err
	}
	defer func() { _ = k.conn.SetReadDeadline(time.Time{}) }()
	var failed error
	for {
		a, err := k.read()
		if err != nil {
			return err
		}
		if a.Type != q.Type || a.PID != q.PID {
			k.keep(a)
			continue
		}
		if err := keyFailure(a); err != nil {
			return err
		}
		if failed == nil {
			failed = each(a)
		}
		if a.Seq == 0 {
			return failed
		}
		if len(k.rest) == 0 {
			if err := k.patience(); err != nil {
				return err
			}
		}
	}
}

func keyFailure(a *protocol.KeyMessage) error {
	if a.Errno == 0 {
		return nil
	}
	return &protocol.Error{Errno: a.Errno, Text: a.Text}
}

// keep keeps a message for Next. Of a program that only requests the oldest
// are forgotten, as a slow listener's are.
func (k *KeySocket) keep(m *protocol.KeyMessage) {
	if len(k.queue) == keepMax {
		k.queue = append(k.queue[:0], k.queue[1:]...)
	}
	k.queue = append(k.queue, m)
}

// SetReadDeadline moves the deadline of Next.
func (k *KeySocket) SetReadDeadline(t time.Time) error { return k.conn.SetReadDeadline(t) }

// Close ends the socket.
func (k *KeySocket) Close() error { return k.conn.Close() }
