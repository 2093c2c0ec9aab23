package stackd

import (
	"strings"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
)

// mountFrame serves TypeMount: a driver becomes an interface, or a module of the stack is loaded.
func (c *conn) mountFrame(p []byte) ([]byte, error) {
	q, err := protocol.ParseMountRequest(p)
	if err != nil {
		return nil, err
	}
	if err := c.privileged("mount"); err != nil {
		return nil, err
	}
	if c.s.static {
		return nil, errf(unix.EPERM, "this io-net was started with -s: nothing is mounted or unmounted")
	}
	ifname, notices, err := c.s.mount(q)
	if err != nil {
		return nil, err
	}
	c.s.journal.mount(q, ifname)
	return protocol.AppendString(nil, strings.Join(append([]string{ifname}, notices...), "\n")), nil
}

// mountTypes are the names of our kind of file system: io-net, and io-netN
// of the instance N.
func (s *server) mountType(typ string) bool {
	name := s.paths.entryDir()
	return typ == "" || typ == "io-net" || typ == name[strings.LastIndexByte(name, '/')+1:]
}

func (s *server) mount(q protocol.MountRequest) (ifname string, notices []string, err error) {
	switch {
	case q.Type == "tcpip":
		return filterEntry, nil, s.mountFilter(q)
	case !s.mountType(q.Type):
		return "", nil, errf(unix.EINVAL, "mount type %q is not served here; io-net is", q.Type)
	case isProtocol(q.Module):
		return "", nil, errf(unix.EBUSY, "%s: the protocol is there already, and there is one", q.Module)
	}
	ifname, notices, err = s.eng.mount(q.Module, q.Options)
	if err != nil {
		s.log.Error("mount failed", "module", q.Module, "options", q.Options, "err", err)
		return "", nil, err
	}
	s.log.Info("mounted", "module", q.Module, "options", q.Options, "interface", ifname)
	for _, n := range notices {
		s.log.Warn(n)
	}
	return ifname, notices, nil
}

// umountFrame serves TypeUmount.
func (c *conn) umountFrame(p []byte) error {
	path, err := protocol.ParseString(p)
	if err != nil {
		return err
	}
	if err := c.privileged("umount"); err != nil {
		return err
	}
	if c.s.static {
		return errf(unix.EPERM, "this io-net was started with -s: nothing is mounted or unmounted")
	}
	ifname, err := c.s.umountName(path)
	if err != nil {
		return err
	}
	if err := c.s.umount(ifname); err != nil {
		return err
	}
	c.s.journal.umount(ifname)
	return nil
}

// umount takes away an interface with its driver, or the packet filter.
func (s *server) umount(name string) error {
	if name == filterEntry {
		return s.umountFilter()
	}
	if err := s.eng.umount(name); err != nil {
		return err
	}
	s.log.Info("unmounted", "interface", name)
	return nil
}

// umountName is the interface that a path means, or the packet filter:
// /dev/io-net/en0 below the prefix or not, or its bare name.
func (s *server) umountName(path string) (string, error) {
	dir, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	full := s.paths.entryDir()
	if dir != "" && dir != full && dir != strings.TrimPrefix(full, s.paths.prefix) {
		return "", errf(unix.ENOENT, "%s is not of this io-net, whose entries are in %s", path, full)
	}
	switch {
	case name == "ip_en" || strings.HasPrefix(name, "tcpip"):
		return "", errf(unix.EBUSY, "the tcpip protocol cannot be unmounted; io-net --stop ends the stack")
	case name != filterEntry && s.eng.Engine().Env.Ifs.ByName(name) == nil:
		return "", errf(unix.ENOENT, "no interface %s", name)
	}
	return name, nil
}

// arpEntry is what the entry ip_en is restricted to instead of an interface.
const arpEntry = "ip_en"

// entry makes or removes an interface's entry in dev/io-net.
func (s *server) entry(ifname string, there bool) {
	path := s.paths.entry(ifname)
	if !there {
		s.unlisten(path)
		return
	}
	if ifp := s.eng.Engine().Env.Ifs.ByName(ifname); ifp == nil || ifp.Type != netif.TypeEther {
		return
	}
	if err := s.listen(path, protocol.AFInet, ifname); err != nil {
		s.log.Error("no entry for the interface", "interface", ifname, "err", err)
	}
}
