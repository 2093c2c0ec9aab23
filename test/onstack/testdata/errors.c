/* What goes wrong with sockets, and how they say it. */
#include "sockets.h"

static void refused(void)
{
	struct sockaddr_in a = closed();
	int s = socket(AF_INET, SOCK_STREAM, 0);
	say("connect", connect(s, SA(a)));
	pending(s);
	say("connect again", connect(s, SA(a)));
	int l = listener(&a);
	say("connect to a listener", connect(s, SA(a)));
	ok("accept", accept(l, NULL, NULL));
	say("write", write(s, "x", 1));
}

static void refused_later(void)
{
	struct sockaddr_in a = closed();
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	say("connect", connect(s, SA(a)));
	events("poll", until(s, POLLOUT));
	pending(s);
	pending(s);
	char b[4];
	say("read", read(s, b, sizeof b));
}

/* The way of libraries that ask by a second connect. */
static void refused_asked_by_connect(void)
{
	struct sockaddr_in a = closed();
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	say("connect", connect(s, SA(a)));
	until(s, POLLOUT);
	say("connect again", connect(s, SA(a)));
}

static void connected_later(void)
{
	struct sockaddr_in a;
	int l = listener(&a), s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int ep = epoll_create1(0);
	struct epoll_event e = {EPOLLOUT | EPOLLIN | EPOLLRDHUP | EPOLLET, {.fd = s}};
	epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
	say("connect", connect(s, SA(a)));
	do
		must("epoll_wait", epoll_wait(ep, &e, 1, 5000));
	while (e.events & EPOLLHUP);
	events("epoll", e.events);
	pending(s);
	say("connect again", connect(s, SA(a)));
	say("connect once more", connect(s, SA(a)));
	int c = ok("accept", accept(l, NULL, NULL));
	char b[8] = "";
	say("read", read(s, b, sizeof b));
	say("write", write(s, "hello", 5));
	say("their read", read(c, b, sizeof b));
	puts(b);
	say("their write", write(c, "you", 3));
	do /* there may be edges at which it is only writable */
		must("epoll_wait", epoll_wait(ep, &e, 1, 5000));
	while (!(e.events & EPOLLIN));
	close(c);
	say("read", read(s, b, sizeof b));
	events("the end", until(s, POLLIN | POLLRDHUP));
	say("read", read(s, b, sizeof b));
}

static void in_use(void)
{
	struct sockaddr_in a;
	int one = 1;
	listener(&a);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	say("bind", bind(s, SA(a)));
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	say("bind with SO_REUSEADDR", bind(s, SA(a)));
	bound(SOCK_DGRAM, &a);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	say("bind of a datagram socket", bind(s, SA(a)));
	say("bind without an address", bind(s, (struct sockaddr *)&a, 3));
	a = address(NOBODY, 0);
	say("bind to somebody else's", bind(s, SA(a)));
	a = address(LOOPBACK, 0);
	say("bind", bind(s, SA(a)));
	say("bind again", bind(s, SA(a)));
}

/* An address that a connection has only just left can be listened at. */
static void restarted(void)
{
	struct sockaddr_in a;
	int one = 1, l = listener(&a), s = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	must("connect", connect(s, SA(a)));
	int c = must("accept", accept(l, NULL, NULL));
	char b[1];
	close(l);
	shutdown(c, SHUT_WR);
	read(s, b, 1);
	close(s);
	read(c, b, 1);
	close(c);
	l = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	say("bind", bind(l, SA(a)));
	say("listen", listen(l, 1));
}

