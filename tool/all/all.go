// Package all is the table of the tools.
package all

import (
	"ionet/tool/arp"
	"ionet/tool/brconfig"
	"ionet/tool/capture"
	"ionet/tool/cli"
	"ionet/tool/env"
	"ionet/tool/gifconfig"
	"ionet/tool/ifconfig"
	"ionet/tool/ifmcstat"
	"ionet/tool/ip6addrctl"
	"ionet/tool/ipf"
	"ionet/tool/ipfs"
	"ionet/tool/ipfstat"
	"ionet/tool/ipmon"
	"ionet/tool/ipnat"
	"ionet/tool/ippool"
	"ionet/tool/logs"
	"ionet/tool/mount"
	"ionet/tool/nc"
	"ionet/tool/ndp"
	"ionet/tool/netstat"
	"ionet/tool/nicinfo"
	"ionet/tool/onstack"
	"ionet/tool/ping"
	"ionet/tool/ping6"
	"ionet/tool/proxy"
	"ionet/tool/ps"
	"ionet/tool/route"
	"ionet/tool/setkey"
	"ionet/tool/sysctl"
	"ionet/tool/tcpdrop"
	"ionet/tool/traceroute"
	"ionet/tool/waitfor"
)

// Commands are the tools in the order in which ionet lists them. The daemons
// are added by cmd/ionet.
var Commands = []*cli.Command{
	&ifconfig.Command,
	&route.Command,
	&netstat.Command,
	&ping.Command,
	&ping6.Command,
	&traceroute.Command,
	&traceroute.Command6,
	&arp.Command,
	&brconfig.Command,
	&ndp.Command,
	&ip6addrctl.Command,
	&gifconfig.Command,
	&ifmcstat.Command,
	&ipf.Command,
	&ipfstat.Command,
	&ipnat.Command,
	&ipmon.Command,
	&ippool.Command,
	&ipfs.Command,
	&setkey.Command,
	&sysctl.Command,
	&nicinfo.Command,
	&mount.Command,
	&mount.UmountCommand,
	&nc.Command,
	&onstack.Command,
	&proxy.Command,
	&tcpdrop.Command,
	&capture.Command,
	&ps.Command,
	&logs.Command,
	&waitfor.Command,
	&env.Command,
}
