// Package vm runs stock Linux kernels under QEMU's software emulation, as peers of
// tests: what the kernel of the test machine was built without is in Debian's. A
// machine has the host's files, which it reads and whose changes it keeps to
// itself, and hence every program that is installed.
package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ionet/test/need"
	"ionet/test/play"
	"ionet/test/vm/wire"
)

// Tool is a program in the machine:
//
//	Tool encap PORT    takes ESP out of UDP at a port; says "encap: ready"
//	Tool echo PORT     sends back what comes by TCP and UDP at a port; says "echo: ready"
//	Tool pfkey         prints what PF_KEY's SADB_REGISTER says of algorithms
const Tool = wire.Tool

// Kernel is a machine that is up.
type Kernel struct {
	T   testing.TB
	Dir string        // of the machine's own, the same on both sides
	Up  time.Duration // how long it took to come up

	image   *image
	cmd     *exec.Cmd
	conn    net.Conn
	ended   chan struct{} // QEMU has ended
	up      chan struct{} // the machine has said something
	console string        // the file

	mu   sync.Mutex
	last int
	jobs map[int]*Job
	dead error // why nothing more comes from the machine
}

// bootTime is how long a machine may take to come up: it needs a few seconds of a processor, and
// on a busy machine waits for them.
const bootTime = 3 * time.Minute

// NewKernel boots a machine. It ends with the test, and nothing of it stays.
func NewKernel(t testing.TB, nics ...Nic) *Kernel {
	t.Helper()
	k := Boot(t, nics...)
	k.Ready()
	return k
}

// Boot begins to boot a machine, on which Ready must be called.
func Boot(t testing.TB, nics ...Nic) *Kernel {
	t.Helper()
	need.Root(t) // the machine reads what the superuser reads
	qemu := need.Command(t, "qemu-system-x86_64", "qemu-system-x86")
	k := &Kernel{T: t, Dir: play.ShortDir(t), image: theImage(t), ended: make(chan struct{}), up: make(chan struct{}), jobs: map[int]*Job{}}
	k.console = filepath.Join(k.Dir, "console")
	initrd, port := filepath.Join(k.Dir, "initrd"), filepath.Join(k.Dir, "port")
	if err := os.WriteFile(initrd, k.image.initrd, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", port)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	args := []string{"-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max", "-m", "384", "-nodefaults", "-no-user-config",
		"-display", "none", "-no-reboot", "-name", filepath.Base(k.Dir),
		"-kernel", k.image.kernel, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off",
		"-serial", "file:" + k.console,
		"-chardev", "socket,id=port,path=" + port, "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port,name=" + wire.Port,
		"-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"}
	k.cmd = exec.Command(qemu)
	for i, n := range nics {
		if n.err != nil {
			t.Fatal(n.err)
		}
		netdev := n.netdev
		if n.file != nil {
			defer n.file.Close()
			netdev = fmt.Sprintf(netdev, 3+len(k.cmd.ExtraFiles))
			k.cmd.ExtraFiles = append(k.cmd.ExtraFiles, n.file)
		}
		args = append(args, "-netdev", fmt.Sprintf("%s,id=n%d", netdev, i),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=n%d,romfile=,mac=52:54:00:%02x:%02x:%02x", i, os.Getpid()&0xff, serial()&0xff, i))
	}
	k.cmd.Args = append(k.cmd.Args, args...)
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaints bytes.Buffer
	k.cmd.Stderr = &complaints
	begin := time.Now()
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = k.cmd.Wait()
		close(k.ended)
		l.Close()
	}()
	t.Cleanup(func() {
		k.stop()
		if t.Failed() {
			b, _ := os.ReadFile(k.console)
			t.Logf("QEMU says:\n%sthe console of %s:\n%s", complaints.String(), filepath.Base(k.Dir), b)
		}
	})
	if err := l.(*net.UnixListener).SetDeadline(begin.Add(bootTime)); err != nil {
		t.Fatal(err)
	}
	if k.conn, err = l.Accept(); err != nil {
		t.Fatalf("QEMU does not come to its port: %v", err)
	}
	go k.listen(begin)
	return k
}

var machines atomic.Int64

// serial tells the machines of a test process apart.
func serial() int64 { return machines.Add(1) }

