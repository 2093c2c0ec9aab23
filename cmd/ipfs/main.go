// Command ipfs saves and restores the states of the packet filter and its sessions of address translation.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/ipfs"
)

func main() { cli.Main(&ipfs.Command) }
