package protocol

import (
	"encoding/binary"
	"fmt"
	"syscall"
)

var le = binary.LittleEndian

// Header opens every frame on the doors 2 and 24; see [HeaderLen] for its layout.
type Header struct {
	Type  Type
	Flags uint16
	Tag   uint32
	ID    uint32
	Errno syscall.Errno
}

// AppendHeader appends the 16 octets of h.
func AppendHeader(b []byte, h Header) []byte {
	b = append(b, Version, byte(h.Type))
	b = le.AppendUint16(b, h.Flags)
	b = le.AppendUint32(b, h.Tag)
	b = le.AppendUint32(b, h.ID)
	return le.AppendUint32(b, uint32(h.Errno))
}

// ParseFrame splits a frame into header and payload, which points into b.
// A frame that is too short, too long or of another version is an error of
// EPROTO; the header is filled as far as it could be read.
func ParseFrame(b []byte) (Header, []byte, error) {
	if len(b) < HeaderLen {
		return Header{}, nil, malformed("frame of %d octets, a header alone has %d", len(b), HeaderLen)
	}
	h := Header{
		Type:  Type(b[1]),
		Flags: le.Uint16(b[2:]),
		Tag:   le.Uint32(b[4:]),
		ID:    le.Uint32(b[8:]),
		Errno: syscall.Errno(le.Uint32(b[12:])),
	}
	if len(b) > MaxFrame {
		return h, nil, malformed("frame longer than %d octets", MaxFrame)
	}
	if b[0] != Version {
		return h, nil, malformed("frame of version %d, this is version %d", b[0], Version)
	}
	return h, b[HeaderLen:], nil
}

// AppendError appends the reply to the request h that it failed with err: the
// number in the header, the sentence as the payload.
func AppendError(b []byte, h Header, err error) []byte {
	e := AsError(err)
	b = AppendHeader(b, Header{Type: h.Type, Flags: FlagReply, Tag: h.Tag, ID: h.ID, Errno: e.Errno})
	text := e.Text
	if len(text) > 1024 {
		text = text[:1024]
	}
	return append(b, text...)
}

// AppendReply appends the header of a successful reply to the request h; the
// payload follows it.
func AppendReply(b []byte, h Header) []byte {
	return AppendHeader(b, Header{Type: h.Type, Flags: FlagReply, Tag: h.Tag, ID: h.ID})
}

// AppendString appends s with its length before it (u16). What is longer than
// 65,535 octets is cut.
func AppendString(b []byte, s string) []byte {
	if len(s) > 0xffff {
		s = s[:0xffff]
	}
	b = le.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// AppendBytes appends v with its length before it (u32).
func AppendBytes(b, v []byte) []byte {
	b = le.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}

// Reader takes a payload apart. After the first read beyond the end all
// further reads answer zero and [Reader.Err] says where it was.
type Reader struct {
	b   []byte
	off int
	err error
}

// NewReader reads b, which it does not copy.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

func (r *Reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b)-r.off {
		r.err = malformed("%d octets wanted at offset %d of %d", n, r.off, len(r.b))
		return nil
	}
	v := r.b[r.off : r.off+n : r.off+n]
	r.off += n
	return v
}

// U8 reads an octet.
func (r *Reader) U8() uint8 {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

// U16 reads a little-endian number, as U32 and U64 do.
func (r *Reader) U16() uint16 {
	if v := r.take(2); v != nil {
		return le.Uint16(v)
	}
	return 0
}

// U32 reads a little-endian number.
func (r *Reader) U32() uint32 {
	if v := r.take(4); v != nil {
		return le.Uint32(v)
	}
	return 0
}

// U64 reads a little-endian number.
func (r *Reader) U64() uint64 {
	if v := r.take(8); v != nil {
		return le.Uint64(v)
	}
	return 0
}

// String reads what [AppendString] wrote.
func (r *Reader) String() string { return string(r.take(int(r.U16()))) }

// Bytes reads what [AppendBytes] wrote; it points into the payload.
func (r *Reader) Bytes() []byte {
	n := r.U32()
	if n > MaxFrame {
		n = MaxFrame + 1
	}
	return r.take(int(n))
}

// Addr reads a socket address; a single zero octet is none (Family 0).
func (r *Reader) Addr() Addr {
	if r.err != nil {
		return Addr{}
	}
	a, rest, err := ParseSockaddr(r.b[r.off:])
	if err != nil {
		r.err = err
		return Addr{}
	}
	r.off = len(r.b) - len(rest)
	return a
}

// Rest is all that is left.
func (r *Reader) Rest() []byte {
	if r.err != nil {
		return nil
	}
	return r.take(len(r.b) - r.off)
}

// Len is how many octets are left.
func (r *Reader) Len() int {
	if r.err != nil {
		return 0
	}
	return len(r.b) - r.off
}

// Err is the first failure, or nil.
func (r *Reader) Err() error { return r.err }

// Close is [Reader.Err], or an error when something is left over.
func (r *Reader) Close() error {
	if r.err == nil && r.off != len(r.b) {
		r.err = malformed("%d octets left over at offset %d", len(r.b)-r.off, r.off)
	}
	return r.err
}

func malformed(format string, args ...any) error {
	return &Error{Errno: syscall.EPROTO, Text: "malformed message: " + fmt.Sprintf(format, args...)}
}
