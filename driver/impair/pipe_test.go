package impair

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ionet/stack/packet"
)

const ms = int64(time.Millisecond)

// bench is a pipe in virtual time and what has left it.
type bench struct {
	t interface {
		Helper()
		Fatalf(string, ...any)
	}
	pipe *pipe
	pool *packet.Pool
	in   uint64
	left []departure
}

type departure struct {
	at    int64
	id    int
	octet int // in the whole frame
	data  []byte
	csum  packet.CsumState
}

func newBench(t *testing.T, p Profile, seed uint64) *bench {
	t.Helper()
	if err := p.settle(); err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, pipe: newPipe(p, seed, 0), pool: packet.NewPool(256 << 20)}
}

// frame is a frame of n octets with its number behind the link header.
func (b *bench) frame(id, n int) *packet.Buf {
	f := b.pool.Get(n)
	d := f.Append(n)
	clear(d)
	binary.BigEndian.PutUint16(d[12:], 0x88b5)
	binary.BigEndian.PutUint32(d[14:], uint32(id))
	return f
}

// send has a frame enter at a time, after what leaves until then.
func (b *bench) send(now int64, id, n int) int {
	b.until(now)
	b.in++
	return b.pipe.enter(now, b.frame(id, n))
}

// until has leave what is due, each at its time.
func (b *bench) until(now int64) {
	var out [3]*packet.Buf
	for {
		at, ok := b.pipe.next()
		if !ok || at > now {
			return
		}
		n := b.pipe.leave(at, out[:])
		for _, f := range out[:n] {
			b.left = append(b.left, departure{at, int(binary.BigEndian.Uint32(f.Bytes()[14:])), f.Len(), bytes.Clone(f.Bytes()), f.Csum})
			f.Free()
		}
	}
}

// end has all leave and checks the books.
func (b *bench) end() Counts {
	b.t.Helper()
	b.until(math.MaxInt64)
	c := b.pipe.counts()
	if n := b.pool.Bufs(); n != 0 || b.pipe.storage != 0 || c.Waiting != 0 {
		b.t.Fatalf("at the end %d buffers are out, storage %d, waiting %d", n, b.pipe.storage, c.Waiting)
	}
	if c.Passed != uint64(len(b.left)) || b.in+c.Duplicated != c.Passed+c.Lost+c.Overflowed {
		b.t.Fatalf("%d entered, %d left, %+v", b.in, len(b.left), c)
	}
	return c
}

func (b *bench) ids() (ids []int) {
	for _, d := range b.left {
		ids = append(ids, d.id)
	}
	return ids
}

func TestNothingIsPromptAndInOrder(t *testing.T) {
	b := newBench(t, Profile{}, 1)
	for i := range 100 {
		b.send(int64(i), i, 60)
	}
	b.end()
	for i, d := range b.left {
		if d.at != int64(i) || d.id != i {
			t.Fatalf("departure %d: %+v", i, d)
		}
	}
}

func TestSharesAreAsAsked(t *testing.T) {
	const n = 100_000
	b := newBench(t, Profile{Loss: 5, Dup: 1, Corrupt: 0.5, Reorder: 2, Delay: time.Millisecond}, 7)
	for i := range n {
		b.send(int64(i)*1000, i, 60)
	}
	c := b.end()
	for _, x := range []struct {
		name    string
		got     uint64
		percent float64
		of      float64
	}{
		{"lost", c.Lost, 5, n}, {"duplicated", c.Duplicated, 1, n * 0.95},
		{"corrupted", c.Corrupted, 0.5, n * 0.95}, {"reordered", c.Reordered, 2, n * 0.95},
	} {
		want, q := x.of*x.percent/100, x.percent/100
		if off := math.Abs(float64(x.got) - want); off > 5*math.Sqrt(x.of*q*(1-q)) {
			t.Errorf("%s: %d, want about %.0f", x.name, x.got, want)
		}
	}
}

