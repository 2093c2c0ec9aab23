package onstack

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestReplacements(t *testing.T) {
	prefix := t.TempDir()
	if m := replacements(prefix, false); len(m) != 0 {
		t.Error(m)
	}
	if err := os.Mkdir(filepath.Join(prefix, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"resolv.conf", "hosts", "passwd"} {
		if err := os.WriteFile(filepath.Join(prefix, "etc", f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"/etc/resolv.conf": prefix + "/etc/resolv.conf", "/etc/hosts": prefix + "/etc/hosts"}
	if m := replacements(prefix, false); !maps.Equal(m, want) {
		t.Errorf("%v, not %v", m, want)
	}
	// What routers have told stands for a file that the stack has not.
	if m := replacements(prefix, true); !maps.Equal(m, want) {
		t.Errorf("%v, not %v", m, want)
	}
	if m := replacements(t.TempDir(), true); !maps.Equal(m, map[string]string{"/etc/resolv.conf": learnt}) {
		t.Error(m)
	}
	for _, root := range []string{"", "/"} { // the system's own are not replaced by themselves
		if m := replacements(root, false); len(m) != 0 {
			t.Errorf("%q: %v", root, m)
		}
	}
}

func TestLeads(t *testing.T) {
	for name, want := range map[string]bool{
		"/run/nscd/socket":                           true,
		"/var/run/nscd/socket":                       true,
		"/run//nscd/./socket":                        true,
		"/run/x/../nscd/socket":                      true,
		"/run/systemd/resolve/io.systemd.Resolve":    true,
		"/var/run/dbus/system_bus_socket":            true,
		"/run/systemd/userdb/io.systemd.Machine":     true,
		"/run/systemd/userdb/io.systemd.DynamicUser": false,
		"/run/systemd/resolve":                       false,
		"/run/nscd/socket2":                          false,
		"/run/user/1000/bus":                         false,
		"/tmp/.X11-unix/X0":                          false,
		"run/nscd/socket":                            false,
		"":                                           false,
		"/var/run":                                   false,
		"/run/postgresql/.s.PGSQL.5432":              false,
		"/run/systemd/resolve/../journal/dev-log":    false,
		"/run/avahi-daemon/socket":                   true,
		"/run/systemd/machine/io.systemd.Machine":    true,
	} {
		if got := leads(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
