package crypt

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// data reads a file of published vectors into v, from the folder "crypto" of
// IONET_DATA (../shared/data beside the repository by default). The project has
// no copy: without the file the test has nothing to do, and false comes back.
func data(t *testing.T, name string, v any) bool {
	t.Helper()
	dir := os.Getenv("IONET_DATA")
	if dir == "" {
		_, file, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(file), "../../../shared/data")
	}
	b, err := os.ReadFile(filepath.Join(dir, "crypto", name))
	if err != nil {
		t.Logf("no published vectors: %v", err)
		return false
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return true
}

// octets are written in hexadecimal.
type octets []byte

func (o *octets) UnmarshalText(b []byte) (err error) {
	*o, err = hex.DecodeString(string(b))
	return err
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
