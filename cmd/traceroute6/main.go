// Command traceroute6 prints the route that IPv6 packets take to a host.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/traceroute"
)

func main() { cli.Main(&traceroute.Command6) }
