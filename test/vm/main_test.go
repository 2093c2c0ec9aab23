package vm_test

import (
	"testing"

	"ionet/test/need"
)

func TestMain(m *testing.M) { need.Main(m) }
