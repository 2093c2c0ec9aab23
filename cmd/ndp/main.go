// Command ndp shows and changes the table of IPv6 neighbours.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ndp"
)

func main() { cli.Main(&ndp.Command) }
