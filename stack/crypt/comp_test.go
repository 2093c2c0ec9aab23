package crypt

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func comp(t testing.TB) Comp {
	t.Helper()
	c, err := NewComp(CalgDeflate)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCompRefuses(t *testing.T) {
	for calg, want := range map[uint8]string{CalgLZS: "lzs is not here", 9: "9 is not known"} {
		if _, err := NewComp(calg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", calg, err)
		}
	}
}

// plain draws something that is compressible, and long enough for the codes of a
// block to be its own.
func plain(t *rapid.T) []byte {
	words := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 40), 1, 20).Draw(t, "words")
	var b []byte
	for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(words)-1), 0, 400).Draw(t, "text") {
		b = append(b, words[i]...)
	}
	return b
}

func TestExpandsWhatIsCompressed(t *testing.T) {
	c := comp(t)
	rapid.Check(t, func(t *rapid.T) {
		text := plain(t)
		packed := make([]byte, len(text)+100)
		n := c.Compress(packed, text)
		if n < 0 {
			t.Fatalf("%d octets do not fit into %d", len(text), len(packed))
		}
		packed = packed[:n]
		if n > 1 && c.Compress(make([]byte, n-1), text) >= 0 {
			t.Fatalf("fits into less than the %d octets that it is", n)
		}
		theirs, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
		if err != nil || !bytes.Equal(theirs, text) {
			t.Fatalf("the library expands it to %d octets of %d: %v", len(theirs), len(text), err)
		}
		got := make([]byte, len(text))
		if n := c.Decompress(got, packed); n != len(text) || !bytes.Equal(got, text) {
			t.Fatalf("expands to %d octets of %d", n, len(text))
		}
		if len(text) > 0 {
			if n := c.Decompress(got[:len(got)-1], packed); n != TooLong {
				t.Fatalf("%d octets where there is room for one less than %d", n, len(text))
			}
		}
		if n := c.Decompress(got, packed[:len(packed)-1]); n != -1 {
			t.Fatalf("%d octets without the last one of %d", n, len(packed))
		}
	})
}

// Every level of the library's compressor, and Huffman codes of every length.
func TestExpandsWhatOthersCompress(t *testing.T) {
	c := comp(t)
	var skewed []byte // frequencies of Fibonacci make codes of many lengths
	a, b := 1, 1
	for s := range 22 {
		skewed = append(skewed, bytes.Repeat([]byte{byte(s * 11)}, a)...)
		a, b = b, a+b
	}
	for i := range skewed { // spread, or repetitions are all that is left
		j := i * 7919 % len(skewed)
		skewed[i], skewed[j] = skewed[j], skewed[i]
	}
	for _, text := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("ab"), 20000), skewed[:30000]} {
		for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
			var packed bytes.Buffer
			w, err := flate.NewWriter(&packed, level)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(text)
			w.Close()
			got := make([]byte, len(text)+10)
			if n := c.Decompress(got, packed.Bytes()); n != len(text) || !bytes.Equal(got[:n], text) {
				t.Errorf("level %d: %d octets of %d", level, n, len(text))
			}
		}
	}
}

// A bomb ends where the room does.
func TestBomb(t *testing.T) {
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.BestCompression)
	w.Write(make([]byte, 50<<20))
	w.Close()
	if n := comp(t).Decompress(make([]byte, 65535), packed.Bytes()); n != TooLong {
		t.Errorf("%d octets", n)
	}
}

func TestCompAllocatesNothing(t *testing.T) {
	c := comp(t)
	text := bytes.Repeat([]byte("so and so much, and as much again; "), 40)
	packed, back := make([]byte, len(text)), make([]byte, len(text))
	n := testing.AllocsPerRun(100, func() {
		if n := c.Compress(packed, text); n < 0 || c.Decompress(back, packed[:n]) != len(text) {
			t.Fatal("does not come back")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkComp(b *testing.B) {
	c := comp(b)
	text := bytes.Repeat([]byte("GET /index.html HTTP/1.1, and what a browser says of itself. "), 23)[:1400]
	packed, back := make([]byte, len(text)), make([]byte, len(text))
	n := c.Compress(packed, text)
	b.Run("compress", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			c.Compress(packed, text)
		}
	})
	b.Run("expand", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			c.Decompress(back, packed[:n])
		}
	})
	b.Run("library", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		var in bytes.Reader
		r := flate.NewReader(&in)
		for b.Loop() {
			in.Reset(packed[:n])
			r.(flate.Resetter).Reset(&in, nil)
			io.ReadFull(r, back)
		}
	})
}
