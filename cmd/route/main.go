// Command route change, ask and watch the routing table.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/route"
)

func main() { cli.Main(&route.Command) }
