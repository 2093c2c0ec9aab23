package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"strings"

	"ionet/protocol"
)

// Ioctl does one request; what it answers is the argument as the stack left it.
func (s *Stack) Ioctl(req uint32, arg []byte) ([]byte, error) {
	b, err := s.do(protocol.TypeIoctl, 0, protocol.AppendIoctl(nil, req, arg))
	if err != nil {
		return nil, err
	}
	r := protocol.NewReader(b)
	out := r.Bytes()
	return out, r.Close()
}

// IfReq is [Stack.Ioctl] with the argument that most requests have.
func (s *Stack) IfReq(req uint32, arg protocol.IfReq) (protocol.IfReq, error) {
	b, err := s.Ioctl(req, protocol.AppendIfReq(nil, arg))
	if err != nil {
		return protocol.IfReq{}, err
	}
	if len(b) == 0 {
		return arg, nil
	}
	return protocol.ParseIfReq(req, b)
}

// Flags are the IFF_* of an interface; ENXIO when there is none of the name.
func (s *Stack) Flags(name string) (uint32, error) {
	r, err := s.IfReq(protocol.SIOCGIFFLAGS, protocol.IfReq{Name: name})
	return r.Value, err
}

// SetFlags sets and clears flags at once; the others stay as they are.
func (s *Stack) SetFlags(name string, set, clear uint32) error {
	if set|clear == 0 {
		_, err := s.Flags(name)
		return err
	}
	_, err := s.IfReq(protocol.SIOCSIFFLAGS, protocol.IfReq{Name: name, Value: set, Mask: set | clear})
	return err
}

// MTU is an interface's largest packet in octets.
func (s *Stack) MTU(name string) (int, error) {
	r, err := s.IfReq(protocol.SIOCGIFMTU, protocol.IfReq{Name: name})
	return int(r.Value), err
}

// SetMTU changes it.
func (s *Stack) SetMTU(name string, mtu int) error {
	_, err := s.IfReq(protocol.SIOCSIFMTU, protocol.IfReq{Name: name, Value: uint32(mtu)})
	return err
}

// Metric is an interface's routing metric.
func (s *Stack) Metric(name string) (int, error) {
	r, err := s.IfReq(protocol.SIOCGIFMETRIC, protocol.IfReq{Name: name})
	return int(r.Value), err
}

// SetMetric changes it.
func (s *Stack) SetMetric(name string, metric int) error {
	_, err := s.IfReq(protocol.SIOCSIFMETRIC, protocol.IfReq{Name: name, Value: uint32(metric)})
	return err
}

// AddAddr adds an address, or changes the mask of one that is there
// (SIOCAIFADDR). name takes the place of a.Name.
func (s *Stack) AddAddr(name string, a protocol.AliasReq) error {
	a.Name = name
	_, err := s.Ioctl(protocol.SIOCAIFADDR, protocol.AppendAliasReq(nil, a))
	return err
}

// DelAddr removes an address; EADDRNOTAVAIL when the interface has it not.
func (s *Stack) DelAddr(name string, a protocol.Addr) error {
	_, err := s.IfReq(protocol.SIOCDIFADDR, protocol.IfReq{Name: name, Addr: a})
	return err
}

// Addr asks for an interface's first address by SIOCGIFADDR, GIFNETMASK,
// GIFBRDADDR or GIFDSTADDR.
func (s *Stack) Addr(req uint32, name string) (protocol.Addr, error) {
	r, err := s.IfReq(req, protocol.IfReq{Name: name})
	return r.Addr, err
}

// SetAddr does SIOCSIFADDR, SIFNETMASK, SIFBRDADDR or SIFDSTADDR.
func (s *Stack) SetAddr(req uint32, name string, a protocol.Addr) error {
	_, err := s.IfReq(req, protocol.IfReq{Name: name, Addr: a})
	return err
}

// SetLinkAddr changes the link address.
func (s *Stack) SetLinkAddr(name string, hw net.HardwareAddr) error {
	l := protocol.LinkOf(0, protocol.IFTEthernet, "", hw)
	_, err := s.IfReq(protocol.SIOCSIFLLADDR, protocol.IfReq{Name: name, Addr: protocol.LinkAddrOf(l)})
	return err
}

// Media is the text of an interface's medium.
func (s *Stack) Media(name string) (string, error) {
	r, err := s.IfReq(protocol.SIOCGIFMEDIA, protocol.IfReq{Name: name})
	return r.Text, err
}

