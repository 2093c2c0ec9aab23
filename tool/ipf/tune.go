package ipf

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"ionet/protocol"
)

// prefix is where the filter's tunables are among the sysctls.
const prefix = "net.inet.ipf."

// tune does -T and -l. undo sets back what was set: they are part of the change.
func (t *tool) tune() (undo func(), err error) {
	type old struct{ name, value string }
	var was []old
	undo = func() {
		for i := len(was) - 1; i >= 0; i-- {
			_, _ = t.s.SetSysctl(was[i].name, was[i].value) // it had this value
		}
	}
	set := func(name, value string) error {
		o, err := t.s.SetSysctl(prefix+name, value)
		if errors.Is(err, syscall.ENOENT) {
			return errNone(name)
		}
		if err != nil {
			return fmt.Errorf("%s=%s: %w", name, value, refusal(err))
		}
		was = append(was, old{prefix + name, o})
		t.set = append(t.set, fmt.Sprintf("%s: %s -> %s", name, o, value))
		return nil
	}
	for _, a := range t.actions {
		switch a.kind {
		case logging:
			flags, err := t.node("fr_flags")
			if err != nil {
				return undo, fmt.Errorf("%s: %w", a.word, err)
			}
			n, _ := strconv.ParseUint(flags.Value, 10, 64)
			if err := set("fr_flags", strconv.FormatUint(n^a.flag, 10)); err != nil {
				return undo, err
			}
			t.set = append(t.set, "log flags: "+logText(n^a.flag))
		case tune:
			for _, word := range strings.Split(a.value, ",") {
				name, value, isSet := strings.Cut(strings.TrimSpace(word), "=")
				name = strings.TrimPrefix(name, prefix)
				if isSet {
					if err := set(name, value); err != nil {
						return undo, err
					}
					continue
				}
				if err := t.show(name); err != nil {
					return undo, err
				}
			}
		}
	}
	return undo, nil
}

// node is one tunable.
func (t *tool) node(name string) (protocol.SysctlNode, error) {
	nodes, err := t.s.SysctlList(prefix + name)
	if err != nil {
		return protocol.SysctlNode{}, refusal(err)
	}
	if name == "" || len(nodes) != 1 || nodes[0].Name != prefix+name {
		return protocol.SysctlNode{}, errNone(name)
	}
	return nodes[0], nil
}

func errNone(name string) error { return fmt.Errorf("no tunable %q; ipf -T list has them all", name) }

// number is the value of a tunable; 0 when there is none.
func (t *tool) number(name string) uint64 {
	n, err := t.node(name)
	if err != nil {
		return 0
	}
	v, _ := strconv.ParseUint(n.Value, 10, 64)
	return v
}

// show prints a tunable, or with "list" all.
func (t *tool) show(name string) error {
	var nodes []protocol.SysctlNode
	if name == "list" {
		var err error
		if nodes, err = t.s.SysctlList(strings.TrimSuffix(prefix, ".")); err != nil {
			return refusal(err)
		}
	} else {
		n, err := t.node(name)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		short := strings.TrimPrefix(n.Name, prefix)
		switch {
		case t.json:
			t.row(struct {
				Name  string `json:"name"`
				Value string `json:"value"`
				Doc   string `json:"doc"`
			}{short, n.Value, n.Doc})
		case t.verbose:
			fmt.Fprintf(t.out, "%s\tcurrent %s\t# %s\n", short, n.Value, n.Doc)
		default:
			fmt.Fprintf(t.out, "%s\tcurrent %s\n", short, n.Value)
		}
	}
	return nil
}
