// Command ipmon prints what the packet filter logs.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ipmon"
)

func main() { cli.Main(&ipmon.Command) }
