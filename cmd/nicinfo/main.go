// Command nicinfo shows drivers and their counters.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/nicinfo"
)

func main() { cli.Main(&nicinfo.Command) }
