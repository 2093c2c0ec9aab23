package tcp

import (
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

// Row describes a connection, a listener, or what is left of a connection.
type Row struct {
	So             *socket.Socket // nil in TIME_WAIT
	State          string
	RecvQ, SendQ   int
	Local, Foreign socket.Addr
}

// Rows are all of them, in order of their sockets' birth, those in TIME_WAIT
// last.
func (t *TCP) Rows() (out []Row) {
	for _, p := range t.table.All() {
		c := p.So.H.(*conn)
		r := Row{So: p.So, Local: c.local(), Foreign: c.foreign()}
		r.RecvQ, r.SendQ = c.Queued()
		c.mu.Lock()
		if r.State = c.state.String(); c.has(fSynUnacked) {
			r.State = synReceived.String()
		}
		c.mu.Unlock()
		out = append(out, r)
	}
	for _, e := range t.tw.all() {
		out = append(out, Row{State: timeWaitState.String(), Local: e.Local, Foreign: e.Foreign})
	}
	return out
}

// InfoOf describes the connection of a socket in detail; false when it is not
// TCP's or has ended.
func (t *TCP) InfoOf(id uint64) (Info, bool) {
	for _, p := range t.table.All() {
		if p.So.ID == id {
			c := p.So.H.(*conn)
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.info(), true
		}
	}
	return Info{}, false
}

// Drop ends a connection with a reset (tcpdrop). The ends are in the words of
// socket calls. ESRCH: there is none.
func (t *TCP) Drop(w *netif.Work, local, foreign socket.Addr) error {
	local, foreign = socket.Enter(local), socket.Enter(foreign)
	h := t.table.Hash(local, foreign)
	if p := t.table.LookupConn(h, local, foreign, 0); p != nil {
		c := p.So.H.(*conn)
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.gone {
			c.t.resetConn(w, c)
			c.fail(w, syscall.ECONNABORTED)
			return nil
		}
	}
	if tw := t.tw.find(h, local, foreign); tw != nil {
		t.tw.retire(tw)
		return nil
	}
	return syscall.ESRCH
}
