package protocol

// Operations of TypeSysctl.
const (
	SysctlGet  = 1 // the node Name
	SysctlSet  = 2 // Name becomes Value; the reply has the old one
	SysctlList = 3 // the nodes below Name ("" all), from Cursor on
)

// SysctlTCPDrop is the node that a connection's two ends are written to in order
// to break it off: "10.0.0.163:22 10.0.0.1:4021", the local end first. ESRCH: there is none
// between them. It has no value of its own.
const SysctlTCPDrop = "net.inet.tcp.drop"

// SysctlRequest is the payload of TypeSysctl.
type SysctlRequest struct {
	Op     uint8
	Name   string
	Value  string
	Cursor string // of the reply before; "" at first
}

// SysctlNode is one node.
type SysctlNode struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // "int", "string", "table"
	Value    string `json:"value,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Use      string `json:"use,omitempty"` // the tool that shows a table
	Doc      string `json:"doc,omitempty"`
}

// SysctlReply answers it: the node before the change, or a page of the list.
type SysctlReply struct {
	Next  string // cursor of the next page; "" at the end
	Nodes []SysctlNode
}

// AppendSysctlRequest appends q.
func AppendSysctlRequest(b []byte, q SysctlRequest) []byte {
	b = append(b, q.Op)
	b = AppendString(b, q.Name)
	b = AppendString(b, q.Value)
	return AppendString(b, q.Cursor)
}

// ParseSysctlRequest reads what [AppendSysctlRequest] wrote.
func ParseSysctlRequest(b []byte) (SysctlRequest, error) {
	r := NewReader(b)
	q := SysctlRequest{Op: r.U8(), Name: r.String(), Value: r.String(), Cursor: r.String()}
	return q, r.Close()
}

// AppendSysctlReply appends p: string next, then nodes to the end, each
// string name, kind, value, use, doc, u8 flags (1 read only).
func AppendSysctlReply(b []byte, p SysctlReply) []byte {
	b = AppendString(b, p.Next)
	for _, n := range p.Nodes {
		b = AppendSysctlNode(b, n)
	}
	return b
}

// AppendSysctlNode appends one node, for a page that is filled node by node.
func AppendSysctlNode(b []byte, n SysctlNode) []byte {
	for _, s := range [...]string{n.Name, n.Kind, n.Value, n.Use, n.Doc} {
		b = AppendString(b, s)
	}
	if n.ReadOnly {
		return append(b, 1)
	}
	return append(b, 0)
}

// ParseSysctlReply reads what [AppendSysctlReply] wrote.
func ParseSysctlReply(b []byte) (SysctlReply, error) {
	r := NewReader(b)
	p := SysctlReply{Next: r.String()}
	for r.Len() > 0 {
		n := SysctlNode{Name: r.String(), Kind: r.String(), Value: r.String(), Use: r.String(), Doc: r.String()}
		n.ReadOnly = r.U8()&1 != 0
		if r.Err() == nil {
			p.Nodes = append(p.Nodes, n)
		}
	}
	return p, r.Err()
}

// TableRequest is the payload of TypeTable.
type TableRequest struct {
	Name   string // Table*
	Arg    string
	Cursor uint64 // of the reply before; 0 at first
}

// AppendTableRequest appends q.
func AppendTableRequest(b []byte, q TableRequest) []byte {
	return le.AppendUint64(AppendString(AppendString(b, q.Name), q.Arg), q.Cursor)
}

// ParseTableRequest reads what [AppendTableRequest] wrote.
func ParseTableRequest(b []byte) (TableRequest, error) {
	r := NewReader(b)
	q := TableRequest{Name: r.String(), Arg: r.String(), Cursor: r.U64()}
	return q, r.Close()
}

// DumpRequest is the payload of TypeDump.
type DumpRequest struct {
	What   uint8 // Dump*
	Family uint8 // 0 all
	Flags  uint32
	Cursor uint64 // of the reply before; 0 at first
}

// AppendDumpRequest appends q.
func AppendDumpRequest(b []byte, q DumpRequest) []byte {
	b = append(b, q.What, q.Family)
	return le.AppendUint64(le.AppendUint32(b, q.Flags), q.Cursor)
}

// ParseDumpRequest reads what [AppendDumpRequest] wrote.
func ParseDumpRequest(b []byte) (DumpRequest, error) {
	r := NewReader(b)
	q := DumpRequest{What: r.U8(), Family: r.U8(), Flags: r.U32(), Cursor: r.U64()}
	return q, r.Close()
}

// AppendPage opens the replies of TypeTable and TypeDump: the cursor of the
// next page, 0 at the end; rows or messages follow.
func AppendPage(b []byte, next uint64) []byte { return le.AppendUint64(b, next) }

// ParsePage splits such a reply; body points into b.
func ParsePage(b []byte) (next uint64, body []byte, err error) {
	r := NewReader(b)
	next = r.U64()
	body = r.Rest()
	return next, body, r.Err()
}

// MountRequest is the payload of TypeMount.
type MountRequest struct{ Type, Options, Module string }

// AppendMountRequest appends q.
func AppendMountRequest(b []byte, q MountRequest) []byte {
	return AppendString(AppendString(AppendString(b, q.Type), q.Options), q.Module)
}

// ParseMountRequest reads what [AppendMountRequest] wrote.
func ParseMountRequest(b []byte) (MountRequest, error) {
	r := NewReader(b)
	q := MountRequest{Type: r.String(), Options: r.String(), Module: r.String()}
	return q, r.Close()
}

// ParseString reads a payload that is one string: TypeUmount, and the reply of
// TypeMount.
func ParseString(b []byte) (string, error) {
	r := NewReader(b)
	s := r.String()
	return s, r.Close()
}