// CreateInterface makes an interface of a kind ("gif": the next free) or of a
// name ("gif3"), and answers its name.
func (s *Stack) CreateInterface(name string) (string, error) {
	r, err := s.IfReq(protocol.SIOCIFCREATE, protocol.IfReq{Name: name})
	return r.Name, err
}

// DestroyInterface undoes CreateInterface.
func (s *Stack) DestroyInterface(name string) error {
	_, err := s.IfReq(protocol.SIOCIFDESTROY, protocol.IfReq{Name: name})
	return err
}

// Cloners are the kinds that CreateInterface makes.
func (s *Stack) Cloners() ([]string, error) {
	r, err := s.IfReq(protocol.SIOCIFGCLONERS, protocol.IfReq{})
	return strings.Fields(r.Text), err
}

// SetTunnel says between which addresses of one family a gif leads, and
// DeleteTunnel takes them away (SIOCSIFPHYADDR, SIOCDIFPHYADDR). EINVAL: it is
// no gif; EADDRNOTAVAIL: another one leads there, or it leads nowhere.
func (s *Stack) SetTunnel(name string, src, dst protocol.Addr) error {
	_, err := s.Ioctl(protocol.SIOCSIFPHYADDR, protocol.AppendAliasReq(nil, protocol.AliasReq{Name: name, Addr: src, Brd: dst}))
	return err
}

// DeleteTunnel undoes SetTunnel.
func (s *Stack) DeleteTunnel(name string) error {
	_, err := s.IfReq(protocol.SIOCDIFPHYADDR, protocol.IfReq{Name: name})
	return err
}

// Tunnel is where a gif leads; EADDRNOTAVAIL: nowhere.
func (s *Stack) Tunnel(name string) (src, dst protocol.Addr, err error) {
	if src, err = s.Addr(protocol.SIOCGIFPSRCADDR, name); err == nil {
		dst, err = s.Addr(protocol.SIOCGIFPDSTADDR, name)
	}
	return src, dst, err
}

// SetVLAN makes a vlan interface the VLAN tag, from 1 to 4094, of an Ethernet;
// ClearVLAN takes it off. EBUSY: it is another one's; EEXIST: another interface is
// that VLAN; EPROTONOSUPPORT: parent is no Ethernet; EADDRNOTAVAIL: it has no parent.
func (s *Stack) SetVLAN(name string, tag int, parent string) error {
	_, err := s.IfReq(protocol.SIOCSETVLAN, protocol.IfReq{Name: name, Value: uint32(tag), Text: parent})
	return err
}

// ClearVLAN undoes SetVLAN.
func (s *Stack) ClearVLAN(name string) error {
	_, err := s.IfReq(protocol.SIOCSETVLAN, protocol.IfReq{Name: name})
	return err
}

// VLAN says which VLAN of which interface a vlan interface is; parent "": of none.
func (s *Stack) VLAN(name string) (tag int, parent string, err error) {
	r, err := s.IfReq(protocol.SIOCGETVLAN, protocol.IfReq{Name: name})
	return int(r.Value), r.Text, err
}

// Bridge does one request to a bridge (SIOCSDRVSPEC); the table "bridges" has what there is.
func (s *Stack) Bridge(r protocol.BridgeReq) error {
	_, err := s.Ioctl(protocol.SIOCSDRVSPEC, protocol.AppendBridgeReq(nil, r))
	return err
}

// IfIndex is the index of an interface; ENXIO.
func (s *Stack) IfIndex(name string) (int, error) {
	r, err := s.IfReq(protocol.SIOCGIFINDEX, protocol.IfReq{Name: name})
	return int(r.Value), err
}

// IfName is the name of the interface with an index; ENXIO.
func (s *Stack) IfName(index int) (string, error) {
	r, err := s.IfReq(protocol.SIOCGIFINDEX, protocol.IfReq{Value: uint32(index)})
	return r.Name, err
}

// SetNDFlags sets and clears flags (ND6_IFF_*) of neighbour discovery on an
// interface; the table "nd" has them.
func (s *Stack) SetNDFlags(name string, set, clear uint32) error {
	_, err := s.IfReq(protocol.SIOCSNDINFO, protocol.IfReq{Name: name, Value: set, Mask: set | clear})
	return err
}

