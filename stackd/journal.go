package stackd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
)

// journal records every successful change of the configuration, so that
// --restart can replay it into a new stack. It is a file of records {u32
// length, u8 kind, payload}, appended to with one write a change, and
// rewritten without what later records undo when it has doubled. A nil
// journal records nothing.
type journal struct {
	log *slog.Logger

	mu     sync.Mutex
	path   string
	f      *os.File
	size   int64
	tight  int64 // size after the last compaction
	paused bool
}

// Kinds of records.
const (
	recIoctl  = 1 // u32 request, argument
	recSysctl = 2 // string name, string value
	recRoute  = 3 // a routing message
	recMount  = 4 // mount request, string interface
	recUmount = 5 // string interface
	recKey    = 7 // a PF_KEY message about policies: associations are not kept, whose numbers would begin again
	recRules  = 6 // u8 whole, a rules request: what lasts of it, or with whole all rules of its language
)

type record struct {
	kind byte
	body []byte
}

// compactAt is the least size at which the file is rewritten.
const compactAt = 1 << 20

// openJournal opens the file; anew begins an empty one.
func openJournal(path string, anew bool, log *slog.Logger) (*journal, error) {
	mode := os.O_CREATE | os.O_RDWR | os.O_APPEND
	if anew {
		mode |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, mode|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{log: log, path: path, f: f, tight: compactAt / 2}
	if st, err := f.Stat(); err == nil {
		j.size = st.Size()
	}
	return j, nil
}

func (j *journal) close() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.f.Close()
}

func (j *journal) ioctl(req uint32, arg []byte) {
	j.add(recIoctl, func() []byte { return append(protocol.AppendU32(nil, req), arg...) })
}

func (j *journal) sysctl(name, value string) {
	j.add(recSysctl, func() []byte { return protocol.AppendString(protocol.AppendString(nil, name), value) })
}

func (j *journal) route(msg []byte) { j.add(recRoute, func() []byte { return msg }) }

// mount records the interface's number with the options: the first free one
// may be another when the journal is replayed.
func (j *journal) mount(q protocol.MountRequest, ifname string) {
	if _, unit := netif.Unit(ifname); unit >= 0 && q.Type != "tcpip" {
		q.Options = strings.TrimPrefix(fmt.Sprintf("%s,lan=%d", q.Options, unit), ",")
	}
	j.add(recMount, func() []byte { return protocol.AppendString(protocol.AppendMountRequest(nil, q), ifname) })
}

func (j *journal) umount(ifname string) {
	j.add(recUmount, func() []byte { return protocol.AppendString(nil, ifname) })
}

// rules records a change of rules, or all of them.
func (j *journal) rules(q protocol.RulesRequest, whole bool) {
	j.add(recRules, func() []byte { return protocol.AppendRulesRequest([]byte{flag(whole)}, q) })
}

// key records a change of the policies of IPsec.
func (j *journal) key(msg []byte) { j.add(recKey, func() []byte { return msg }) }

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

func (j *journal) add(kind byte, body func() []byte) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.paused {
		return
	}
	b := appendRecord(nil, record{kind, body()})
	n, err := j.f.Write(b)
	j.size += int64(n)
	if err == nil && j.size > compactAt && j.size > 2*j.tight {
		err = j.compact()
	}
	if err != nil {
		j.log.Error("the configuration for --restart could not be recorded", "err", err)
	}
}

func appendRecord(b []byte, r record) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.body)+1))
	return append(append(b, r.kind), r.body...)
}

// parseRecords reads records; a last one cut short by a crash is left out.
func parseRecords(b []byte) (out []record) {
	for len(b) >= 5 {
		n := binary.LittleEndian.Uint32(b)
		if n < 1 || uint64(n) > uint64(len(b)-4) {
			break
		}
		out = append(out, record{b[4], b[5 : 4+n]})
		b = b[4+n:]
	}
	return out
}

// compact rewrites the file with what still counts.
func (j *journal) compact() error {
	recs, err := j.read()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, r := range compacted(recs) {
		b.Write(appendRecord(nil, r))
	}
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		f.Close()
		return err
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		f.Close()
		return err
	}
	j.f.Close()
	j.f, j.size, j.tight = f, int64(b.Len()), int64(b.Len())
	return nil
}

func (j *journal) read() ([]record, error) {
	b, err := io.ReadAll(io.NewSectionReader(j.f, 0, j.size))
	if err != nil {
		return nil, err
	}
	return parseRecords(b), nil
}

