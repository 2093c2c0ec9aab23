# Every form of rule as ipfstat prints it: what is read here is to be printed by -io and -6io.
pass out all
block out all
log in all
log body first level local0.info in all
count out all
count in proto tcp from any to any flags S/SA
skip 3 in proto tcp from any to any
block return-rst in proto tcp from any to any
block return-icmp in all
block return-icmp(port-unr) in all
block return-icmp-as-dest(port-unr) in quick proto udp from any to any port = 3128
block return-icmp(200) in all
block return-icmp(host-unr) in from fe80::/10 to any
pass in log quick on en0 all
block in log body or-block level info quick on en0 all
pass in on en0 dup-to en1 to en2:10.0.0.1 reply-to en3:10.0.0.2 all
pass in on en0 to en2:fe80::1%en2 all
pass in fastroute all
pass in on en0 out-via en1 all
pass out on en0 in-via en1 all
pass in family inet6 all
pass in tos 0x10 ttl 64 from any to any
pass in proto tcp/udp from any to any
pass in proto 99 from any to any
pass in from 10.0.0.0/255.0.0.255 to any
pass in from !10.0.0.0/8 to !10.0.0.1/32
pass in from 2001:db8::/32 to any
pass in from fe80::1%en0/128 to any
pass in from pool/13 to !hash/list-1
pass in from en0/32 to en1/32
pass in family inet6 from en0/128 to any
pass in from en0/network to en0/broadcast
pass in from en0/netmasked to gif0/peer
pass in proto tcp from any port = 80 to any port != 81
pass in proto udp from any port < 1024 to any port > 1023
pass in proto udp from any port <= 1024 to any port >= 1023
pass in proto udp from any port 10 <> 20 to any port 10 >< 20
pass in proto udp from any port 10:20 to any port 10:20
pass in proto tcp from any to any flags S/FSRPAU
pass in proto tcp from any to any flags SE/FSRPAUE
pass in proto tcp from any to any flags /FSR
pass in proto icmp from any to any icmp-type unreach code 3
pass in proto icmp from any to any icmp-type 200 code 7
pass in proto ipv6-icmp from any to any icmp-type echo
block in from any to any with not ipopts,short,not frag,frag-body
block in from any to any with nat,lowttl,multicast,bcast,mbcast,state,bad,bad-src,oow
block in from any to any with bad-nat
block in from any to any with opt lsrr,ssrr and short
block in from any to any with not opt nop and opt sec-class topsecret,sec
block in from any to any with v6hdrs dstopts,frag and not v6hdrs esp
pass in all keep state
pass in proto tcp from any to any keep state (limit 10,strict,no-icmp-err,age 60/30) keep frags
pass in all keep state keep frags (strict)
pass in all set-tag(log=7)
block in all head 100
pass in proto tcp from any to any port = 22 group 100
block in from 10.0.0.0/8 to any head web group 100
pass in quick proto tcp from any to any port = 80 group web
block out family inet6 all head six
pass out proto ipv6-icmp from any to any group six
