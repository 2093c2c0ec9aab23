// Command brconfig shows and configures bridges.
package main

import (
	"ionet/tool/brconfig"
	"ionet/tool/cli"
)

func main() { cli.Main(&brconfig.Command) }
