// Command route changes, asks and watches the routing table.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/route"
)

func main() { cli.Main(&route.Command) }
