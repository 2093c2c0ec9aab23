package protocol

import (
	"errors"
	"fmt"
	"syscall"
)

// KeyFault is what is wrong with a PF_KEY message, told apart as KAME counts it.
type KeyFault uint8

const (
	KeyFaultNone      KeyFault = iota
	KeyFaultShort              // shorter than a head
	KeyFaultLength             // a length, of the message or in it, or what follows from one
	KeyFaultVersion            // not PFKeyVersion
	KeyFaultType               // no message that is served
	KeyFaultTwice              // an extension that is there twice
	KeyFaultExtension          // an extension of the type that is reserved
	KeyFaultSAType             // no kind of association that is served
	KeyFaultAddress            // an address, or two that do not belong together
	KeyFaults                  // how many there are
)

// keyError is an error with a fault in it.
type keyError struct {
	fault KeyFault
	err   *Error
}

func (e *keyError) Error() string { return e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

// KeyErrorf is an error about a message that has a fault.
func KeyErrorf(fault KeyFault, errno syscall.Errno, format string, args ...any) error {
	return &keyError{fault, &Error{Errno: errno, Text: fmt.Sprintf(format, args...)}}
}

// KeyFaultOf is the fault that err tells of, or KeyFaultNone.
func KeyFaultOf(err error) KeyFault {
	if e, ok := errors.AsType[*keyError](err); ok {
		return e.fault
	}
	return KeyFaultNone
}
