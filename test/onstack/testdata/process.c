/* Sockets that more than one process, descriptor, thread or signal has to do
 * with, and what their data do. */
#include "sockets.h"
#include <sys/mman.h>

static int fd[2];

static void say_hello(int s)
{
	say("child's getpeername", getpeername(s, (struct sockaddr *)&(struct sockaddr_in){0}, &(socklen_t){16}));
	say("child's write", write(s, "hello", 5));
}

static void hear(int s)
{
	char b[64] = "";
	int n = say("read", read(s, b, sizeof b - 1));
	if (n > 0)
		puts(b);
}

static void forked(void)
{
	streams(fd);
	child("child", say_hello, fd[1]);
	hear(fd[0]);
	/* The parent has it still: the child's end was not the connection's. */
	say("write", write(fd[1], "again", 5));
	hear(fd[0]);
	close(fd[1]);
	hear(fd[0]);
}

static void accept_and_leave(int l)
{
	int s = ok("child's accept", accept(l, NULL, NULL));
	say("child's write", write(s, "hello", 5));
}

static void forked_listener(void)
{
	struct sockaddr_in a;
	int l = listener(&a), s = socket(AF_INET, SOCK_STREAM, 0);
	say("connect", connect(s, SA(a)));
	child("child", accept_and_leave, l);
	hear(s);
	hear(s);
}

static void connects(int s)
{
	struct sockaddr_in a;
	int l = listener(&a);
	say("child's connect", connect(s, SA(a)));
	ok("child's accept", accept(l, NULL, NULL));
}

/* What a child does to a socket that both have is done. */
static void connected_by_a_child(void)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);
	child("child", connects, s);
	say("getpeername", getpeername(s, (struct sockaddr *)&(struct sockaddr_in){0}, &(socklen_t){16}));
	hear(s);
}

static void duplicated(void)
{
	streams(fd);
	int d = ok("dup", dup(fd[0]));
	close(fd[0]);
	int e = ok("dup2", dup2(d, 77));
	close(d);
	int f = ok("F_DUPFD_CLOEXEC", fcntl(e, F_DUPFD_CLOEXEC, 90));
	flags("of it", f);
	say("getpeername", getpeername(e, (struct sockaddr *)&(struct sockaddr_in){0}, &(socklen_t){16}));
	say("write", write(f, "hello", 5));
	hear(fd[1]);
	close(f);
	say("write", write(e, "hello", 5));
	hear(fd[1]);
	close(e);
	hear(fd[1]);
}

static void executed(int s)
{
	char n[16];
	snprintf(n, sizeof n, "%d", s);
	setenv("FD", n, 1);
	execl("/proc/self/exe", "process", "after exec", NULL);
	say("exec", -1);
}

static void exec_(void)
{
	streams(fd);
	child("child", executed, fd[1]);
	hear(fd[0]);
	fcntl(fd[1], F_SETFD, FD_CLOEXEC);
	child("child with FD_CLOEXEC", executed, fd[1]);
}

static void after_exec(void)
{
	int s = atoi(getenv("FD"));
	say("getsockname after exec", getsockname(s, (struct sockaddr *)&(struct sockaddr_in){0}, &(socklen_t){16}));
	say("write after exec", write(s, "hello", 5));
}

