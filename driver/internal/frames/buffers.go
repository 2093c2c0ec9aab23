package frames

import "ionet/stack/packet"

// Buffers fills bufs with buffers for frames of the given sizes, those of one
// storage class under one lock. Where the budget is spent, or no packet is of
// that size, it leaves nil.
func Buffers(pool *packet.Pool, bufs []*packet.Buf, sizes []int) {
	for i := 0; i < len(bufs); {
		room, j := packet.Room(sizes[i]), i+1
		for j < len(bufs) && packet.Room(sizes[j]) == room {
			j++
		}
		clear(bufs[i+pool.GetBurst(bufs[i:j], sizes[i]) : j])
		i = j
	}
}
