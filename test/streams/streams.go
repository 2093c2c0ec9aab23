// Package streams is what any pair of connected streams is put through,
// whoever carries it.
package streams

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// BothWays sends about size octets each way at once, then the end, and compares
// what has arrived. The connections have CloseWrite.
func BothWays(t *testing.T, x, y net.Conn, size int) {
	t.Helper()
	both := func(c net.Conn, salt byte) (sent, got [sha256.Size]byte) {
		var wg sync.WaitGroup
		wg.Go(func() {
			h := sha256.New()
			b := make([]byte, 123_457)
			for i := range b {
				b[i] = byte(i>>3) ^ salt
			}
			for n := 0; n < size; n += len(b) {
				h.Write(b)
				if _, err := c.Write(b); err != nil {
					t.Error(err)
					return
				}
			}
			sent = [sha256.Size]byte(h.Sum(nil))
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		h := sha256.New()
		if _, err := io.Copy(h, c); err != nil {
			t.Error(err)
		}
		got = [sha256.Size]byte(h.Sum(nil))
		wg.Wait()
		return sent, got
	}
	var wg sync.WaitGroup
	var xs, xg, ys, yg [sha256.Size]byte
	wg.Go(func() { xs, xg = both(x, 1) })
	wg.Go(func() { ys, yg = both(y, 2) })
	wg.Wait()
	if xs != yg || ys != xg {
		t.Error("what arrived is not what was sent")
	}
}

// HTTP serves on l, and posts to url over connections of dial: twenty requests
// at once, large both ways. It closes l.
func HTTP(t *testing.T, l net.Listener, url string, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	t.Helper()
	body := bytes.Repeat([]byte("ionet "), 200_000)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Got", fmt.Sprint(n))
		w.Write(body)
	})}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	tr := &http.Transport{DialContext: dial}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			r, err := (&http.Client{Transport: tr}).Post(url, "text/plain", bytes.NewReader(body[:i*50_000]))
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			got, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(got, body) || r.Header.Get("Got") != fmt.Sprint(i*50_000) {
				t.Errorf("%d octets of %d, the server got %s, %v", len(got), len(body), r.Header.Get("Got"), err)
			}
		})
	}
	wg.Wait()
	tr.CloseIdleConnections()
	srv.Close()
	if err := <-done; err != http.ErrServerClosed {
		t.Error(err)
	}
}
