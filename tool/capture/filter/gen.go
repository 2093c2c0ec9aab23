package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// node is a boolean expression.
type node interface{}

type (
	and struct{ l, r node }
	or  struct{ l, r node }
	not struct{ n node }
	// test loads something into A and compares it.
	test struct {
		load []bpf.Instruction
		cond bpf.JumpTest
		val  uint32
	}
	// relation compares two arithmetic expressions; guard holds where their
	// loads make sense.
	relation struct {
		l, r  expr
		cond  bpf.JumpTest
		guard node
	}
)

func all(n node, more ...node) node {
	for _, m := range more {
		switch {
		case m == nil:
		case n == nil:
			n = m
		default:
			n = and{n, m}
		}
	}
	return n
}

func some(n node, more ...node) node {
	for _, m := range more {
		switch {
		case m == nil:
		case n == nil:
			n = m
		default:
			n = or{n, m}
		}
	}
	return n
}

func eq(size int, off, val uint32) node {
	return test{[]bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: size}}, bpf.JumpEqual, val}
}

func masked(off, mask, val uint32) node {
	if mask == 0xffffffff {
		return eq(4, off, val)
	}
	return test{[]bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: 4}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask}}, bpf.JumpEqual, val & mask}
}

// expr is an arithmetic expression of 32 bits.
type expr interface{}

type (
	number    uint32
	length    struct{}
	operation struct {
		op   bpf.ALUOp
		l, r expr
	}
	// field is size octets at base + at, behind the IPv4 header where variable.
	field struct {
		base     uint32
		variable bool
		at       expr
		size     int
	}
)

// label is a place in the program; its instruction's index is known when the
// code that follows it has been made.
type label int

type instr struct {
	bpf.Instruction // not for a jump
	jump            bool
	cond            bpf.JumpTest
	val             uint32
	x               bool // compares with X
	t, f            label
}

type generator struct {
	code   []instr
	places []int
}

func (g *generator) label() label {
	g.places = append(g.places, -1)
	return label(len(g.places) - 1)
}

func (g *generator) place(l label) { g.places[l] = len(g.code) }

func (g *generator) emit(ins ...bpf.Instruction) {
	for _, i := range ins {
		g.code = append(g.code, instr{Instruction: i})
	}
}

// branch jumps to t where A cond val (or X), else to f.
func (g *generator) branch(cond bpf.JumpTest, val uint32, x bool, t, f label) {
	switch cond { // the machine has only these four
	case bpf.JumpNotEqual:
		cond, t, f = bpf.JumpEqual, f, t
	case bpf.JumpLessThan:
		cond, t, f = bpf.JumpGreaterOrEqual, f, t
	case bpf.JumpLessOrEqual:
		cond, t, f = bpf.JumpGreaterThan, f, t
	}
	g.code = append(g.code, instr{jump: true, cond: cond, val: val, x: x, t: t, f: f})
}

func (g *generator) node(n node, t, f label) error {
	switch n := n.(type) {
	case and:
		mid := g.label()
		if err := g.node(n.l, mid, f); err != nil {
			return err
		}
		g.place(mid)
		return g.node(n.r, t, f)
	case or:
		mid := g.label()
		if err := g.node(n.l, t, mid); err != nil {
			return err
		}
		g.place(mid)
		return g.node(n.r, t, f)
	case not:
		return g.node(n.n, f, t)
	case test:
		g.emit(n.load...)
		g.branch(n.cond, n.val, false, t, f)
		return nil
	case relation:
		if n.guard != nil {
			mid := g.label()
			if err := g.node(n.guard, mid, f); err != nil {
				return err
			}
			g.place(mid)
		}
		if k, ok := n.r.(number); ok {
			if err := g.expr(n.l, 0); err != nil {
				return err
			}
			g.branch(n.cond, uint32(k), false, t, f)
			return nil
		}
		if err := g.pair(n.l, n.r, 0); err != nil {
			return err
		}
		g.branch(n.cond, 0, true, t, f)
		return nil
	}
	panic(fmt.Sprintf("filter: no code for %T", n))
}

const scratchCells = 16