// compacted leaves out what a later record replaces or undoes; the order of
// the rest stays.
func compacted(recs []record) []record {
	last := map[string]int{}
	dead := make([]bool, len(recs))
	made := map[string]int{} // what a record of the journal itself made
	for i, r := range recs {
		if r.kind == recKey && len(r.body) > 1 && r.body[1] == protocol.SADBXSPDFlush {
			for k := range i + 1 {
				dead[k] = dead[k] || recs[k].kind == recKey
			}
			continue
		}
		if r.kind == recRules && len(r.body) > 1 && r.body[0] != 0 { // the whole
			buryRules(recs[:i], dead, r.body[1:2])
		}
		key, makes, undoes := recordKey(r)
		if key == "" {
			continue
		}
		if at, ok := last[key]; ok {
			dead[at] = true
		}
		if at, ok := made[key]; ok && undoes {
			dead[at], dead[i] = true, true
			delete(made, key)
			delete(last, key)
			if strings.HasPrefix(key, "if ") {
				bury(recs[:i], dead, key)
			}
			if q, ok := bridgeReq(r); ok && q.Command == protocol.BridgeDelete {
				buryMember(recs[:i], dead, q)
			}
			continue
		}
		last[key] = i
		if makes {
			made[key] = i
		} else if undoes {
			delete(made, key)
		}
	}
	var out []record
	for i, r := range recs {
		if !dead[i] {
			out = append(out, r)
		}
	}
	return out
}

// bury marks the requests that concerned an interface that is gone, and those that
// made others stand on it.
func bury(recs []record, dead []bool, key string) {
	ifname := strings.TrimPrefix(key, "if ")
	if ifname == filterEntry {
		buryRules(recs, dead, []byte{protocol.RulesFilter, protocol.RulesNAT, protocol.RulesPools})
		return
	}
	for i, r := range recs {
		if r.kind == recIoctl && len(r.body) >= 4+protocol.IfNameLen && cstring(r.body[4:4+protocol.IfNameLen]) == ifname || standsOn(r, ifname) {
			dead[i] = true
		}
	}
}

// buryRules marks the changes of rules of those languages.
func buryRules(recs []record, dead []bool, languages []byte) {
	for i, r := range recs {
		if r.kind == recRules && len(r.body) > 1 && bytes.IndexByte(languages, r.body[1]) >= 0 {
			dead[i] = true
		}
	}
}

// standsOn reports a request that made a vlan of an interface.
func standsOn(r record, ifname string) bool {
	if q, ok := bridgeReq(r); ok {
		return q.Member == ifname
	}
	req, arg := protocol.NewReader(r.body).U32(), r.body[min(4, len(r.body)):]
	if r.kind != recIoctl || req != protocol.SIOCSETVLAN {
		return false
	}
	a, err := protocol.ParseIfReq(req, arg)
	return err == nil && a.Text == ifname
}

// bridgeReq reads a request to a bridge.
func bridgeReq(r record) (protocol.BridgeReq, bool) {
	if r.kind != recIoctl || len(r.body) < 4 || protocol.NewReader(r.body).U32() != protocol.SIOCSDRVSPEC {
		return protocol.BridgeReq{}, false
	}
	q, err := protocol.ParseBridgeReq(r.body[4:])
	return q, err == nil
}

// buryMember marks the requests about a member that has left its bridge.
func buryMember(recs []record, dead []bool, left protocol.BridgeReq) {
	for i, r := range recs {
		if q, ok := bridgeReq(r); ok && q.Bridge == left.Bridge && q.Member == left.Member {
			dead[i] = true
		}
	}
}

