package stackd

import "ionet/stack/mib"

// What one user, or one client, may have at most. The superuser's clients and
// sockets are not bounded.
var (
	nodeUserClients  = mib.Int("kern.user.clients", 4096, "Connections of one user to dev/socket at most (ionet's own).", mib.Range(1, 1<<20))
	nodeUserSockets  = mib.Int("kern.user.sockets", 16384, "Sockets and captures of one user at most (ionet's own).", mib.Range(1, 1<<20))
	nodeUserQueue    = mib.Int("kern.user.queue", 64<<20, "Octets of answers that the clients of one user may leave unread (ionet's own).", mib.Range(1<<16, 1<<40))
	nodeClientParked = mib.Int("kern.client.waiting", 32768, "Requests of one client that may wait for data at most (ionet's own).", mib.Range(1, 1<<20))
	nodeClientQueue  = mib.Int("kern.client.queue", 1<<20, "Octets of answers that one client may leave unread (ionet's own).", mib.Range(1<<16, 1<<30))

	cntRefusedClient = mib.NewCounter("clients", "clients refused", "# connection{s} refused: a user had too many")
	cntRefusedSocket = mib.NewCounter("clients", "sockets refused", "# socket{s} refused: a user had too many")
	cntRefusedWait   = mib.NewCounter("clients", "waits refused", "# request{s} refused: a client had too many waiting")
	cntNoDescriptor  = mib.NewCounter("clients", "connections refused", "# connection{s} refused: no descriptor was left")
	cntStalled       = mib.NewCounter("clients", "clients dropped", "# client{s} dropped that did not read")
	cntLostNews      = mib.NewCounter("clients", "messages lost", "# routing message{s} lost by listeners that did not read")
)

// limit is the value of one of the nodes above.
func (s *server) limit(n *mib.Node) int { return int(s.eng.Engine().Env.MIB.Int(n)) }

// refused counts what a limit kept out.
func (s *server) refused(c mib.Counter) { s.eng.Engine().Env.MIB.Add(c, 1) }
