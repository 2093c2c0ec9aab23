// Command rtsold solicits routers whenever a link comes up.
package main

import (
	"ionet/daemon/rtsold"
	"ionet/tool/cli"
)

func main() { cli.Main(&rtsold.Command) }
