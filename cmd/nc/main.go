// Command nc puts a connection of the stack at the end of a pipe.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/nc"
)

func main() { cli.Main(&nc.Command) }
