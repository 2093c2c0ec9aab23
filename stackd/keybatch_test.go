package stackd

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/protocol/door"
	"ionet/tool/cli"
	"ionet/tool/setkey"
)

// Requests that do not wait for each other are answered each with its own, in their order; what comes between is kept.
func TestKeyBatch(t *testing.T) {
	d := daemonWith(t, "ipsec,", "-dwire", "path="+t.TempDir())
	k, err := client.OpenKey(d.paths.prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	other, err := client.OpenKey(d.paths.prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	const many = 3000
	next, refused := 0, 0
	b := k.Batch(func(tag int, err error) {
		if tag != next {
			t.Fatalf("reply %d is for request %d", next, tag)
		}
		next++
		if twice := tag%10 == 9; twice != errors.Is(err, unix.EEXIST) || !twice && err != nil {
			t.Fatalf("request %d: %v", tag, err)
		} else if twice {
			refused++
		}
	})
	for n := range many {
		m := keyedAdd(uint32(n))
		if n%10 == 9 {
			m = keyedAdd(uint32(n - 1)) // it is there
		}
		if err := b.Send(m, n); err != nil {
			t.Fatal(err)
		}
		if n == many/2 {
			if _, err := other.Request(keyedAdd(many)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Flush(); err != nil || next != many || refused != many/10 {
		t.Fatalf("%d replies, %d refused, %v", next, refused, err)
	}
	if m, err := k.Next(); err != nil || m.Type != protocol.SADBAdd || m.SA.SPI != 1000+many {
		t.Errorf("what the other socket did: %+v, %v", m, err)
	}
	if all, err := dumpOf(k, &protocol.KeyMessage{Type: protocol.SADBDump}); err != nil || len(all) != many-many/10+1 {
		t.Errorf("%d associations, %v", len(all), err)
	}
}

// Dumps in one frame with other requests are whole, and answered in their order.
func TestDumpsInAFrame(t *testing.T) {
	d := daemonWith(t, "ipsec,", "-dwire", "path="+t.TempDir())
	fill, err := client.OpenKey(d.paths.prefix)
	if err != nil {
		t.Fatal(err)
	}
	const many = 5000 // more than fits into a socket's queue
	b := fill.Batch(func(_ int, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	for n := range uint32(many) {
		if err := b.Send(keyedAdd(n), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	fill.Close()
	c, err := door.Dial(d.paths.door(protocol.AFKey))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	var frame []byte
	for seq, typ := range []uint8{protocol.SADBRegister, protocol.SADBDump, protocol.SADBFlush, protocol.SADBDump, protocol.SADBRegister} {
		if frame, err = protocol.AppendKeyMessage(frame, &protocol.KeyMessage{Type: typ, Seq: uint32(seq) + 1, PID: 7}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the daemon waits for its reader", func() bool {
		d.srv.mu.Lock()
		defer d.srv.mu.Unlock()
		for c := range d.srv.conns {
			c.mu.Lock()
			waits := c.queued >= stallAt
			c.mu.Unlock()
			if waits {
				return true
			}
		}
		return false
	})
	var got []uint8
	counts := map[uint8]int{}
	buf := make([]byte, protocol.MaxFrame)
	for counts[protocol.SADBRegister] < 2 {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err, got)
		}
		for b := buf[:n]; len(b) > 0; {
			var m *protocol.KeyMessage
			if m, b, err = protocol.NextKeyMessage(b); err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 || got[len(got)-1] != m.Type {
				got = append(got, m.Type)
			}
			counts[m.Type]++
		}
	}
	if want := []uint8{protocol.SADBRegister, protocol.SADBDump, protocol.SADBFlush, protocol.SADBDump, protocol.SADBRegister}; !slices.Equal(got, want) || counts[protocol.SADBDump] != many+1 {
		t.Errorf("answers of types %v, %v", got, counts)
	}
}

// A statement that is read from a pipe has acted before the next one is written.
func TestStatementsFromAPipe(t *testing.T) {
	d := daemonWith(t, "ipsec,", "-dwire", "path="+t.TempDir())
	r, w := io.Pipe()
	var errs strings.Builder
	ended := make(chan int)
	go func() {
		ended <- setkey.Command.Run(&cli.Context{Sock: d.paths.prefix, Stdin: r, Stdout: io.Discard, Stderr: &errs}, []string{"-c"})
	}()
	for n, s := range []string{"add 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha1 \"twenty octets of key\";\n", "add 10.0.0.1 10.0.0.2 ah 301 -A hmac-sha1 \"twenty octets of key\"; add"} {
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the statement acts", func() bool { return len(d.eng.Engine().IPsec.SAs(0)) == n+1 })
	}
	io.WriteString(w, " 10.0.0.1 10.0.0.2 ah 300 -A hmac-sha1 \"twenty octets of key\"; frob;")
	w.Close()
	if status := <-ended; status != 1 || !strings.HasPrefix(errs.String(), "File exists.\nline 2: syntax error: ") {
		t.Errorf("status %d:\n%s", status, errs.String())
	}
}
