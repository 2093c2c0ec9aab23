package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"syscall"
	"time"
)

// Bounds of HTTP clients, and of the connections kept for them in the stack.
const (
	maxHeader     = 64 << 10
	keepAlive     = time.Minute
	idleUpstreams = 64
)

// via is how the proxy names itself to both sides (RFC 9110 §7.6.3).
const via = "1.1 ionet"

// newHTTP is the HTTP side: CONNECT, and requests with an absolute URI
// (RFC 9112 §3.2.2). Its connections come from s.web.
func (s *server) newHTTP() *http.Server {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialWait)
			defer cancel()
			return s.stack.DialContext(ctx, "tcp", addr)
		},
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConns:           idleUpstreams,
		IdleConnTimeout:        keepAlive,
		MaxResponseHeaderBytes: maxHeader * 4,
	}
	s.closing(transport.CloseIdleConnections)
	errorLog := slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	forward := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      errorLog,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Host = r.In.Host
			// What ReverseProxy hides from servers behind it is none of a forward proxy's business.
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v, ok := r.In.Header[name]; ok {
					r.Out.Header[name] = v
				}
			}
			r.Out.Header.Add("Via", via)
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Add("Via", via)
			return nil
		},
		ErrorHandler: s.httpError,
	}
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodConnect:
				s.httpConnect(w, r)
			case r.URL.Scheme == "http" && r.URL.Host != "":
				s.log.Debug("request", "via", "http", "from", r.RemoteAddr, "method", r.Method, "to", r.URL.Host)
				forward.ServeHTTP(w, r)
			case r.URL.IsAbs():
				http.Error(w, fmt.Sprintf("ionet proxy: %s URIs go through CONNECT", r.URL.Scheme), http.StatusNotImplemented)
			default:
				http.Error(w, "ionet proxy: this is a proxy into the stack, not a server; set it as a client's HTTP or SOCKS5 proxy", http.StatusBadRequest)
			}
		}),
		ReadHeaderTimeout: headWait,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          errorLog,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
	}
}

// httpError tells the client why the stack did not serve it.
func (s *server) httpError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && s.ctx.Err() == nil { // the client has gone
		s.log.Debug("failed", "via", "http", "from", r.RemoteAddr, "to", r.URL.Host, "error", err.Error())
	} else {
		s.log.Warn("failed", "via", "http", "from", r.RemoteAddr, "to", r.URL.Host, "error", err.Error())
	}
	status := http.StatusBadGateway
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		status = http.StatusGatewayTimeout
	}
	http.Error(w, "ionet proxy: "+err.Error(), status)
}

// httpConnect is the tunnel of RFC 9110 §9.3.6.
func (s *server) httpConnect(w http.ResponseWriter, r *http.Request) {
	to, err := authority(r.Host)
	if err != nil {
		http.Error(w, "ionet proxy: CONNECT: "+err.Error(), http.StatusBadRequest)
		return
	}
	up, err := s.dial(s.stack, to)
	if err != nil {
		s.httpError(w, r, err)
		return
	}
	defer up.Close()
	raw, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.log.Warn("failed", "via", "http", "from", r.RemoteAddr, "to", to, "error", err.Error())
		return
	}
	defer raw.Close()
	_ = raw.SetDeadline(never)
	if _, err := io.WriteString(raw, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	if err := s.relay("http", &hijacked{raw, rw.Reader}, up, to); err != nil {
		s.log.Debug("failed", "via", "http", "from", r.RemoteAddr, "to", to, "error", err.Error())
	}
}

// authority checks the target of a CONNECT: a host and a port.
func authority(s string) (string, error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is no host with a port", s)
	}
	n, err := port(p)
	if err != nil || n == 0 || !hostName(host) || strings.ContainsAny(host, "/?#@") {
		return "", fmt.Errorf("%q is no host with a port", s)
	}
	return s, nil
}

// hijacked is a connection taken over from the HTTP server, which may have
// read ahead.
type hijacked struct {
	net.Conn
	r *bufio.Reader
}

func (h *hijacked) Read(p []byte) (int, error) { return h.r.Read(p) }

func (h *hijacked) CloseWrite() error { return h.Conn.(halfCloser).CloseWrite() }

func (h *hijacked) SetLinger(sec int) error { return h.Conn.(lingerer).SetLinger(sec) }
