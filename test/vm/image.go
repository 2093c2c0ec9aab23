package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ionet/test/need"
	"ionet/test/vm/wire"
)

// image is the kernel that test/deps has unpacked, and what it boots with.
type image struct {
	kernel  string // the file
	base    string // the folder that has lib/modules
	release string
	tree    string // lib/modules/RELEASE in it
	initrd  []byte
}

var boot struct {
	once sync.Once
	image
	err error
}

// theImage is made once in a test process.
func theImage(t testing.TB) *image {
	t.Helper()
	need.Command(t, "modprobe", "kmod")
	base := "/var/cache/ionet/kernel"
	if dir := os.Getenv("IONET_KERNEL"); dir != "" {
		base = dir
	}
	if _, err := os.Stat(filepath.Join(base, "vmlinuz")); err != nil {
		need.Missing(t, "no kernel in %s: test/deps unpacks linux-image-amd64", base)
	}
	root := need.Module(t)
	boot.once.Do(func() { boot.err = boot.make(root, base) })
	if boot.err != nil {
		t.Fatal(boot.err)
	}
	return &boot.image
}

func (i *image) make(root, base string) error {
	base, err := filepath.EvalSymlinks(base)
	if err != nil {
		return err
	}
	i.kernel, i.base = filepath.Join(base, "vmlinuz"), base
	releases, err := filepath.Glob(filepath.Join(base, "lib/modules/*"))
	if err != nil || len(releases) != 1 {
		return fmt.Errorf("want the modules of one kernel in %s: %v, %q", base, err, releases)
	}
	i.release = filepath.Base(releases[0])
	if i.tree, err = filepath.EvalSymlinks(releases[0]); err != nil {
		return err
	}
	guest, err := buildGuest(root)
	if err != nil {
		return err
	}
	modules, err := i.depends("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "virtio_net")
	if err != nil {
		return err
	}
	c := wire.Config{Release: i.release, Tree: i.tree}
	var a archive
	a.add("dev", dirMode, nil)
	a.add("init", 0o100755, guest)
	a.add("modules", dirMode, nil)
	for _, m := range modules {
		b, err := os.ReadFile(m)
		if err != nil {
			return err
		}
		name := "modules/" + filepath.Base(m)
		a.add(name, 0o100644, b)
		c.Modules = append(c.Modules, "/"+name)
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	a.add("config", 0o100644, b)
	i.initrd = a.end()
	return nil
}

// buildGuest is the first process of the machine, as an executable.
func buildGuest(root string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "ionet-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/", "./test/vm/guest")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build ./test/vm/guest: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "guest"))
}

// depends is the files of modules and of what they need, in the order of their
// loading, without what is built into the kernel.
func (i *image) depends(modules ...string) ([]string, error) {
	var files []string
	seen := map[string]bool{}
	for _, m := range modules {
		out, err := exec.Command("modprobe", "-d", i.base, "-S", i.release, "--show-depends", m).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("modprobe --show-depends %s: %w: %s", m, err, bytes.TrimSpace(out))
		}
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "insmod" && !seen[f[1]] {
				seen[f[1]] = true
				files = append(files, f[1])
			}
		}
	}
	return files, nil
}

const dirMode = 0o040755

// archive is a cpio archive in the form that the kernel unpacks ("newc" of
// cpio(5): headers of hexadecimal numbers, padded to four octets).
type archive struct {
	bytes.Buffer
	inode int
}

func (a *archive) add(name string, mode int, data []byte) {
	a.inode++
	fmt.Fprintf(a, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.Len()%4 != 0 {
		a.WriteByte(0)
	}
}

func (a *archive) end() []byte {
	a.add("TRAILER!!!", 0, nil)
	return a.Bytes()
}
