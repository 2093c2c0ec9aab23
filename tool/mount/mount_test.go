package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	wire "ionet/protocol"
	"ionet/tool/cli/golden"
)

type fake struct{ asked []string }

func (f *fake) Mount(typ, options, module string) (string, error) {
	f.asked = append(f.asked, strings.Join([]string{typ, options, module}, "|"))
	switch module {
	case "devn-none.so":
		return "", &wire.Error{Errno: syscall.ENOENT, Text: "no driver \"none\": wire, tap, packet and qemu are known"}
	case "nfm-nothing.so":
		return "", &wire.Error{Errno: syscall.ENOSYS}
	}
	return "en1: wire on segment 1", nil
}

func (f *fake) Umount(path string) error {
	f.asked = append(f.asked, path)
	if strings.HasSuffix(path, "en9") {
		return &wire.Error{Errno: syscall.ENXIO}
	}
	return nil
}

func TestOutput(t *testing.T) {
	var all strings.Builder
	for _, line := range []string{
		"mount -T io-net -o verbose devn-wire.so", "mount -v -Tio-net -overbose,lan=1 /lib/dll/devn-wire.so /", "mount devn-wire.so",
		"mount -T io-net devn-wire.so -o lan=1 -o verbose", "mount -T io-net1 devn-none.so", "mount -T io-net nfm-nothing.so", "mount -Ttcpip lsm-ipfilter.so",
		"mount -T io-net", "mount -T io-net a b", "mount -T io-net -x devn-wire.so", "mount", "mount -t tmpfs none /mnt", "mount -o bind,ro /a /b", "mount -o loop --bind x y", "mount -t",
		"umount /dev/io-net/en0", "umount -v /alt/dev/io-net1/en0 /dev/io-net/en9", "umount -f /dev/socket", "umount /alt/dev/socket/2", "umount /dev/io-net/ip_en",
		"umount npm-tcpip-v6.so", "umount ipfilter0", "umount /mnt/ipfilter0", "umount /mnt", "umount -l /mnt", "umount /mnt /dev/io-net/en0", "umount -l /dev/io-net/en0", "umount -a", "umount",
	} {
		f := &fake{}
		fmt.Fprintf(&all, "$ %s\n", line)
		words := strings.Fields(line)
		status, system := 1, false
		var err error
		if words[0] == "mount" {
			var r *request
			if r, err = parseMount(words[1:]); r != nil {
				status = mountOn(f, r, &all, &all)
			}
			system = r == nil && err == nil
		} else {
			var u *unmount
			if u, err = parseUmount(words[1:]); u != nil {
				status = umountOn(f, u, &all, &all)
			}
			system = u == nil && err == nil
		}
		if err != nil {
			fmt.Fprintf(&all, "usage: %v\n", err)
		}
		if system {
			all.WriteString("(the system's)\n")
			continue
		}
		for _, a := range f.asked {
			fmt.Fprintf(&all, "asked: %s\n", a)
		}
		fmt.Fprintf(&all, "exit %d\n", status)
	}
	golden.Check(t, "mount", all.String())
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"ours", "linked", "system", "folder/mount", "plain"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("ours/ionet", 0o755)
	write("ours/mount", 0o755) // a copy beside it
	write("system/mount", 0o755)
	write("plain/mount", 0o644)
	if err := os.Symlink("../ours/ionet", filepath.Join(dir, "linked/mount")); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"PATH": strings.Join([]string{".", "", dir + "/ours", dir + "/linked", dir + "/folder", dir + "/plain", dir + "/system"}, ":")}
	f := finder{func(k string) string { return env[k] }, dir + "/ours/ionet", os.Stat}
	if p, err := f.find("mount"); p != dir+"/system/mount" || err != nil {
		t.Errorf("found %q, %v", p, err)
	}
	if p, err := f.find("a-command-nobody-has"); err == nil {
		t.Errorf("found %q", p)
	}
	env[handedOver] = "1"
	if p, err := f.find("mount"); err == nil || !strings.Contains(err.Error(), "leads back") {
		t.Errorf("a circle: %q, %v", p, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-T io-net -o a,b devn-x.so")
	f.Add("-fv /dev/io-net/en0 /dev/socket")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		if r, err := parseMount(args); err == nil && r != nil && (r.module == "" || !ours(r.typ)) {
			t.Errorf("%q became %+v", line, r)
		}
		if u, err := parseUmount(args); err == nil && u != nil {
			for _, p := range u.paths {
				if kind(p) == foreign {
					t.Errorf("%q unmounts %q", line, p)
				}
			}
		}
	})
}
