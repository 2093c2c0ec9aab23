package door

import (
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"syscall"

	"ionet/protocol"
)

// rootRun is where the superuser's stacks also register, for everybody to see.
const rootRun = "/run/ionet"

// Found is a live stack.
type Found struct {
	PID    int
	UID    int
	Prefix string // "" the root
}

// runDirs are the folders of the register that this user writes to.
func runDirs() ([]string, error) {
	dir, err := UserDir()
	if err != nil {
		return nil, err
	}
	dirs := []string{filepath.Join(dir, "run")}
	if os.Getuid() == 0 && os.Getenv("XDG_RUNTIME_DIR") == "" {
		dirs = append(dirs, rootRun)
	}
	return dirs, nil
}

// Register makes this process known as the stack at prefix: a symbolic link
// run/PID -> prefix. The answer takes it back.
func Register(prefix string) (unregister func(), err error) {
	target := prefix
	if target == "" {
		target = "/"
	}
	if target, err = filepath.Abs(target); err != nil {
		return nil, err
	}
	dirs, err := runDirs()
	if err != nil {
		return nil, err
	}
	var made []string
	for i, dir := range dirs {
		link := filepath.Join(dir, strconv.Itoa(os.Getpid()))
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			_ = os.Remove(link)
			err = os.Symlink(target, link)
		}
		switch {
		case err == nil:
			made = append(made, link)
		case i == 0: // the second is only a courtesy
			return nil, err
		}
	}
	return func() {
		for _, link := range made {
			_ = os.Remove(link)
		}
	}, nil
}

// List answers the live stacks that this user can see, by process id: those
// registered, the one at /dev/socket and that of $SOCK. What is registered and
// dead is removed.
func List() []Found {
	byPID := map[int]Found{}
	seen := func(prefix string) (int, bool) {
		c, err := Dial(Socket(prefix, protocol.AFInet))
		if err != nil {
			return 0, errors.Is(err, syscall.EACCES)
		}
		defer func() { _ = c.Close() }()
		cred, err := Peer(c)
		if err != nil {
			return 0, true
		}
		pid := int(cred.Pid)
		if _, known := byPID[pid]; !known {
			byPID[pid] = Found{PID: pid, UID: int(cred.Uid), Prefix: prefix}
		}
		return pid, true
	}
	dirs := []string{filepath.Join(userDirName(), "run"), rootRun}
	if checkOwn(userDirName()) != nil {
		dirs = dirs[1:]
	}
	if os.Getuid() == 0 {
		others, _ := filepath.Glob("/run/user/*/ionet/run")
		dirs = append(dirs, others...)
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			link := filepath.Join(dir, e.Name())
			prefix, err := os.Readlink(link)
			if err != nil {
				continue
			}
			if prefix == "/" {
				prefix = ""
			}
			if _, alive := seen(prefix); !alive {
				pid, err := strconv.Atoi(e.Name())
				if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
					_ = os.Remove(link)
				}
			}
		}
	}
	seen("")
	if s := os.Getenv("SOCK"); s != "" {
		seen(s)
	}
	out := make([]Found, 0, len(byPID))
	for _, f := range byPID {
		out = append(out, f)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].PID < out[j].PID })
	return out
}
