// Command ionet is every command of the stack in one binary.
package main

import (
	"os"
	"slices"

	"ionet/daemon/mproxy"
	"ionet/daemon/rtadvd"
	"ionet/daemon/rtsold"
	"ionet/stackd"
	"ionet/tool/all"
	"ionet/tool/cli"
	"ionet/tool/ionet"
)

func main() {
	commands := slices.Concat([]*cli.Command{&stackd.Command}, all.Commands, daemons)
	os.Exit(ionet.Exec(cli.System(), commands, os.Args))
}

// daemons are clients of a stack that stay.
var daemons = []*cli.Command{&rtadvd.Command, &rtsold.Once, &rtsold.Command, &mproxy.Command}
