// Command ipf changes the rules of the packet filter.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ipf"
)

func main() { cli.Main(&ipf.Command) }
