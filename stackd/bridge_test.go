package stackd

import (
	"testing"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

func TestBridgesByTheDoor(t *testing.T) {
	s, _ := on6(t)
	for _, name := range []string{"bridge0", "bridge1"} {
		if made, err := s.CreateInterface(name); made != name || err != nil {
			t.Fatalf("create %s: %s, %v", name, made, err)
		}
	}
	do := func(errno unix.Errno, r protocol.BridgeReq) {
		t.Helper()
		if r.Bridge == "" {
			r.Bridge = "bridge0"
		}
		if err := s.Bridge(r); errno == 0 {
			if err != nil {
				t.Errorf("%+v: %v", r, err)
			}
		} else {
			want(t, err, errno)
		}
	}
	do(0, protocol.BridgeReq{Command: protocol.BridgeAdd, Member: "en0"})
	do(unix.EEXIST, protocol.BridgeReq{Command: protocol.BridgeAdd, Member: "en0"})
	do(unix.EBUSY, protocol.BridgeReq{Bridge: "bridge1", Command: protocol.BridgeAdd, Member: "en0"})
	do(unix.EPROTONOSUPPORT, protocol.BridgeReq{Command: protocol.BridgeAdd, Member: "lo0"})
	do(unix.ENXIO, protocol.BridgeReq{Command: protocol.BridgeAdd, Member: "en9"})
	do(unix.ENXIO, protocol.BridgeReq{Bridge: "bridge9", Command: protocol.BridgeAdd, Member: "en0"})
	do(unix.EINVAL, protocol.BridgeReq{Bridge: "en0", Command: protocol.BridgeMaxAddr, Value: 7})
	do(unix.EINVAL, protocol.BridgeReq{Command: 99, Member: "en0"})
	do(0, protocol.BridgeReq{Command: protocol.BridgeMaxAddr, Value: 7})
	do(unix.EINVAL, protocol.BridgeReq{Command: protocol.BridgeMaxAddr})
	do(0, protocol.BridgeReq{Command: protocol.BridgeTimeout, Value: 60})
	do(0, protocol.BridgeReq{Command: protocol.BridgeFlags, Member: "en0", Mask: protocol.BridgeLearning})
	do(0, protocol.BridgeReq{Command: protocol.BridgeStatic, Member: "en0", Addr: [6]byte{2, 7, 0, 0, 0, 1}})
	do(0, protocol.BridgeReq{Command: protocol.BridgeFlags, Member: "en0", Value: protocol.BridgeSTP, Mask: protocol.BridgeSTP})
	do(0, protocol.BridgeReq{Command: protocol.BridgePriority, Value: 4096})
	do(unix.EINVAL, protocol.BridgeReq{Command: protocol.BridgePriority, Value: 65536})
	do(0, protocol.BridgeReq{Command: protocol.BridgeHello, Value: 1})
	do(0, protocol.BridgeReq{Command: protocol.BridgeDelay, Value: 4})
	do(0, protocol.BridgeReq{Command: protocol.BridgeMaxAge, Value: 6})
	do(unix.EINVAL, protocol.BridgeReq{Command: protocol.BridgeHello, Value: 11})
	do(0, protocol.BridgeReq{Command: protocol.BridgeIfPriority, Member: "en0", Value: 64})
	do(0, protocol.BridgeReq{Command: protocol.BridgeIfCost, Member: "en0", Value: 100})
	do(unix.EINVAL, protocol.BridgeReq{Command: protocol.BridgeIfCost, Member: "en0"})
	if err := s.SetFlags("bridge0", protocol.IFFUp, 0); err != nil {
		t.Fatal(err)
	}
	rows, err := client.Table[protocol.BridgeRow](s, protocol.TableBridges, "")
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d bridges, %v", len(rows), err)
	}
	r := rows[0]
	if r.Name != "bridge0" || r.Flags != protocol.IFFUp|protocol.IFFRunning || r.MaxAddr != 7 || r.Timeout != 60 || len(r.Members) != 1 ||
		r.Members[0].Interface != "en0" || r.Members[0].Flags != protocol.BridgeDiscover|protocol.BridgeSTP || r.Members[0].State != "disabled" ||
		r.Members[0].Port != 1 || r.Members[0].Priority != 64 || r.Members[0].PathCost != 100 || r.Priority != 4096 || r.Hello != 1 || r.Delay != 4 || r.MaxAge != 6 ||
		r.ID == "" || r.ID != r.Root || len(r.Addresses) != 1 ||
		r.Addresses[0] != (protocol.BridgeAddress{Address: "02:07:00:00:00:01", Interface: "en0", Static: true}) {
		t.Errorf("bridge0 is %+v", r)
	}
	_, err = client.Table[protocol.BridgeRow](s, protocol.TableBridges, "en0")
	want(t, err, unix.EINVAL)
	_, err = client.Table[protocol.BridgeRow](s, protocol.TableBridges, "bridge9")
	want(t, err, unix.ENXIO)
	do(0, protocol.BridgeReq{Command: protocol.BridgeDelAddr, Addr: [6]byte{2, 7, 0, 0, 0, 1}})
	do(unix.ENOENT, protocol.BridgeReq{Command: protocol.BridgeDelAddr, Addr: [6]byte{2, 7, 0, 0, 0, 1}})
	do(0, protocol.BridgeReq{Command: protocol.BridgeFlush, Value: 1})
	do(0, protocol.BridgeReq{Command: protocol.BridgeDelete, Member: "en0"})
	do(unix.ENOENT, protocol.BridgeReq{Command: protocol.BridgeDelete, Member: "en0"})
	want(t, s.AddAddr("bridge0", protocol.AliasReq{Addr: inet("10.9.0.1")}), unix.EINVAL)
}

