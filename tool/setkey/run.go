package setkey

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"ionet/client"
	"ionet/protocol"
)

// Keys is what setkey asks of a key socket; *client.KeySocket is one.
type Keys interface {
	Request(m *protocol.KeyMessage) (*protocol.KeyMessage, error)
	Batch(done func(tag int, err error)) *client.KeyBatch
	Dump(m *protocol.KeyMessage, each func(*protocol.KeyMessage) error) error
	Next() (*protocol.KeyMessage, error)
	Close() error
}

// mode is what the command line asks for.
type mode uint8

const (
	interactive mode = iota + 1 // -c
	script                      // -f
	dump                        // -D
	flush                       // -F
	listen                      // -x
)

type options struct {
	mode     mode
	file     string
	all      bool // -a
	forever  bool // -l
	policies bool // -P
	verbose  bool // -v
	hex      bool // -h, -H
	dry      bool // -n
	fwd      bool // -r
	raw      bool // -xx
	version  bool // -V
}

// tool is one run of the command.
type tool struct {
	options
	world
	printer
	json      bool
	out, errw io.Writer
	open      func(trace func(sent bool, msg []byte)) (Keys, error)

	k      Keys // once it was asked for
	batch  *client.KeyBatch
	stop   error // a failure of more than one request that a batch has met
	warned map[string]bool
	failed bool // something was refused, and has been told
	auth   supported
	enc    supported
	asked  bool // for the two
}

// keys are the stack's, opened once.
func (t *tool) keys() (Keys, error) {
	if t.k != nil {
		return t.k, nil
	}
	var trace func(bool, []byte)
	if t.mode == listen || t.verbose || t.hex {
		trace = t.trace
	}
	var err error
	t.k, err = t.open(trace)
	return t.k, err
}

// trace shows a message that goes over the key socket.
func (t *tool) trace(sent bool, msg []byte) {
	if t.mode == listen {
		t.overheard(sent, msg)
		return
	}
	if t.verbose {
		structures(t.out, msg)
		fmt.Fprintln(t.out)
	}
	if t.hex {
		hexDump(t.out, msg)
	}
}

