// Command ip6addrctl shows and changes how IPv6 addresses are chosen.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ip6addrctl"
)

func main() { cli.Main(&ip6addrctl.Command) }