static void low_port(void)
{
	struct sockaddr_in a = address(LOOPBACK, 80);
	say("bind", bind(socket(AF_INET, SOCK_STREAM, 0), SA(a)));
	say("bind of a datagram socket", bind(socket(AF_INET, SOCK_DGRAM, 0), SA(a)));
	ok("raw", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static void unreachable(void)
{
	struct sockaddr_in a = address(NOWHERE, 9);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	say("connect", connect(s, SA(a)));
	s = socket(AF_INET, SOCK_DGRAM, 0);
	say("sendto", sendto(s, "x", 1, 0, SA(a)));
	say("connect of a datagram socket", connect(s, SA(a)));
}

static void unreachable_later(void)
{
	struct sockaddr_in a = address(NOWHERE, 9);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	say("connect", connect(s, SA(a)));
	until(s, POLLOUT);
	pending(s);
}

/* BLACK is an address that takes everything and answers nothing. */
static struct sockaddr_in black(void) { return address(getenv("BLACK"), 9); }

static void timed_out(void)
{
	struct sockaddr_in a = black();
	int s = socket(AF_INET, SOCK_STREAM, 0);
	timeout(s, SO_SNDTIMEO, 300);
	say("connect", connect(s, SA(a)));
	say("connect again", connect(s, SA(a)));
	s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	say("connect without waiting", connect(s, SA(a)));
	struct pollfd p = {s, POLLOUT, 0};
	say("poll", poll(&p, 1, 200));
	say("connect again", connect(s, SA(a)));
	pending(s);
}

static void receive_times_out(void)
{
	struct sockaddr_in a;
	struct sockaddr_in from;
	socklen_t n = sizeof from;
	char b[8];
	int l = listener(&a);
	timeout(l, SO_RCVTIMEO, 100);
	say("accept", accept(l, NULL, NULL));
	int u = bound(SOCK_DGRAM, &a);
	timeout(u, SO_RCVTIMEO, 100);
	say("recvfrom", recvfrom(u, b, sizeof b, 0, (struct sockaddr *)&from, &n));
	say("recv", recv(u, b, sizeof b, 0));
	int fd[2];
	streams(fd);
	timeout(fd[0], SO_RCVTIMEO, 100);
	say("read", read(fd[0], b, sizeof b));
	say("recvfrom of a stream", recvfrom(fd[0], b, sizeof b, 0, (struct sockaddr *)&from, &n));
	fcntl(u, F_SETFL, O_NONBLOCK);
	fcntl(l, F_SETFL, O_NONBLOCK);
	say("accept without waiting", accept(l, NULL, NULL));
	say("recvfrom without waiting", recvfrom(u, b, sizeof b, 0, (struct sockaddr *)&from, &n));
	say("recv without waiting", recv(fd[0], b, sizeof b, MSG_DONTWAIT));
}

static void reset_under_read(void)
{
	int fd[2];
	char b[8];
	streams(fd);
	reset(fd[1]);
	int e = until(fd[0], POLLIN);
	printf("readable: %d, hung up: %d\n", (e & POLLIN) != 0, (e & POLLHUP) != 0);
	say("read", read(fd[0], b, sizeof b));
	say("read", read(fd[0], b, sizeof b));
	say("write", send(fd[0], b, sizeof b, MSG_NOSIGNAL));
	pending(fd[0]);
	say("getpeername", getpeername(fd[0], (struct sockaddr *)b, &(socklen_t){8}));
}

static void reset_asked_for(void)
{
	int fd[2];
	char b[8];
	streams(fd);
	reset(fd[1]);
	until(fd[0], POLLIN);
	pending(fd[0]);
	pending(fd[0]);
	say("read", read(fd[0], b, sizeof b));
}

static void reset_in_a_read(void)
{
	int fd[2];
	char b[8];
	streams(fd);
	if (must("fork", fork()) == 0) {
		close(fd[0]);
		asleep(getppid());
		reset(fd[1]);
		_exit(0);
	}
	close(fd[1]);
	say("read", read(fd[0], b, sizeof b));
}

static void writes(int fd)
{
	static char b[1 << 16];
	while (write(fd, b, sizeof b) > 0)
		;
}

static void reset_in_a_write(void)
{
	int fd[2];
	static char b[1 << 16];
	streams(fd);
	if (must("fork", fork()) == 0) {
		close(fd[0]);
		asleep(getppid());
		close(fd[1]); /* with much unread */
		_exit(0);
	}
	close(fd[1]);
	signal(SIGPIPE, SIG_IGN);
	writes(fd[0]);
	printf("a write that waits has an error: %d\n", errno == EPIPE || errno == ECONNRESET);
	say("write", write(fd[0], b, sizeof b));
	wait(NULL);
	signal(SIGPIPE, SIG_DFL);
	child("a writer", writes, fd[0]);
}

/* Both ends have written all that there is room for, one waits for more, and the
 * other closes. Whether the reset meets data on its way up is chance. */
static void reset_in_a_full_write(void)
{
	static char b[65536];
	signal(SIGPIPE, SIG_IGN);
	for (int round = 0; round < 10; round++) {
		int fd[2], status;
		streams(fd);
		for (int idle = 0; idle < 20; idle++)
			for (int i = 0; i < 2; i++)
				while (send(fd[i], b, sizeof b, MSG_DONTWAIT) > 0)
					idle = 0;
		int child = must("fork", fork());
		if (child == 0) {
			close(fd[0]);
			while (write(fd[1], b, sizeof b) > 0)
				;
			_exit(errno != ECONNRESET && errno != EPIPE);
		}
		close(fd[1]);
		close(fd[0]); /* with something unread */
		must("wait", waitpid(child, &status, 0));
		say("write fails", status);
	}
}

static void not_connected(void)
{
	char b[8];
	int s = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t n = sizeof(struct sockaddr_in);
	struct sockaddr_in a;
	say("recvfrom", recvfrom(s, b, sizeof b, 0, (struct sockaddr *)&a, &n));
	say("getpeername", getpeername(s, (struct sockaddr *)&a, &n));
	say("shutdown", shutdown(s, SHUT_RDWR));
	say("accept", accept(s, NULL, NULL));
	say("connect to nothing", connect(s, (struct sockaddr *)&(struct sockaddr){AF_UNSPEC, ""}, sizeof(struct sockaddr)));
	s = socket(AF_INET, SOCK_DGRAM, 0);
	say("getpeername", getpeername(s, (struct sockaddr *)&a, &n));
	say("shutdown", shutdown(s, SHUT_RDWR));
	say("listen", listen(s, 1));
	say("accept", accept(s, NULL, NULL));
}

/* Every call is the first one of its socket. */
static int unused(void) { return must("socket", socket(AF_INET, SOCK_STREAM, 0)); }

static void not_used_yet(void)
{
	char b[256];
	struct sockaddr_in a, nobody = address(LOOPBACK, 9);
	socklen_t n = sizeof a;
	int v;
	struct iovec iov = {b, 8};
	struct mmsghdr m = {.msg_hdr = {.msg_name = &nobody, .msg_namelen = sizeof nobody, .msg_iov = &iov, .msg_iovlen = 1}};
	say("recv out of band", recv(unused(), b, 1, MSG_OOB));
	say("recv out of band, looking", recv(unused(), b, 1, MSG_OOB | MSG_PEEK));
	say("recvfrom", recvfrom(unused(), b, 8, 0, SA_OUT(a, n)));
	say("recvmsg", recvmsg(unused(), &m.msg_hdr, 0));
	say("recvmmsg", recvmmsg(unused(), &m, 1, 0, NULL));
	say("send out of band", send(unused(), b, 1, MSG_OOB | MSG_NOSIGNAL));
	say("sendto", sendto(unused(), b, 8, MSG_NOSIGNAL, SA(nobody)));
	m.msg_hdr.msg_name = &nobody, m.msg_hdr.msg_namelen = sizeof nobody;
	say("sendmsg", sendmsg(unused(), &m.msg_hdr, MSG_NOSIGNAL));
	say("sendmmsg", sendmmsg(unused(), &m, 1, MSG_NOSIGNAL));
	say("accept", accept4(unused(), NULL, NULL, SOCK_NONBLOCK));
	say("shutdown of reading", shutdown(unused(), SHUT_RD));
	say("shutdown of writing", shutdown(unused(), SHUT_WR));
	say("getpeername", getpeername(unused(), SA_OUT(a, n)));
	n = sizeof a;
	say("getsockname", getsockname(unused(), SA_OUT(a, n)));
	say("its port", a.sin_port);
	say("SO_ERROR", getsockopt(unused(), SOL_SOCKET, SO_ERROR, &v, &(socklen_t){sizeof v}));
	say("SO_TYPE", getsockopt(unused(), SOL_SOCKET, SO_TYPE, &v, &(socklen_t){sizeof v}));
	say("SO_RCVBUF", getsockopt(unused(), SOL_SOCKET, SO_RCVBUF, &v, &(socklen_t){sizeof v}));
	say("TCP_NODELAY", getsockopt(unused(), IPPROTO_TCP, TCP_NODELAY, &v, &(socklen_t){sizeof v}));
	say("TCP_INFO", getsockopt(unused(), IPPROTO_TCP, TCP_INFO, b, &(socklen_t){sizeof b}));
	say("IP_TTL", getsockopt(unused(), IPPROTO_IP, IP_TTL, &v, &(socklen_t){sizeof v}));
	say("SIOCATMARK", ioctl(unused(), SIOCATMARK, &v));
	say("connect to nothing", connect(unused(), (struct sockaddr *)&(struct sockaddr){AF_UNSPEC, ""}, sizeof(struct sockaddr)));
	say("connect", connect(unused(), SA(nobody)));
	say("listen", listen(unused(), 1));
	say("setsockopt", setsockopt(unused(), IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
}

/* One octet is what some want in order to see whether a stream is connected. */
static void one_octet(void)
{
	struct sockaddr_in a = closed(), b = black();
	char o = 0;
	say("of an unused one", recv(unused(), &o, 1, 0));
	int s = unused();
	must("bind", bind(s, SA(a)));
	say("of a bound one", recv(s, &o, 1, 0));
	int l = listener(&a);
	say("of a listener", recv(l, &o, 1, 0));
	int c = unused();
	must("connect", connect(c, SA(a)));
	until(l, POLLIN);
	say("of a listener with somebody", recv(l, &o, 1, 0));
	int d = ok("accept", accept(l, NULL, NULL));
	must("write", write(d, "x", 1));
	say("of a connected one", recv(c, &o, 1, 0));
	say("which is", o);
	close(d);
	say("of one at its end", recv(c, &o, 1, 0));
	s = must("socket", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	say("connect", connect(s, SA(b)));
	say("of one on its way", recv(s, &o, 1, 0));
	a = closed();
	s = must("socket", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	say("connect", connect(s, SA(a)));
	until(s, POLLOUT);
	say("of one refused", recv(s, &o, 1, 0));
	say("and once more", recv(s, &o, 1, 0));
	int u = must("socket", socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	say("of datagrams", recv(u, &o, 1, 0));
	a = address("127.0.0.1", 0);
	socklen_t n = sizeof a;
	must("bind", bind(u, SA(a)));
	must("getsockname", getsockname(u, SA_OUT(a, n)));
	must("sendto", sendto(u, "long", 4, 0, SA(a)));
	until(u, POLLIN);
	say("of a long datagram", recv(u, &o, 1, 0));
	say("which is", o);
	say("and no more", recv(u, &o, 1, 0));
}

static void wrong_arguments(void)
{
	struct sockaddr_in a;
	int l = listener(&a), s = socket(AF_INET, SOCK_STREAM, 0), fd[2], nul = open("/dev/null", O_RDWR);
	struct sockaddr_in odd = a;
	socklen_t n = sizeof odd;
	char b[8];
	odd.sin_family = other_family;
	streams(fd);
	say("socket of no family", socket(77, SOCK_STREAM, 0));
	say("socket of no type", socket(AF_INET, 9, 0));
	say("socket of another protocol", socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
	say("connect of another family", connect(s, SA(odd)));
	say("connect of a short address", connect(s, (struct sockaddr *)&a, 7));
	say("connect of a bad pointer", connect(s, (struct sockaddr *)8, sizeof a));
	say("connect of a file", connect(nul, SA(a)));
	say("connect of nothing", connect(999, SA(a)));
	say("connect of a listener", connect(l, SA(a)));
	say("connect of a connection", connect(fd[0], SA(a)));
	say("bind of a connection", bind(fd[0], SA(a)));
	say("listen of a connection", listen(fd[0], 1));
	say("accept of a connection", accept(fd[0], NULL, NULL));
	say("accept with odd flags", accept4(l, NULL, NULL, 0x40));
	say("getsockname to a bad pointer", getsockname(s, (struct sockaddr *)8, &n));
	say("getsockname with a bad length", getsockname(s, (struct sockaddr *)&odd, (socklen_t *)8));
	n = -1;
	say("getsockname with a negative length", getsockname(s, (struct sockaddr *)&odd, &n));
	say("setsockopt with a bad pointer", setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, (void *)8, 4));
	say("setsockopt of a short value", setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, b, 1));
	say("setsockopt of no level", setsockopt(s, 777, 1, b, 4));
	say("setsockopt of no option", setsockopt(s, SOL_SOCKET, 777, b, 4));
	say("getsockopt of no option", getsockopt(s, IPPROTO_TCP, 777, b, &(socklen_t){4}));
	say("shutdown in no direction", shutdown(fd[0], 9));
	int u = bound(SOCK_DGRAM, &a);
	struct sockaddr_in none = address(LOOPBACK, 0);
	static char big[70000];
	say("sendto of too much", sendto(u, big, sizeof big, 0, SA(a)));
	say("sendto of a bad pointer", sendto(u, (void *)8, 4, 0, SA(a)));
	say("sendmsg of a bad pointer", sendmsg(u, (void *)8, 0));
	say("recvmsg to a bad pointer", recvmsg(u, (void *)8, MSG_DONTWAIT));
	say("sendto port 0", sendto(u, "x", 1, 0, SA(none)));
}

static void end_of_peer(void)
{
	int fd[2];
	char b[8];
	streams(fd);
	must("write", write(fd[1], "last", 4));
	close(fd[1]);
	until(fd[0], POLLRDHUP);
	events("poll", until(fd[0], POLLIN | POLLRDHUP));
	say("read", read(fd[0], b, sizeof b));
	say("read", read(fd[0], b, sizeof b));
	say("first write", send(fd[0], b, sizeof b, MSG_NOSIGNAL));
	until(fd[0], POLLERR);
	say("second write", send(fd[0], b, sizeof b, MSG_NOSIGNAL));
	child("a writer", writes, fd[0]);
}

/* A datagram socket that has a peer may send to others. */
static void elsewhere(void)
{
	struct sockaddr_in a, b, us, from;
	socklen_t n = sizeof us;
	int to = bound(SOCK_DGRAM, &a), other = bound(SOCK_DGRAM, &b), u = socket(AF_INET, SOCK_DGRAM, 0);
	char c[8];
	struct iovec v = {"message", 7};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_name = &b, .msg_namelen = sizeof b};
	must("connect", connect(u, SA(a)));
	must("getsockname", getsockname(u, SA_OUT(us, n)));
	say("sendto another", sendto(u, "other", 5, 0, SA(b)));
	n = sizeof from;
	say("it comes", recvfrom(other, c, sizeof c, 0, SA_OUT(from, n)));
	say("from us", !memcmp(&from, &us, sizeof us));
	say("sendmsg to another", sendmsg(u, &m, 0));
	say("it comes", recv(other, c, sizeof c, 0));
	say("sendto the peer", sendto(u, "peer", 4, 0, SA(a)));
	say("it comes", recv(to, c, sizeof c, 0));
	say("answer of another", sendto(other, "no", 2, 0, SA(us)));
	say("answer of the peer", sendto(to, "yes", 3, 0, SA(us)));
	say("which is heard", recv(u, c, sizeof c, 0));
}

static void datagram_refused(void)
{
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	int u = bound(SOCK_DGRAM, &a), s = socket(AF_INET, SOCK_DGRAM, 0);
	char b[8];
	close(u);
	say("connect", connect(s, SA(a)));
	say("send", send(s, "x", 1, 0));
	until(s, POLLIN);
	say("recvfrom", recvfrom(s, b, sizeof b, MSG_DONTWAIT, SA_OUT(a, n)));
	say("recvfrom", recvfrom(s, b, sizeof b, MSG_DONTWAIT, SA_OUT(a, n)));
	say("send", send(s, "x", 1, 0));
	until(s, POLLIN);
	pending(s);
	pending(s);
	say("recvfrom", recvfrom(s, b, sizeof b, MSG_DONTWAIT, SA_OUT(a, n)));
	say("send", send(s, "x", 1, 0));
	until(s, POLLIN);
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	say("sendmsg", sendmsg(s, &m, 0));
	say("recvfrom", recvfrom(s, b, sizeof b, MSG_DONTWAIT | MSG_PEEK, SA_OUT(a, n)));
}

/* Calls that nobody looks at: they are too many. */
static void datagram_refused_unseen(void)
{
	struct sockaddr_in a;
	int u = bound(SOCK_DGRAM, &a), s = socket(AF_INET, SOCK_DGRAM, 0);
	char b[8];
	close(u);
	say("connect", connect(s, SA(a)));
	say("send", send(s, "x", 1, 0));
	events("poll", until(s, POLLIN));
	say("recv", recv(s, b, sizeof b, MSG_DONTWAIT));
}

static void not_connected_unseen(void)
{
	char b[8];
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	events("poll", until(s, POLLOUT | POLLIN));
	say("read", read(s, b, sizeof b));
	say("send", send(s, b, sizeof b, MSG_NOSIGNAL));
	s = socket(AF_INET, SOCK_DGRAM, 0);
	say("send of a datagram socket", send(s, b, sizeof b, 0));
}

static void listener_shut(void)
{
	struct sockaddr_in a;
	int l = listener(&a), s = socket(AF_INET, SOCK_STREAM, 0);
	if (must("fork", fork()) == 0) {
		asleep(getppid());
		shutdown(l, SHUT_RDWR);
		_exit(0);
	}
	say("accept", accept(l, NULL, NULL));
	wait(NULL);
	say("connect", connect(s, SA(a)));
	say("accept", accept(l, NULL, NULL));
}

/* What has connected to a listener that goes is reset. */
static void listener_gone(void)
{
	struct sockaddr_in a;
	int l = listener(&a), s = socket(AF_INET, SOCK_STREAM, 0);
	char b[8];
	say("connect", connect(s, SA(a)));
	until(l, POLLIN);
	close(l);
	say("read", read(s, b, sizeof b));
}

static const struct test tests[] = {
	{"refused", refused}, {"refused later", refused_later}, {"refused, asked by connect", refused_asked_by_connect},
	{"connected later", connected_later}, {"in use", in_use}, {"restarted", restarted}, {"low port", low_port}, {"unreachable", unreachable}, {"unreachable later", unreachable_later},
	{"timed out", timed_out}, {"receive times out", receive_times_out}, {"reset under read", reset_under_read},
	{"reset asked for", reset_asked_for}, {"reset in a read", reset_in_a_read}, {"reset in a write", reset_in_a_write},
	{"reset in a full write", reset_in_a_full_write},
	{"not connected", not_connected}, {"not used yet", not_used_yet}, {"one octet", one_octet}, {"wrong arguments", wrong_arguments}, {"end of peer", end_of_peer},
	{"elsewhere", elsewhere}, {"datagram refused", datagram_refused},
	{"datagram refused, unseen", datagram_refused_unseen}, {"not connected, unseen", not_connected_unseen}, {"listener shut", listener_shut}, {"listener gone", listener_gone}, {0},
};

int main(int argc, char **argv) { return perform(tests, argc, argv); }
