package stackd

import (
	"errors"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
	"ionet/stack/socket"
	"ionet/tool/cli"
)

// frame handles one frame of a control client. Every frame is answered.
func (c *conn) frame(b []byte) {
	h, payload, err := protocol.ParseFrame(b)
	switch {
	case err != nil:
	case h.Flags&protocol.FlagReply != 0:
		err = errf(unix.EINVAL, "a client sends requests, not replies")
	case !c.greets && h.Type != protocol.TypeHello:
		err = errf(unix.EPROTO, "the first frame is hello, not %v", h.Type)
	}
	var answer []byte
	if err == nil {
		answer, err = c.request(h, payload)
	}
	if !errors.Is(err, errParked) {
		c.reply(h, err, answer)
	}
	if h.Type == protocol.TypeStop && err == nil {
		c.s.stop()
	}
}

// errParked says that the answer has been sent, or comes later.
var errParked = errors.New("parked")

// request carries out one request and answers its reply's payload.
func (c *conn) request(h protocol.Header, p []byte) ([]byte, error) {
	switch h.Type {
	case protocol.TypeHello:
		return c.helloFrame(p)
	case protocol.TypeTable:
		return c.tableFrame(p)
	}
	if c.ifname != "" {
		return nil, errf(unix.EOPNOTSUPP, "the entry %s answers hello and tables, not %v", c.ifname, h.Type)
	}
	switch h.Type {
	case protocol.TypeSysctl:
		return c.sysctl(p)
	case protocol.TypeIoctl:
		return c.ioctl(p)
	case protocol.TypeDump:
		return c.dumpFrame(p)
	case protocol.TypeSocket:
		id, err := c.newSocket(p)
		return protocol.AppendU32(nil, id), err
	case protocol.TypeCapture:
		id, err := c.newCapture(p)
		return protocol.AppendU32(nil, id), err
	case protocol.TypeCaptured:
		cp := c.capture(h.ID)
		if cp == nil {
			return nil, errf(unix.EBADF, "no capture %d", h.ID)
		}
		if err := cp.recv(h); err != nil {
			return nil, err
		}
		return nil, errParked
	case protocol.TypeCancel:
		return nil, c.cancel(p)
	case protocol.TypeEnded:
		return c.endedNews(h)
	case protocol.TypeMount:
		return c.mountFrame(p)
	case protocol.TypeUmount:
		return nil, c.umountFrame(p)
	case protocol.TypeRules:
		return c.rulesFrame(p)
	case protocol.TypeLog:
		if err := c.s.filter.logs.recv(c, h, p); err != nil {
			return nil, err
		}
		return nil, errParked
	case protocol.TypeSave:
		return c.saveFrame(p)
	case protocol.TypeRestore:
		return c.restoreFrame(p)
	case protocol.TypeStop:
		return nil, c.privileged("end the stack")
	case protocol.TypeClose:
		if cp := c.capture(h.ID); cp != nil {
			c.own.Lock()
			delete(c.caps, h.ID)
			c.own.Unlock()
			cp.close()
			return nil, nil
		}
	case protocol.TypeBind, protocol.TypeConnect, protocol.TypeShutdown, protocol.TypeGetsockname, protocol.TypeGetpeername,
		protocol.TypeSetsockopt, protocol.TypeGetsockopt, protocol.TypeSend, protocol.TypeRecv, protocol.TypeListen, protocol.TypeAccept:
	default:
		return nil, errf(unix.ENOSYS, "no request of type %d", uint8(h.Type))
	}
	sk := c.sock(h.ID)
	switch {
	case sk == nil:
		return nil, errf(unix.EBADF, "no socket %d", h.ID)
	case sk.so == nil:
		return sk.endedFrame(h, p)
	case sk.so.Type == socket.Stream:
		if answer, served, err := sk.streamFrame(h, p); served {
			return answer, err
		}
	}
	return c.socketFrame(sk, h, p)
}

// privileged refuses those who may only look.
func (c *conn) privileged(what string) error {
	if c.super {
		return nil
	}
	return errf(unix.EPERM, "only the superuser or the stack's own user may %s", what)
}

