// Command setkey changes and shows the associations and policies of IPsec.
package main

import (
	"ionet/tool/cli"
	"ionet/tool/setkey"
)

func main() { cli.Main(&setkey.Command) }