static void flags_(void)
{
	struct sockaddr_in a;
	int l = listener(&a), one = 1;
	flags("socket", socket(AF_INET, SOCK_STREAM, 0));
	flags("socket SOCK_NONBLOCK", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	flags("socket SOCK_CLOEXEC", socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	for (int i = 0; i < 3; i++)
		must("connect", connect(socket(AF_INET, SOCK_STREAM, 0), SA(a)));
	fcntl(l, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 3; i++)
		until(l, POLLIN), flags("accept4", must("accept4", accept4(l, NULL, NULL, i == 1 ? SOCK_NONBLOCK : i == 2 ? SOCK_CLOEXEC : 0)));
	say("accept", accept(l, NULL, NULL));
	int s = socket(AF_INET, SOCK_STREAM, 0);
	say("FIONBIO", ioctl(s, FIONBIO, &one));
	flags("after it", s);
	printf("SO_TYPE %d, SO_DOMAIN %d, SO_PROTOCOL %d, SO_ACCEPTCONN %d %d\n", option(s, SOL_SOCKET, SO_TYPE), option(s, SOL_SOCKET, SO_DOMAIN),
	       option(s, SOL_SOCKET, SO_PROTOCOL), option(s, SOL_SOCKET, SO_ACCEPTCONN), option(l, SOL_SOCKET, SO_ACCEPTCONN));
}

/* give sends s through a local socket, take gets it. */
static void give(int local, int s)
{
	char c[CMSG_SPACE(sizeof s)] = {0};
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof s);
	memcpy(CMSG_DATA(h), &s, sizeof s);
	say("sendmsg", sendmsg(local, &m, 0));
}

static int take(int local)
{
	int s;
	char c[CMSG_SPACE(sizeof s)], b;
	struct iovec v = {&b, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
	say("recvmsg", recvmsg(local, &m, 0));
	memcpy(&s, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof s);
	return s;
}

static void taker(int local)
{
	struct sockaddr_in a;
	say_hello(take(local));
	int l = take(local), s = socket(AF_INET, SOCK_STREAM, 0);
	a = name(l);
	say("connect", connect(s, SA(a)));
	ok("accept from what was passed", accept(l, NULL, NULL));
	int u = take(local);
	a = name(u);
	say("sendto from what was passed", sendto(u, "x", 1, 0, SA(a)));
	say("recvfrom", recvfrom(u, &a, 1, 0, NULL, NULL));
}

static void passed(void)
{
	struct sockaddr_in a;
	int local[2], status;
	streams(fd);
	must("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, local));
	fflush(stdout);
	int p = must("fork", fork());
	if (p == 0) { /* in a process that has not inherited it */
		close(fd[0]), close(fd[1]), close(local[0]);
		taker(local[1]);
		fflush(stdout);
		_exit(0);
	}
	int out = dup(1);
	close(1), open("/dev/null", O_WRONLY); /* one speaks at a time */
	give(local[0], fd[1]);
	close(fd[1]);
	give(local[0], listener(&a));
	give(local[0], bound(SOCK_DGRAM, &a));
	wait(&status);
	fflush(stdout);
	dup2(out, 1);
	hear(fd[0]);
	close(fd[0]);
}

static void nothing(int s) { (void)s; }

static void on_alarm(int flags)
{
	struct sigaction s = {.sa_handler = nothing, .sa_flags = flags};
	sigaction(SIGUSR1, &s, NULL);
}

/* interrupt sends SIGUSR1 to the parent when that waits, and then f. */
static void interrupt(void (*f)(void))
{
	int parent = getpid();
	fflush(stdout);
	if (must("fork", fork()) == 0) {
		asleep(parent);
		kill(parent, SIGUSR1);
		if (f) {
			asleep(parent);
			f();
		}
		_exit(0);
	}
}

static struct sockaddr_in there;
static void visit(void)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);
	connect(s, SA(there));
	char b;
	read(s, &b, 1);
}
static void post(void) { sendto(socket(AF_INET, SOCK_DGRAM, 0), "x", 1, 0, SA(there)); }
static void tell(void) { write(fd[1], "x", 1); }
static void tell_first(void) { write(fd[0], "x", 1); }

static void interrupted(void)
{
	char b[8];
	struct sockaddr_in from;
	socklen_t n = sizeof from;
	int l = listener(&there);
	on_alarm(0);
	interrupt(NULL);
	say("accept", accept(l, NULL, NULL));
	int u = bound(SOCK_DGRAM, &there);
	interrupt(NULL);
	say("recvfrom", recvfrom(u, b, sizeof b, 0, SA_OUT(from, n)));
	interrupt(NULL);
	say("recv", recv(u, b, sizeof b, 0));
	streams(fd);
	interrupt(NULL);
	say("read", read(fd[0], b, sizeof b));
	interrupt(NULL);
	say("poll", poll(&(struct pollfd){fd[0], POLLIN, 0}, 1, 5000));
	struct sockaddr_in black = address(getenv("BLACK"), 9);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	interrupt(NULL);
	say("connect", connect(s, SA(black)));
	fcntl(s, F_SETFL, O_NONBLOCK);
	say("connect again", connect(s, SA(black)));
}

/* What has a time to wait is not restarted. */
static void interrupted_in_time(void)
{
	int l = listener(&there);
	on_alarm(SA_RESTART);
	timeout(l, SO_RCVTIMEO, 1000);
	interrupt(NULL);
	say("accept with SO_RCVTIMEO", accept(l, NULL, NULL));
}

static void restarted(void)
{
	char b[8];
	struct sockaddr_in from;
	socklen_t n = sizeof from;
	on_alarm(SA_RESTART);
	int l = listener(&there);
	interrupt(visit);
	ok("accept", accept(l, NULL, NULL));
	int u = bound(SOCK_DGRAM, &there);
	interrupt(post);
	say("recvfrom", recvfrom(u, b, sizeof b, 0, SA_OUT(from, n)));
	interrupt(post);
	say("recv", recv(u, b, sizeof b, 0));
	streams(fd);
	interrupt(tell);
	say("read", read(fd[0], b, sizeof b));
}

static void *accepts(void *l)
{
	int s = accept(*(int *)l, NULL, NULL);
	return (void *)(long)write(s, "x", 1);
}

static void threads(void)
{
	struct sockaddr_in a;
	int l = listener(&a);
	pthread_t t[4];
	void *n;
	long sum = 0;
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, accepts, &l);
	for (int i = 0; i < 4; i++) {
		char b;
		int s = socket(AF_INET, SOCK_STREAM, 0);
		must("connect", connect(s, SA(a)));
		sum += read(s, &b, 1);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], &n), sum += (long)n;
	say("octets written and read", sum);
}

