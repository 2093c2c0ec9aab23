package crypt

import "encoding"

// hashMAC is a hash over key and octets. The states that the hash has after the
// key are kept, in the form that its library gives them.
type hashMAC struct {
	kind  kind
	inner []byte
	// outer is that of the second hash of HMAC (RFC 2104 §4). Keyed MD5 and SHA-1
	// have none: the key itself follows the octets, and is in tail.
	outer, tail []byte
}

// newHMAC is RFC 2104 §2.
func newHMAC(k kind, key []byte) (*hashMAC, error) {
	d := k.make()
	pad := make([]byte, d.BlockSize())
	if len(key) > len(pad) {
		d.Write(key)
		key = d.Sum(nil)
	}
	copy(pad, key)
	for i := range pad {
		pad[i] ^= 0x36
	}
	m := &hashMAC{kind: k}
	var err error
	if m.inner, err = after(d, pad); err != nil {
		return nil, err
	}
	for i := range pad {
		pad[i] ^= 0x36 ^ 0x5c
	}
	if m.outer, err = after(d, pad); err != nil {
		return nil, err
	}
	clear(pad)
	d.Reset()
	return m, nil
}

// newKeyed is RFC 1828 and RFC 1852: the key, filled to whole blocks as the hash
// fills its last one, the octets, and the key again.
func newKeyed(k kind, key []byte) (*hashMAC, error) {
	d := k.make()
	block := d.BlockSize()
	pad := make([]byte, (len(key)+8)/block*block+block)
	copy(pad, key)
	pad[len(key)] = 0x80
	count := pad[len(pad)-8:]
	be.PutUint64(count, uint64(len(key))*8)
	if k == kindMD5 { // RFC 1321 §3.2: the lower octet first
		for i := range 4 {
			count[i], count[7-i] = count[7-i], count[i]
		}
	}
	inner, err := after(d, pad)
	clear(pad)
	d.Reset()
	return &hashMAC{kind: k, inner: inner, tail: append([]byte(nil), key...)}, err
}

// after is the state of d when it has taken b in.
func after(d digest, b []byte) ([]byte, error) {
	d.Reset()
	d.Write(b)
	return d.(encoding.BinaryMarshaler).MarshalBinary()
}

// sum is the untruncated value, in s.
func (m *hashMAC) sum(s *scratch, parts [][]byte) []byte {
	d := s.digest(m.kind)
	load(d, m.inner)
	for _, p := range parts {
		d.Write(noescape(p))
	}
	if m.outer == nil {
		d.Write(m.tail)
	} else {
		inner := d.Sum(s.sum[:0])
		load(d, m.outer)
		d.Write(inner)
	}
	sum := d.Sum(s.sum[:0])
	d.Reset()
	return sum
}

// load sets d to a state of our own making, which is of the right form.
func load(d digest, state []byte) {
	if err := d.UnmarshalBinary(state); err != nil {
		panic(err)
	}
}

func (m *hashMAC) wipe() {
	clear(m.inner)
	clear(m.outer)
	clear(m.tail)
}
