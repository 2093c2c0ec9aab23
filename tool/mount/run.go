package mount

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	wire "ionet/protocol"
)

// stack is what mount asks of a stack.
type stack interface {
	Mount(typ, options, module string) (string, error)
	Umount(path string) error
}

// mountOn does a mount and answers the exit status.
func mountOn(s stack, r *request, out, stderr io.Writer) int {
	said, err := s.Mount(r.typ, r.options, r.module)
	if err != nil {
		fmt.Fprintf(stderr, "mount: Can't mount / (type %s) \n", r.typ)
		fmt.Fprintf(stderr, "mount: Possible reason: %s \n", reason(err))
		explain(stderr, "mount", err)
		return 1
	}
	if r.verbose && said != "" {
		fmt.Fprintln(out, said)
	}
	return 0
}

// reason is the text of the error's number; ENOSYS is told as EINVAL, as the
// original does.
func reason(err error) string {
	if errors.Is(err, syscall.ENOSYS) {
		err = syscall.EINVAL
	}
	return wire.Strerror(err)
}

// explain adds the stack's sentence, when it has one.
func explain(stderr io.Writer, name string, err error) {
	if e, ok := errors.AsType[*wire.Error](err); ok && e.Text != "" {
		fmt.Fprintf(stderr, "%s: %s\n", name, e.Text)
	}
}

// umountOn takes drivers away and answers the exit status.
func umountOn(s stack, u *unmount, out, stderr io.Writer) int {
	status := 0
	for _, p := range u.paths {
		if u.verbose {
			fmt.Fprintf(out, "Attempting to umount: %s \n", p)
		}
		var err error = &wire.Error{Errno: syscall.EBUSY, Text: "TCP/IP and its converters cannot be unmounted: io-net --stop ends the whole stack"}
		if kind(p) == driver {
			err = s.Umount(p)
		}
		if err != nil {
			fmt.Fprintf(stderr, "umount(%s) failed: %s \n", p, wire.Strerror(err))
			explain(stderr, "umount", err)
			status = 1
		}
	}
	return status
}