// socketFrame serves the requests that name a socket.
func (c *conn) socketFrame(sk *sock, h protocol.Header, p []byte) (answer []byte, err error) {
	call := func(f func(w *netif.Work)) { c.s.eng.Call(f) }
	switch h.Type {
	case protocol.TypeClose:
		c.disown(h.ID)
		sk.close()
	case protocol.TypeRecv:
		if err := sk.recv(h, p); err != nil {
			return nil, err
		}
		return nil, errParked
	case protocol.TypeSend:
		n, err := sk.send(p)
		return protocol.AppendU32(nil, uint32(n)), err
	case protocol.TypeBind, protocol.TypeConnect:
		pa, err := protocol.ParseAddr(p)
		if err != nil {
			return nil, err
		}
		a, err := sockAddr(sk.so.Family, pa)
		if err != nil {
			return nil, err
		}
		call(func(w *netif.Work) {
			if h.Type == protocol.TypeBind {
				err = sk.so.Bind(w, a)
			} else {
				err = sk.so.Connect(w, a)
			}
		})
		return nil, err
	case protocol.TypeShutdown:
		var how uint32
		if err := protocol.ParseU32(p, &how); err != nil {
			return nil, err
		}
		if how > 2 {
			return nil, errf(unix.EINVAL, "shutdown: how is 0 (read), 1 (write) or 2 (both), not %d", how)
		}
		call(func(w *netif.Work) { err = sk.shutdown(w, how != 1, how != 0) })
	case protocol.TypeGetsockname:
		return protocol.AppendSockaddr(nil, protoAddr(sk.so.Family, sk.so.Local())), nil
	case protocol.TypeGetpeername:
		a := sk.so.Peer()
		if !a.IP.IsValid() {
			return nil, unix.ENOTCONN
		}
		return protocol.AppendSockaddr(nil, protoAddr(sk.so.Family, a)), nil
	case protocol.TypeSetsockopt:
		o, err := protocol.ParseSockOpt(p)
		if err != nil {
			return nil, err
		}
		if v6, is := policyOption(o); is {
			return nil, c.setPolicy(sk, v6, o.Value)
		}
		value := append([]byte(nil), o.Value...)
		call(func(w *netif.Work) { err = sk.so.SetOption(w, o.Level, o.Name, value) })
		if err == nil {
			sk.noteOption(o.Level, o.Name, value)
		}
		return nil, err
	case protocol.TypeGetsockopt:
		o, err := protocol.ParseSockOpt(p)
		if err != nil {
			return nil, err
		}
		if v6, is := policyOption(o); is {
			value, err := getPolicy(sk, v6, o.Value)
			return protocol.AppendBytes(nil, value), err
		}
		value, err := sk.so.Option(o.Level, o.Name)
		return protocol.AppendBytes(nil, value), err
	case protocol.TypeListen, protocol.TypeAccept:
		return nil, errf(unix.EOPNOTSUPP, "%v: not on a datagram socket", h.Type)
	}
	return nil, err
}

// cancel serves TypeCancel; ESRCH when nothing of that tag waits.
func (c *conn) cancel(p []byte) error {
	var tag uint32
	if err := protocol.ParseU32(p, &tag); err != nil {
		return err
	}
	c.own.Lock()
	socks, caps := slices.Collect(maps.Values(c.socks)), slices.Collect(maps.Values(c.caps))
	c.own.Unlock()
	for _, sk := range socks {
		if sk.cancel(tag) {
			return nil
		}
	}
	for _, cp := range caps {
		if cp.cancel(tag) {
			return nil
		}
	}
	if c.cancelNews(tag) || c.s.filter.logs.remove(c, tag, false) {
		return nil
	}
	return unix.ESRCH
}

// send serves TypeSend.
func (sk *sock) send(p []byte) (n int, err error) {
	pm, err := protocol.ParseMsg(p)
	if err != nil {
		return 0, err
	}
	a, err := sockAddr(sk.so.Family, pm.Addr)
	if err != nil {
		return 0, err
	}
	m := socket.Msg{Addr: a, Data: pm.Data, Flags: int(pm.Flags)}
	wishes, err := protocol.Controls(pm.Control)
	if err != nil {
		return 0, err
	}
	for _, c := range wishes {
		m.Control = append(m.Control, socket.Cmsg(c))
	}
	sk.c.s.eng.Call(func(w *netif.Work) { n, err = sk.so.Send(w, &m) })
	return n, err
}

// helloFrame serves TypeHello.
func (c *conn) helloFrame(p []byte) ([]byte, error) {
	version, err := protocol.ParseHelloRequest(p)
	if err != nil {
		return nil, err
	}
	if version != protocol.Version {
		return nil, errf(unix.EPROTONOSUPPORT, "this stack speaks version %d of the protocol, not %d", protocol.Version, version)
	}
	c.greets = true
	s := c.s
	return protocol.AppendHello(nil, protocol.Hello{Version: protocol.Version, PID: uint32(os.Getpid()), Started: s.info.started.Unix(),
		Prefix: s.paths.prefix, Software: cli.BuildVersion(), Instance: uint32(s.info.instance)}), nil
}

// tableFrame serves TypeTable.
func (c *conn) tableFrame(p []byte) ([]byte, error) {
	q, err := protocol.ParseTableRequest(p)
	if err != nil {
		return nil, err
	}
	if c.ifname == arpEntry && q.Name != protocol.TableNeighbours {
		return nil, errf(unix.EOPNOTSUPP, "the entry %s answers the table %s", c.ifname, protocol.TableNeighbours)
	}
	if c.ifname != "" && c.ifname != arpEntry && q.Name != protocol.TableInterfaces && q.Name != protocol.TableNIC {
		return nil, errf(unix.EOPNOTSUPP, "the entry %s answers the tables %s and %s", c.ifname, protocol.TableInterfaces, protocol.TableNIC)
	}
	var rows []any
	if isFilterTable(q.Name) {
		return c.filterTable(q)
	} else if q.Name == protocol.TableTCP {
		rows, err = c.tcpInfo(q.Arg)
	} else {
		rows, err = c.s.table(q.Name, q.Arg, c.ifname)
	}
	if err != nil {
		return nil, err
	}
	page, next, err := tablePage(rows, q.Cursor, protocol.MaxPayload-8)
	if err != nil {
		return nil, err
	}
	return append(protocol.AppendPage(nil, next), page...), nil
}
