package door

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"ionet/protocol"
)

// ErrNoStack is in the error of [Find] when no stack lives anywhere.
var ErrNoStack = errors.New("no stack is running: start one with io-net -ptcpip, or set SOCK")

// UserDir is the user's own folder, made when it is not there:
// $XDG_RUNTIME_DIR/ionet, else ionet-UID in the temporary folder. It has mode
// 0700 and belongs to the user; what stands in its place and does not is
// refused, since anybody may write in a temporary folder.
func UserDir() (string, error) {
	dir := userDirName()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return dir, checkOwn(dir)
}

func userDirName() string {
	if x := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(x) {
		return filepath.Join(x, "ionet")
	}
	return filepath.Join(os.TempDir(), "ionet-"+strconv.Itoa(os.Getuid()))
}

func checkOwn(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case !ok || int(st.Uid) != os.Getuid():
		return fmt.Errorf("%s belongs to somebody else", dir)
	case fi.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to others (mode %04o, not 0700)", dir, fi.Mode().Perm())
	}
	return nil
}

// Find answers the prefix of the stack to talk to: explicit (--sock), else
// $SOCK, else the user's own live stack, else "" when one lives at
// /dev/socket. The first two are not asked whether they live.
func Find(explicit string) (string, error) {
	if explicit != "" {
		return explicit, nil
	}
	if s := os.Getenv("SOCK"); s != "" {
		return s, nil
	}
	dir := userDirName()
	own := checkOwn(dir)
	if own == nil && Alive(dir) {
		return dir, nil
	}
	if Alive("") {
		return "", nil
	}
	if own != nil && !errors.Is(own, fs.ErrNotExist) {
		return "", fmt.Errorf("%w (%w)", ErrNoStack, own)
	}
	return "", ErrNoStack
}

// DefaultPrefix is where io-net without prefix= makes its files: $SOCK, else
// the user's own folder.
func DefaultPrefix() (string, error) {
	if s := os.Getenv("SOCK"); s != "" {
		return s, nil
	}
	return UserDir()
}

// Alive says whether somebody listens on the door of AF_INET below prefix.
func Alive(prefix string) bool {
	c, err := Dial(Socket(prefix, protocol.AFInet))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
