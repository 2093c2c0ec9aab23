// Command sysctl reads and sets the stack's variables.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/sysctl"
)

func main() { cli.Main(&sysctl.Command) }