// FlushPrefixes forgets what routers have told of prefixes.
func (s *Stack) FlushPrefixes() error {
	_, err := s.IfReq(protocol.SIOCSPFXFLUSH, protocol.IfReq{})
	return err
}

// FlushRouters forgets the default routers.
func (s *Stack) FlushRouters() error {
	_, err := s.IfReq(protocol.SIOCSRTRFLUSH, protocol.IfReq{})
	return err
}

// SolicitRouters asks for advertisements now, on one interface or, for "", on
// all.
func (s *Stack) SolicitRouters(name string) error {
	_, err := s.IfReq(protocol.SIOCSRTSOL, protocol.IfReq{Name: name})
	return err
}

// DefaultInterface is where destinations are looked for while there is no
// router; "": nowhere.
func (s *Stack) DefaultInterface() (string, error) {
	r, err := s.IfReq(protocol.SIOCGDEFIFACE, protocol.IfReq{})
	return r.Name, err
}

// SetDefaultInterface changes it.
func (s *Stack) SetDefaultInterface(name string) error {
	_, err := s.IfReq(protocol.SIOCSDEFIFACE, protocol.IfReq{Name: name})
	return err
}

// AddPolicy puts a line into the table by which addresses are chosen, or
// changes the one of the prefix.
func (s *Stack) AddPolicy(p protocol.AddrPolicy) error {
	_, err := s.Ioctl(protocol.SIOCAADDRCTLPOLICY, protocol.AppendAddrPolicy(nil, p))
	return err
}

// DelPolicy takes the line of p's prefix away; ESRCH when there is none.
func (s *Stack) DelPolicy(p protocol.AddrPolicy) error {
	_, err := s.Ioctl(protocol.SIOCDADDRCTLPOLICY, protocol.AppendAddrPolicy(nil, p))
	return err
}

func (s *Stack) sysctl(q protocol.SysctlRequest) (protocol.SysctlReply, error) {
	b, err := s.do(protocol.TypeSysctl, 0, protocol.AppendSysctlRequest(nil, q))
	if err != nil {
		return protocol.SysctlReply{}, err
	}
	return protocol.ParseSysctlReply(b)
}

func (s *Stack) sysctlOne(q protocol.SysctlRequest) (string, error) {
	p, err := s.sysctl(q)
	if err != nil {
		return "", err
	}
	if len(p.Nodes) != 1 {
		return "", fmt.Errorf("the stack answered %d nodes for %s", len(p.Nodes), q.Name)
	}
	return p.Nodes[0].Value, nil
}

// Sysctl is the value of a node; ENOENT when there is none of the name.
func (s *Stack) Sysctl(name string) (string, error) {
	return s.sysctlOne(protocol.SysctlRequest{Op: protocol.SysctlGet, Name: name})
}

// SetSysctl changes a node and answers its old value; EPERM when it is read
// only, EINVAL when it cannot have the value.
func (s *Stack) SetSysctl(name, value string) (old string, err error) {
	return s.sysctlOne(protocol.SysctlRequest{Op: protocol.SysctlSet, Name: name, Value: value})
}

// SysctlList are the nodes at and below prefix ("" all), in order.
func (s *Stack) SysctlList(prefix string) ([]protocol.SysctlNode, error) {
	var nodes []protocol.SysctlNode
	q := protocol.SysctlRequest{Op: protocol.SysctlList, Name: prefix}
	for {
		p, err := s.sysctl(q)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, p.Nodes...)
		if p.Next == "" {
			return nodes, nil
		}
		if p.Next == q.Cursor {
			return nil, fmt.Errorf("the stack repeats the page of %s", p.Next)
		}
		q.Cursor = p.Next
	}
}

// TableRaw are the rows of a table as JSON objects, one a line.
func (s *Stack) TableRaw(name, arg string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		q := protocol.TableRequest{Name: name, Arg: arg}
		for {
			b, err := s.do(protocol.TypeTable, 0, protocol.AppendTableRequest(nil, q))
			if err == nil {
				q.Cursor, b, err = protocol.ParsePage(b)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for line := range bytes.SplitSeq(b, []byte{'\n'}) {
				if len(line) > 0 && !yield(line, nil) {
					return
				}
			}
			if q.Cursor == 0 {
				return
			}
		}
	}
}

