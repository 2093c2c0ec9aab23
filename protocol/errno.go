package protocol

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Error is a failure that crossed the door: Linux's number, and a sentence
// when there is more to say. errors.Is(err, syscall.EEXIST) holds for it.
type Error struct {
	Errno syscall.Errno
	Text  string
}

// Error is the sentence, else the number's text ([Strerror]).
func (e *Error) Error() string {
	if e.Text != "" {
		return e.Text
	}
	return errnoText(e.Errno)
}

// Unwrap answers the number.
func (e *Error) Unwrap() error { return e.Errno }

// Timeout and Temporary are those of the number, for package net's errors.
func (e *Error) Timeout() bool { return e.Errno.Timeout() }

// Temporary reports whether to try again may help.
func (e *Error) Temporary() bool { return e.Errno.Temporary() }

// AsError is err as it goes over the wire. An error with no number in it
// becomes EIO with err's text.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if err == error(errno) {
			return &Error{Errno: errno}
		}
		return &Error{Errno: errno, Text: err.Error()}
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return &Error{Errno: syscall.ETIMEDOUT}
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Errno: syscall.ENOENT, Text: err.Error()}
	}
	return &Error{Errno: syscall.EIO, Text: err.Error()}
}

// Strerror is the text BSD's and QNX's strerror has for the number in err,
// which the original's tools print ("File exists", "Device not configured").
// An error without a number answers its own text, nil answers "No error".
func Strerror(err error) string {
	if err == nil {
		return "No error"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errnoText(errno)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return errnoText(syscall.ETIMEDOUT)
	}
	return err.Error()
}

// errnoTexts are BSD's own words, which a tool prints behind a colon as the
// original does.
var errnoTexts = map[syscall.Errno]string{
	0:                       "No error",
	syscall.EPERM:           "Operation not permitted",
	syscall.ENOENT:          "No such file or directory",
	syscall.ESRCH:           "No such process",
	syscall.EINTR:           "Interrupted system call",
	syscall.EIO:             "Input/output error",
	syscall.ENXIO:           "Device not configured",
	syscall.E2BIG:           "Argument list too long",
	syscall.EBADF:           "Bad file descriptor",
	syscall.EAGAIN:          "Resource temporarily unavailable",
	syscall.ENOMEM:          "Cannot allocate memory",
	syscall.EACCES:          "Permission denied",
	syscall.EFAULT:          "Bad address",
	syscall.EBUSY:           "Device busy",
	syscall.EEXIST:          "File exists",
	syscall.ENODEV:          "Operation not supported by device",
	syscall.ENOTDIR:         "Not a directory",
	syscall.EISDIR:          "Is a directory",
	syscall.EINVAL:          "Invalid argument",
	syscall.ENFILE:          "Too many open files in system",
	syscall.EMFILE:          "Too many open files",
	syscall.ENOTTY:          "Inappropriate ioctl for device",
	syscall.EFBIG:           "File too large",
	syscall.ENOSPC:          "No space left on device",
	syscall.EROFS:           "Read-only file system",
	syscall.EPIPE:           "Broken pipe",
	syscall.EDOM:            "Numerical argument out of domain",
	syscall.ERANGE:          "Result too large",
	syscall.ENAMETOOLONG:    "File name too long",
	syscall.ENOSYS:          "Function not implemented",
	syscall.EPROTO:          "Protocol error",
	syscall.EOVERFLOW:       "Value too large to be stored in data type",
	syscall.ENOTSOCK:        "Socket operation on non-socket",
	syscall.EDESTADDRREQ:    "Destination address required",
	syscall.EMSGSIZE:        "Message too long",
	syscall.EPROTOTYPE:      "Protocol wrong type for socket",
	syscall.ENOPROTOOPT:     "Protocol not available",
	syscall.EPROTONOSUPPORT: "Protocol not supported",
	syscall.ESOCKTNOSUPPORT: "Socket type not supported",
	syscall.EOPNOTSUPP:      "Operation not supported",
	syscall.EPFNOSUPPORT:    "Protocol family not supported",
	syscall.EAFNOSUPPORT:    "Address family not supported by protocol family",
	syscall.EADDRINUSE:      "Address already in use",
	syscall.EADDRNOTAVAIL:   "Can't assign requested address",
	syscall.ENETDOWN:        "Network is down",
	syscall.ENETUNREACH:     "Network is unreachable",
	syscall.ENETRESET:       "Network dropped connection on reset",
	syscall.ECONNABORTED:    "Software caused connection abort",
	syscall.ECONNRESET:      "Connection reset by peer",
	syscall.ENOBUFS:         "No buffer space available",
	syscall.EISCONN:         "Socket is already connected",
	syscall.ENOTCONN:        "Socket is not connected",
	syscall.ESHUTDOWN:       "Can't send after socket shutdown",
	syscall.ETOOMANYREFS:    "Too many references: can't splice",
	syscall.ETIMEDOUT:       "Connection timed out",
	syscall.ECONNREFUSED:    "Connection refused",
	syscall.EHOSTDOWN:       "Host is down",
	syscall.EHOSTUNREACH:    "No route to host",
	syscall.EALREADY:        "Operation already in progress",
	syscall.EINPROGRESS:     "Operation now in progress",
	syscall.EDQUOT:          "Disc quota exceeded",
	syscall.ECANCELED:       "Operation canceled",
}

func errnoText(e syscall.Errno) string {
	if t, ok := errnoTexts[e]; ok {
		return t
	}
	return e.Error()
}
