// Command ping6 sends ICMPv6 echo requests and shows what comes back.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ping6"
)

func main() { cli.Main(&ping6.Command) }