/* Who asks from whom the octets of a connection come is told: from nobody. */
static void from_nobody(void)
{
	char b[16] = "";
	struct sockaddr_storage a;
	struct iovec v = {b, 2};
	on_alarm(SA_RESTART);
	streams(fd);
	for (int i = 0; i < 2; i++) {
		socklen_t n = sizeof a;
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_name = &a, .msg_namelen = sizeof a};
		write(fd[!i], "hello!", 6);
		say("recvfrom", recvfrom(fd[i], b, 2, 0, SA_OUT(a, n)));
		say("length of the address", n);
		say("recvmsg looks", recvmsg(fd[i], &m, MSG_PEEK));
		m.msg_namelen = sizeof a;
		say("recvmsg", recvmsg(fd[i], &m, 0));
		say("length of the address", m.msg_namelen);
		say("it is", !memcmp(b, "ll", 2));
		say("read", read(fd[i], b, sizeof b));
		say("it is", !memcmp(b, "o!", 2));
		write(fd[!i], "many", 4);
		struct mmsghdr many[2] = {{m}, {m}};
		many[0].msg_hdr.msg_namelen = sizeof a;
		say("recvmmsg", recvmmsg(fd[i], many, 1, MSG_WAITFORONE, NULL));
		say("octets", many[0].msg_len);
		say("length of the address", many[0].msg_hdr.msg_namelen);
		say("read", read(fd[i], b, sizeof b));
		long twice = 0;
		for (int j = 0; j < 50; j++) {
			write(fd[!i], "yes!", 4);
			n = sizeof a;
			recvfrom(fd[i], b, 2, 0, SA_OUT(a, n));
			twice += read(fd[i], b, sizeof b) != 2;
		}
		say("octets that came twice", twice);
		n = sizeof a;
		say("without waiting", recvfrom(fd[i], b, 2, MSG_DONTWAIT, SA_OUT(a, n)));
		interrupt(i ? tell_first : tell);
		n = sizeof a;
		say("later", recvfrom(fd[i], b, 2, 0, SA_OUT(a, n)));
	}
	send(fd[1], "!", 1, MSG_OOB);
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	long got = -1;
	for (int i = 0; i < 1000 && got < 0; i++, poll(NULL, 0, 5))
		got = recvmsg(fd[0], &m, MSG_OOB);
	say("recvmsg out of band", got);
	say("it is", b[0] == '!' && m.msg_iov == &v);
	shutdown(fd[1], SHUT_WR);
	socklen_t n = sizeof a;
	say("the end", recvfrom(fd[0], b, 2, 0, SA_OUT(a, n)));
}

static void half_closed(void)
{
	streams(fd);
	say("write", write(fd[0], "question", 8));
	say("shutdown", shutdown(fd[0], SHUT_WR));
	say("write after it", send(fd[0], "x", 1, MSG_NOSIGNAL));
	hear(fd[1]);
	hear(fd[1]);
	say("answer", write(fd[1], "answer", 6));
	close(fd[1]);
	hear(fd[0]);
	hear(fd[0]);
	streams(fd);
	say("shutdown", shutdown(fd[0], SHUT_RD));
	hear(fd[0]);
	say("write", write(fd[0], "still", 5));
	hear(fd[1]);
}