// Table are the rows of a table: client.Table[protocol.InterfaceRow](s,
// protocol.TableInterfaces, "").
func Table[T any](s *Stack, name, arg string) ([]T, error) {
	var rows []T
	for line, err := range s.TableRaw(name, arg) {
		if err != nil {
			return nil, err
		}
		var row T
		if err := json.Unmarshal(line, &row); err != nil {
			return nil, fmt.Errorf("row %d of the table %s: %w", len(rows)+1, name, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// DumpRaw asks for the routing table or the interface list (protocol.Dump*)
// and answers pages of whole messages, for protocol.NextMessage or
// RouteMessage.Decode. A page stays the caller's. The next page is on its way
// while the caller works on one.
func (s *Stack) DumpRaw(what, family int, flags uint32) iter.Seq2[[]byte, error] {
	type page struct {
		next uint64
		body []byte
		err  error
	}
	return func(yield func([]byte, error) bool) {
		q := protocol.DumpRequest{What: uint8(what), Family: uint8(family), Flags: flags}
		fetch := func(cursor uint64) <-chan page {
			ch := make(chan page, 1)
			q.Cursor = cursor
			req := protocol.AppendDumpRequest(nil, q)
			go func() {
				var p page
				b, err := s.do(protocol.TypeDump, 0, req)
				if err == nil {
					p.next, p.body, err = protocol.ParsePage(b)
				}
				p.err = err
				ch <- p
			}()
			return ch
		}
		for ch := fetch(0); ch != nil; {
			p := <-ch
			if p.err != nil {
				yield(nil, p.err)
				return
			}
			ch = nil
			if p.next != 0 {
				ch = fetch(p.next)
			}
			if len(p.body) > 0 && !yield(p.body, nil) {
				if ch != nil {
					<-ch
				}
				return
			}
		}
	}
}

// Dump is [Stack.DumpRaw] message by message.
func (s *Stack) Dump(what, family int, flags uint32) iter.Seq2[protocol.Message, error] {
	return func(yield func(protocol.Message, error) bool) {
		for b, err := range s.DumpRaw(what, family, flags) {
			if err != nil {
				yield(nil, err)
				return
			}
			for len(b) > 0 {
				var m protocol.Message
				if m, b, err = protocol.NextMessage(b); err != nil {
					yield(nil, err)
					return
				}
				if m != nil && !yield(m, nil) {
					return
				}
			}
		}
	}
}

// Mount adds a driver or protocol to the stack and says what came of it (the
// interface's name).
func (s *Stack) Mount(typ, options, module string) (string, error) {
	b, err := s.do(protocol.TypeMount, 0, protocol.AppendMountRequest(nil, protocol.MountRequest{Type: typ, Options: options, Module: module}))
	if err != nil {
		return "", err
	}
	return protocol.ParseString(b)
}

// Umount takes away the driver at path ("/dev/io-net/en0", below the prefix).
func (s *Stack) Umount(path string) error {
	_, err := s.do(protocol.TypeUmount, 0, protocol.AppendString(nil, path))
	return err
}

// Stop ends the stack.
func (s *Stack) Stop() error {
	_, err := s.do(protocol.TypeStop, 0, nil)
	return err
}

// Capture is a running capture.
type Capture struct {
	s    *Stack
	id   uint32
	stop *deadline
	lost uint64
}

// Capture begins to record packets; EPERM for whom the stack does not trust.
func (s *Stack) Capture(q protocol.CaptureRequest) (*Capture, error) {
	b, err := s.do(protocol.TypeCapture, 0, protocol.AppendCaptureRequest(nil, q))
	if err != nil {
		return nil, err
	}
	c := &Capture{s: s, stop: newDeadline()}
	return c, protocol.ParseU32(b, &c.id)
}

// Next waits for packets. After Close, also from another goroutine, it
// answers net.ErrClosed. Only one goroutine may call it.
func (c *Capture) Next() ([]protocol.CaptureRecord, error) {
	b, err := c.s.callUntil(c.stop.wait(), func() error { return net.ErrClosed }, protocol.TypeCaptured, c.id, nil)
	if err != nil {
		return nil, err
	}
	p, err := protocol.ParseCaptureRecords(b)
	c.lost += uint64(p.Lost)
	return p.Records, err
}

// Lost is how many packets found no room so far.
func (c *Capture) Lost() uint64 { return c.lost }

// Close ends the capture.
func (c *Capture) Close() error {
	if !c.stop.shut() {
		return nil
	}
	_, err := c.s.do(protocol.TypeClose, c.id, nil)
	return err
}
