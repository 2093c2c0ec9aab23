package driver

import (
	"reflect"
	"strings"
	"testing"

	"ionet/stack/netif"
)

func TestParseOptions(t *testing.T) {
	mac := netif.MAC{0x00, 0x23, 0x45, 0x67, 0x89, 0xab}
	for _, c := range []struct {
		text string
		want Options
	}{
		{"", Options{Lan: -1}},
		{"verbose", Options{Lan: -1, Verbose: 1}},
		{"verbose=2,promiscuous", Options{Lan: -1, Verbose: 2, Promisc: true}},
		{"promiscuous,promiscuous=0", Options{Lan: -1}},
		{"path=/x,mac=0023456789AB", Options{Lan: -1, MAC: mac, Args: []Arg{{"path", "/x"}}}},
		{"mac=00:23:45:67:89:ab,lan=3,mtu=0x5dc", Options{Lan: 3, MAC: mac, MTU: 1500}},
		{"ioport=0x300,irq=5,path=a=b", Options{Lan: -1, Args: []Arg{{"ioport", "0x300"}, {"irq", "5"}, {"path", "a=b"}}}},
	} {
		got, err := ParseOptions(c.text)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("ParseOptions(%q) = %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
	for text, says := range map[string]string{
		",":                     "without a name",
		"=1":                    "without a name",
		"mac=12":                "12 hexadecimal digits",
		"mac=00-23-45-67-89-ab": "12 hexadecimal digits",
		"mac=010000000000":      "one station",
		"mac=000000000000":      "one station",
		"mtu=67":                "from 68 to 65535",
		"mtu=":                  "mtu=",
		"lan=-1":                "from 0",
		"verbose=x":             "verbose=x",
		"promiscuous=2":         "from 0 to 1",
	} {
		if _, err := ParseOptions(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("ParseOptions(%q): %v; want it to say %q", text, err, says)
		}
	}
}

func TestOptionsArgs(t *testing.T) {
	o, err := ParseOptions("speed=100,path=/a,path=/b")
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := o.Get("path"); v != "/b" || !ok {
		t.Errorf("Get(path) = %q, %v", v, ok)
	}
	if !HardwareOption("speed") || HardwareOption("path") {
		t.Error("speed is a hardware option, path is none")
	}
	if err := o.Unknown("wire", "path"); err != nil {
		t.Errorf("hardware options are no unknown ones: %v", err)
	}
	o.Args = append(o.Args, Arg{"colour", ""})
	if err := o.Unknown("wire", "path"); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("Unknown: %v", err)
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add("path=/x,mac=0023456789AB,verbose=2")
	f.Add("promiscuous,mtu=1500,lan=0,irq")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseOptions(text)
		if err != nil {
			return
		}
		if o.MAC.IsMulticast() || o.Lan < -1 || o.MTU != 0 && (o.MTU < 68 || o.MTU > 65535) {
			t.Fatalf("%q: %+v", text, o)
		}
	})
}
