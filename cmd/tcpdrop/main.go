// Command tcpdrop breaks off a TCP connection.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/tcpdrop"
)

func main() { cli.Main(&tcpdrop.Command) }