func TestFatesComeFromTheSeed(t *testing.T) {
	run := func(p Profile, seed uint64) []int {
		b := newBench(t, p, seed)
		for i := range 2000 {
			b.send(int64(i)*1000, i, 60)
		}
		b.end()
		return b.ids()
	}
	p := Profile{Loss: 10, Dup: 5, Reorder: 5}
	first := run(p, 1)
	if !slices.Equal(first, run(p, 1)) {
		t.Error("one seed, two fates")
	}
	if slices.Equal(first, run(p, 2)) {
		t.Error("two seeds, one fate")
	}
	// What is lost does not depend on what else happens.
	lost := func(p Profile) (ids []int) {
		there := run(p, 1)
		for i := range 2000 {
			if !slices.Contains(there, i) {
				ids = append(ids, i)
			}
		}
		return ids
	}
	if !slices.Equal(lost(p), lost(Profile{Loss: 10, Delay: time.Millisecond, Jitter: time.Millisecond})) {
		t.Error("another impairment changes what is lost")
	}
}

func TestCorruptInvertsOneBit(t *testing.T) {
	b := newBench(t, Profile{Corrupt: 100}, 3)
	seen := map[int]bool{}
	for i := range 400 {
		b.in++
		f := b.frame(0, 64)
		f.Csum = packet.CsumVerified
		lent := f.Bytes()
		before := bytes.Clone(lent)
		b.pipe.enter(int64(i), f)
		if !bytes.Equal(lent, before) {
			t.Fatal("the sender's octets are damaged, not a copy")
		}
		b.until(int64(i))
		clean := b.frame(0, 64)
		flips := 0
		for k, x := range b.left[i].data {
			d := bits.OnesCount8(x ^ clean.Bytes()[k])
			if flips += d; d > 0 {
				seen[k] = true
			}
		}
		clean.Free()
		if flips != 1 || b.left[i].csum != packet.CsumNone {
			t.Fatalf("%d bits are inverted, checksum state %d", flips, b.left[i].csum)
		}
	}
	b.end()
	for k := range 64 {
		if seen[k] != (k >= packet.EtherLen) {
			t.Errorf("octet %d hit: %v", k, seen[k])
		}
	}
	// A frame that is all link header has nothing to lose.
	b.in++
	short := b.frame(0, 64)
	short.TrimTo(packet.EtherLen)
	b.pipe.enter(1000, short)
	if c := b.pipe.counts(); c.Corrupted != 400 {
		t.Errorf("%d corrupted", c.Corrupted)
	}
	b.pipe.drop()
}

func TestDelay(t *testing.T) {
	b := newBench(t, Profile{Delay: 10 * time.Millisecond}, 1)
	b.send(0, 0, 60)
	b.send(3*ms, 1, 60)
	b.until(10*ms - 1)
	if len(b.left) != 0 {
		t.Fatalf("left early: %+v", b.left)
	}
	b.end()
	if b.left[0].at != 10*ms || b.left[1].at != 13*ms {
		t.Errorf("%+v", b.left)
	}
}

func TestReorderHoldsBack(t *testing.T) {
	b := newBench(t, Profile{Reorder: 100, Hold: 5 * time.Millisecond, Delay: time.Millisecond}, 1)
	b.send(0, 0, 60)
	b.pipe.Reorder = 0
	b.send(ms, 1, 60)
	b.send(2*ms, 2, 60)
	b.send(6*ms, 3, 60)
	b.end()
	if got := b.ids(); !slices.Equal(got, []int{1, 2, 0, 3}) || b.left[2].at != 6*ms {
		t.Errorf("%v: %+v", got, b.left)
	}
}

func TestRate(t *testing.T) {
	// 1000 octets at 8 Mbit/s are a millisecond; the queue is three frames.
	b := newBench(t, Profile{Rate: 8_000_000, Queue: 3}, 1)
	drops := 0
	for i := range 5 {
		drops += b.send(0, i, 1000)
	}
	drops += b.send(ms, 5, 1000) // one has been sent
	b.send(10*ms, 6, 500)
	c := b.end()
	if drops != 2 || c.Overflowed != 2 {
		t.Errorf("%d dropped, %+v", drops, c)
	}
	want := []departure{{at: ms, id: 0}, {at: 2 * ms, id: 1}, {at: 3 * ms, id: 2}, {at: 4 * ms, id: 5}, {at: 10*ms + ms/2, id: 6}}
	if !slices.EqualFunc(b.left, want, func(a, b departure) bool { return a.at == b.at && a.id == b.id }) {
		t.Errorf("%+v", b.left)
	}
}

