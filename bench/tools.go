package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// toolRuns is how often each command runs; they take turns.
const toolRuns = 40

// tool is a built command: its own binary, or that of ionet by its name.
func tool(name string, args ...string) *exec.Cmd {
	path := filepath.Join(*tools, name)
	if _, err := os.Stat(path); err != nil {
		path, args = filepath.Join(*tools, "ionet"), append([]string{name}, args...)
	}
	return exec.Command(path, args...)
}

// toolsMeasure runs the built commands against a daemon of its own.
func toolsMeasure() error {
	var of [2]tableRates
	for i, v := range versions {
		if err := toolsWith(v, func(d *daemon, dir string) (err error) {
			if v == v4 {
				if err := toolTimes(d, dir); err != nil {
					return err
				}
			}
			of[i], err = routesMeasure(d, dir, v)
			return err
		}); err != nil {
			return err
		}
	}
	fmt.Printf("  IPv6: adding%s\n        netstat -rn%s\n        live heap%s\n",
		ofIPv4(of[1].add/of[0].add), ofIPv4(of[1].dump/of[0].dump), ofIPv4(of[0].octets/of[1].octets))
	return nil
}

// toolsWith calls f with a daemon and a directory for this.
func toolsWith(v *version, f func(d *daemon, dir string) error) error {
	dir, err := os.MkdirTemp("", "ionet-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	first, last := processors()
	d, err := startDaemon(dir, "p", placement{cpus: []int{first, last}}, true, "-dwire", "path="+filepath.Join(dir, "wire"))
	if err != nil {
		return err
	}
	defer d.stop()
	if err := d.give(0); err != nil {
		return err
	}
	return f(d, dir)
}

// toolTimes prints processor time, user and system, of whole runs.
func toolTimes(d *daemon, dir string) error {
	hello, err := buildHello(dir)
	if err != nil {
		return err
	}
	commands := []struct {
		name string
		held bool
		make func() *exec.Cmd
	}{
		{"bare Go program", false, func() *exec.Cmd { return exec.Command(hello) }},
		{"ifconfig -a", true, func() *exec.Cmd { return d.tool("ifconfig", "-a") }},
		{"netstat -rn", true, func() *exec.Cmd { return d.tool("netstat", "-rn") }},
		{"  of IPv4 alone", false, func() *exec.Cmd { return d.tool("netstat", "-rn", "-f", "inet") }},
		{"  of IPv6 alone", false, func() *exec.Cmd { return d.tool("netstat", "-rn", "-f", "inet6") }},
		{"ip addr (kernel)", false, func() *exec.Cmd { return exec.Command("ip", "addr") }},
		{"ip route (kernel)", false, func() *exec.Cmd { return exec.Command("ip", "route") }},
	}
	cpu, wall := make(samples, len(commands)), make(samples, len(commands))
	for range toolRuns {
		for i, c := range commands {
			cmd := c.make()
			start := time.Now()
			out, err := cmd.CombinedOutput()
			if errors.Is(err, exec.ErrNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w: %s", c.name, err, out)
			}
			wall[i] = append(wall[i], time.Since(start).Seconds()*1e3)
			cpu[i] = append(cpu[i], (cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()).Seconds()*1e3)
		}
	}
	for i, c := range commands {
		if len(cpu[i]) == 0 {
			fmt.Printf("  %-18s not installed\n", c.name)
			continue
		}
		l := fmt.Sprintf("  %-18s %5.1f ms of processor, %5.1f ms of time; p99 %5.1f ms of processor",
			c.name, cpu.median(i), wall.median(i), percentile(cpu[i], 0.99))
		if c.held {
			l += fmt.Sprintf("  (%s)", verdict(cpu.median(i) < 10, "under 10 ms of processor"))
		}
		fmt.Println(l)
	}
	return nil
}

// buildHello is the least a static Go program can be.
func buildHello(dir string) (string, error) {
	src, bin := filepath.Join(dir, "hello.go"), filepath.Join(dir, "hello")
	const text = "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"hello, world\\n\") }\n"
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", bin, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return bin, nil
}

// lines counts the lines written to it.
type lines int

func (l *lines) Write(b []byte) (int, error) {
	for _, c := range b {
		if c == '\n' {
			*l++
		}
	}
	return len(b), nil
}

// throughPipe runs cmd with its output in a pipe, and answers the lines and
// the time from start to finish.
func throughPipe(cmd *exec.Cmd) (n int, took time.Duration, err error) {
	var l lines
	cmd.Stdout = &l
	cmd.Stderr = io.Discard
	start := time.Now()
	err = cmd.Run()
	return int(l), time.Since(start), err
}
