package onstack

import "golang.org/x/sys/unix"

// opens are the calls that open a file by its name.
var opens = []int{unix.SYS_OPEN, unix.SYS_OPENAT, unix.SYS_OPENAT2}

func isOpenat(nr int32) bool { return nr == unix.SYS_OPENAT || nr == unix.SYS_OPENAT2 }
