package stackd

import (
	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// saving is what a client saves or restores in parts. Bound: changeLimit of what
// comes; what goes is the table.
type saving struct {
	out   []byte // being read
	which uint8  // what in is about
	in    []byte
}

// savePage is how much of it one frame has.
const savePage = 60 << 10

// saveFrame serves TypeSave: the first page has the table written down, the others
// are of that.
func (c *conn) saveFrame(p []byte) ([]byte, error) {
	which, cursor, err := protocol.ParseSaveRequest(p)
	if err != nil {
		return nil, err
	}
	if err := c.privileged("save states"); err != nil {
		return nil, err
	}
	if cursor == 0 {
		if c.saved.out, err = c.s.saveStates(which); err != nil {
			return nil, err
		}
	}
	if cursor > uint64(len(c.saved.out)) {
		return nil, errf(unix.EINVAL, "nothing is saved at %d", cursor)
	}
	rest := c.saved.out[cursor:]
	next := uint64(0)
	if len(rest) > savePage {
		rest, next = rest[:savePage], cursor+savePage
	} else {
		c.saved.out = nil
	}
	return append(protocol.AppendPage(nil, next), rest...), nil
}

func (s *server) saveStates(which uint8) ([]byte, error) {
	f, nat := s.eng.Engine().Filter(), s.eng.Engine().NAT()
	switch {
	case f == nil || nat == nil:
		return nil, errNoFilter
	case which == protocol.LogStates:
		return f.Save(), nil
	case which == protocol.LogNAT:
		return nat.Save()
	}
	return nil, errf(unix.EINVAL, "nothing is saved of %d", which)
}

// restoreFrame serves TypeRestore.
func (c *conn) restoreFrame(p []byte) ([]byte, error) {
	q, err := protocol.ParseRestoreRequest(p)
	if err != nil {
		return nil, err
	}
	if err := c.privileged("restore states"); err != nil {
		return nil, err
	}
	s := &c.saved
	if len(s.in) > 0 && s.which != q.Which || len(s.in)+len(q.Data) > changeLimit {
		big := len(s.in)+len(q.Data) > changeLimit
		s.in = nil
		if big {
			return nil, errf(unix.E2BIG, "at most %d octets are restored at once", changeLimit)
		}
		return nil, errf(unix.EINVAL, "the parts before were of something else")
	}
	s.which, s.in = q.Which, append(s.in, q.Data...)
	if q.More {
		return nil, nil
	}
	data := s.in
	s.in = nil
	f, nat := c.s.eng.Engine().Filter(), c.s.eng.Engine().NAT()
	var n int
	switch {
	case f == nil || nat == nil:
		return nil, errNoFilter
	case q.Which == protocol.LogStates:
		n, err = f.Restore(data)
	case q.Which == protocol.LogNAT:
		n, err = nat.Restore(data)
	default:
		return nil, errf(unix.EINVAL, "nothing is restored of %d", q.Which)
	}
	if err != nil {
		return nil, errf(unix.EINVAL, "%v", err)
	}
	return protocol.AppendU32(nil, uint32(n)), nil
}
