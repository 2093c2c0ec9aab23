// Package house holds the house to its plan: which room may import which, and
// that the engine is passive.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ionet/test/need"
)

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = need.Module(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// plan says which rooms a room may import, beside itself. The longest name
// that fits a package counts.
var plan = map[string][]string{
	"ionet/cmd":             {"ionet/tool", "ionet/stackd", "ionet/daemon"},
	"ionet/tool":            {"ionet/client", "ionet/protocol", "ionet/ipl"},
	"ionet/tool/cli":        {},
	"ionet/tool/background": {},
	"ionet/daemon":          {"ionet/client", "ionet/protocol", "ionet/tool/cli", "ionet/tool/background"},
	"ionet/addrsel":         {},
	"ionet/ipl":             {},
	"ionet/client":          {"ionet/protocol", "ionet/addrsel"},
	"ionet/protocol":        {},
	"ionet/stackd":          {"ionet/protocol", "ionet/ipl", "ionet/host", "ionet/driver", "ionet/stack", "ionet/tool/cli", "ionet/tool/background"},
	"ionet/host":            {"ionet/driver", "ionet/stack", "ionet/addrsel"},
	"ionet/driver":          {"ionet/stack/netif", "ionet/stack/packet"},
	"ionet/stack":           {},
	"ionet/stack/arp":       protocolRoom("ionet/stack/neigh"),
	"ionet/stack/autoconf":  protocolRoom("ionet/stack/neigh", "ionet/stack/route", "ionet/stack/socket"),
	"ionet/stack/bpf":       protocolRoom(),
	"ionet/stack/bridge":    protocolRoom(),
	"ionet/stack/crypt":     {},
	"ionet/stack/ether":     protocolRoom(),
	"ionet/stack/gif":       protocolRoom("ionet/stack/route", "ionet/stack/socket"),
	"ionet/stack/inet":      protocolRoom("ionet/stack/ipflow", "ionet/stack/membership", "ionet/stack/mroute", "ionet/stack/pfil", "ionet/stack/reass", "ionet/stack/route", "ionet/stack/socket"),
	"ionet/stack/inet6":     protocolRoom("ionet/stack/ipflow", "ionet/stack/membership", "ionet/stack/mroute", "ionet/stack/pfil", "ionet/stack/reass", "ionet/stack/route", "ionet/stack/socket"),
	"ionet/stack/ipfilter":  protocolRoom("ionet/stack/pfil", "ionet/stack/socket", "ionet/ipl"),
	"ionet/stack/ipflow":    protocolRoom("ionet/stack/pfil", "ionet/stack/route"),
	"ionet/stack/ipsec":     protocolRoom("ionet/stack/pfil", "ionet/stack/socket", "ionet/stack/crypt"),
	"ionet/stack/ipnat":     protocolRoom("ionet/stack/pfil", "ionet/stack/socket", "ionet/ipl"),
	"ionet/stack/pfil":      protocolRoom(),
	"ionet/stack/loop":      protocolRoom(),
	"ionet/stack/mib":       {},
	"ionet/stack/nd6":       protocolRoom("ionet/stack/neigh", "ionet/stack/route"),
	"ionet/stack/neigh":     {"ionet/stack/cmap", "ionet/stack/packet"},
	"ionet/stack/netif":     {"ionet/stack/callout", "ionet/stack/epoch", "ionet/stack/mib", "ionet/stack/packet"},
	"ionet/stack/packet":    {},
	"ionet/stack/ping":      protocolRoom("ionet/stack/socket"),
	"ionet/stack/rawip":     protocolRoom("ionet/stack/socket"),
	"ionet/stack/reass":     protocolRoom(),
	"ionet/stack/route":     protocolRoom("ionet/stack/epoch"),
	"ionet/stack/socket":    protocolRoom(),
	"ionet/stack/tcp":       protocolRoom("ionet/stack/socket"),
	"ionet/stack/udp":       protocolRoom("ionet/stack/socket"),
	"ionet/stack/vlan":      protocolRoom(),
	// What both families' networks are made of.
	"ionet/stack/mroute":     protocolRoom(),
	"ionet/stack/membership": protocolRoom(),
	// Whose tables come from elsewhere.
	"ionet/tool/onstack/netlink": {},
	// What only tests import.
	"ionet/stack/stacktest":        {"ionet/stack"},
	"ionet/driver/internal/nstest": {"ionet/driver", "ionet/test/need"},
	"ionet/sim":                    {"ionet/stack"},
	"ionet/test":                   {"ionet"},
}

// protocolRoom is what every protocol of the engine may import, and more.
func protocolRoom(more ...string) []string {
	return append(more, "ionet/stack/packet", "ionet/stack/netif", "ionet/stack/mib", "ionet/stack/callout", "ionet/stack/cmap")
}

func within(path, room string) bool { return path == room || strings.HasPrefix(path, room+"/") }

func roomOf(path string) (room string) {
	for r := range plan {
		if within(path, r) && len(r) > len(room) {
			room = r
		}
	}
	return room
}

func allowed(from, to string) error {
	if !within(to, "ionet") {
		return nil
	}
	room := roomOf(from)
	if room == "" {
		return fmt.Errorf("%s stands in no room of the plan", from)
	}
	for _, r := range append([]string{room}, plan[room]...) {
		if within(to, r) {
			return nil
		}
	}
	return fmt.Errorf("%s imports %s; %s may import %q", from, to, room, plan[room])
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		for _, i := range p.Imports {
			if err := allowed(p.ImportPath, i); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"ionet/tool/ping", "ionet/client", true},
		{"ionet/tool/ping", "ionet/stack/packet", false},
		{"ionet/client", "ionet/host", false},
		{"ionet/driver/tap", "ionet/stack/netif", true},
		{"ionet/driver/tap", "ionet/stack/route", false},
		{"ionet/stack/inet", "ionet/host", false},
		{"ionet/protocol", "fmt", true},
		{"ionet/attic", "ionet/stack", false},
	} {
		if err := allowed(tc.from, tc.to); (err == nil) != tc.ok {
			t.Errorf("%s -> %s: %v", tc.from, tc.to, err)
		}
	}
}

