// Package waitfor is QNX's waitfor: scripts wait with it for an interface's
// entry or a stack's socket to appear.
package waitfor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"ionet/tool/cli"
)

const (
	patience = 5 * time.Second
	interval = 10 * time.Millisecond
)

// Command is waitfor.
var Command = cli.Command{
	Name:     "waitfor",
	Section:  1,
	Short:    "wait until a path exists",
	Synopsis: []string{"path [seconds]"},
	Long: "Waits until path exists, at most seconds (5 unless given; a fraction such as 0.5 is taken too). " +
		"Zero looks once.",
	ExitStatus: []cli.Exit{{Status: 0, Text: "The path exists."}, {Status: 1, Text: "It did not appear in time, or the arguments are wrong."}},
	Examples:   []cli.Item{{Name: "waitfor /alt/dev/io-net/en0 10", Text: "Wait ten seconds for the first interface."}},
	SeeAlso:    []string{"io-net(8)", "mount(8)"},
	Run:        run,
}

func run(ctx *cli.Context, args []string) int {
	_, args, err := cli.Getopt("", args)
	if err != nil {
		return ctx.Usage(err)
	}
	limit := patience
	switch len(args) {
	case 1:
	case 2:
		s, err := strconv.ParseFloat(args[1], 64)
		if err != nil || !(s >= 0 && s <= 1e9) {
			return ctx.Usage(fmt.Errorf("%q is no number of seconds: give 0 or more", args[1]))
		}
		limit = time.Duration(s * float64(time.Second))
	default:
		return ctx.Usage(nil)
	}
	found, err := exists(ctx.Ctx, args[0], limit)
	switch {
	case err != nil:
		return ctx.Errorf("%v", err)
	case !found:
		return ctx.Errorf("%s did not appear within %v", args[0], limit)
	}
	return 0
}

// exists looks until limit is over or c ends. Looking is all that works for
// every path: inotify cannot wait for folders that do not exist yet.
func exists(c context.Context, path string, limit time.Duration) (bool, error) {
	if c == nil {
		c = context.Background()
	}
	c, cancel := context.WithTimeout(c, limit)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		_, err := os.Stat(path)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		select {
		case <-c.Done():
			return false, nil
		case <-tick.C:
		}
	}
}