static void stream_flags(void)
{
	char b[16] = "";
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	int waiting;
	streams(fd);
	write(fd[0], "hello", 5);
	until(fd[1], POLLIN);
	say("FIONREAD", ioctl(fd[1], FIONREAD, &waiting));
	say("octets", waiting);
	say("MSG_PEEK", recv(fd[1], b, sizeof b, MSG_PEEK));
	say("recvfrom", recvfrom(fd[1], b, 2, 0, SA_OUT(a, n)));
	say("length of the address", n);
	struct iovec v[2] = {{b, 1}, {b + 1, 1}};
	say("readv", readv(fd[1], v, 2));
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2, .msg_name = &a, .msg_namelen = sizeof a};
	say("recvmsg", recvmsg(fd[1], &m, 0));
	say("length of the address", m.msg_namelen);
	say("sendmsg", sendmsg(fd[0], &(struct msghdr){.msg_iov = v, .msg_iovlen = 2}, 0));
	a = name(fd[1]);
	say("sendto with an address", sendto(fd[0], "abc", 3, 0, SA(a)));
	say("MSG_WAITALL", recv(fd[1], b, 5, MSG_WAITALL));
	say("MSG_DONTWAIT", recv(fd[1], b, 5, MSG_DONTWAIT));
	int f = must("memfd", memfd_create("file", 0));
	static char page[100000], in[100000];
	memset(page, 'p', sizeof page);
	write(f, page, sizeof page);
	off_t o = 0;
	say("sendfile", sendfile(fd[0], f, &o, sizeof page));
	say("MSG_WAITALL", recv(fd[1], in, sizeof in, MSG_WAITALL));
	say("the same", memcmp(in, page, sizeof in));
	int p[2];
	pipe(p);
	write(p[1], "spliced", 7);
	say("splice", splice(p[0], NULL, fd[0], NULL, 7, 0));
	say("splice back", splice(fd[1], NULL, p[1], NULL, 7, 0));
	hear(p[0]);
}

static void urgent(void)
{
	char b[8] = "";
	streams(fd);
	say("MSG_OOB", send(fd[0], "abc!", 4, MSG_OOB));
	char o = 0;
	for (int i = 0; i < 1000 && recv(fd[1], &o, 1, MSG_OOB) < 0; i++)
		poll(NULL, 0, 5);
	printf("urgent: %c\n", o);
	hear(fd[1]);
	say("MSG_OOB again", recv(fd[1], b, 1, MSG_OOB));
}

static void datagrams(void)
{
	struct sockaddr_in a, b, from;
	socklen_t n = sizeof from;
	char in[16];
	int u = bound(SOCK_DGRAM, &a), v = bound(SOCK_DGRAM, &b), waiting;
	say("sendto", sendto(u, "hello", 5, 0, SA(b)));
	until(v, POLLIN);
	say("FIONREAD", ioctl(v, FIONREAD, &waiting));
	say("octets", waiting);
	say("MSG_PEEK", recvfrom(v, in, sizeof in, MSG_PEEK, SA_OUT(from, n)));
	printf("from them: %d\n", memcmp(&from, &a, sizeof a));
	say("in pieces", recvfrom(v, in, 2, 0, SA_OUT(from, n)));
	say("the rest", recvfrom(v, in, 2, MSG_DONTWAIT, SA_OUT(from, n)));
	say("sendto", sendto(u, "hello", 5, 0, SA(b)));
	say("MSG_TRUNC", recvfrom(v, in, 2, MSG_TRUNC, SA_OUT(from, n)));
	say("sendto nothing", sendto(u, "", 0, 0, SA(b)));
	say("nothing", recvfrom(v, in, sizeof in, 0, SA_OUT(from, n)));
	say("connect", connect(u, SA(b)));
	say("send", send(u, "one", 3, 0));
	say("write", write(u, "four", 4));
	say("read", read(v, in, sizeof in));
	say("recv", recv(v, in, sizeof in, 0));
	say("sendto a stranger", sendto(v, "x", 1, 0, SA(a)));
	say("recv", recv(u, in, sizeof in, 0));
	struct sockaddr_in c;
	int w = bound(SOCK_DGRAM, &c);
	say("a stranger's sendto", sendto(w, "xx", 2, 0, SA(a)));
	say("peer's sendto", sendto(v, "xxx", 3, 0, SA(a)));
	say("recv", recv(u, in, sizeof in, 0));
	from.sin_family = AF_UNSPEC;
	say("connect to nobody", connect(u, SA(from)));
	say("send", sendmsg(u, &(struct msghdr){.msg_iov = &(struct iovec){"x", 1}, .msg_iovlen = 1}, 0));
	struct mmsghdr m[3] = {{{.msg_iov = &(struct iovec){"a", 1}, .msg_iovlen = 1, .msg_name = &b, .msg_namelen = sizeof b}},
			       {{.msg_iov = &(struct iovec){"bb", 2}, .msg_iovlen = 1, .msg_name = &b, .msg_namelen = sizeof b}}};
	say("sendmmsg", sendmmsg(u, m, 2, 0));
	char x[3][8];
	struct iovec y[3] = {{x[0], 8}, {x[1], 8}, {x[2], 8}};
	for (int i = 0; i < 3; i++)
		m[i].msg_hdr = (struct msghdr){.msg_iov = &y[i], .msg_iovlen = 1};
	int got = 0;
	while (got < 2)
		got += must("recvmmsg", recvmmsg(v, m + got, 3 - got, MSG_WAITFORONE, NULL));
	printf("recvmmsg: %d of %d and %d octets\n", got, m[0].msg_len, m[1].msg_len);
	int one = 1;
	say("IP_PKTINFO", setsockopt(v, IPPROTO_IP, IP_PKTINFO, &one, sizeof one));
	say("sendto", sendto(u, "x", 1, 0, SA(b)));
	char control[128];
	struct msghdr h = {.msg_iov = y, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control, .msg_name = &from, .msg_namelen = sizeof from};
	say("recvmsg", recvmsg(v, &h, 0));
	for (struct cmsghdr *k = CMSG_FIRSTHDR(&h); k; k = CMSG_NXTHDR(&h, k))
		printf("control: level %d type %d, to 127.0.0.1: %d\n", k->cmsg_level, k->cmsg_type,
		       ((struct in_pktinfo *)CMSG_DATA(k))->ipi_addr.s_addr == htonl(INADDR_LOOPBACK));
}

