// Command arp shows and changes the table of neighbours.
package main

import (
	"ionet/tool/arp"
	"ionet/tool/cli"
)

func main() { cli.Main(&arp.Command) }