func cstring(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// recordKey names what a record is about: of two with the same key the later
// counts. makes and undoes say that it brings something about or takes it away.
func recordKey(r record) (key string, makes, undoes bool) {
	rd := protocol.NewReader(r.body)
	switch r.kind {
	case recSysctl:
		return "sysctl " + rd.String(), false, false
	case recKey:
		m, err := protocol.ParseKeyMessage(r.body)
		if err != nil || m.Src == nil || m.Dst == nil || m.Policy == nil {
			return "", false, false
		}
		key := fmt.Sprintf("spd %d %v %v", m.Policy.Dir, *m.Src, *m.Dst)
		return key, m.Type != protocol.SADBXSPDDelete, m.Type == protocol.SADBXSPDDelete
	case recRules: // each counts, until there is a whole one
		return "", false, false
	case recMount:
		_, _, _ = rd.String(), rd.String(), rd.String()
		return "if " + rd.String(), true, false
	case recUmount:
		return "if " + rd.String(), false, true
	case recRoute:
		var m protocol.RouteMessage
		if _, err := m.Decode(r.body); err != nil {
			break
		}
		key := fmt.Sprintf("route %v %v %v", m.Dst, m.Netmask, m.Flags&protocol.RTFLLInfo)
		switch m.Type {
		case protocol.RTMAdd:
			return key, true, false
		case protocol.RTMDelete:
			return key, false, true
		}
		return "change " + key, false, false
	case recIoctl:
		if len(r.body) < 4 {
			break
		}
		req := rd.U32()
		switch req {
		case protocol.SIOCADDMULTI, protocol.SIOCDELMULTI: // of each group its own
		case protocol.SIOCAADDRCTLPOLICY, protocol.SIOCDADDRCTLPOLICY:
			if p, err := protocol.ParseAddrPolicy(r.body[4:]); err == nil {
				return fmt.Sprintf("policy %v", p.Prefix), req == protocol.SIOCAADDRCTLPOLICY, req == protocol.SIOCDADDRCTLPOLICY
			}
		case protocol.SIOCIFCREATE, protocol.SIOCIFDESTROY:
			if a, err := protocol.ParseIfReq(req, r.body[4:]); err == nil {
				return "if " + a.Name, req == protocol.SIOCIFCREATE, req == protocol.SIOCIFDESTROY
			}
		case protocol.SIOCSDRVSPEC:
			if q, ok := bridgeReq(r); ok {
				return bridgeKey(q)
			}
		case protocol.SIOCSETVLAN:
			if a, err := protocol.ParseIfReq(req, r.body[4:]); err == nil {
				return "vlan " + a.Name, a.Text != "", a.Text == ""
			}
		case protocol.SIOCSIFPHYADDR:
			if a, err := protocol.ParseAliasReq(r.body[4:]); err == nil {
				return "tunnel " + a.Name, true, false
			}
		case protocol.SIOCDIFPHYADDR:
			if a, err := protocol.ParseIfReq(req, r.body[4:]); err == nil {
				return "tunnel " + a.Name, false, true
			}
		case protocol.SIOCAIFADDR:
			if a, err := protocol.ParseAliasReq(r.body[4:]); err == nil {
				return fmt.Sprintf("addr %s %v", a.Name, a.Addr.IP), true, false
			}
		case protocol.SIOCDIFADDR:
			if a, err := protocol.ParseIfReq(req, r.body[4:]); err == nil {
				return fmt.Sprintf("addr %s %v", a.Name, a.Addr.IP), false, true
			}
		default:
			if a, err := protocol.ParseIfReq(req, r.body[4:]); err == nil {
				return fmt.Sprintf("ioctl %#x %s %#x", req, a.Name, a.Mask), false, false
			}
		}
	}
	return fmt.Sprintf("? %d %x", r.kind, r.body), false, false
}

// bridgeKey is recordKey for a request to a bridge.
func bridgeKey(q protocol.BridgeReq) (key string, makes, undoes bool) {
	switch q.Command {
	case protocol.BridgeAdd, protocol.BridgeDelete:
		return "member " + q.Bridge + " " + q.Member, q.Command == protocol.BridgeAdd, q.Command == protocol.BridgeDelete
	case protocol.BridgeStatic, protocol.BridgeDelAddr:
		return fmt.Sprintf("station %s %x", q.Bridge, q.Addr), q.Command == protocol.BridgeStatic, q.Command == protocol.BridgeDelAddr
	}
	return fmt.Sprintf("bridge %s %d %s %#x", q.Bridge, q.Command, q.Member, q.Mask), false, false
}

// replay does to s what the journal has recorded. What fails is logged: the
// rest of the configuration still comes back.
func (j *journal) replay(s *server) {
	j.mu.Lock()
	recs, err := j.read()
	if err == nil {
		err = j.compact()
	}
	j.paused = true
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		j.paused = false
		j.mu.Unlock()
	}()
	if err != nil {
		s.log.Error("the recorded configuration cannot be read", "err", err)
	}
	done := 0
	for _, r := range compacted(recs) {
		if err := s.redo(r); err != nil {
			s.log.Error("a change could not be replayed", "kind", r.kind, "err", err)
			continue
		}
		done++
	}
	s.log.Info("the configuration is replayed", "changes", done)
}

// redo does one record again.
func (s *server) redo(r record) error {
	rd := protocol.NewReader(r.body)
	switch r.kind {
	case recIoctl:
		req := rd.U32()
		_, err := s.control(req, rd.Rest())
		return err
	case recSysctl:
		name, value := rd.String(), rd.String()
		_, err := s.eng.Engine().Env.MIB.Set(name, value)
		return err
	case recMount:
		q := protocol.MountRequest{Type: rd.String(), Options: rd.String(), Module: rd.String()}
		_, _, err := s.mount(q)
		return err
	case recUmount:
		return s.umount(rd.String())
	case recKey:
		m, err := protocol.ParseKeyMessage(r.body)
		if err == nil && s.eng.Engine().IPsec != nil && m.Type != protocol.SADBXSPDDelete {
			_, err = s.newPolicy(s.eng.Engine().IPsec, m)
		}
		return err
	case recRules:
		if len(r.body) == 0 {
			return errors.New("a record of rules without any")
		}
		q, err := protocol.ParseRulesRequest(r.body[1:])
		if err == nil {
			_, err = s.changeRules(q)
		}
		return err
	case recRoute:
		c := &conn{s: s, given: -1, super: true, closed: true}
		rb := routeBatch{c: c}
		var m protocol.RouteMessage
		if _, err := m.Decode(r.body); err != nil {
			return err
		}
		rb.take(&m, r.body)
		rb.commit()
		if _, err := m.Decode(rb.reply); err == nil && m.Errno != 0 {
			return m.Errno
		}
		return nil
	}
	return errors.New("a record of an unknown kind")
}
