package stackd

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/tcp"
	"ionet/tool/cli"
)

var (
	_           = mib.String("kern.ostype", "ionet", "The system's name.", mib.ReadOnly())
	nodeRelease = mib.String("kern.osrelease", "", "The system's release.", mib.ReadOnly())
	nodeVersion = mib.String("kern.version", "", "The system's release in words.", mib.ReadOnly())
	nodeHeap    = mib.Int("kern.heap", 0, "Octets of live heap after a garbage collection made for the question, which only the superuser may ask (ionet's own).", mib.ReadOnly())
)

// setKern fills in the nodes that say who we are.
func (e *engine) setKern(t *TCPIP) {
	v := e.Engine().Env.MIB
	name, _ := os.Hostname()
	v.PutStr(netif.NodeHostname, name)
	release := cli.BuildVersion()
	v.PutStr(nodeRelease, release)
	v.PutStr(nodeVersion, "ionet "+release)
	v.Put(tcp.NodeSoMaxConn, int64(t.SoMaxConn))
}

// sysctl serves TypeSysctl.
func (c *conn) sysctl(p []byte) ([]byte, error) {
	q, err := protocol.ParseSysctlRequest(p)
	if err != nil {
		return nil, err
	}
	v := c.s.eng.Engine().Env.MIB
	switch q.Op {
	case protocol.SysctlGet:
		n := mib.Lookup(q.Name)
		if n == nil {
			return nil, c.noNode(q.Name)
		}
		if err := c.weigh(v, q.Name); err != nil {
			return nil, err
		}
		value, err := v.Get(q.Name)
		if err != nil {
			if n.Kind == mib.KindTable {
				return nil, errf(unix.EOPNOTSUPP, "%s is a table: use '%s' to view it", q.Name, n.Use)
			}
			return nil, err
		}
		return protocol.AppendSysctlReply(nil, protocol.SysctlReply{Nodes: []protocol.SysctlNode{sysctlNode(n, value)}}), nil
	case protocol.SysctlSet:
		n := mib.Lookup(q.Name)
		if n == nil {
			return nil, c.noNode(q.Name)
		}
		if err := c.privileged("set " + q.Name); err != nil {
			return nil, err
		}
		if n == nodeTCPDrop {
			return protocol.AppendSysctlReply(nil, protocol.SysctlReply{Nodes: []protocol.SysctlNode{sysctlNode(n, "")}}), c.s.tcpDrop(q.Value)
		}
		old, err := v.Set(q.Name, q.Value)
		if err != nil {
			return nil, err
		}
		c.s.journal.sysctl(q.Name, q.Value)
		return protocol.AppendSysctlReply(nil, protocol.SysctlReply{Nodes: []protocol.SysctlNode{sysctlNode(n, old)}}), nil
	case protocol.SysctlList:
		return c.sysctlPage(v, q)
	}
	return nil, errf(unix.EINVAL, "sysctl: no operation %d", q.Op)
}

// weigh brings kern.heap up to date if name is its name.
func (c *conn) weigh(v *mib.Values, name string) error {
	if name != nodeHeap.Name {
		return nil
	}
	if err := c.privileged("collect the garbage to read " + name); err != nil {
		return err
	}
	v.Put(nodeHeap, liveHeap())
	return nil
}

// liveHeap collects twice, so that what pools keep is gone too.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// noNode tells an inner node, which has a subtree, from a wrong name.
func (c *conn) noNode(name string) error {
	if len(mib.Nodes(name)) > 0 {
		return errf(unix.ENOTDIR, "%s: the specification is incomplete", name)
	}
	return errf(unix.ENOENT, "%s: there is no such node", name)
}

// sysctlPage lists nodes behind the cursor, which is the last name listed.
func (c *conn) sysctlPage(v *mib.Values, q protocol.SysctlRequest) ([]byte, error) {
	if err := c.weigh(v, q.Name); err != nil {
		return nil, err
	}
	var body []byte
	next, last := "", q.Cursor
	for _, n := range mib.Nodes(q.Name) {
		if n.Name <= q.Cursor || (n == nodeHeap || n == nodeTCPDrop) && q.Name != n.Name { // asked by name only: one costs a collection, one has no value
			continue
		}
		value, err := v.Get(n.Name)
		if err != nil && n.Kind != mib.KindTable {
			continue
		}
		was := len(body)
		body = protocol.AppendSysctlNode(body, sysctlNode(n, value))
		if len(body) > protocol.MaxPayload-4096 {
			body, next = body[:was], last
			break
		}
		last = n.Name
	}
	return append(protocol.AppendString(nil, next), body...), nil
}

func sysctlNode(n *mib.Node, value string) protocol.SysctlNode {
	return protocol.SysctlNode{Name: n.Name, Kind: n.Kind.String(), Value: value, ReadOnly: n.ReadOnly, Use: n.Use, Doc: n.Doc}
}
