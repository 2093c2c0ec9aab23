package xdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// program is what stands at the interface's receive hook. The kernel removes it
// when the process ends, however it ends.
type program struct {
	sockets *ebpf.Map // XSKMAP: receive queue to socket
	prog    *ebpf.Program
	link    link.Link
}

// redirect is "return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS)":
// a frame of a queue without a socket goes to the kernel.
func redirect(sockets int) asm.Instructions {
	const (
		rxQueueIndex = 16 // in struct xdp_md
		pass         = 2  // XDP_PASS
	)
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, rxQueueIndex, asm.Word),
		asm.LoadMapPtr(asm.R1, sockets),
		asm.Mov.Imm(asm.R3, pass),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	}
}

// attach has every frame of interface index go to the sockets.
func attach(index int, sockets []*socket) (p *program, err error) {
	p = new(program)
	defer func() {
		if err != nil {
			_ = p.close()
		}
	}()
	p.sockets, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(len(sockets))})
	if err != nil {
		return p, explain("the map of sockets (BPF_MAP_TYPE_XSKMAP)", err)
	}
	for i, s := range sockets {
		if err := p.sockets.Put(uint32(i), uint32(s.fd)); err != nil {
			return p, explain("the map of sockets", err)
		}
	}
	p.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{Name: "ionet_xdp", Type: ebpf.XDP, Instructions: redirect(p.sockets.FD()), License: "BSD"})
	if err != nil {
		return p, explain("the XDP program", err)
	}
	if p.link, err = link.AttachXDP(link.XDPOptions{Program: p.prog, Interface: index}); err != nil {
		return p, explain("to attach the XDP program", err)
	}
	return p, nil
}

// explain says what would be right.
func explain(what string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w; it takes CAP_NET_RAW and CAP_NET_ADMIN in the network namespace, and CAP_BPF", what, err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%s: %w; another XDP program is there (ip link show): end what put it there", what, err)
	case errors.Is(err, unix.ERANGE), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%s: %w; the MTU of the interface, or of a veth's other end, may be too large for XDP, which wants a frame in a page: ip link set … mtu 3500", what, err)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%s: %w; it takes Linux 5.9 with XDP_SOCKETS", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// close gives the hook back first, and then what stood there.
func (p *program) close() (err error) {
	if p.link != nil {
		err = p.link.Close()
	}
	if p.prog != nil {
		err = errors.Join(err, p.prog.Close())
	}
	if p.sockets != nil {
		err = errors.Join(err, p.sockets.Close())
	}
	return err
}
