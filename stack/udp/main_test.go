package udp_test

import (
	"os"
	"testing"

	. "ionet/stack/stacktest"
)

// UDP over both versions of IP, but for what one of them alone has.
func TestMain(m *testing.M) { os.Exit(Families(m)) }
