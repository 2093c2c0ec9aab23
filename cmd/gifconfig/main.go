// Command gifconfig shows where tunnels lead, and has them lead somewhere.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/gifconfig"
)

func main() { cli.Main(&gifconfig.Command) }