// Ready waits until the machine is up.
func (k *Kernel) Ready() {
	k.T.Helper()
	select {
	case <-k.up:
	case <-k.ended:
		k.T.Fatal("the machine ended instead of coming up")
	case <-time.After(bootTime):
		k.T.Fatalf("the machine is not up after %v", bootTime)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead != nil {
		k.T.Fatal(k.dead)
	}
}

// Pid is QEMU's process.
func (k *Kernel) Pid() int { return k.cmd.Process.Pid }

// Stop ends the machine before the test does.
func (k *Kernel) Stop() {
	k.T.Helper()
	k.stop()
}

// stop ends QEMU; there is nothing in the machine that could be lost.
func (k *Kernel) stop() {
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-k.ended:
	case <-time.After(5 * time.Second):
		_ = k.cmd.Process.Kill()
		<-k.ended
	}
	if k.conn != nil {
		_ = k.conn.Close()
	}
}

// listen hands out what the machine says, until it says no more.
func (k *Kernel) listen(begin time.Time) {
	var err error
	for in, first := json.NewDecoder(k.conn), true; ; first = false {
		var r wire.Reply
		if err = in.Decode(&r); err != nil {
			break
		}
		if first {
			k.Up = time.Since(begin)
			close(k.up)
		}
		k.mu.Lock()
		j := k.jobs[r.ID]
		if r.End != nil {
			delete(k.jobs, r.ID)
		}
		k.mu.Unlock()
		if j != nil {
			j.hear(r)
		}
	}
	k.mu.Lock()
	k.dead = fmt.Errorf("nothing comes from the machine any more: %w", err)
	jobs := k.jobs
	k.jobs = map[int]*Job{}
	k.mu.Unlock()
	for _, j := range jobs {
		j.hear(wire.Reply{End: &wire.End{Error: k.dead.Error()}})
	}
}

// ask sends a request; what is said about it comes to the job that is answered.
func (k *Kernel) ask(r wire.Request, line []string) *Job {
	k.T.Helper()
	j := &Job{k: k, line: line, moved: make(chan struct{}, 1), ended: make(chan struct{})}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead != nil {
		k.T.Fatalf("%q: %v", line, k.dead)
	}
	k.last++
	j.id, r.ID = k.last, k.last
	k.jobs[j.id] = j
	if err := k.send(r); err != nil {
		k.T.Fatalf("%q: %v", line, err)
	}
	return j
}

// send is called under the lock.
func (k *Kernel) send(r wire.Request) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := k.conn.SetWriteDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	_, err = k.conn.Write(append(b, '\n'))
	return err
}

// Load loads modules, and before them what they need.
func (k *Kernel) Load(modules ...string) {
	k.T.Helper()
	files, err := k.image.depends(modules...)
	if err != nil {
		k.T.Fatal(err)
	}
	j := k.ask(wire.Request{Load: files}, append([]string{"load"}, modules...))
	if r, err := j.result(time.Minute); err != nil || r.Status != 0 {
		k.T.Fatalf("modules %q: %v", modules, err)
	}
}

// Run runs a command for at most a minute. Its status is that of a shell: 128 and the
// number of the signal that killed it.
func (k *Kernel) Run(name string, args ...string) play.Result {
	k.T.Helper()
	return k.RunWith(nil, time.Minute, name, args...)
}

// RunWith is Run with a standard input and a limit of time.
func (k *Kernel) RunWith(input []byte, limit time.Duration, name string, args ...string) play.Result {
	k.T.Helper()
	line := append([]string{name}, args...)
	j := k.ask(wire.Request{Start: &wire.Start{Argv: line, Input: input, Limit: limit}}, line)
	r, err := j.result(limit + 30*time.Second)
	if err != nil {
		k.T.Fatalf("in the machine: %q: %v\n%s%s", line, err, r.Out, r.Err)
	}
	return r
}

// Must is Run for what has to succeed, and answers its standard output.
func (k *Kernel) Must(name string, args ...string) string {
	k.T.Helper()
	r := k.Run(name, args...)
	if r.Status != 0 {
		k.T.Fatalf("in the machine: %s %q: status %d\n%s%s", name, args, r.Status, r.Out, r.Err)
	}
	return r.Out
}

// Begin starts a command that goes on until it is stopped, or the machine.
func (k *Kernel) Begin(name string, args ...string) *Job {
	k.T.Helper()
	line := append([]string{name}, args...)
	return k.ask(wire.Request{Start: &wire.Start{Argv: line}}, line)
}

// Processor is how much time of processors QEMU has had.
func (k *Kernel) Processor() time.Duration {
	k.T.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", k.Pid()))
	if err != nil {
		k.T.Fatal(err)
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // from the third on, proc(5)
	var ticks time.Duration
	for _, n := range f[11:13] {
		v, err := strconv.Atoi(string(n))
		if err != nil {
			k.T.Fatal(err)
		}
		ticks += time.Duration(v)
	}
	return ticks * (time.Second / 100)
}
