// Command ping asks a host for echoes.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ping"
)

func main() { cli.Main(&ping.Command) }
