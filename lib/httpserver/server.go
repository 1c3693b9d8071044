package httpserver

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// Handler serves a request, or returns false and leaves the response alone
// when the path is none of its routes.
type Handler func(w http.ResponseWriter, r *http.Request) bool

// Options are what a server needs.
type Options struct {
	Config  *Config
	Logger  *logger.Logger
	Metrics *metrics.Set
	Flags   *flag.FlagSet // for /flags
	Handler Handler
	// HasKey reports whether the Handler checks a key of its own at a path, by CheckAuthKey with a key that is set. Such a key stands for
	// the password. Nil means at none.
	HasKey func(path string) bool
}

// Server is a running HTTP server.
type Server struct {
	o         Options
	hostname  string
	draining  atomic.Bool
	servers   []*http.Server
	addrs     []net.Addr
	wg        sync.WaitGroup
	slashes   *regexp.Regexp
	bodyWait  time.Duration
	unknown   *metrics.Counter
	authFails *metrics.Counter
	builtin   map[string]http.HandlerFunc
	requests  map[string]*metrics.Counter
	silent    silentConns

	compressors compressors
}

// Start listens at all configured addresses and serves until Stop.
func Start(o Options) (*Server, error) {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown"
	}
	s := &Server{
		o:         o,
		hostname:  hostname,
		slashes:   regexp.MustCompile(`//+`),
		bodyWait:  maxBodyWait,
		unknown:   o.Metrics.Counter(`vm_http_request_errors_total{path="*", reason="unsupported"}`),
		authFails: o.Metrics.Counter(`vm_http_request_errors_total{path="*", reason="auth"}`),
		requests:  map[string]*metrics.Counter{},
	}
	s.registerBuiltin()
	secure, err := secured(o)
	if err != nil {
		return nil, err
	}
	var listeners []net.Listener
	for _, addr := range o.Config.addrs() {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			for _, open := range listeners {
				_ = open.Close() // it never served
			}
			return nil, listenError(addr, err)
		}
		listeners = append(listeners, ln)
	}
	for i, ln := range listeners {
		s.serve(ln, secure[i])
	}
	return s, nil
}

// Check reads the files that Start does, and opens nothing.
func Check(o Options) error {
	_, err := secured(o)
	return err
}

// secured returns what to serve at each listen address; nil for plain HTTP.
func secured(o Options) (_ []*tls.Config, err error) {
	secure := make([]*tls.Config, len(o.Config.addrs()))
	for i := range secure {
		if secure[i], err = o.Config.TLS.at(i, o); err != nil {
			return nil, err
		}
	}
	return secure, nil
}

// listenError says in words what to do about the most common failure.
func listenError(addr string, err error) error {
	if strings.Contains(err.Error(), "address already in use") {
		return fmt.Errorf("cannot listen at -httpListenAddr=%q: the port is taken by another process; stop that process or choose another -httpListenAddr: %w", addr, err)
	}
	return fmt.Errorf("cannot listen at -httpListenAddr=%q: %w", addr, err)
}

type connAgeKey struct{}

// serve starts to serve HTTP or, with secure, HTTPS.
func (s *Server) serve(ln net.Listener, secure *tls.Config) {
	c := s.o.Config
	counted := countListener(ln, s.o.Metrics, "http", ln.Addr().String())
	server := &http.Server{
		Handler:           http.HandlerFunc(s.handle),
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       c.IdleConnTimeout,
		ErrorLog:          log.New(errorLog{logger.NewThrottle(s.o.Logger, time.Second)}, "", 0),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connAgeKey{}, time.Now())
		},
		ConnState: s.silent.track,
	}
	server.SetKeepAlivesEnabled(!c.DisableKeepAlive)
	s.servers = append(s.servers, server)
	s.addrs = append(s.addrs, ln.Addr())
	scheme := "http"
	if secure != nil {
		scheme, counted = "https", tls.NewListener(counted, secure)
	}
	s.o.Logger.Infof("started server at %s://%s/", scheme, ln.Addr())
	s.o.Logger.Infof("pprof handlers are exposed at %s://%s/debug/pprof/", scheme, ln.Addr())
	s.wg.Go(func() {
		if err := server.Serve(counted); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.o.Logger.Errorf("cannot serve http at %s: %s", ln.Addr(), err)
		}
	})
}

// Addrs returns the addresses the server listens at.
func (s *Server) Addrs() []net.Addr { return s.addrs }

// Stop ends the server gracefully, see the package's invariants. Requests that
// do not end in time are cut off, which is logged and no error.
func (s *Server) Stop() error {
	s.draining.Store(true)
	time.Sleep(s.o.Config.ShutdownDelay)
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Config.MaxGracefulShutdown)
	defer cancel()
	for i, server := range s.servers {
		if err := s.shutdown(ctx, server); err != nil {
			s.o.Logger.Warnf("cannot finish all requests at %s within -http.maxGracefulShutdownDuration=%s: %s", s.addrs[i], s.o.Config.MaxGracefulShutdown, err)
			_ = server.Close() // the deadline is over
		}
	}
	s.wg.Wait()
	return nil
}

// shutdown ends one listener's server. Connections which have never sent a request, such as those that browsers and
// balancers open in advance, get a moment only: by itself net/http would wait seconds for them.
func (s *Server) shutdown(ctx context.Context, server *http.Server) error {
	const patience = 200 * time.Millisecond
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(ctx) }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		s.silent.close()
		return <-done
	}
}

