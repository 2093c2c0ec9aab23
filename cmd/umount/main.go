// Command umount takes an interface away from a running stack.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/mount"
)

func main() { cli.Main(&mount.UmountCommand) }
