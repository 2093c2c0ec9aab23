/* What is IPv6's own: both versions on one socket, addresses of one link, what is
 * told of a packet and wished for one, groups, echo. */
#include "sockets.h"
#include <net/if.h>
#include <netinet/icmp6.h>

static struct sockaddr_in6 address6(const char *host, int port)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	inet_pton(AF_INET6, host, &a.sin6_addr);
	return a;
}

static struct sockaddr_in6 name6(int fd)
{
	struct sockaddr_in6 a = {0};
	socklen_t n = sizeof a;
	must("getsockname", getsockname(fd, (struct sockaddr *)&a, &n));
	return a;
}

static void tell(const char *what, struct sockaddr_in6 a)
{
	char b[64];
	printf("%s: family %d %s%s%s\n", what, a.sin6_family, inet_ntop(AF_INET6, &a.sin6_addr, b, sizeof b), a.sin6_port ? ", a port" : "",
	       a.sin6_scope_id ? ", a scope" : "");
}

static int set(const char *what, int fd, int level, int name, int v) { return say(what, setsockopt(fd, level, name, &v, sizeof v)); }

static int listener6(const char *host, struct sockaddr_in6 *a)
{
	int fd = must("socket", socket(AF_INET6, SOCK_STREAM, 0));
	*a = address6(host, 0);
	must("bind", bind(fd, SA(*a)));
	must("listen", listen(fd, 5));
	*a = name6(fd);
	return fd;
}

