package packet

import (
	"reflect"
	"testing"
)

// The literal names no fields, so a new one does not compile here before
// somebody has thought of reset.
func TestResetForgetsEverything(t *testing.T) {
	p := NewPool(1 << 20)
	store := make([]byte, classSize[0])
	got := &Buf{store, 1, 2, &Buf{}, 3, 4, 5, 6, 7, 8, 9, GSOUDPv4, CsumPartial, 10, 11, 0, true, p, Flow{}, "through", nil, 0} // Came is nothing without FlagCame
	got.reset()
	fresh := p.fresh(0)
	fresh.store = store
	if !reflect.DeepEqual(got, fresh) {
		t.Errorf("after reset\n%+v, want\n%+v", got, fresh)
	}
}
