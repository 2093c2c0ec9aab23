package onstack

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
)

// nginxConf serves the user's folder at port 8080 of an address.
func nginxConf(dir, address string) string {
	return fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/nginx.pid; error_log stderr notice;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
	sendfile on;
	server { listen %[2]s:8080; root %[1]s; }
}
`, dir, boxed(address))
}

// browse gets a large file and many small ones of the server at port 8080.
func (s side) browse(t *testing.T, host string) {
	curl, wget, wrk := need.Command(t, "curl", "curl"), need.Command(t, "wget", "wget"), need.Command(t, "wrk", "wrk")
	server := at(host, 8080)
	s.runs(curl, "-sS", "--max-time", "30", "-o", "by-curl", "http://"+server+"/large")
	s.wantFile("by-curl")
	// Two requests on one connection, and the name that it has been given.
	out := s.runs(curl, "-sS", "--resolve", "web.example:8080:"+host, "-w", "%{num_connects} %{remote_ip}\n",
		"http://web.example:8080/small", "http://web.example:8080/small")
	if out != "small\n1 "+host+"\nsmall\n0 "+host+"\n" {
		t.Errorf("curl says %q", out)
	}
	s.runs(wget, "-q", "-T", "30", "-O", "by-wget", "http://"+server+"/large")
	s.wantFile("by-wget")
	out = s.runs(wrk, "-t", "2", "-c", "20", "-d", "1s", "http://"+server+"/small")
	if m := regexp.MustCompile(`(\d+) requests in`).FindStringSubmatch(out); m == nil || len(m[1]) < 2 ||
		strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
		t.Errorf("wrk:\n%s", out)
	}
}

func (d *desk) nginx(t *testing.T) {
	nginx := need.Command(t, "nginx", "nginx-light")
	d.Write("large", string(large), 0o644)
	d.Write("small", "small\n", 0o644)
	d.b.serves(`start worker process \d+\n(?s:.*)start worker process`, nginx, "-p", d.Dir, "-c", d.Write("nginx.conf", nginxConf(d.Dir, d.there), 0o644))
	d.a.browse(t, d.there)
}

// python is Debian's: what the user's PATH has may be a script of somebody's.
func python(t testing.TB) string {
	const path = "/usr/bin/python3"
	need.File(t, path)
	return path
}

func (d *desk) python(t *testing.T) {
	d.Write("large", string(large), 0o644)
	d.b.serves(`Serving HTTP`, python(t), "-u", "-m", "http.server", "8000", "--bind", d.there)
	out := d.a.runs(python(t), "-c", `
import asyncio, sys, urllib.request
host, url = sys.argv[1:]
whole = urllib.request.urlopen(url).read()
async def get():
    r, w = await asyncio.open_connection(host, 8000)
    assert w.get_extra_info("peername")[:2] == (host, 8000)
    w.write(b"GET /large HTTP/1.0\r\n\r\n")
    await w.drain()
    b = await r.read()
    w.close()
    await w.wait_closed()
    return b.endswith(whole)
async def main():
    print(len(whole), set(await asyncio.gather(*[get() for i in range(10)])))
asyncio.run(main())
`, d.there, "http://"+at(d.there, 8000)+"/large")
	if want := fmt.Sprintf("%d {True}\n", len(large)); out != want {
		t.Errorf("urllib and asyncio say %q, want %q", out, want)
	}
	// A server of asyncio's, streams and datagrams.
	d.b.serves(`ready`, python(t), "-u", "-c", `
import asyncio, sys
async def echo(r, w):
    w.write(await r.read())
    w.close()
class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, t): self.t = t
    def datagram_received(self, data, addr): self.t.sendto(data.upper(), addr)
async def main():
    s = await asyncio.start_server(echo, sys.argv[1], 8002)
    await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, local_addr=(sys.argv[1], 8002))
    print("ready")
    await s.serve_forever()
asyncio.run(main())
`, d.there)
	out = d.a.runs(python(t), "-c", `
import asyncio, socket, sys
host = sys.argv[1]
async def main():
    r, w = await asyncio.open_connection(host, 8002)
    sent = bytes(range(256)) * 10000
    w.write(sent)
    w.write_eof()
    print(await r.read() == sent)
asyncio.run(main())
u = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
u.settimeout(10)
u.sendto(b"hello", (host, 8002))
said, where = u.recvfrom(100)
print(said, where[:2])
`, d.there)
	if want := fmt.Sprintf("True\nb'HELLO' ('%s', 8002)\n", d.there); out != want {
		t.Errorf("asyncio says %q, want %q", out, want)
	}
}

func (d *desk) node(t *testing.T) {
	node := need.Command(t, "node", "nodejs")
	d.b.serves(`ready`, node, "-e", `
require("http").createServer((q, r) => {
	let n = 0
	q.on("data", d => n += d.length)
	q.on("end", () => r.end(n + " from " + q.socket.remoteAddress))
}).listen(8001, process.argv[1], () => console.log("ready"))
`, d.there)
	out := d.a.runs(node, "-e", `
const host = process.argv[1], http = require("http"), agent = new http.Agent({keepAlive: true, maxSockets: 4}), said = new Map()
let left = 40
for (let i = 0; i < 40; i++) {
	const q = http.request({host, port: 8001, method: "POST", agent}, r => {
		let s = ""
		r.on("data", d => s += d)
		r.on("end", () => {
			said.set(s, (said.get(s) || 0) + 1)
			if (--left == 0) { console.log(said); agent.destroy() }
		})
	})
	q.on("error", e => { console.log(e); process.exit(1) })
	q.end("x".repeat(100000))
}
http.get({host, port: 9}).on("error", e => console.log(e.code))
`, d.there)
	if !strings.Contains(out, "ECONNREFUSED\n") || !strings.Contains(out, "Map(1) { '100000 from "+d.here+"' => 40 }\n") {
		t.Errorf("node says %q", out)
	}
}

// golang is a static binary with a scheduler and a poller of its own.
func (d *desk) golang(t *testing.T) {
	binary := filepath.Join(d.Dir, "web")
	if !play.Exists(binary) { // of another family
		cmd := exec.Command("go", "build", "-o", binary, "./testdata/web")
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	d.b.serves(`ready`, binary, "serve", at(d.there, 8003))
	out := d.a.runs(binary, "get", "http://"+at(d.there, 8003)+"/", at(d.there, 9))
	if want := "20 answers of 3145728 octets to " + d.here + "\nrefused: true\n"; out != want {
		t.Errorf("net/http says %q, want %q", out, want)
	}
}