static void waiting(void)
{
	struct sockaddr_in a;
	int l = listener(&a), s = socket(AF_INET, SOCK_STREAM, 0), ep = epoll_create1(0);
	struct epoll_event e = {EPOLLIN, {.fd = l}};
	fd_set r;
	epoll_ctl(ep, EPOLL_CTL_ADD, l, &e);
	say("epoll_wait", epoll_wait(ep, &e, 1, 0));
	must("connect", connect(s, SA(a)));
	say("epoll_wait", epoll_wait(ep, &e, 1, 5000));
	FD_ZERO(&r);
	FD_SET(l, &r);
	say("select", select(l + 1, &r, NULL, NULL, NULL));
	int c = ok("accept", accept(l, NULL, NULL));
	say("epoll_wait", epoll_wait(ep, &e, 1, 0));
	e.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP;
	epoll_ctl(ep, EPOLL_CTL_ADD, c, &e);
	say("epoll_wait", epoll_wait(ep, &e, 1, 0));
	events("new", e.events);
	shutdown(s, SHUT_WR);
	until(c, POLLIN);
	epoll_wait(ep, &e, 1, 0);
	events("half closed", e.events);
	fcntl(c, F_SETFL, O_NONBLOCK);
	static char b[1 << 16];
	do /* until nothing is taken on any more */
		while (write(c, b, sizeof b) > 0)
			;
	while (poll(&(struct pollfd){c, POLLOUT, 0}, 1, 200) == 1);
	epoll_wait(ep, &e, 1, 0);
	events("full", e.events);
	fcntl(s, F_SETFL, O_NONBLOCK);
	for (int n = 0; n >= 0;) { /* until it is writable again */
		while (read(s, b, sizeof b) > 0)
			;
		n = -(poll(&(struct pollfd){c, POLLOUT, 0}, 1, 1) == 1);
	}
	say("empty", write(c, b, 1));
}

static const struct test tests[] = {
	{"forked", forked}, {"forked listener", forked_listener}, {"connected by a child", connected_by_a_child}, {"duplicated", duplicated},
	{"exec", exec_}, {"flags", flags_}, {"passed", passed}, {"interrupted", interrupted}, {"interrupted in time", interrupted_in_time}, {"restarted after a signal", restarted},
	{"threads", threads}, {"half closed", half_closed}, {"from nobody", from_nobody}, {"stream flags", stream_flags}, {"urgent", urgent}, {"datagrams", datagrams},
	{"waiting", waiting}, {"after exec", after_exec}, {0},
};

int main(int argc, char **argv) { return perform(tests, argc, argv); }
