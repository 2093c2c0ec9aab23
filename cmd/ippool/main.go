// Command ippool changes and shows the pools of addresses that rules of the packet filter name.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ippool"
)

func main() { cli.Main(&ippool.Command) }
