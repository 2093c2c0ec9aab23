// Package bpf is the packet filter and the capture buffers behind it (BSD's
// bpf): programs of classic BPF choose frames, a [Capture] keeps copies of
// them until the daemon reads. It is passive: frames come in on the packet
// path, records go out when asked for.
package bpf

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// MaxInstructions is the longest program taken (BPF_MAXINSNS).
const MaxInstructions = 512

// Filter is a checked program. The nil Filter accepts whole packets. It has
// no state, so several goroutines may match with one.
type Filter struct{ vm *bpf.VM }

// NewFilter checks a program: known instructions, forward jumps inside it,
// scratch cells 0 to 15, no division by a constant zero, a return at the end,
// at most [MaxInstructions]. The empty program is the nil Filter. Programs are
// written for frames with an Ethernet header. Since jumps only go forward,
// what passed here ends.
func NewFilter(prog []bpf.RawInstruction) (*Filter, error) {
	if len(prog) == 0 {
		return nil, nil
	}
	if len(prog) > MaxInstructions {
		return nil, fmt.Errorf("bpf: program of %d instructions, at most %d are taken", len(prog), MaxInstructions)
	}
	insns, all := bpf.Disassemble(prog)
	if !all {
		for i, ins := range insns {
			if raw, ok := ins.(bpf.RawInstruction); ok {
				return nil, fmt.Errorf("bpf: instruction %d is unknown (code %#x, jt %d, jf %d, k %#x)", i, raw.Op, raw.Jt, raw.Jf, raw.K)
			}
		}
	}
	for i, ins := range insns {
		if _, ok := ins.(bpf.NegateA); ok { // the virtual machine has none
			return nil, fmt.Errorf("bpf: instruction %d (neg) is not supported; subtract from zero instead", i)
		}
		// int(Skip) of the machine's own check would wrap on a 32-bit system.
		if j, ok := ins.(bpf.Jump); ok && j.Skip >= MaxInstructions {
			return nil, fmt.Errorf("bpf: instruction %d jumps past the end of the program", i)
		}
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		return nil, fmt.Errorf("bpf: %w", err)
	}
	return &Filter{vm}, nil
}

// Match answers how many octets of the frame the program wants; 0: none, the
// frame is not its. A load past the frame's end is 0, as on BSD.
func (f *Filter) Match(frame []byte) int {
	if f == nil {
		return len(frame)
	}
	n, err := f.vm.Run(frame)
	if err != nil || n <= 0 {
		return 0
	}
	return min(n, len(frame))
}
