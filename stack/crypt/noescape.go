package crypt

import "unsafe"

// noescape is b, which the compiler then takes for memory that nothing of the
// caller's stack is in. An argument of a call through an interface is moved to
// the heap, as the method might keep it; those of cipher.AEAD, cipher.Block and
// hash.Hash that we call do not, and a nonce on the heap for each packet would
// cost more than what is done with it. The compiler takes the pointer for a number until it is
// handed over: what comes of noescape is an argument and nothing else. In a variable it would not
// follow a stack that moves, as it does when a call makes it grow.
//
//go:nocheckptr
func noescape(b []byte) []byte {
	p := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), len(b))
}

// here is a number of the goroutine's stack, for spreading.
func here() uintptr {
	var b byte
	return uintptr(unsafe.Pointer(&b))
}