// ip is a frame with an IPv4 datagram of UDP and what its sum lacks.
func (b *bench) ip(tos byte, payload int) *packet.Buf {
	src, dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	f := b.pool.Get(packet.EtherLen + packet.IPv4Len + packet.UDPLen + payload)
	packet.PutEther(f.Append(packet.EtherLen), [6]byte{2}, [6]byte{4}, packet.EtherIPv4)
	n := packet.UDPLen + payload
	packet.PutIPv4(f.Append(packet.IPv4Len), tos, packet.IPv4Len+n, 9, 0, 64, packet.ProtoUDP, src, dst, nil).SetChecksum()
	u := f.Append(n)
	clear(u)
	packet.PutUDP(u, 1, 2, n, packet.Fold(packet.PseudoSum(src, dst, packet.ProtoUDP, n)))
	f.SetPartial(packet.EtherLen+packet.IPv4Len, packet.UDPCsumOffset)
	return f
}

// sound reports whether the sums of a frame of ip are right.
func sound(frame []byte) bool {
	h, ok := packet.CheckIPv4(frame[packet.EtherLen:])
	return ok && h.ChecksumOK() && h.TotalLen() == len(h) &&
		packet.Fold(packet.Sum(packet.PseudoSum(h.Src(), h.Dst(), h.Proto(), len(h.Payload())), h.Payload())) == 0xffff
}

func TestECN(t *testing.T) {
	b := newBench(t, Profile{Rate: 8_000_000, ECN: 2}, 1)
	for _, tos := range []byte{0xb9, 0xba, 0xb8, 0xb9, 0xba, 0xbb} { // ECT(1), ECT(0), not capable …
		b.in++
		b.pipe.enter(0, b.ip(tos, 100))
	}
	c := b.end()
	for i, want := range []byte{0xb9, 0xba, 0xb8, 0xbb, 0xbb, 0xbb} {
		if d := b.left[i]; d.data[15] != want || !sound(d.data) {
			t.Errorf("frame %d leaves with TOS %#x, sums right: %v", i, d.data[15], sound(d.data))
		}
	}
	if c.Marked != 3 {
		t.Errorf("%d marked", c.Marked)
	}
	six := make([]byte, 14+40)
	six[12], six[13], six[14], six[15] = 0x86, 0xdd, 0x60, 0x20
	if !mark(six) || six[15] != 0x30 || six[14] != 0x60 {
		t.Errorf("IPv6: % x", six[14:16])
	}
	six[15] = 0
	if mark(six) || mark(six[:30]) || mark(make([]byte, 60)) {
		t.Error("marked what is not capable, too short, or no IP")
	}
}

func TestSuperPacketsMeetTheLinkAsFrames(t *testing.T) {
	b := newBench(t, Profile{Loss: 50}, 5)
	f := b.ip(0, 10_000)
	f.GSO, f.GSOSize = packet.GSOUDPv4, 1000
	if drops := b.pipe.enter(0, f); drops != 0 {
		t.Errorf("%d dropped", drops)
	}
	b.in = 10
	c := b.end()
	if c.Lost == 0 || c.Lost == 10 {
		t.Errorf("%d of 10 lost", c.Lost)
	}
	for _, d := range b.left {
		if d.octet != 14+28+1000 || !sound(d.data) || d.csum != packet.CsumVerified {
			t.Errorf("a frame of %d octets, sums right: %v", d.octet, sound(d.data))
		}
	}
	f = b.frame(0, 60) // says it is one and is not
	f.GSO, f.GSOSize = packet.GSOUDPv4, 1000
	if drops := b.pipe.enter(0, f); drops != 1 || b.pool.Bufs() != 0 || b.pipe.counts().NoBuffer != 1 {
		t.Errorf("%d dropped, %d out", drops, b.pool.Bufs())
	}
}

