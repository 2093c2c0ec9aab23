package ipl

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

func (t Target) String() string {
	if t.Addr.IsValid() {
		return t.If + ":" + t.Addr.String()
	}
	return t.If
}

func (w With) String() string {
	s := ""
	if w.Not {
		s = "not "
	}
	for _, n := range withs {
		if n.kind == w.What {
			s += n.name
			break
		}
	}
	if len(w.Opts) > 0 {
		s += " " + strings.Join(w.Opts, ",")
	}
	return s
}

func (f TCPFlags) String() string { return flagText(f.Set) + "/" + flagText(f.Mask) }

func flagText(f uint8) string {
	s := ""
	for i := range flagLetters {
		if f&(1<<i) != 0 {
			s += flagLetters[i : i+1]
		}
	}
	return s
}

func (l LogOption) String() string {
	s := "log"
	for _, o := range []struct {
		on   bool
		word string
	}{{l.Body, "body"}, {l.First, "first"}, {l.OrBlock, "or-block"}, {l.Level != "", "level " + l.Level}} {
		if o.on {
			s += " " + o.word
		}
	}
	return s
}

func (k KeepState) String() string {
	var o []string
	if k.Limit > 0 {
		o = append(o, "limit "+strconv.Itoa(k.Limit))
	}
	for _, f := range []struct {
		on   bool
		word string
	}{{k.Strict, "strict"}, {k.NewISN, "newisn"}, {k.NoICMPErr, "no-icmp-err"}} {
		if f.on {
			o = append(o, f.word)
		}
	}
	if k.Age != [2]int{} {
		o = append(o, fmt.Sprintf("age %d/%d", k.Age[0], k.Age[1]))
	}
	if len(o) == 0 {
		return "keep state"
	}
	return "keep state (" + strings.Join(o, ",") + ")"
}

// implies6 reports a rule whose other words say that it is about IPv6.
func (r *Rule) implies6() bool {
	for _, w := range r.With {
		if w.What == WithV6Hdrs {
			return true
		}
	}
	for _, a := range []netip.Addr{r.Src.Addr, r.Dst.Addr, r.To.Addr, r.DupTo.Addr, r.ReplyTo.Addr} {
		if a.Is6() {
			return true
		}
	}
	return r.Proto == protoICMP6
}

// String is the rule as ipfstat(8) prints it.
func (r Rule) String() string {
	var b strings.Builder
	add := func(format string, args ...any) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, format, args...)
	}
	if r.At >= 0 {
		add("@%d", r.At)
	}
	r.printHead(add)
	if r.Family == Inet6 && !r.implies6() {
		add("family inet6")
	}
	if r.TOS >= 0 {
		add("tos %#x", r.TOS)
	}
	if r.TTL >= 0 {
		add("ttl %d", r.TTL)
	}
	if r.Proto != AnyProto {
		add("proto %s", protoName(r.Proto))
	}
	if r.Src == (Endpoint{}) && r.Dst == (Endpoint{}) && r.TOS < 0 && r.TTL < 0 && r.Proto == AnyProto && len(r.With) == 0 {
		add("all")
	} else {
		add("from %s to %s", r.Src.text(r.Family), r.Dst.text(r.Family))
	}
	r.printTail(add)
	return b.String()
}

func (r *Rule) printHead(add func(string, ...any)) {
	codes, dir, via := unreachCodes, "in", "out-via"
	if r.Family == Inet6 {
		codes = unreachCodes6
	}
	if r.Out {
		dir, via = "out", "in-via"
	}
	code := ""
	if r.ICMPCode >= 0 {
		code = "(" + codes.name(r.ICMPCode) + ")"
	}
	switch r.Action {
	case Pass:
		add("pass")
	case Count:
		add("count")
	case Skip:
		add("skip %d", r.Skip)
	case Call:
		name := "fr_srcgrpmap"
		if r.MapDst {
			name = "fr_dstgrpmap"
		}
		add("call now %s/%s", name, r.Map)
	case Log:
		l := LogOption{}
		if r.Log != nil {
			l = *r.Log
		}
		add("%s", l)
	case Block:
		switch r.Reply {
		case NoReply:
			add("block")
		case ReplyRST:
			add("block return-rst")
		case ReplyICMP:
			add("block return-icmp%s", code)
		case ReplyAsDest:
			add("block return-icmp-as-dest%s", code)
		}
	}
	add("%s", dir)
	if r.Log != nil && r.Action != Log {
		add("%s", *r.Log)
	}
	if r.Quick {
		add("quick")
	}
	if r.If != "" {
		add("on %s", r.If)
	}
	for _, t := range []struct {
		word string
		to   Target
	}{{"dup-to", r.DupTo}, {"to", r.To}, {"reply-to", r.ReplyTo}} {
		if t.to != (Target{}) {
			add("%s %s", t.word, t.to)
		}
	}
	if r.Fast {
		add("fastroute")
	}
	if r.Via != "" {
		add("%s %s", via, r.Via)
	}
}

func (r *Rule) printTail(add func(string, ...any)) {
	if r.ICMPType >= 0 {
		types := icmpTypes
		if r.Proto == protoICMP6 {
			types = icmpTypes6
		}
		add("icmp-type %s", types.name(r.ICMPType))
		if r.ICMPTypeCode >= 0 {
			add("code %d", r.ICMPTypeCode)
		}
	}
	if r.Flags != nil {
		add("flags %s", *r.Flags)
	}
	with, sep := "", "with "
	for _, w := range r.With {
		with += sep + w.String()
		if sep = ","; len(w.Opts) > 0 { // behind a comma a name could be one more of the list
			sep = " and "
		}
	}
	if with != "" {
		add("%s", with)
	}
	if r.KeepState != nil {
		add("%s", *r.KeepState)
	}
	if r.KeepFrags {
		add("keep frags")
		if r.FragsStrict {
			add("(strict)")
		}
	}
	if r.Head != "" {
		add("head %s", r.Head)
	}
	if r.Group != "" {
		add("group %s", r.Group)
	}
	if r.LogTag >= 0 {
		add("set-tag(log=%d)", r.LogTag)
	}
}