// pair leaves l in A and r in X.
func (g *generator) pair(l, r expr, cell int) error {
	if cell >= scratchCells {
		return fmt.Errorf("the arithmetic needs more than %d scratch cells; write it flatter", scratchCells)
	}
	if err := g.expr(l, cell); err != nil {
		return err
	}
	g.emit(bpf.StoreScratch{Src: bpf.RegA, N: cell})
	if err := g.expr(r, cell+1); err != nil {
		return err
	}
	g.emit(bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: cell})
	return nil
}

// expr leaves e in A, using the scratch cells from cell on.
func (g *generator) expr(e expr, cell int) error {
	switch e := e.(type) {
	case number:
		g.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: uint32(e)})
	case length:
		g.emit(bpf.LoadExtension{Num: bpf.ExtLen})
	case operation:
		if k, ok := e.r.(number); ok {
			if err := g.expr(e.l, cell); err != nil {
				return err
			}
			g.emit(bpf.ALUOpConstant{Op: e.op, Val: uint32(k)})
			return nil
		}
		if err := g.pair(e.l, e.r, cell); err != nil {
			return err
		}
		g.emit(bpf.ALUOpX{Op: e.op})
	case field:
		k, fixed := e.at.(number)
		switch {
		case fixed && !e.variable:
			g.emit(bpf.LoadAbsolute{Off: e.base + uint32(k), Size: e.size})
		case fixed:
			g.emit(headerLen, bpf.LoadIndirect{Off: e.base + uint32(k), Size: e.size})
		default:
			if err := g.expr(e.at, cell); err != nil {
				return err
			}
			if e.variable {
				g.emit(headerLen, bpf.ALUOpX{Op: bpf.ALUOpAdd})
			}
			g.emit(bpf.TAX{}, bpf.LoadIndirect{Off: e.base, Size: e.size})
		}
	default:
		panic(fmt.Sprintf("filter: no code for %T", e))
	}
	return nil
}

// headerLen loads the length of the IPv4 header into X.
var headerLen = bpf.LoadMemShift{Off: netOff}

// link turns labels into distances. A conditional jump reaches 255
// instructions; one that has farther to go jumps to a plain jump behind it.
func (g *generator) link() ([]bpf.RawInstruction, error) {
	long := make([]bool, len(g.code))
	at := make([]int, len(g.code)+1)
	for {
		for i := range g.code {
			at[i+1] = at[i] + 1
			if long[i] {
				at[i+1] += 2
			}
		}
		again := false
		for i, ins := range g.code {
			if ins.jump && !long[i] && max(at[g.places[ins.t]], at[g.places[ins.f]])-at[i+1] > 255 {
				long[i], again = true, true
			}
		}
		if !again {
			break
		}
	}
	var out []bpf.Instruction
	for i, ins := range g.code {
		if !ins.jump {
			out = append(out, ins.Instruction)
			continue
		}
		t, f := at[g.places[ins.t]]-at[i]-1, at[g.places[ins.f]]-at[i]-1
		jt, jf := uint8(t), uint8(f)
		if long[i] {
			jt, jf = 0, 1
		}
		if ins.x {
			out = append(out, bpf.JumpIfX{Cond: ins.cond, SkipTrue: jt, SkipFalse: jf})
		} else {
			out = append(out, bpf.JumpIf{Cond: ins.cond, Val: ins.val, SkipTrue: jt, SkipFalse: jf})
		}
		if long[i] {
			out = append(out, bpf.Jump{Skip: uint32(t - 1)}, bpf.Jump{Skip: uint32(f - 2)})
		}
	}
	if len(out) > MaxInstructions {
		return nil, fmt.Errorf("the expression makes %d instructions, at most %d are taken; write it shorter", len(out), MaxInstructions)
	}
	return bpf.Assemble(out)
}

// generate makes the program that accepts snaplen octets where n holds.
func generate(n node, snaplen int) ([]bpf.RawInstruction, error) {
	var g generator
	t, f := g.label(), g.label()
	if err := g.node(n, t, f); err != nil {
		return nil, err
	}
	g.place(t)
	g.emit(bpf.RetConstant{Val: uint32(snaplen)})
	g.place(f)
	g.emit(bpf.RetConstant{Val: 0})
	return g.link()
}
