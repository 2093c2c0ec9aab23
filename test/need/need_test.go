package need

import (
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestNamespaceIsGoneAfterwards(t *testing.T) {
	var name string
	t.Run("inside", func(t *testing.T) {
		ns := Namespace(t)
		name = ns.Name
		if out := ns.Exec("ip", "-o", "link"); strings.Count(out, "\n") != 1 || !strings.Contains(out, "LOOPBACK,UP") {
			t.Errorf("links inside: %s", out)
		}
		if _, err := ns.Try("false"); err == nil {
			t.Error("false succeeded")
		}
	})
	if name == "" {
		return // the part inside has said what is missing
	}
	out, err := exec.Command("ip", "netns", "list").CombinedOutput()
	if err != nil || strings.Contains(string(out), name) {
		t.Errorf("%s is still there: %v %s", name, err, out)
	}
}
