// Command tally reads the output of go test -json, shows what failed and what
// was skipped with its reason, and ends with one line of numbers. Its status
// is 1 when a test failed, or was skipped while IONET_CI is set.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, ImportPath, Output string
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tally file")
		os.Exit(2)
	}
	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(2)
	}
	defer f.Close()
	if !tally(f, os.Stdout, os.Getenv("IONET_CI") != "") {
		os.Exit(1)
	}
}

// tally returns whether all went well.
func tally(in io.Reader, out io.Writer, strict bool) bool {
	said := map[string]string{}
	end := map[string]string{}
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, 64<<20)
	for scan.Scan() {
		var e event
		if json.Unmarshal(scan.Bytes(), &e) != nil {
			fmt.Fprintln(out, scan.Text())
			continue
		}
		name := e.Package + e.ImportPath
		if e.Test != "" {
			name += " " + e.Test
		}
		switch e.Action {
		case "output", "build-output":
			said[name] += e.Output
		case "pass", "fail", "skip":
			end[name] = e.Action
		case "build-fail":
			end[name] = "fail"
		}
	}
	if err := scan.Err(); err != nil {
		fmt.Fprintln(out, "tally:", err)
		return false
	}
	var passed, failed, skipped int
	ok := true
	for _, name := range slices.Sorted(maps.Keys(end)) {
		_, test, isTest := strings.Cut(name, " ")
		switch {
		case end[name] == "fail":
			ok = false
			if isTest {
				failed++
			}
			fmt.Fprintf(out, "FAILED %s\n%s", name, said[name])
		case end[name] == "skip" && isTest:
			skipped++
			fmt.Fprintf(out, "SKIPPED %s\n%s", name, said[name])
		case isTest && test != "":
			passed++
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return ok && (skipped == 0 || !strict)
}
