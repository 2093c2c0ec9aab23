// Package wire is what a test and the virtual machine that it started say to each
// other over the machine's serial port: JSON values, one after the other.
package wire

import "time"

// Port is the name of the serial port.
const Port = "ionet"

// Config is what the initial file system tells the guest, in /config.
type Config struct {
	Modules []string // of the initial file system, in the order of their loading
	Release string   // of the kernel
	Tree    string   // where the host has the kernel's modules: .../lib/modules/RELEASE
}

// Tool is where the guest program is in the machine; it has commands of its own.
const Tool = "/run/guest"

// Request is what the test says. The first one with an ID starts something,
// later ones are for what is running under it.
type Request struct {
	ID     int
	Start  *Start   `json:",omitempty"`
	Load   []string `json:",omitempty"` // files of modules, in the order of their loading
	Signal int      `json:",omitempty"` // for the command and all its children
}

// Start is a command.
type Start struct {
	Argv  []string
	Input []byte        // its standard input, whole
	Limit time.Duration // after that it is killed; 0: never
}

// Reply is what the machine says. ID 0 is the machine itself: it is up.
type Reply struct {
	ID  int
	Out []byte `json:",omitempty"` // standard output, some more of it
	Err []byte `json:",omitempty"` // standard error, some more of it
	End *End   `json:",omitempty"` // nothing follows
}

// End is how a request ended.
type End struct {
	Status int    // as a shell says it: 128 and the signal's number for who was killed
	Late   bool   // it was killed because of its Limit
	Error  string // why it could not be done at all
}
