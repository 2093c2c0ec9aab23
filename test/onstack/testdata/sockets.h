/* What the programs of this folder share. Each is a dialogue with the socket
 * layer that says, a line a call, what came of it: no numbers of ports and no
 * times, so that a kernel and a stack can be held side by side. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* say tells what a call has answered, and answers it too. */
static long say(const char *what, long n)
{
	int e = errno;
	if (n < 0)
		printf("%s: %s\n", what, strerrorname_np(e));
	else
		printf("%s: %ld\n", what, n);
	errno = e;
	return n;
}

/* ok is say for a result that is a number of no interest. */
static int ok(const char *what, int n)
{
	if (n < 0)
		say(what, n);
	else
		printf("%s: ok\n", what);
	return n;
}

/* must ends the program when what comes before the dialogue does not work. */
static int must(const char *what, int n)
{
	if (n < 0) {
		printf("%s must work: %s\n", what, strerrorname_np(errno));
		exit(1);
	}
	return n;
}

/* With SIX the dialogues are of IPv6: the same, word for word, but for the addresses. */
#ifdef SIX
enum { other_family = AF_INET };
#undef AF_INET
#define AF_INET AF_INET6
#define sockaddr_in sockaddr_in6
#define sin_family sin6_family
#define sin_port sin6_port
#define sin_addr sin6_addr
#define LOOPBACK "::1"
#define NOBODY "2001:db8::1"
#define NOWHERE "2001:db8:9::1"
#else
enum { other_family = AF_INET6 };
#define LOOPBACK "127.0.0.1"
#define NOBODY "192.0.2.1"
#define NOWHERE "198.51.100.1"
#endif

static struct sockaddr_in address(const char *host, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, host, &a.sin_addr);
	return a;
}

#define SA(a) (struct sockaddr *)&(a), sizeof(a)
#define SA_OUT(a, n) (struct sockaddr *)&(a), &(n)

static struct sockaddr_in name(int fd)
{
	struct sockaddr_in a = {0};
	socklen_t n = sizeof a;
	must("getsockname", getsockname(fd, (struct sockaddr *)&a, &n));
	return a;
}

/* bound is a socket with an address of this host's. */
static int bound(int type, struct sockaddr_in *a)
{
	int fd = must("socket", socket(AF_INET, type, 0));
	*a = address(LOOPBACK, 0);
	must("bind", bind(fd, SA(*a)));
	*a = name(fd);
	return fd;
}

static int listener(struct sockaddr_in *a)
{
	int fd = bound(SOCK_STREAM, a);
	must("listen", listen(fd, 5));
	return fd;
}

/* closed is an address where nobody listens. */
static struct sockaddr_in closed(void)
{
	struct sockaddr_in a;
	int fd = listener(&a);
	close(fd);
	return a;
}

/* streams are the two ends of a connection; fd[0] has connected. */
static void streams(int fd[2])
{
	struct sockaddr_in a;
	int l = listener(&a);
	fd[0] = must("socket", socket(AF_INET, SOCK_STREAM, 0));
	must("connect", connect(fd[0], SA(a)));
	fd[1] = must("accept", accept(l, NULL, NULL));
	close(l);
}

/* reset has fd's peer see a reset. */
static void reset(int fd)
{
	struct linger l = {1, 0};
	must("SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
	close(fd);
}

/* until waits for events of fd, and answers them. */
static int until(int fd, int events)
{
	struct pollfd p = {fd, events, 0};
	must("poll", poll(&p, 1, 5000));
	return p.revents;
}

static void events(const char *what, int e)
{
	printf("%s:%s%s%s%s%s%s\n", what, e & POLLIN ? " IN" : "", e & POLLPRI ? " PRI" : "", e & POLLOUT ? " OUT" : "",
	       e & POLLERR ? " ERR" : "", e & POLLHUP ? " HUP" : "", e & POLLRDHUP ? " RDHUP" : "");
}

/* option is an option's number. */
static int option(int fd, int level, int opt)
{
	int v = -1;
	socklen_t n = sizeof v;
	if (getsockopt(fd, level, opt, &v, &n) < 0)
		return -1;
	return v;
}

/* pending tells SO_ERROR by name. */
static void pending(int fd)
{
	int e = option(fd, SOL_SOCKET, SO_ERROR);
	printf("SO_ERROR: %s\n", e < 0 ? strerrorname_np(errno) : e ? strerrorname_np(e) : "none");
}

static void flags(const char *what, int fd)
{
	printf("%s:%s%s\n", what, fcntl(fd, F_GETFL) & O_NONBLOCK ? " nonblocking" : "", fcntl(fd, F_GETFD) & FD_CLOEXEC ? " cloexec" : "");
}

static void timeout(int fd, int opt, int ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	must("timeout", setsockopt(fd, SOL_SOCKET, opt, &tv, sizeof tv));
}

/* asleep waits until another process waits for something: it is in the call that
 * the dialogue is about. */
static void asleep(int pid)
{
	char path[32], b[512] = "";
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	for (;;) {
		int fd = must("its state", open(path, O_RDONLY));
		b[read(fd, b, sizeof b - 1)] = 0;
		close(fd);
		char *p = strrchr(b, ')');
		if (p && p[2] == 'S')
			return;
		sched_yield();
	}
}

/* child runs f and tells its status. */
static void child(const char *what, void (*f)(int), int arg)
{
	fflush(stdout);
	int status, p = must("fork", fork());
	if (p == 0) {
		f(arg);
		fflush(stdout);
		_exit(0);
	}
	must("waitpid", waitpid(p, &status, 0));
	printf("%s: %s %d\n", what, WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

struct test {
	const char *name;
	void (*run)(void);
};

/* perform runs the test of that name; a test that hangs dies of SIGALRM. */
static int perform(const struct test *t, int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (; argc > 1 && t->name; t++)
		if (strcmp(t->name, argv[1]) == 0) {
			t->run();
			return 0;
		}
	printf("%s: no such test\n", argc > 1 ? argv[1] : "");
	return 2;
}
