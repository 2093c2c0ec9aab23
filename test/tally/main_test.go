package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	const pass, skip, fail = `{"Action":"pass","Package":"p","Test":"A"}`,
		`{"Action":"output","Package":"p","Test":"B","Output":"no passt\n"}` + "\n" + `{"Action":"skip","Package":"p","Test":"B"}`,
		`{"Action":"output","Package":"p","Test":"C","Output":"broken\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"C"}`
	for _, tc := range []struct {
		in     string
		strict bool
		ok     bool
		says   []string
	}{
		{pass, true, true, []string{"1 passed, 0 failed, 0 skipped\n"}},
		{pass + "\n" + skip, false, true, []string{"SKIPPED p B\nno passt\n", "1 passed, 0 failed, 1 skipped\n"}},
		{pass + "\n" + skip, true, false, []string{"1 passed, 0 failed, 1 skipped\n"}},
		{fail, false, false, []string{"FAILED p C\nbroken\n", "0 passed, 1 failed, 0 skipped\n"}},
		{`{"Action":"build-fail","ImportPath":"p"}`, false, false, []string{"FAILED p\n", "0 passed, 0 failed"}},
	} {
		var out strings.Builder
		ok := tally(strings.NewReader(tc.in), &out, tc.strict)
		for _, s := range tc.says {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%s: lacks %q:\n%s", tc.in, s, out.String())
			}
		}
		if ok != tc.ok {
			t.Errorf("%s: %v, want %v", tc.in, ok, tc.ok)
		}
	}
}