func TestStorageIsBounded(t *testing.T) {
	b := newBench(t, Profile{Delay: time.Second}, 1)
	drops := 0
	for i := range 2 * maxStorage / 70_000 {
		drops += b.send(0, i, 60_000)
		if b.pipe.storage > maxStorage {
			t.Fatalf("storage %d", b.pipe.storage)
		}
	}
	if c := b.end(); drops == 0 || c.Overflowed != uint64(drops) {
		t.Errorf("%d dropped: %+v", drops, c)
	}
}

func TestCopyWithoutMemory(t *testing.T) {
	b := newBench(t, Profile{Dup: 100}, 1)
	f := b.frame(0, 60)
	b.pool.SetLimit(0)
	if drops := b.pipe.enter(0, f); drops != 1 {
		t.Errorf("%d dropped", drops)
	}
	b.in = 1
	bad := newBench(t, Profile{Corrupt: 100}, 1)
	f = bad.frame(0, 60)
	bad.pool.SetLimit(0)
	if drops := bad.pipe.enter(0, f); drops != 1 || bad.pool.Bufs() != 0 || bad.pipe.counts().NoBuffer != 1 {
		t.Errorf("%d dropped, %+v", drops, bad.pipe.counts())
	}
	if c := b.end(); c.Passed != 1 || c.NoBuffer != 1 || c.Duplicated != 0 {
		t.Errorf("%+v", c)
	}
}

// TestLinkLaws: whatever the profile and the traffic, nothing is lost from the
// books, order holds where it should, nobody is early, and the link carries no
// more than it can.
func TestLinkLaws(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		share := rapid.SampledFrom([]float64{0, 0, 1, 30, 100})
		span := rapid.SampledFrom([]time.Duration{0, 0, 10 * time.Microsecond, time.Millisecond, 50 * time.Millisecond})
		p := Profile{
			Loss: share.Draw(r, "loss"), Dup: share.Draw(r, "dup"), Corrupt: 0, Reorder: share.Draw(r, "reorder"),
			Delay: span.Draw(r, "delay"), Jitter: span.Draw(r, "jitter"),
			Rate: rapid.SampledFrom([]uint64{0, 1e5, 1e8, 1e10}).Draw(r, "rate"),
		}
		if p.Rate > 0 {
			p.Queue, p.ECN = rapid.IntRange(1, 20).Draw(r, "queue"), rapid.IntRange(0, 20).Draw(r, "ecn")
		}
		if p.Reorder > 0 {
			p.Hold = time.Millisecond + span.Draw(r, "hold")
		}
		if err := p.settle(); err != nil {
			r.Fatal(err)
		}
		b := &bench{t: r, pipe: newPipe(p, rapid.Uint64().Draw(r, "seed"), 0), pool: packet.NewPool(64 << 20)}
		gap := rapid.Int64Range(0, 2*ms)
		n := rapid.IntRange(1, 200).Draw(r, "frames")
		now, entry := int64(0), make([]int64, n)
		for i := range n {
			now += gap.Draw(r, "gap")
			entry[i] = now
			b.send(now, i, rapid.IntRange(60, 1514).Draw(r, "octets"))
			if w := b.pipe.sending.since(now); p.Rate > 0 && w > p.Queue {
				r.Fatalf("%d wait for the link, the queue is %d", w, p.Queue)
			}
		}
		b.end()
		for i, d := range b.left {
			if early := entry[d.id] + int64(max(p.Delay-p.Jitter, 0)); d.at < early {
				r.Fatalf("frame %d leaves at %d, before %d", d.id, d.at, early)
			}
			if i > 0 && p.Reorder == 0 && d.id < b.left[i-1].id {
				r.Fatalf("frame %d leaves after %d", d.id, b.left[i-1].id)
			}
		}
		if p.Rate > 0 && p.Jitter == 0 && p.Reorder == 0 {
			for i := range b.left {
				octets := 0
				for _, d := range b.left[i:min(i+10, len(b.left))] {
					octets += d.octet
					took := float64(d.at-b.left[i].at) / 1e9
					if carried := float64(8 * (octets - b.left[i].octet)); carried > (took+1e-9)*float64(p.Rate)+1 {
						r.Fatalf("%g bits in %g s over a link of %d bit/s", carried, took, p.Rate)
					}
				}
			}
		}
	})
}
