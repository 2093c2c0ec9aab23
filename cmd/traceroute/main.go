// Command traceroute prints the route that packets take to a host.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/traceroute"
)

func main() { cli.Main(&traceroute.Command) }
