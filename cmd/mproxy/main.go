// Command mproxy forwards multicast packets between links.
package main

import (
	"ionet/daemon/mproxy"
	"ionet/tool/cli"
)

func main() { cli.Main(&mproxy.Command) }
