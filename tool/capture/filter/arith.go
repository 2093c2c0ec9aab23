package filter

import "golang.org/x/net/bpf"

var relops = map[string]bpf.JumpTest{
	"=": bpf.JumpEqual, "==": bpf.JumpEqual, "!=": bpf.JumpNotEqual,
	"<": bpf.JumpLessThan, ">": bpf.JumpGreaterThan, "<=": bpf.JumpLessOrEqual, ">=": bpf.JumpGreaterOrEqual,
}

// Operators by how they bind, the loosest first.
var levels = []map[string]bpf.ALUOp{
	{"|": bpf.ALUOpOr, "^": bpf.ALUOpXor},
	{"&": bpf.ALUOpAnd},
	{"<<": bpf.ALUOpShiftLeft, ">>": bpf.ALUOpShiftRight},
	{"+": bpf.ALUOpAdd, "-": bpf.ALUOpSub},
	{"*": bpf.ALUOpMul, "/": bpf.ALUOpDiv, "%": bpf.ALUOpMod},
}

// relation reads an arithmetic expression, a comparison and another.
func (p *parser) relation() (node, error) {
	var guards []node
	l, err := p.arith(0, &guards)
	if err != nil {
		return nil, err
	}
	t := p.next()
	cond, ok := relops[t.text]
	if !ok || t.word || t.end {
		return nil, p.errorf(t, "%v where a comparison (= != < > <= >=) would be right", t)
	}
	r, err := p.arith(0, &guards)
	if err != nil {
		return nil, err
	}
	rel := relation{l: l, r: r, cond: cond}
	if len(guards) > 0 {
		rel.guard = all(guards[0], guards[1:]...)
	}
	return rel, nil
}

func (p *parser) arith(level int, guards *[]node) (expr, error) {
	if level == len(levels) {
		return p.factor(guards)
	}
	l, err := p.arith(level+1, guards)
	for err == nil {
		t := p.peek()
		op, ok := levels[level][t.text]
		if !ok || t.word || t.end {
			break
		}
		p.next()
		var r expr
		if r, err = p.arith(level+1, guards); err != nil {
			break
		}
		k, constant := r.(number)
		if constant && k == 0 && (op == bpf.ALUOpDiv || op == bpf.ALUOpMod) {
			return nil, p.errorf(t, "division by zero")
		}
		if constant && k > 31 && (op == bpf.ALUOpShiftLeft || op == bpf.ALUOpShiftRight) {
			return nil, p.errorf(t, "shift by %d; 0 to 31 would be right", k)
		}
		l = fold(operation{op, l, r})
	}
	return l, err
}

// fold computes what is known now.
func fold(b operation) expr {
	l, ok := b.l.(number)
	r, ok2 := b.r.(number)
	if !ok || !ok2 {
		return b
	}
	switch b.op {
	case bpf.ALUOpAdd:
		return l + r
	case bpf.ALUOpSub:
		return l - r
	case bpf.ALUOpMul:
		return l * r
	case bpf.ALUOpDiv:
		return l / r
	case bpf.ALUOpMod:
		return l % r
	case bpf.ALUOpAnd:
		return l & r
	case bpf.ALUOpOr:
		return l | r
	case bpf.ALUOpXor:
		return l ^ r
	case bpf.ALUOpShiftLeft:
		return l << r
	case bpf.ALUOpShiftRight:
		return l >> r
	}
	return b
}

func (p *parser) factor(guards *[]node) (expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.errorf(p.peek(), "nested deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	t := p.peek()
	if _, ok := p.accept("-"); ok {
		e, err := p.factor(guards)
		return fold(operation{bpf.ALUOpSub, number(0), e}), err
	}
	if _, ok := p.accept("("); ok {
		e, err := p.arith(0, guards)
		if err != nil {
			return nil, err
		}
		if t, ok := p.accept(")"); !ok {
			return nil, p.errorf(t, "%v where \")\" would be right", t)
		}
		return e, nil
	}
	if t.text == "len" {
		p.next()
		return length{}, nil
	}
	if isProto(t.text) && p.peekAt(1).text == "[" {
		return p.field(guards)
	}
	k, err := p.num()
	return number(k), err
}

// field reads proto[offset] or proto[offset:size].
func (p *parser) field(guards *[]node) (expr, error) {
	proto := p.next()
	p.next() // [
	off, variable, guard, err := base(proto.text)
	if err != nil {
		return nil, p.errorf(proto, "%v", err)
	}
	if guard != nil {
		*guards = append(*guards, guard)
	}
	at, err := p.arith(0, guards)
	if err != nil {
		return nil, err
	}
	size := 1
	if _, ok := p.accept(":"); ok {
		t := p.peek()
		k, err := p.num()
		if err != nil {
			return nil, err
		}
		if k != 1 && k != 2 && k != 4 {
			return nil, p.errorf(t, "size %d; 1, 2 or 4 would be right", k)
		}
		size = int(k)
	}
	if t, ok := p.accept("]"); !ok {
		return nil, p.errorf(t, "%v where \"]\" would be right", t)
	}
	// An offset that leaves 31 bits would be read as an extension; no packet is so long.
	if k, ok := at.(number); ok && k >= 1<<30 {
		return nil, p.errorf(proto, "offset %d lies outside any packet", int32(k))
	}
	return field{off, variable, at, size}, nil
}