// What a member has been told goes with it, and what is left is replayed in order.
func TestBridgesInTheJournal(t *testing.T) {
	req := func(q protocol.BridgeReq) record {
		q.Bridge = "bridge0"
		return record{recIoctl, protocol.AppendBridgeReq(protocol.AppendU32(nil, protocol.SIOCSDRVSPEC), q)}
	}
	made := record{recIoctl, append(protocol.AppendU32(nil, protocol.SIOCIFCREATE), protocol.AppendIfReq(nil, protocol.IfReq{Name: "bridge0"})...)}
	gone := record{recIoctl, append(protocol.AppendU32(nil, protocol.SIOCIFDESTROY), protocol.AppendIfReq(nil, protocol.IfReq{Name: "bridge0"})...)}
	recs := []record{
		made,
		req(protocol.BridgeReq{Command: protocol.BridgeAdd, Member: "en0"}),
		req(protocol.BridgeReq{Command: protocol.BridgeFlags, Member: "en0", Mask: 1}),
		req(protocol.BridgeReq{Command: protocol.BridgeAdd, Member: "en1"}),
		req(protocol.BridgeReq{Command: protocol.BridgeFlags, Member: "en1", Mask: 1}),
		req(protocol.BridgeReq{Command: protocol.BridgeStatic, Member: "en0", Addr: [6]byte{2}}),
		req(protocol.BridgeReq{Command: protocol.BridgeMaxAddr, Value: 7}),
		req(protocol.BridgeReq{Command: protocol.BridgeDelete, Member: "en0"}),
		req(protocol.BridgeReq{Command: protocol.BridgeMaxAddr, Value: 8}),
	}
	left := compacted(recs)
	if len(left) != 4 || string(left[1].body) != string(recs[3].body) || string(left[2].body) != string(recs[4].body) || string(left[3].body) != string(recs[8].body) {
		t.Errorf("%d records are left: %q", len(left), left)
	}
	if left := compacted(append(recs, gone)); len(left) != 0 {
		t.Errorf("%d records are left of a bridge that is gone: %q", len(left), left)
	}
}
