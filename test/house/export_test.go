package house

import (
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

var exported struct {
	once  sync.Once
	files map[string]string
	err   error
}

// exportData resolves imports through the compiler's export data, which
// go list builds or takes from the cache.
func exportData(t *testing.T, root string) types.Importer {
	exported.once.Do(func() {
		cmd := exec.Command("go", "list", "-e", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", "./stack/...")
		cmd.Dir = root
		var out []byte
		out, exported.err = cmd.Output()
		exported.files = map[string]string{}
		for line := range strings.Lines(string(out)) {
			path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
			exported.files[path] = file
		}
	})
	if exported.err != nil {
		t.Fatalf("go list -export: %v", exported.err)
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exported.files[path])
	})
}
