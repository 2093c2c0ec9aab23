// Command ipfstat shows the packet filter: its rules, states and counters.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ipfstat"
)

func main() { cli.Main(&ipfstat.Command) }