// do carries the command line out.
func (t *tool) do(in io.Reader) error {
	switch t.mode {
	case interactive, script:
		return t.statements(in)
	case flush:
		typ := uint8(protocol.SADBFlush)
		if t.policies {
			typ = protocol.SADBXSPDFlush
		}
		return t.result(t.send(&protocol.KeyMessage{Type: typ}), typ, 0)
	case listen:
		return t.listen()
	}
	typ := uint8(protocol.SADBDump)
	if t.policies {
		typ = protocol.SADBXSPDDump
	}
	for {
		if t.forever {
			fmt.Fprint(t.out, shortHead)
		}
		if err := t.result(t.send(&protocol.KeyMessage{Type: typ}), typ, 0); err != nil || !t.forever {
			return err
		}
		select {
		case <-t.ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// statements reads and does one after the other. In a file the first that is
// not understood ends it, of a terminal the next one is read.
func (t *tool) statements(in io.Reader) error {
	p := newParser(newLexer(newAhead(t, in)), t.supported)
	for t.ctx.Err() == nil {
		s, err := p.next()
		if err == nil && (s == nil || s.leave) {
			return t.flush()
		}
		if err == nil {
			err = t.statement(s)
		}
		if err != nil { // what was asked before is told of first
			if err := t.flush(); err != nil {
				return err
			}
		}
		syntax, ok := errors.AsType[*syntaxError](err)
		switch {
		case err == nil:
		case !ok:
			return err
		case t.mode == script:
			fmt.Fprintln(t.errw, syntax)
			fmt.Fprintf(t.errw, "parse failed, line %d.\n", syntax.line)
			t.failed = true
			return nil
		default:
			fmt.Fprintln(t.errw, syntax)
			t.failed = true
			if err := p.skip(); err != nil {
				return err
			}
		}
	}
	return nil
}

// statement carries one out.
func (t *tool) statement(s *statement) error {
	all, err := t.messages(s)
	if err != nil {
		return err
	}
	for _, name := range s.weak {
		if !t.warned[name] {
			t.warned[name] = true
			fmt.Fprintf(t.errw, "setkey: line %d: %s is weak: for peers alone that know nothing better\n", s.line, name)
		}
	}
	for _, m := range all {
		if err := t.post(m, s.line); err != nil {
			return err
		}
		if t.fwd && m.Policy != nil && m.Policy.Dir == protocol.IPSecDirIn {
			if err := t.post(forwarded(m), s.line); err != nil {
				return err
			}
		}
	}
	return nil
}

// post sends a message of a statement. What changes something, and prints nothing, does not wait for its reply before the
// next statement is read, if that is there already.
func (t *tool) post(m *protocol.KeyMessage, line int) error {
	switch m.Type {
	case protocol.SADBDump, protocol.SADBXSPDDump, protocol.SADBGet, protocol.SADBGetSPI:
	default:
		if t.dry || t.verbose || t.hex { // each reply is shown behind its request
			break
		}
		k, err := t.keys()
		if err != nil {
			return &fatal{err}
		}
		if t.batch == nil {
			t.batch = k.Batch(func(tag int, err error) {
				if err := t.result(err, uint8(tag), tag>>8); err != nil && t.stop == nil {
					t.stop = err
				}
			})
		}
		if err := t.batch.Send(m, line<<8|int(m.Type)); err != nil {
			if err := t.flush(); err != nil {
				return err
			}
			return t.result(err, m.Type, line)
		}
		return t.stop
	}
	if err := t.flush(); err != nil {
		return err
	}
	return t.result(t.send(m), m.Type, line)
}

// flush waits for the replies that are missing.
func (t *tool) flush() error {
	if t.batch == nil {
		return nil
	}
	if err := t.batch.Flush(); err != nil {
		return err
	}
	return t.stop
}

// ahead is the input. Before it is waited for, all that was asked has been answered; a file is not waited for.
type ahead struct {
	t    *tool
	in   io.Reader
	file bool
}

func newAhead(t *tool, in io.Reader) *ahead {
	a := &ahead{t: t, in: in}
	if f, ok := in.(*os.File); ok {
		info, err := f.Stat()
		a.file = err == nil && info.Mode().IsRegular()
	}
	return a
}

func (a *ahead) Read(b []byte) (int, error) {
	if !a.file {
		if err := a.t.flush(); err != nil {
			return 0, err
		}
	}
	return a.in.Read(b)
}

// forwarded is the policy for packets on their way through that goes with one
// of in. What is unique is so for one policy.
func forwarded(m *protocol.KeyMessage) *protocol.KeyMessage {
	f, p := *m, *m.Policy
	f.Policy, p.Dir = &p, protocol.IPSecDirFwd
	p.Requests = append([]protocol.KeyRequest(nil), p.Requests...)
	for i := range p.Requests {
		if r := &p.Requests[i]; r.Level == protocol.IPSecLevelUnique {
			r.Level, r.ReqID = protocol.IPSecLevelRequire, 0
		}
	}
	return &f
}

// supported asks the stack for its algorithms once. One that does not say is
// left to judge keys by itself.
func (t *tool) supported() (auth, encrypt supported) {
	if t.asked || t.dry {
		return t.auth, t.enc
	}
	t.asked = true
	k, err := t.keys()
	if err != nil || t.flush() != nil {
		return nil, nil // sending will say so
	}
	if m, err := k.Request(&protocol.KeyMessage{Type: protocol.SADBRegister}); err == nil {
		t.auth, t.enc = m.SupportedAuth, m.SupportedEncrypt
	}
	return t.auth, t.enc
}

// send asks m of the stack, and prints what is to be printed of the reply.
func (t *tool) send(m *protocol.KeyMessage) error {
	if t.dry {
		b, err := protocol.AppendKeyMessage(nil, m)
		if err == nil {
			t.trace(true, b)
		}
		return err
	}
	k, err := t.keys()
	if err != nil {
		return &fatal{err}
	}
	switch m.Type {
	case protocol.SADBDump, protocol.SADBXSPDDump:
		out := bufio.NewWriterSize(t.out, 64<<10)
		defer out.Flush()
		return k.Dump(m, func(m *protocol.KeyMessage) error {
			if m.SA != nil && m.SA.State == protocol.SADBSAStateDead && !t.all {
				return nil
			}
			return t.show(out, m)
		})
	}
	a, err := k.Request(m)
	switch {
	case err == nil && m.Type == protocol.SADBGetSPI && a.SA2 == nil:
		a.SA2 = m.SA2
		fallthrough
	case err == nil && (m.Type == protocol.SADBGet || m.Type == protocol.SADBGetSPI):
		return t.show(t.out, a)
	}
	return err
}

// show prints an entry.
func (t *tool) show(w io.Writer, m *protocol.KeyMessage) error {
	var row any
	switch policy := m.Type == protocol.SADBXSPDDump; {
	case t.json && policy:
		row = t.policyRow(m)
	case t.json:
		row = t.saRow(m)
	case policy:
		t.policy(w, m)
		return nil
	case t.forever:
		t.short(w, m)
		return nil
	default:
		t.sa(w, m)
		return nil
	}
	return json.NewEncoder(w).Encode(row)
}

// fatal is a failure of more than one request.
type fatal struct{ err error }

func (f *fatal) Error() string { return f.err.Error() }
func (f *fatal) Unwrap() error { return f.err }

// result tells of what the stack has refused; err comes back when it is not
// that. line is 0 outside of a file.
func (t *tool) result(err error, typ uint8, line int) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*protocol.Error](err)
	if !ok || errors.As(err, new(*fatal)) {
		return err
	}
	text := protocol.Strerror(e.Errno)
	if missing := e.Errno == syscall.ENOENT || e.Errno == syscall.ESRCH; missing {
		empty := true
		switch typ {
		case protocol.SADBDump:
			text = "No SAD entries"
		case protocol.SADBXSPDDump:
			text = "No SPD entries"
		default:
			empty = false
		}
		if empty {
			if !t.json {
				fmt.Fprintf(t.out, "%s%s.\n", t.place(line), text)
			}
			return nil
		}
		switch typ {
		case protocol.SADBDelete, protocol.SADBGet, protocol.SADBUpdate, protocol.SADBXSPDDelete:
			text = "No entry"
		}
	}
	if e.Text != "" {
		text += ": " + e.Text
	}
	fmt.Fprintf(t.errw, "%s%s.\n", t.place(line), text)
	t.failed = true
	return nil
}

func (t *tool) place(line int) string {
	if t.mode != script {
		return ""
	}
	return fmt.Sprintf("The result of line %d: ", line)
}

// listen shows every message that any key socket sees, until it is stopped.
func (t *tool) listen() error {
	k, err := t.keys()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(t.ctx, func() { _ = k.Close() })
	defer stop()
	if _, err := k.Request(&protocol.KeyMessage{Type: protocol.SADBXPromisc, SAType: 1}); err != nil {
		return err
	}
	for {
		if _, err := k.Next(); err != nil {
			if t.ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// overheard shows a message of -x.
func (t *tool) overheard(sent bool, msg []byte) {
	inner := msg
	if len(msg) >= 16 && msg[1] == protocol.SADBXPromisc {
		inner = msg[16:]
	}
	if sent || len(inner) == 0 {
		return
	}
	now := t.now()
	if t.raw {
		fmt.Fprintf(t.out, "%d.%06d \n", now.Unix(), now.Nanosecond()/1000)
	} else {
		fmt.Fprintf(t.out, "%s \n", now.In(t.zone).Format("15:04:05.000000"))
	}
	if t.hex {
		hexDump(t.out, msg)
	}
	structures(t.out, inner)
	fmt.Fprintln(t.out)
}
