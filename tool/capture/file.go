package capture

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"ionet/tool/cli"
)

// dropComment begins the comment of a packet that the stack dropped.
const dropComment = "dropped: "

// Writer writes pcapng, each packet flushed. An interface has one interface
// block for each link type: packets that the stack dropped begin with the
// network header, not with a link header.
type Writer struct {
	out   io.Writer
	ng    *pcapgo.NgWriter
	snap  uint32
	index map[interfaceKey]int
}

type interfaceKey struct {
	name string
	link uint16
}

// NewWriter begins the file when the first packet is written or [Writer.Begin]
// called.
func NewWriter(out io.Writer, snap int) *Writer {
	return &Writer{out: out, snap: uint32(snap), index: map[interfaceKey]int{}}
}

// Begin writes the section header and the block of an interface, so that a
// reader at the other end of a pipe sees a file before the first packet.
func (w *Writer) Begin(name string, link uint16) error {
	_, err := w.block(interfaceKey{name, link})
	return errors.Join(err, w.ng.Flush())
}

func (w *Writer) block(k interfaceKey) (int, error) {
	if i, ok := w.index[k]; ok {
		return i, nil
	}
	intf := pcapgo.NgInterface{Name: k.name, LinkType: layers.LinkType(k.link), SnapLength: w.snap}
	if k.link == linkRaw && k.name != "lo0" {
		intf.Description = "packets of " + k.name + " from the network header on"
	}
	var err error
	i := 0
	if w.ng == nil {
		o := pcapgo.DefaultNgWriterOptions
		o.SectionInfo.Application = "ionet capture " + cli.BuildVersion()
		w.ng, err = pcapgo.NewNgWriterInterface(w.out, intf, o)
	} else {
		i, err = w.ng.AddInterface(intf)
	}
	if err == nil {
		w.index[k] = i
	}
	return i, err
}

// Write appends a packet and flushes it.
func (w *Writer) Write(p *Packet) error {
	i, err := w.block(interfaceKey{p.Interface, p.Link})
	if err != nil {
		return err
	}
	var o pcapgo.NgPacketOptions
	if p.Dropped != "" {
		o.Comments = []string{dropComment + p.Dropped}
	} else {
		o.Flags = &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}
		if p.Out {
			o.Flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
		}
	}
	ci := gopacket.CaptureInfo{Timestamp: p.Time, InterfaceIndex: i, CaptureLength: len(p.Data), Length: max(p.OrigLen, len(p.Data))}
	if err := w.ng.WritePacketWithOptions(ci, p.Data, o); err != nil {
		return err
	}
	return w.ng.Flush()
}

// Reader reads pcap and pcapng.
type Reader struct {
	ng   *pcapgo.NgReader
	old  *pcapgo.Reader
	name string
}

// NewReader looks at the first octets to know which it is.
func NewReader(in io.Reader, name string) (*Reader, error) {
	b := bufio.NewReader(in)
	magic, err := b.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("%s: no capture: %d octets are no file header", name, len(magic))
	}
	r := &Reader{name: name}
	if string(magic) == "\x0a\x0d\x0d\x0a" {
		r.ng, err = pcapgo.NewNgReader(b, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	} else {
		r.old, err = pcapgo.NewReader(b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: neither pcap nor pcapng: %w", name, err)
	}
	return r, nil
}

// Next answers the next packet, or io.EOF at the end. A file that ends inside
// a packet gets an error that says so.
func (r *Reader) Next() (*Packet, error) {
	var p Packet
	var ci gopacket.CaptureInfo
	var err error
	if r.old != nil {
		p.Data, ci, err = r.old.ReadPacketData()
		p.Link = uint16(r.old.LinkType())
	} else {
		var o pcapgo.NgPacketOptions
		p.Data, ci, o, err = r.ng.ReadPacketDataWithOptions()
		if err == nil {
			if len(ci.AncillaryData) > 0 {
				if l, ok := ci.AncillaryData[0].(layers.LinkType); ok {
					p.Link = uint16(l)
				}
			}
			if i, err := r.ng.Interface(ci.InterfaceIndex); err == nil {
				p.Interface = i.Name
			}
			for _, c := range o.Comments {
				if why, ok := strings.CutPrefix(c, dropComment); ok {
					p.Dropped = why
				}
			}
			p.Out = o.Flags != nil && o.Flags.Direction == pcapgo.NgEpbFlagDirectionOutbound
		}
	}
	switch {
	case err == io.EOF:
		return nil, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%s: ends inside a packet", r.name)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	p.Time, p.OrigLen = ci.Timestamp, max(ci.Length, len(p.Data))
	return &p, nil
}
