package stackd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"ionet/protocol"
	"ionet/protocol/door"
)

// askWait bounds how long another stack may take to answer --stop and --show.
const askWait = 10 * time.Second

// asked is a connection to another stack, for the two things that io-net
// asks of one; package client has the rest, but lies above.
type asked struct {
	conn *net.UnixConn
	buf  []byte
}

func ask(prefix string) (*asked, error) {
	c, err := door.Dial(door.Socket(prefix, protocol.AFInet))
	if err != nil {
		return nil, fmt.Errorf("no stack answers at %s: %w", paths{prefix: prefix}.name(), err)
	}
	a := &asked{conn: c, buf: make([]byte, protocol.MaxFrame)}
	_, err = a.request(protocol.TypeHello, protocol.AppendHelloRequest(nil))
	if err != nil {
		c.Close()
		return nil, err
	}
	return a, nil
}

// request sends one frame and answers the payload of its reply.
func (a *asked) request(t protocol.Type, payload []byte) ([]byte, error) {
	a.conn.SetDeadline(time.Now().Add(askWait))
	frame := append(protocol.AppendHeader(nil, protocol.Header{Type: t, Tag: 1}), payload...)
	if _, err := a.conn.Write(frame); err != nil {
		return nil, err
	}
	n, err := a.conn.Read(a.buf)
	if err != nil {
		return nil, err
	}
	h, p, err := protocol.ParseFrame(a.buf[:n])
	if err != nil {
		return nil, err
	}
	if h.Errno != 0 {
		return nil, &protocol.Error{Errno: h.Errno, Text: string(p)}
	}
	return p, nil
}

// options are the rows of the stack's table of options.
func (a *asked) options() (rows []protocol.OptionRow, err error) {
	q := protocol.TableRequest{Name: protocol.TableOptions}
	for {
		p, err := a.request(protocol.TypeTable, protocol.AppendTableRequest(nil, q))
		if err != nil {
			return nil, err
		}
		next, body, err := protocol.ParsePage(p)
		if err != nil {
			return nil, err
		}
		d := json.NewDecoder(bytes.NewReader(body))
		for d.More() {
			var r protocol.OptionRow
			if err := d.Decode(&r); err != nil {
				return nil, err
			}
			rows = append(rows, r)
		}
		if next == 0 {
			return rows, nil
		}
		q.Cursor = next
	}
}
