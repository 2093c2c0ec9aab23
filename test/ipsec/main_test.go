// Package ipsec plays IPsec against the kernels of virtual machines, and against scapy.
package ipsec

import (
	"testing"

	"ionet/test/need"
)

func TestMain(m *testing.M) { need.Main(m) }
