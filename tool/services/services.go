// Package services reads services(5), the names of ports.
package services

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
)

// File is where a system keeps the names of its ports.
const File = "/etc/services"

// Table are the names of ports; a nil one has none.
type Table struct {
	names map[string]string // by "port/protocol"
	ports map[string]int    // by "name/protocol"
}

// Host is the table of [File], read once; without that file it is empty.
var Host = sync.OnceValue(func() *Table {
	f, err := os.Open(File)
	if err != nil {
		return nil
	}
	defer f.Close()
	return Read(f)
})

// Read reads a table. Of several names for a port the first counts; aliases
// lead to their port. Lines that are not understood are left out.
func Read(r io.Reader) *Table {
	t := &Table{map[string]string{}, map[string]int{}}
	for sc := bufio.NewScanner(r); sc.Scan(); {
		line, _, _ := strings.Cut(sc.Text(), "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		port, proto, _ := strings.Cut(f[1], "/")
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || proto == "" {
			continue
		}
		key := strconv.FormatUint(n, 10) + "/" + proto
		if t.names[key] == "" {
			t.names[key] = f[0]
		}
		for _, name := range append(f[:1:1], f[2:]...) {
			if _, ok := t.ports[name+"/"+proto]; !ok {
				t.ports[name+"/"+proto] = int(n)
			}
		}
	}
	return t
}

// Name is the name of a port of proto ("tcp", "udp"); "" if it has none.
func (t *Table) Name(port int, proto string) string {
	if t == nil {
		return ""
	}
	return t.names[strconv.Itoa(port)+"/"+proto]
}

// Port is the port of a name or an alias.
func (t *Table) Port(name, proto string) (port int, ok bool) {
	if t == nil {
		return 0, false
	}
	port, ok = t.ports[name+"/"+proto]
	return port, ok
}
