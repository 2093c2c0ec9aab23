// Command ionet is every command of the stack in one binary.
package main

import (
	"os"

	"ionet/tool/all"
	"ionet/tool/cli"
	"ionet/tool/ionet"
)

func main() { os.Exit(ionet.Exec(cli.System(), all.Commands, os.Args)) }
