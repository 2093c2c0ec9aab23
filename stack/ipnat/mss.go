package ipnat

import (
	"encoding/binary"

	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// clampMSS lowers the maximum segment size that a SYN offers.
func clampMSS(i *pfil.Info, limit int) {
	h, ok := packet.CheckTCP(i.Transport())
	if !ok {
		return
	}
	for o := h.Options(); len(o) > 0; {
		switch {
		case o[0] == 0:
			return
		case o[0] == 1:
			o = o[1:]
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return
		}
		if o[0] == 2 && o[1] == 4 {
			f := o[2:4]
			old := binary.BigEndian.Uint16(f)
			if int(old) <= limit {
				return
			}
			at := h.HeaderLen() - len(o) + 2
			new := uint16(limit)
			binary.BigEndian.PutUint16(f, new)
			if i.Pkt.Csum != packet.CsumPartial {
				if at%2 != 0 { // the field lies across two words of the sum
					old, new = old<<8|old>>8, new<<8|new>>8
				}
				update(h[16:], old, new)
			}
			return
		}
		o = o[o[1]:]
	}
}