func (s *Server) handle(inner http.ResponseWriter, r *http.Request) {
	c := s.o.Config
	w := newPatientWriter(inner, s.bodyWait)
	s.setHeaders(w.Header())
	if started, ok := r.Context().Value(connAgeKey{}).(time.Time); ok && c.ConnTimeout > 0 && time.Since(started) > c.ConnTimeout {
		w.Header().Set("Connection", "close")
	}
	r.URL.Path = s.slashes.ReplaceAllLiteralString(r.URL.Path, "/")
	if c.PathPrefix != "" && !s.stripPrefix(r) {
		s.unsupported(w, r)
		return
	}
	if r.Method == http.MethodOptions {
		if !c.DisableCORS {
			SetCORS(w.Header())
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.URL.Path == "/health" {
		s.count("/health")
		s.health(w)
		return
	}
	if !isProbe(r.URL.Path) && !s.hasKey(r.URL.Path) && !s.authorized(r) {
		s.authFails.Inc()
		w.Header().Set("WWW-Authenticate", `Basic realm="VictoriaMetrics"`)
		http.Error(w, "cannot authorize the request: wrong or missing user name or password; see -httpAuth.username", http.StatusUnauthorized)
		return
	}
	if r.ContentLength != 0 {
		r.Body = &patientBody{ReadCloser: r.Body, out: w, conn: w.conn, wait: s.bodyWait}
	}
	cw := s.compress(w, r)
	s.route(cw, r)
	// Not deferred: a handler which panics with http.ErrAbortHandler wants the
	// client to see a broken answer.
	cw.finish(s.o.Logger)
	w.extend() // the server sends the rest
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	if serve := s.builtinRoute(r.URL.Path); serve != nil {
		serve(w, r)
		return
	}
	if !s.o.Handler(w, r) {
		s.unsupported(w, r)
	}
}

func (s *Server) count(path string) { s.requests[path].Inc() }

func (s *Server) setHeaders(h http.Header) {
	c := s.o.Config
	h.Add("Vary", "Accept-Encoding")
	for _, header := range []struct{ name, value string }{
		{"Strict-Transport-Security", c.HSTS}, {"Content-Security-Policy", c.CSP}, {"X-Frame-Options", c.FrameOptions},
	} {
		if header.value != "" {
			h.Set(header.name, header.value)
		}
	}
	if !c.DisableHostname {
		h.Set("X-Server-Hostname", s.hostname)
	}
}

// SetCORS sets the headers which let a browser page of another origin use the answer.
func SetCORS(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Headers", "*")
	h.Set("Access-Control-Allow-Methods", "*")
}

// isProbe reports whether the path is one that balancers and agents ask without a password, as they do /health.
func isProbe(path string) bool {
	switch path {
	case "/-/healthy", "/-/ready", "/ping":
		return true
	}
	return false
}

// stripPrefix removes -http.pathPrefix, or reports that the path is not below it.
func (s *Server) stripPrefix(r *http.Request) bool {
	prefix := "/" + strings.Trim(s.o.Config.PathPrefix, "/")
	rest, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok || (rest != "" && rest[0] != '/') {
		return r.URL.Path == "/health" || r.URL.Path == "/metrics"
	}
	if rest == "" {
		rest = "/"
	}
	r.URL.Path = rest
	return true
}

// hasKey reports whether a path is protected by a key of its own, instead of the password.
func (s *Server) hasKey(path string) bool {
	c := s.o.Config
	switch {
	case path == "/metrics":
		return c.MetricsAuthKey.Get() != ""
	case path == "/flags":
		return c.FlagsAuthKey.Get() != ""
	case strings.HasPrefix(path, "/debug/pprof/"):
		return c.PprofAuthKey.Get() != ""
	}
	return s.o.HasKey != nil && s.o.HasKey(path)
}

func (s *Server) authorized(r *http.Request) bool {
	c := s.o.Config
	want := c.AuthPassword.Get()
	if c.AuthUsername == "" && want == "" {
		return true
	}
	username, password, _ := r.BasicAuth()
	return secretsEqual(username, c.AuthUsername) && secretsEqual(password, want)
}

func secretsEqual(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// CheckAuthKey reports whether the request carries the authKey argument that
// key asks for; it answers 401 otherwise. An empty key lets everybody in.
func CheckAuthKey(w http.ResponseWriter, r *http.Request, flagName string, key flagvalue.Secret) bool {
	want := key.Get()
	if want == "" || secretsEqual(r.FormValue("authKey"), want) {
		return true
	}
	http.Error(w, fmt.Sprintf("cannot serve %s: the authKey argument does not have the value of -%s", r.URL.Path, flagName), http.StatusUnauthorized)
	return false
}

func (s *Server) unsupported(w http.ResponseWriter, r *http.Request) {
	s.unknown.Inc()
	Error(w, r, s.o.Logger, errkind.New(errkind.NotFound, "unsupported path requested: %q", r.URL.Path))
}

// Error answers with the status of err's kind and its text, and logs it.
// Retry-After is set where the error holds a hint.
func Error(w http.ResponseWriter, r *http.Request, l *logger.Logger, err error) {
	SetRetryAfter(w.Header(), err)
	l.Warnf("remoteAddr: %q; requestURI: %s; %s", r.RemoteAddr, LoggedURI(r), err)
	http.Error(w, err.Error(), errkind.Of(err).HTTPStatus())
}

// SetRetryAfter sets the Retry-After header, in seconds, when err holds a hint.
func SetRetryAfter(h http.Header, err error) {
	if d := errkind.RetryAfterOf(err); d > 0 {
		h.Set("Retry-After", fmt.Sprintf("%d", int64((d+time.Second-1)/time.Second)))
	}
}
