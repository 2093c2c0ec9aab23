package callout

import (
	"testing"

	"pgregory.net/rapid"
)

// The wheel against a plain list: what fires, when, and in which order of time.
func TestWheelAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := rapid.Int64Range(0, 1<<50).Draw(t, "start")
		var w Wheel[*int64]
		earliest := int64(-1)
		w.Init(now, func(at int64) { earliest = at })
		const n = 12
		var timers [n]Timer[*int64]
		due := map[int]int64{} // armed timers, in ticks
		tick := now / Tick
		for i := range timers {
			timers[i].Fn = func(at *int64) {
				if _, ok := due[i]; !ok {
					t.Fatalf("timer %d fired without being armed", i)
				}
				if due[i]*Tick > *at {
					t.Fatalf("timer %d of tick %d fired too early, at %d", i, due[i], *at/Tick)
				}
				for j, d := range due {
					if d < due[i] {
						t.Fatalf("timer %d of tick %d fired before %d of %d", i, due[i], j, d)
					}
				}
				delete(due, i)
			}
		}
		span := rapid.OneOf(rapid.Int64Range(-Tick, 70*Tick), rapid.Int64Range(0, 5000*Tick), rapid.Int64Range(0, 1<<48))
		t.Repeat(map[string]func(*rapid.T){
			"reset": func(t *rapid.T) {
				i, at := rapid.IntRange(0, n-1).Draw(t, "timer"), now+span.Draw(t, "after")
				first := true
				for j, d := range due {
					first = first && (j == i || d > (at+Tick-1)/Tick)
				}
				earliest = -1
				w.Reset(&timers[i], at)
				due[i] = max((at+Tick-1)/Tick, tick+1)
				if first && len(due) == 1 && earliest < 0 {
					t.Fatalf("nobody was told of the first timer")
				}
			},
			"stop": func(t *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(t, "timer")
				_, armed := due[i]
				if got := w.Stop(&timers[i]); got != armed {
					t.Fatalf("stopping %d answers %v, want %v", i, got, armed)
				}
				delete(due, i)
			},
			"advance": func(t *rapid.T) {
				now += rapid.OneOf(rapid.Int64Range(0, 70*Tick), rapid.Int64Range(0, 1<<40)).Draw(t, "by")
				w.Advance(now, &now)
				tick = max(tick, now/Tick)
				for i, d := range due {
					if d <= now/Tick {
						t.Fatalf("timer %d of tick %d has not fired at %d", i, d, now/Tick)
					}
				}
			},
			"": func(t *rapid.T) {
				if w.Armed() != len(due) {
					t.Fatalf("%d armed, want %d", w.Armed(), len(due))
				}
				at, ok := w.Next()
				if ok != (len(due) > 0) {
					t.Fatalf("Next answers %v with %d armed", ok, len(due))
				}
				for i, d := range due {
					if at > d*Tick {
						t.Fatalf("Next is tick %d, timer %d is due at %d", at/Tick, i, d)
					}
				}
				if ok && at <= tick*Tick {
					t.Fatalf("Next is tick %d, and it is %d", at/Tick, tick)
				}
			},
		})
	})
}

// A timer may arm itself and others while it runs: at once means at the next
// tick.
func TestArmingInsideATimer(t *testing.T) {
	var w Wheel[int]
	w.Init(0, nil)
	var a, b Timer[int]
	left, ran := 5, 0
	a.Fn = func(int) {
		if left--; left > 0 {
			w.Reset(&a, 0)
		}
		w.Reset(&b, 0)
	}
	b.Fn = func(int) { ran++ }
	w.Reset(&a, 1)
	w.Advance(3*Tick, 0)
	if left != 2 || ran != 0 { // the other is moved on before it runs
		t.Errorf("after three ticks %d are left and the other ran %d times", left, ran)
	}
	w.Advance(100*Tick, 0)
	if left != 0 || ran != 1 || w.Armed() != 0 {
		t.Errorf("%d left, %d armed, the other ran %d times", left, w.Armed(), ran)
	}
}
