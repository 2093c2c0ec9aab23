package ipnat

import (
	"sync"
	"testing"

	"ionet/stack/packet"
	"ionet/stack/pfil"
)

func TestSave(t *testing.T) {
	const rule = "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40999"
	r := newRig(t, rule)
	r.hook(out, udp("10.0.0.1", 40005, "198.51.100.1", 53))
	r.hook(out, tcp("10.0.0.1", 40007, "198.51.100.1", 80, packet.TCPAck))
	r.hook(in, tcp("198.51.100.1", 80, "192.0.2.1", 40007, packet.TCPAck))
	b, err := r.Save()
	if err != nil {
		t.Fatal(err)
	}
	q := newRig(t, rule)
	if n, err := q.Restore(b); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	q.says(in, udp("198.51.100.1", 53, "192.0.2.1", 40005), "udp 198.51.100.1:53 > 10.0.0.1:40005")
	again, _ := q.Save()
	if n, err := q.Restore(again); n != 0 || err != nil { // they are there
		t.Error(n, err)
	}
	if l := q.Sessions(1, 1); len(l) != 1 || !l[0].Established {
		t.Errorf("%+v", l)
	}
	for _, bad := range []string{"", "{}", `{"version":2}`, `{"version":1,"sessions":[{}]}`, string(b) + "x", `{"version":1,"x":1}`} {
		if _, err := q.Restore([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if none := newRig(t); true {
		if n, err := none.Restore(b); n != 0 || err != nil {
			t.Error(n, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"version":1,"sessions":[{"rule":"map out0 10.0.0.0/8 -> 0.0.0.0/32","if":"out0","proto":6,"out":true,"inside":"10.0.0.1:1","outer":"192.0.2.1:1","remote":"198.51.100.1:2","tcp":3,"ttl":5}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newRig(t, "map out0 10.0.0.0/8 -> 0/32")
		n, err := r.Restore(b)
		if err != nil && n != 0 || n != r.Stats().InUse {
			t.Fatal(n, err, r.Stats())
		}
		if n == 0 {
			return
		}
		again, _ := r.Save()
		if err := r.Edit([]Op{{Kind: FlushSessions}}); err != nil {
			t.Fatal(err)
		}
		if m, err := r.Restore(again); m != n || err != nil {
			t.Fatalf("%d of %d come back: %v", m, n, err)
		}
	})
}

func TestLog(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32")
	r.env.MIB.Put(nodeLogSize, 2)
	r.hook(out, udp("10.0.0.1", 5, "198.51.100.1", 53))
	r.pass(301)
	r.hook(out, udp("10.0.0.1", 5, "198.51.100.1", 53))
	recs, lost := r.ReadLog(0)
	if len(recs) != 2 || lost != 1 || recs[0].Event != LogNew || recs[1].Event != LogExpire || recs[1].PacketsOut != 1 || recs[1].Outer.String() != "192.0.2.1:5" {
		t.Errorf("%+v, %d lost", recs, lost)
	}
	if recs, lost := r.ReadLog(0); len(recs) != 0 || lost != 0 {
		t.Errorf("%+v, %d lost", recs, lost)
	}
}

// Sessions of one table begin, are used, and are flushed at the same time; -race watches.
func TestManyAtOnce(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40999")
	r.env.MIB.Put(nodeMax, 20)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			w := r.env.NewWork()
			i := new(pfil.Info)
			for x := range 300 {
				p := r.buf(tcp("10.0.0.1", uint16(x%30), "198.51.100.1", 80, packet.TCPAck), 20)
				w.Start(second)
				i.Parse(p, r.out0, true)
				if v := r.Out(w, i); v != pfil.Translated {
					t.Errorf("%d", v)
				}
				w.Finish()
				p.Free()
				if g == 0 && x%50 == 0 {
					if err := r.Edit([]Op{{Kind: FlushSessions}}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestHosts(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 192.0.2.8/30", "rdr out0 0/32 port 80 -> 10.0.0.3 tcp")
	for x := range 3 {
		r.hook(out, udp("10.0.0.2", uint16(x), "198.51.100.1", 53))
	}
	r.hook(out, udp("10.0.0.1", 5, "198.51.100.1", 53))
	r.hook(in, tcp("198.51.100.1", 9, "192.0.2.1", 80, packet.TCPSyn))
	all := r.Hosts(0, 0)
	if len(all) != 2 || all[0].Inside.String() != "10.0.0.1" || all[0].Sessions != 1 || all[1].Sessions != 3 ||
		all[1].Outer != r.Sessions(0, 1)[0].Outer.Addr() {
		t.Errorf("%+v", all)
	}
	if some := r.Hosts(1, 5); len(some) != 1 || some[0] != all[1] || len(r.Hosts(3, 1)) != 0 || len(r.Hosts(0, 1)) != 1 {
		t.Errorf("%+v", some)
	}
	r.pass(301)
	if l := r.Hosts(0, 0); len(l) != 0 {
		t.Errorf("%+v", l)
	}
}
