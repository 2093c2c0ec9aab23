package packet

import (
	"testing"

	"ionet/stack/stacktest/captures"
)

// captured is what captured frames carry, layer by layer.
func captured(testing.TB) (out [][]byte) {
	for _, f := range captures.Frames() {
		for _, n := range []int{0, EtherLen, EtherLen + IPv4Len} {
			if len(f) > n {
				out = append(out, f[n:])
			}
		}
	}
	return out
}
