package filter

import (
	"fmt"
	"strings"

	"golang.org/x/net/bpf"
)

// Print writes a program in tcpdump's notation: one instruction a line, with
// the absolute targets of jumps.
func Print(prog []bpf.RawInstruction) string {
	var b strings.Builder
	for i, r := range prog {
		switch ins := r.Disassemble().(type) {
		case bpf.Jump:
			fmt.Fprintf(&b, "(%03d) %-8s %d\n", i, "ja", i+1+int(ins.Skip))
		case bpf.JumpIf, bpf.JumpIfX:
			// The disassembly may have turned the test around; the raw form has not.
			name := map[uint16]string{0x10: "jeq", 0x20: "jgt", 0x30: "jge", 0x40: "jset"}[r.Op&0xf0]
			arg := fmt.Sprintf("#%#x", r.K)
			if r.Op&0x08 != 0 {
				arg = "x"
			}
			fmt.Fprintf(&b, "(%03d) %-8s %-16s jt %d\tjf %d\n", i, name, arg, i+1+int(r.Jt), i+1+int(r.Jf))
		default:
			name, arg, _ := strings.Cut(fmt.Sprint(ins), " ")
			fmt.Fprintf(&b, "(%03d) %-8s %s\n", i, name, arg)
		}
	}
	return b.String()
}
