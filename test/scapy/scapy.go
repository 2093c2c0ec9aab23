// Package scapy has scapy seal and open IP packets, an IPsec that is neither ours nor
// a kernel's.
package scapy

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"ionet/test/need"
	"ionet/test/vm"
)

// Scapy is a process that seals and opens until the test ends.
type Scapy struct {
	t    testing.TB
	mu   sync.Mutex
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	says bytes.Buffer
}

// New starts one.
func New(t testing.TB) *Scapy {
	t.Helper()
	const python = "/usr/bin/python3" // Debian's, whatever else is on PATH
	need.File(t, python)
	if err := exec.Command(python, "-c", "import scapy, cryptography").Run(); err != nil {
		need.Missing(t, "no scapy: test/deps installs python3-scapy and python3-cryptography")
	}
	s := &Scapy{t: t, cmd: exec.Command(python, filepath.Join(need.Module(t), "test/scapy/testdata/seal.py"))}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	s.cmd.Stderr = &s.says
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.in.Close()
		_ = s.cmd.Wait()
		if t.Failed() && s.says.Len() > 0 {
			t.Logf("scapy says:\n%s", s.says.String())
		}
	})
	return s
}

// Speaks reports whether scapy has the algorithms of sa, and its protocol.
func Speaks(sa vm.SA) bool {
	for _, a := range []vm.Alg{sa.Enc, sa.Auth} {
		if a.Name == "" {
			continue
		}
		if l := vm.ByName(a.Name); l == nil || l.Scapy == "" {
			return false
		}
	}
	return sa.Proto != "comp" && sa.Mode != "beet"
}

// Seal does to a packet, an IP header and what follows, what sa says, with that sequence number,
// the high half of which counts with ESN alone.
func (s *Scapy) Seal(sa vm.SA, seq uint64, packet []byte) ([]byte, error) {
	return s.ask("seal", sa, seq, packet)
}

// Open undoes it. high is the high half of the sequence number.
func (s *Scapy) Open(sa vm.SA, high uint32, packet []byte) ([]byte, error) {
	return s.ask("open", sa, uint64(high)<<32, packet)
}

func (s *Scapy) ask(op string, sa vm.SA, seq uint64, packet []byte) ([]byte, error) {
	if !Speaks(sa) {
		return nil, fmt.Errorf("scapy does not speak %s %s %s %s", sa.Proto, sa.Mode, sa.Enc.Name, sa.Auth.Name)
	}
	if len(packet) < 20 {
		return nil, fmt.Errorf("no IP packet: % x", packet)
	}
	d := map[string]any{
		"proto": sa.Proto, "mode": sa.Mode, "src": sa.Src.String(), "dst": sa.Dst.String(), "spi": sa.SPI,
		"esn": sa.ESN, "high": uint32(seq >> 32), "enc": "NULL", "enckey": hex.EncodeToString(sa.Enc.Key), "icv": 0,
		"auth": "", "authkey": hex.EncodeToString(sa.Auth.Key), "sport": 0, "dport": 0,
	}
	if l := vm.ByName(sa.Enc.Name); l != nil {
		d["enc"], d["icv"] = l.Scapy, l.ICV/8
	}
	if l := vm.ByName(sa.Auth.Name); l != nil {
		d["auth"] = l.Scapy
	}
	if sa.Encap != nil {
		d["sport"], d["dport"] = sa.Encap.SPort, sa.Encap.DPort
	}
	line, err := json.Marshal(map[string]any{"op": op, "sa": d, "seq": uint32(seq), "packet": hex.EncodeToString(packet)})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	late := time.AfterFunc(time.Minute, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	if line, err = s.out.ReadBytes('\n'); err != nil {
		return nil, fmt.Errorf("scapy has ended: %w", err)
	}
	var r struct{ Packet, Error string }
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, errors.New(r.Error)
	}
	return hex.DecodeString(r.Packet)
}
