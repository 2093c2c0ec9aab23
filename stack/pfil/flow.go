package pfil

import "ionet/stack/packet"

// Flow names the packets of one direction of a conversation as they come in.
type Flow = packet.Flow
