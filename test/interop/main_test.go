// Package interop runs the built commands, against each other and against
// programs that others wrote.
package interop

import (
	"testing"

	"ionet/test/need"
)

func TestMain(m *testing.M) { need.Main(m) }
