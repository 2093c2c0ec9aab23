// Package all is the table of the tools.
package all

import (
	"ionet/tool/capture"
	"ionet/tool/cli"
	"ionet/tool/env"
	"ionet/tool/route"
	"ionet/tool/waitfor"
)

// Commands are the tools in the order in which ionet lists them. The daemons
// are added by cmd/ionet.
var Commands = []*cli.Command{
	&route.Command,
	&waitfor.Command,
	&capture.Command,
	&env.Command,
}
