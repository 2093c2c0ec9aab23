package ipl

import (
	"go/ast"
	goparser "go/parser"
	gotoken "go/token"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// Every word that the parser of rules compares with is among Words, or refused.
func TestWordsAreAll(t *testing.T) {
	all := map[string]bool{}
	for _, l := range Words() {
		for _, w := range l {
			all[w] = true
		}
	}
	word := regexp.MustCompile(`^[a-z][a-z0-9/-]+$`)
	see := func(fset *gotoken.FileSet, e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
			if s, _ := strconv.Unquote(lit.Value); word.MatchString(s) && !all[s] && refused[s] == "" {
				t.Errorf("%s: %q is not among Words", fset.Position(e.Pos()), s)
			}
		}
	}
	found := 0
	for _, name := range []string{"parse.go", "addr.go"} {
		fset := gotoken.NewFileSet()
		f, err := goparser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CaseClause:
				for _, e := range n.List {
					found++
					see(fset, e)
				}
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"accept", "expect", "is"}, s.Sel.Name) && len(n.Args) > 0 {
					found++
					see(fset, n.Args[0])
				}
			case *ast.BinaryExpr:
				if n.Op == gotoken.EQL {
					see(fset, n.Y)
				}
			}
			return true
		})
	}
	if found < 80 {
		t.Errorf("%d comparisons were found", found)
	}
}
