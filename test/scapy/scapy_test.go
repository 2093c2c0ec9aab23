package scapy_test

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"ionet/test/scapy"
	"ionet/test/vm"
)

// What has been sealed can be opened, with that key and no other.
func TestSealOpen(t *testing.T) {
	s := scapy.New(t)
	// An echo request, 8 octets of data.
	packet, err := hex.DecodeString("45000024000040004001b6cfc0000201c0000202" + "08006e5f123400016162636465666768")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"transport", "tunnel"} {
		for _, esn := range []bool{false, true} {
			sa := vm.SA{Proto: "esp", Mode: mode, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
				SPI: 0x1234, ESN: esn, Enc: vm.NewAlg("aes-cbc", 16, 1), Auth: vm.NewAlg("hmac-sha1", 20, 2)}
			sealed, err := s.Seal(sa, 5<<32+7, packet)
			if err != nil {
				t.Fatal(err)
			}
			if sealed[9] != 50 || !bytes.Equal(sealed[20:28], []byte{0, 0, 0x12, 0x34, 0, 0, 0, 7}) {
				t.Errorf("%s: no ESP: % x", mode, sealed)
			}
			got, err := s.Open(sa, 5, sealed)
			if err != nil || !bytes.Equal(got[12:], packet[12:]) {
				t.Errorf("%s: %v\n% x\n% x", mode, err, got, packet)
			}
			if _, err := s.Open(sa, 6, sealed); (err != nil) != esn {
				t.Errorf("%s: with another high half of the sequence number, ESN %v: %v", mode, esn, err)
			}
			sa.Auth = vm.NewAlg("hmac-sha1", 20, 3)
			if got, err := s.Open(sa, 5, sealed); err == nil {
				t.Errorf("%s: opened with another key: % x", mode, got)
			}
		}
	}
}
