// Command rtadvd advertises this router to the hosts of a link.
package main

import (
	"ionet/daemon/rtadvd"
	"ionet/tool/cli"
)

func main() { cli.Main(&rtadvd.Command) }
