// Command ipnat changes and shows the rules of address translation.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ipnat"
)

func main() { cli.Main(&ipnat.Command) }
