package client

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"ionet/protocol"
)

// KeyBatch is requests of a key socket that do not wait for each other's
// replies. One goroutine uses it, and nobody else the socket meanwhile.
type KeyBatch struct {
	k    *KeySocket
	done func(tag int, err error)
	out  []byte
	sent []keyAsked // without reply, the oldest first
	head int        // of sent
	pid  uint32
}

type keyAsked struct {
	seq uint32
	tag int
	typ uint8
}

// Requests of a batch leave in frames of about batchFrame octets; at most
// batchWindow of them are without reply, whose replies a socket's queue holds.
const (
	batchFrame  = 16 << 10
	batchWindow = 512
)

// Batch begins one. done is called with each request's tag, in the order of
// the requests, and with the errno of its reply and what the stack says of it.
func (k *KeySocket) Batch(done func(tag int, err error)) *KeyBatch {
	return &KeyBatch{k: k, done: done, pid: uint32(os.Getpid())}
}

// Send takes a request, which is sent under this process's id and a sequence
// number of its own, now or with later ones. An error is the socket's.
func (b *KeyBatch) Send(m *protocol.KeyMessage, tag int) error {
	k := b.k
	before := len(b.out)
	out, err := protocol.AppendKeyMessage(b.out, m)
	if err != nil {
		return err
	}
	k.seq++
	protocol.PutKeySender(out[before:], k.seq, b.pid)
	if n := len(out) - before; n > protocol.MaxFrame {
		return &protocol.Error{Errno: syscall.EMSGSIZE, Text: fmt.Sprintf("PF_KEY %s of %d octets; %d fit into a frame", protocol.KeyTypeName(m.Type), n, protocol.MaxFrame)}
	}
	if b.out = out; before > 0 && len(out) > protocol.MaxFrame {
		if err := b.write(before); err != nil {
			return err
		}
	}
	b.sent = append(b.sent, keyAsked{k.seq, tag, m.Type})
	if len(b.out) < batchFrame {
		return nil
	}
	if err := b.write(len(b.out)); err != nil {
		return err
	}
	return b.wait(batchWindow)
}

// Flush sends what is left and waits for all replies.
func (b *KeyBatch) Flush() error {
	if err := b.write(len(b.out)); err != nil {
		return err
	}
	return b.wait(0)
}

// write sends the first n octets.
func (b *KeyBatch) write(n int) error {
	if n == 0 {
		return nil
	}
	b.k.wmu.Lock()
	defer b.k.wmu.Unlock()
	err := b.k.send(b.out[:n])
	left := copy(b.out, b.out[n:])
	clear(b.out[left:]) // keys
	b.out = b.out[:left]
	return err
}

// wait reads replies until at most n are missing.
func (b *KeyBatch) wait(n int) error {
	if len(b.sent)-b.head <= n {
		return nil
	}
	k := b.k
	k.rmu.Lock()
	defer k.rmu.Unlock()
	defer func() { _ = k.conn.SetReadDeadline(time.Time{}) }()
	for len(b.sent)-b.head > n {
		if len(k.rest) == 0 {
			if err := k.patience(); err != nil {
				return err
			}
		}
		if err := b.reply(); err != nil {
			return err
		}
	}
	b.sent = b.sent[:copy(b.sent, b.sent[b.head:])]
	b.head = 0
	return nil
}

// reply reads a message. Of a reply that is no error the head says all.
func (b *KeyBatch) reply() error {
	k := b.k
	if err := k.fill(); err != nil {
		return err
	}
	s := b.sent[b.head]
	if typ, errno, seq, pid, n, ok := protocol.KeyHead(k.rest); ok && typ == s.typ && seq == s.seq && pid == b.pid && errno == 0 {
		k.took(k.rest[:n], k.rest[n:])
		b.head++
		b.done(s.tag, nil)
		return nil
	}
	m, err := k.read()
	switch {
	case err != nil:
		return err
	case m.Type == s.typ && m.Seq == s.seq && m.PID == b.pid:
		b.head++
		b.done(s.tag, keyFailure(m))
	default:
		k.keep(m)
	}
	return nil
}
