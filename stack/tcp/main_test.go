package tcp_test

import (
	"os"
	"testing"

	rig "ionet/stack/stacktest"
)

// TCP's whole proof, over both versions of IP.
func TestMain(m *testing.M) { os.Exit(rig.Families(m)) }
