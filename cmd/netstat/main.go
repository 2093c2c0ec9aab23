// Command netstat shows sockets, routes, interfaces and counters.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/netstat"
)

func main() { cli.Main(&netstat.Command) }
