// Command rtsol solicits routers once.
package main

import (
	"ionet/daemon/rtsold"
	"ionet/tool/cli"
)

func main() { cli.Main(&rtsold.Once) }
