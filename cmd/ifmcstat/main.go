// Command ifmcstat shows the multicast groups of the interfaces.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ifmcstat"
)

func main() { cli.Main(&ifmcstat.Command) }
