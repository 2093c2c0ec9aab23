// Web is a static program with a web server and a client of the usual kind:
//
//	web serve ADDRESS
//	web get URL CLOSED
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(what, where string, closed ...string) error {
	if what == "serve" {
		l, err := net.Listen("tcp", where)
		if err != nil {
			return err
		}
		fmt.Println("ready")
		return http.Serve(l, http.HandlerFunc(answer))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	count, size, me := 0, 0, ""
	for range 20 {
		wg.Go(func() {
			b, from, err := get(ctx, where)
			mu.Lock()
			defer mu.Unlock()
			count, size, me = count+1, len(b), from
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	fmt.Printf("%d answers of %d octets to %s\n", count, size, me)
	_, err := net.Dial("tcp", closed[0])
	fmt.Println("refused:", errors.Is(err, syscall.ECONNREFUSED))
	return nil
}

// answer sends 3 MiB and says who has asked.
func answer(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	w.Header().Set("You", host)
	_, _ = w.Write(make([]byte, 3<<20))
}

func get(ctx context.Context, url string) (body []byte, from string, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, "", err
	}
	defer r.Body.Close()
	body, err = io.ReadAll(r.Body)
	return body, r.Header.Get("You"), err
}