// TestEngineIsPassive is law 1 over stack/.
func TestEngineIsPassive(t *testing.T) {
	root := need.Module(t)
	folders := map[string][]string{}
	err := filepath.WalkDir(filepath.Join(root, "stack"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			folders[filepath.Dir(path)] = append(folders[filepath.Dir(path)], path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) == 0 {
		t.Fatal("stack/ has no Go files")
	}
	exports := exportData(t, root)
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		fset := token.NewFileSet()
		var files []*ast.File
		for _, path := range folders[dir] {
			f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		rel, _ := filepath.Rel(root, dir)
		for _, fault := range passive(fset, files, "ionet/"+rel, exports) {
			t.Error(strings.TrimPrefix(fault, root+"/"))
		}
	}
}

func TestLintFinds(t *testing.T) {
	for _, tc := range []struct{ body, want string }{
		{"go f()", "go statement"},
		{"select {}", "select"},
		{"_ = time.Now()", "time.Now"},
		{"time.Sleep(1)", "time.Sleep"},
		{"_ = time.Second", ""},
		{"var p sync.Pool; _ = &p", "sync.Pool"},
		{"var m sync.Mutex; m.Lock()", ""},
		{"for range m {}", "map"},
		{"for range m { // map order: counted only\n}", ""},
		{"// map order: counted only\nfor range m {}", ""},
		{"for range []int{} {}", ""},
	} {
		src := "package p\nimport (\"time\"; \"sync\")\nvar m map[int]int\nvar _ time.Duration\nvar _ sync.Mutex\nfunc f() {\n" + tc.body + "\n}\n"
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "p.go", src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(passive(fset, []*ast.File{f}, "p", exportData(t, need.Module(t))), "\n")
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.body, got, tc.want)
		}
	}
	fset := token.NewFileSet()
	f, _ := parser.ParseFile(fset, "p.go", "package p\nimport _ \"math/rand/v2\"\n", parser.ParseComments)
	if got := passive(fset, []*ast.File{f}, "p", exportData(t, need.Module(t))); len(got) != 1 {
		t.Errorf("math/rand: %q", got)
	}
}

var forbidden = map[string][]string{
	"time": {"Now", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Since", "Until"},
	"sync": {"Pool", "WaitGroup"},
}

// passive lists what breaks law 1 in one package.
func passive(fset *token.FileSet, files []*ast.File, path string, imp types.Importer) (faults []string) {
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	conf := types.Config{Importer: imp, Error: func(error) {}}
	_, _ = conf.Check(path, fset, files, info) // what does not compile is another test's matter
	for _, f := range files {
		fault := func(n ast.Node, format string, a ...any) {
			faults = append(faults, fmt.Sprintf("%s: law 1: %s", fset.Position(n.Pos()), fmt.Sprintf(format, a...)))
		}
		reasons := map[int]bool{}
		for _, g := range f.Comments {
			if strings.Contains(g.Text(), "map order:") {
				reasons[fset.Position(g.End()).Line] = true
			}
		}
		names := map[string]string{}
		for _, i := range f.Imports {
			p := strings.Trim(i.Path.Value, `"`)
			if within(p, "math/rand") || p == "crypto/rand" {
				fault(i, "imports %s: randomness is handed in", p)
			}
			names[filepath.Base(p)] = p
			if i.Name != nil {
				names[i.Name.Name] = p
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				fault(n, "go statement")
			case *ast.SelectStmt:
				fault(n, "select")
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && slices.Contains(forbidden[names[x.Name]], n.Sel.Name) {
					fault(n, "%s.%s", x.Name, n.Sel.Name)
				}
			case *ast.RangeStmt:
				line := fset.Position(n.Pos()).Line
				if tv, ok := info.Types[n.X]; ok && tv.Type != nil && !reasons[line] && !reasons[line-1] {
					if _, isMap := tv.Type.Underlying().(*types.Map); isMap {
						fault(n, "ranges over a map: sort, or say why it is harmless in a comment, map order: …")
					}
				}
			}
			return true
		})
	}
	return faults
}
