package onstack

import (
	"testing"

	"ionet/test/play"
)

// TestMulticastRoutingDaemon: a program that is a routing daemon in Linux's words is the stack's: of both versions of IP it
// makes a virtual interface, is asked about a packet, and answers.
func TestMulticastRoutingDaemon(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	out := d.a.runs(python(t), "-c", `
import socket as s, struct
en0 = s.if_nametoindex("en0")
def refused(f, *a):
    try:
        f(*a)
    except OSError as e:
        return e.errno
r = s.socket(s.AF_INET, s.SOCK_RAW, s.IPPROTO_IGMP)
assert refused(r.setsockopt, 0, 207, 1) == 13
r.setsockopt(0, 200, 1)
assert r.getsockopt(0, 206) == 0x305
r.setsockopt(0, 202, struct.pack("=HBBI4sI", 0, 0, 1, 0, s.inet_aton("10.0.0.1"), 0))
r.setsockopt(0, 202, struct.pack("=HBBIiI", 5, 8, 1, 0, en0, 0))
r.setsockopt(0, 203, struct.pack("=HBBIiI", 5, 8, 1, 0, en0, 0))
u = s.socket(s.AF_INET, s.SOCK_DGRAM)
u.bind(("10.0.0.1", 0))
u.setsockopt(0, s.IP_MULTICAST_TTL, 5)
u.sendto(b"hello", ("239.1.2.3", 9))
m = r.recv(100)
while m[9]:
    m = r.recv(100)
assert len(m) == 20 and m[8] == 1, m
r.setsockopt(0, 204, struct.pack("=4s4sH32s2x16x", m[12:16], m[16:20], m[10], bytes([0, 0, 1])))
print(s.inet_ntoa(m[12:16]), s.inet_ntoa(m[16:20]), flush=True)

r6 = s.socket(s.AF_INET6, s.SOCK_RAW, s.IPPROTO_ICMPV6)
r6.setsockopt(41, 200, 1)
r6.setsockopt(41, 202, struct.pack("=HBBH2xI", 3, 0, 1, en0, 0))
u = s.socket(s.AF_INET6, s.SOCK_DGRAM)
u.bind(("fd00::1", 0))
u.setsockopt(41, s.IPV6_MULTICAST_HOPS, 5)
u.sendto(b"hello", ("ff0e::5", 9))
m = r6.recv(100)
while m[0]:
    m = r6.recv(100)
assert len(m) == 40 and m[1] == 1 and m[2] == 3, m
sin6 = lambda a: struct.pack("=HHI16sI", s.AF_INET6, 0, 0, a, 0)
r6.setsockopt(41, 204, sin6(m[8:24]) + sin6(m[24:40]) + struct.pack("=H2xI28x", 3, 1 << 7))
print(s.inet_ntop(s.AF_INET6, m[8:24]), s.inet_ntop(s.AF_INET6, m[24:40]), flush=True)

import subprocess
print(subprocess.run(["netstat", "-g"], capture_output=True, text=True).stdout)
r.setsockopt(0, 201, 0)
r6.setsockopt(41, 201, 0)
print(subprocess.run(["netstat", "-g"], capture_output=True, text=True).stdout)
`)
	play.WantLines(t, "the daemon", out, "10.0.0.1 239.1.2.3\n", "fd00::1 ff0e::5\n",
		"   0       1      0  10.0.0.1                               1        0\n", "    0  10.0.0.1         239.1.2.3             1        0  2/1\n",
		"   3      0     en0         1          0\n", " fd00::1                       ff0e::5                  1     0    3    7\n",
		"Virtual Interface Table is empty\n", "IPv6 Multicast Interface Table is empty\n")
}
