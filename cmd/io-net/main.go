// Command io-net runs a network stack.
package main

import (
	"ionet/stackd"
	"ionet/tool/cli"
)

func main() { cli.Main(&stackd.Command) }
