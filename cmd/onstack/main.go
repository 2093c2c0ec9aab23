// Command onstack runs a program on a stack.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/onstack"
)

func main() { cli.Main(&onstack.Command) }
