// Command mount adds an interface to a running stack.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/mount"
)

func main() { cli.Main(&mount.Command) }
