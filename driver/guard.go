package driver

import (
	"fmt"
	"runtime/debug"
)

// Guard runs f and answers its error, or the panic in it as an error. Drivers
// run their own goroutines in it, so that a panic costs the connection or the
// device and not the process. A panic of the engine below [Sink.Input] never
// comes here: the host ends the process first.
func Guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the driver panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}