/* A socket meets both versions, and shows IPv4 mapped. */
static void both(void)
{
	struct sockaddr_in6 a, from;
	socklen_t n = sizeof from;
	int l = listener6("::", &a), s = socket(AF_INET, SOCK_STREAM, 0);
	printf("IPV6_V6ONLY %d\n", option(l, IPPROTO_IPV6, IPV6_V6ONLY));
	struct sockaddr_in four = address("127.0.0.1", ntohs(a.sin6_port));
	say("connect of IPv4", connect(s, SA(four)));
	int c = ok("accept", accept(l, SA_OUT(from, n)));
	tell("from", from);
	tell("to", name6(c));
	s = socket(AF_INET6, SOCK_STREAM, 0);
	a = address6("::ffff:127.0.0.1", ntohs(a.sin6_port));
	say("connect to a mapped address", connect(s, SA(a)));
	tell("connected from", name6(s));
	ok("accept", accept(l, SA_OUT(from, n)));
	s = socket(AF_INET6, SOCK_STREAM, 0);
	a = address6("::", ntohs(a.sin6_port));
	say("connect to any", connect(s, SA(a)));
	tell("connected from", name6(s));
	ok("accept", accept(l, SA_OUT(from, n)));
	tell("from", from);
	s = socket(AF_INET, SOCK_STREAM, 0);
	say("bind of IPv4 beside it", bind(s, SA(four)));
	s = socket(AF_INET6, SOCK_STREAM, 0);
	set("IPV6_V6ONLY", s, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	say("bind of IPv6 beside it", bind(s, SA(a)));
	say("connect of AF_INET", connect(socket(AF_INET6, SOCK_STREAM, 0), SA(four)));
	say("bind of AF_INET", bind(socket(AF_INET6, SOCK_STREAM, 0), SA(four)));
}

static void only(void)
{
	struct sockaddr_in6 a = address6("::", 0), mapped = address6("::ffff:127.0.0.1", 9);
	int s = socket(AF_INET6, SOCK_STREAM, 0), t = socket(AF_INET, SOCK_STREAM, 0);
	set("IPV6_V6ONLY", s, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	struct sockaddr_in6 any = address6("::ffff:127.0.0.1", 0);
	say("bind to a mapped address", bind(s, SA(any)));
	say("bind", bind(s, SA(a)));
	set("IPV6_V6ONLY of a bound one", s, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	say("listen", listen(s, 1));
	struct sockaddr_in four = address("127.0.0.1", ntohs(name6(s).sin6_port));
	say("connect of IPv4", connect(t, SA(four)));
	say("bind of IPv4 beside it", bind(socket(AF_INET, SOCK_STREAM, 0), SA(four)));
	s = socket(AF_INET6, SOCK_STREAM, 0);
	set("IPV6_V6ONLY", s, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	say("connect to a mapped address", connect(s, SA(mapped)));
	s = socket(AF_INET6, SOCK_DGRAM, 0);
	set("IPV6_V6ONLY", s, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	say("connect of datagrams to a mapped address", connect(s, SA(mapped)));
	say("sendto a mapped address", sendto(s, "x", 1, 0, SA(mapped)));
	say("sendto AF_INET", sendto(s, "x", 1, 0, SA(four)));
	say("connect of datagrams of AF_INET", connect(s, SA(four)));
}

/* An address of one link says which, or the socket does. */
static void links(void)
{
	struct sockaddr_in6 a = address6("fe80::1:2:3:4", 9);
	int s = socket(AF_INET6, SOCK_STREAM, 0), u = socket(AF_INET6, SOCK_DGRAM, 0);
	say("connect", connect(s, SA(a)));
	say("connect of datagrams", connect(u, SA(a)));
	a.sin6_port = 0;
	say("bind", bind(s, SA(a)));
	a.sin6_scope_id = 77;
	say("bind on a link that is not there", bind(s, SA(a)));
	a.sin6_scope_id = 1;
	say("bind to somebody else's", bind(s, SA(a)));
	a = address6("::1", 0);
	a.sin6_scope_id = 77;
	say("bind where the scope means nothing", bind(s, SA(a)));
	tell("bound", name6(s));
	a = address6("2001:db8::1", 0);
	u = socket(AF_INET6, SOCK_DGRAM, 0);
	say("bind to somebody else's", bind(u, SA(a)));
	a = address6("ff02::1", 0);
	a.sin6_scope_id = 1;
	say("bind to a group", bind(u, SA(a)));
	tell("bound", name6(u));
}

static void datagrams(void)
{
	int u = socket(AF_INET6, SOCK_DGRAM, 0), v = socket(AF_INET6, SOCK_DGRAM, 0), four = socket(AF_INET, SOCK_DGRAM, 0);
	tell("not bound", name6(u));
	struct sockaddr_in6 a = address6("::", 0), from;
	socklen_t n = sizeof from;
	char b[8];
	say("bind", bind(u, SA(a)));
	a = name6(u);
	tell("bound", a);
	struct sockaddr_in6 one = address6("::1", ntohs(a.sin6_port)), mapped = address6("::ffff:127.0.0.1", ntohs(a.sin6_port));
	struct sockaddr_in to = address("127.0.0.1", ntohs(a.sin6_port));
	say("sendto", sendto(v, "x", 1, 0, SA(one)));
	say("recvfrom", recvfrom(u, b, sizeof b, 0, SA_OUT(from, n)));
	tell("from", from);
	say("sendto mapped", sendto(v, "xx", 2, 0, SA(mapped)));
	say("recvfrom", recvfrom(u, b, sizeof b, 0, SA_OUT(from, n)));
	tell("from", from);
	say("sendto AF_INET", sendto(v, "xxx", 3, 0, SA(to)));
	say("recvfrom", recvfrom(u, b, sizeof b, 0, SA_OUT(from, n)));
	tell("from", from);
	say("sendto of AF_INET", sendto(four, "xxxx", 4, 0, SA(to)));
	say("recvfrom", recvfrom(u, b, sizeof b, 0, SA_OUT(from, n)));
	tell("from", from);
	say("connect", connect(v, SA(mapped)));
	n = sizeof from;
	say("getpeername", getpeername(v, SA_OUT(from, n)));
	tell("peer", from);
	tell("local", name6(v));
	say("send", send(v, "x", 1, 0));
	say("recv", recv(u, b, sizeof b, 0));
	v = socket(AF_INET6, SOCK_DGRAM, 0);
	from.sin6_family = AF_UNSPEC;
	say("connect to nobody", connect(v, SA(from)));
	one.sin6_port = 0;
	say("connect to no port", connect(v, SA(one)));
	tell("local", name6(v));
	say("getpeername", getpeername(v, SA_OUT(from, n)));
	one.sin6_port = a.sin6_port;
	struct sockaddr_in6 odd = a;
	say("connect of a short address", connect(v, (struct sockaddr *)&odd, 16));
	say("sendto of a short address", sendto(u, "x", 1, 0, (struct sockaddr *)&one, 16));
	say("sendto of an old address", sendto(u, "x", 1, 0, (struct sockaddr *)&one, 24));
}

/* hear receives a message of u and tells what came with it. */
static void hear(int u)
{
	char b[8], control[512];
	struct sockaddr_in6 from;
	struct iovec v = {b, sizeof b};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control, .msg_name = &from, .msg_namelen = sizeof from};
	say("recvmsg", recvmsg(u, &m, 0));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct in6_pktinfo *p = (struct in6_pktinfo *)CMSG_DATA(c);
		int *n = (int *)CMSG_DATA(c);
		char s[64];
		if (c->cmsg_level == IPPROTO_IPV6 && (c->cmsg_type == IPV6_PKTINFO || c->cmsg_type == IPV6_2292PKTINFO))
			printf("type %d: to %s, an interface %d\n", c->cmsg_type, inet_ntop(AF_INET6, &p->ipi6_addr, s, sizeof s), p->ipi6_ifindex > 0);
		else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
			puts("IP_PKTINFO");
		else
			printf("level %d type %d: %d\n", c->cmsg_level, c->cmsg_type, *n);
	}
}

static void told(void)
{
	struct sockaddr_in6 a = address6("::", 0);
	int u = socket(AF_INET6, SOCK_DGRAM, 0), v = socket(AF_INET6, SOCK_DGRAM, 0);
	must("bind", bind(u, SA(a)));
	struct sockaddr_in6 one = address6("::1", ntohs(name6(u).sin6_port)), mapped = address6("::ffff:127.0.0.1", ntohs(name6(u).sin6_port));
	set("IPV6_UNICAST_HOPS", v, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
	set("IPV6_TCLASS", v, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
	printf("hops %d, class %d\n", option(v, IPPROTO_IPV6, IPV6_UNICAST_HOPS), option(v, IPPROTO_IPV6, IPV6_TCLASS));
	sendto(v, "x", 1, 0, SA(one));
	hear(u);
	set("IPV6_RECVPKTINFO", u, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	set("IPV6_RECVHOPLIMIT", u, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	set("IPV6_RECVTCLASS", u, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	sendto(v, "x", 1, 0, SA(one));
	hear(u);
	sendto(v, "x", 1, 0, SA(mapped));
	hear(u);
	set("IP_PKTINFO", u, IPPROTO_IP, IP_PKTINFO, 1);
	set("IPV6_RECVPKTINFO", u, IPPROTO_IPV6, IPV6_RECVPKTINFO, 0);
	sendto(v, "x", 1, 0, SA(mapped));
	hear(u);
	sendto(v, "x", 1, 0, SA(one));
	hear(u);
	set("IPV6_UNICAST_HOPS", v, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1);
	printf("hops %d\n", option(v, IPPROTO_IPV6, IPV6_UNICAST_HOPS));
	set("IPV6_UNICAST_HOPS of too many", v, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256);
}

/* wish sends with one control message. */
static void wish(const char *what, int fd, struct sockaddr_in6 to, int type, const void *data, size_t length)
{
	char control[128] = "";
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(length), .msg_name = &to, .msg_namelen = sizeof to};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = IPPROTO_IPV6, c->cmsg_type = type, c->cmsg_len = CMSG_LEN(length);
	memcpy(CMSG_DATA(c), data, length);
	say(what, sendmsg(fd, &m, 0));
}

static void wished(void)
{
	struct sockaddr_in6 a = address6("::1", 0);
	int u = socket(AF_INET6, SOCK_DGRAM, 0), v = socket(AF_INET6, SOCK_DGRAM, 0), n = 7;
	must("bind", bind(u, SA(a)));
	a = name6(u);
	setsockopt(u, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &(int){1}, sizeof(int));
	setsockopt(u, IPPROTO_IPV6, IPV6_RECVTCLASS, &(int){1}, sizeof(int));
	wish("IPV6_HOPLIMIT", v, a, IPV6_HOPLIMIT, &n, sizeof n);
	hear(u);
	wish("IPV6_TCLASS", v, a, IPV6_TCLASS, &n, sizeof n);
	hear(u);
	n = 300;
	wish("IPV6_HOPLIMIT of too much", v, a, IPV6_HOPLIMIT, &n, sizeof n);
	wish("IPV6_HOPLIMIT of too few octets", v, a, IPV6_HOPLIMIT, &n, 2);
	struct in6_pktinfo p = {.ipi6_ifindex = 0};
	wish("IPV6_PKTINFO", v, a, IPV6_PKTINFO, &p, sizeof p);
	hear(u);
	p.ipi6_ifindex = 77;
	wish("IPV6_PKTINFO of no interface", v, a, IPV6_PKTINFO, &p, sizeof p);
	p.ipi6_ifindex = 0;
	inet_pton(AF_INET6, "2001:db8::1", &p.ipi6_addr);
	wish("IPV6_PKTINFO of somebody else's", v, a, IPV6_PKTINFO, &p, sizeof p);
	wish("of no name", v, a, 99, &n, sizeof n);
	char options[8] = {0, 0, 1, 4};
	wish("IPV6_HOPOPTS", v, a, IPV6_HOPOPTS, options, sizeof options);
}

static void groups(void)
{
	struct sockaddr_in6 g = address6("ff02::1234", 0);
	struct ipv6_mreq r = {.ipv6mr_interface = 0};
	int u = socket(AF_INET6, SOCK_DGRAM, 0);
	say("join what is no group", setsockopt(u, IPPROTO_IPV6, IPV6_JOIN_GROUP, &r, sizeof r));
	r.ipv6mr_multiaddr = g.sin6_addr;
	r.ipv6mr_interface = 77;
	say("join where nothing is", setsockopt(u, IPPROTO_IPV6, IPV6_JOIN_GROUP, &r, sizeof r));
	r.ipv6mr_interface = if_nametoindex(getenv("LINK"));
	say("leave before", setsockopt(u, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &r, sizeof r));
	say("join", setsockopt(u, IPPROTO_IPV6, IPV6_JOIN_GROUP, &r, sizeof r));
	say("join again", setsockopt(u, IPPROTO_IPV6, IPV6_JOIN_GROUP, &r, sizeof r));
	set("IPV6_MULTICAST_HOPS", u, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 3);
	set("IPV6_MULTICAST_LOOP", u, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1);
	set("IPV6_MULTICAST_IF", u, IPPROTO_IPV6, IPV6_MULTICAST_IF, r.ipv6mr_interface);
	set("IPV6_MULTICAST_IF where nothing is", u, IPPROTO_IPV6, IPV6_MULTICAST_IF, 77);
	printf("hops %d, loop %d, an interface %d\n", option(u, IPPROTO_IPV6, IPV6_MULTICAST_HOPS), option(u, IPPROTO_IPV6, IPV6_MULTICAST_LOOP),
	       option(u, IPPROTO_IPV6, IPV6_MULTICAST_IF) > 0);
	struct sockaddr_in6 any = address6("::", 0), from;
	socklen_t n = sizeof from;
	must("bind", bind(u, SA(any)));
	g.sin6_port = name6(u).sin6_port;
	char b[8];
	timeout(u, SO_RCVTIMEO, 2000);
	say("sendto", sendto(u, "x", 1, 0, SA(g)));
	say("recvfrom", recvfrom(u, b, sizeof b, 0, SA_OUT(from, n)));
	printf("from a link %d\n", from.sin6_scope_id > 0);
	say("leave", setsockopt(u, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &r, sizeof r));
	struct group_req q = {.gr_interface = r.ipv6mr_interface};
	memcpy(&q.gr_group, &g, sizeof g);
	say("MCAST_JOIN_GROUP", setsockopt(u, IPPROTO_IPV6, MCAST_JOIN_GROUP, &q, sizeof q));
	say("MCAST_LEAVE_GROUP", setsockopt(u, IPPROTO_IPV6, MCAST_LEAVE_GROUP, &q, sizeof q));
	struct group_source_req s = {.gsr_interface = r.ipv6mr_interface};
	struct sockaddr_in6 source = address6("2001:db8::1", 0);
	memcpy(&s.gsr_group, &g, sizeof g);
	memcpy(&s.gsr_source, &source, sizeof source);
	say("MCAST_JOIN_SOURCE_GROUP", setsockopt(u, IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP, &s, sizeof s));
	say("MCAST_LEAVE_SOURCE_GROUP", setsockopt(u, IPPROTO_IPV6, MCAST_LEAVE_SOURCE_GROUP, &s, sizeof s));
	int t = socket(AF_INET6, SOCK_STREAM, 0);
	say("join of a stream", setsockopt(t, IPPROTO_IPV6, IPV6_JOIN_GROUP, &r, sizeof r));
}

/* Anybody may ask for an echo. */
static void echo(void)
{
	struct sockaddr_in6 a = address6("::1", 0), from;
	socklen_t n = sizeof from;
	struct icmp6_hdr h = {.icmp6_type = ICMP6_ECHO_REQUEST, .icmp6_id = 1, .icmp6_seq = 2};
	int s = ok("socket", socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6));
	say("of IPv4's protocol", socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMP));
	say("of IPv4", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMPV6));
	say("raw", socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	if (s < 0)
		return;
	say("sendto", sendto(s, &h, sizeof h, 0, SA(a)));
	say("recvfrom", recvfrom(s, &h, sizeof h, 0, SA_OUT(from, n)));
	printf("type %d, seq %d\n", h.icmp6_type, h.icmp6_seq);
	tell("from", from);
	h.icmp6_type = ICMP6_ECHO_REPLY;
	say("sendto of a reply", sendto(s, &h, sizeof h, 0, SA(a)));
}

static void options_(void)
{
	struct { const char *name; int name_, v; } all[] = {
		{"IPV6_DONTFRAG", IPV6_DONTFRAG, 1}, {"IPV6_MTU_DISCOVER", IPV6_MTU_DISCOVER, 2}, {"IPV6_RECVERR", IPV6_RECVERR, 1},
		{"IPV6_RECVPATHMTU", IPV6_RECVPATHMTU, 1}, {"IPV6_RECVRTHDR", IPV6_RECVRTHDR, 1}, {"IPV6_RECVHOPOPTS", IPV6_RECVHOPOPTS, 1},
		{"IPV6_AUTOFLOWLABEL", IPV6_AUTOFLOWLABEL, 0}, {"IPV6_CHECKSUM", IPV6_CHECKSUM, 2}, {0}};
	int u = socket(AF_INET6, SOCK_DGRAM, 0), t = socket(AF_INET6, SOCK_STREAM, 0);
	for (int i = 0; all[i].name; i++) {
		set(all[i].name, u, IPPROTO_IPV6, all[i].name_, all[i].v);
		printf("reads %d\n", option(u, IPPROTO_IPV6, all[i].name_));
	}
	printf("IPV6_MTU before a peer: %d\n", option(u, IPPROTO_IPV6, IPV6_MTU));
	pending(u);
	set("IPV6_TCLASS of a stream", t, IPPROTO_IPV6, IPV6_TCLASS, 0x23);
	printf("reads %d\n", option(t, IPPROTO_IPV6, IPV6_TCLASS));
	set("IP_TOS of it", t, IPPROTO_IP, IP_TOS, 0x20);
	printf("reads %d\n", option(t, IPPROTO_IP, IP_TOS));
	set("IPV6_MULTICAST_HOPS of it", t, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 3);
	printf("SO_DOMAIN %d, SO_PROTOCOL %d\n", option(t, SOL_SOCKET, SO_DOMAIN), option(t, SOL_SOCKET, SO_PROTOCOL));
}

static const struct test tests[] = {
	{"both", both}, {"only", only}, {"links", links}, {"datagrams of both", datagrams}, {"told", told}, {"wished", wished},
	{"groups", groups}, {"echo", echo}, {"options", options_}, {0},
};

int main(int argc, char **argv) { return perform(tests, argc, argv); }
