package sim

// Crash ends the node's stack as the loss of its power would: nobody is told,
// and frames on their way to it are lost. Its sockets have no upcalls any more.
// It answers what the stack had not accounted for.
func (nd *Node) Crash() error {
	nd.off = true
	for _, s := range nd.socks {
		s.SetUpcall(nil)
		s.Abort()
	}
	nd.socks = nil
	for _, p := range nd.ports {
		if err := nd.RemoveInterface(p.If); err != nil {
			return err
		}
	}
	nd.Stack.Close()
	end := nd.net.now + int64(calm)
	for at, ok := nd.Next(); ok && at < end; at, ok = nd.Next() {
		nd.Advance(at)
	}
	return nd.books()
}

// Boot brings a crashed node up again with the same interfaces and addresses,
// and no memory of anything else.
func (nd *Node) Boot() {
	nd.off = false
	nd.chance += 1 << 32
	nd.start()
	for _, p := range nd.ports {
		p.plug()
	}
}
