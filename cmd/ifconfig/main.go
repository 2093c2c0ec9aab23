// Command ifconfig configures and shows interfaces.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ifconfig"
)

func main() { cli.Main(&ifconfig.Command) }
