package addrsel

import (
	"context"
	"time"
)

// Delay is how long an attempt is alone before the next begins beside it
// (RFC 8305 §5).
const Delay = 250 * time.Millisecond

// Race makes attempts 0 to n-1 until one succeeds: each begins when the one
// before it has failed, or after [Delay] without an outcome. The first success
// ends the others, whose results, should they have any, are given to drop. When
// all have failed, or ctx has ended, the error is that of the attempt that
// failed first.
func Race[T any](ctx context.Context, n int, try func(ctx context.Context, i int) (T, error), drop func(T)) (T, error) {
	if n == 1 {
		return try(ctx, 0)
	}
	type outcome struct {
		v   T
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch := make(chan outcome, n)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var failure error
	for begun, running := 0, 0; begun < n || running > 0; {
		var next <-chan time.Time
		if begun < n {
			next = timer.C
		}
		select {
		case <-next:
			i := begun
			begun, running = begun+1, running+1
			go func() {
				v, err := try(ctx, i)
				ch <- outcome{v, err}
			}()
			timer.Reset(Delay)
		case o := <-ch:
			running--
			if o.err == nil {
				if running > 0 {
					go func() {
						for range running {
							if late := <-ch; late.err == nil {
								drop(late.v)
							}
						}
					}()
				}
				return o.v, nil
			}
			if failure == nil {
				failure = o.err
			}
			if ctx.Err() != nil {
				begun = n // no others
			}
			timer.Reset(0)
		}
	}
	var none T
	return none, failure
}
