// Command waitfor waits until a path exists.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/waitfor"
)

func main() { cli.Main(&waitfor.Command) }
