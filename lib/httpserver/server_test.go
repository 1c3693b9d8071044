package httpserver

import (
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server on a free port with the given flags and one route, /app.
func start(t *testing.T, args ...string) (base string, s *Server) {
	t.Helper()
	var c Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs, "127.0.0.1:0")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	set := metrics.NewSet()
	RegisterFlagMetrics(set, fs)
	s, err := Start(Options{Config: &c, Logger: logger.Discard(), Metrics: set, Flags: fs, Handler: func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/app":
			_, _ = w.Write([]byte(strings.Repeat("x", len(r.URL.Query().Get("n"))*1000)))
			return true
		case "/upload":
			if body, err := io.ReadAll(r.Body); err != nil {
				http.Error(w, "stalled", errkind.Of(err).HTTPStatus())
			} else {
				_, _ = w.Write(body)
			}
			return true
		case "/busy":
			Error(w, r, logger.Discard(), errkind.New(errkind.Overloaded, "queue is full").WithRetryAfter(1500*time.Millisecond))
			return true
		}
		return false
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	return "http://" + s.Addrs()[0].String(), s
}

func get(t *testing.T, method, url string, edit func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestBuiltinPages(t *testing.T) {
	base, _ := start(t)
	for _, tc := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/health", 200, "OK"},
		{"POST", "/health", 200, "OK"},
		{"HEAD", "/health", 200, ""},
		{"GET", "/-/healthy", 200, "VictoriaMetrics is Healthy.\n"},
		{"GET", "/-/ready", 200, "VictoriaMetrics is Ready.\n"},
		{"GET", "/ping", 204, ""},
		{"GET", "/ping?verbose=true", 200, ""},
		{"GET", "/robots.txt", 200, "User-agent: *\nDisallow: /\n"},
		{"GET", "//app?n=", 200, ""},
		{"OPTIONS", "/", 204, ""},
		{"GET", "/nosuch", 400, "unsupported path requested: \"/nosuch\"\n"},
		{"GET", "/busy", 429, "queue is full\n"},
	} {
		resp, body := get(t, tc.method, base+tc.path, nil)
		if resp.StatusCode != tc.status || body != tc.body {
			t.Errorf("%s %s: %d %q; want %d %q", tc.method, tc.path, resp.StatusCode, body, tc.status, tc.body)
		}
		if resp.Header.Get("X-Server-Hostname") == "" {
			t.Errorf("%s %s has no X-Server-Hostname", tc.method, tc.path)
		}
	}
	if resp, _ := get(t, "GET", base+"/busy", nil); resp.Header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After is %q; want 2", resp.Header.Get("Retry-After"))
	}
	if _, body := get(t, "GET", base+"/metrics", nil); !strings.Contains(body, `vm_http_requests_total{path="/ping"} 2`) || !strings.Contains(body, `flag{name="httpListenAddr"`) {
		t.Errorf("unexpected /metrics:\n%s", body)
	}
	if resp, _ := get(t, "GET", base+"/debug/pprof/cmdline", nil); resp.StatusCode != 200 {
		t.Errorf("/debug/pprof/cmdline answers %d", resp.StatusCode)
	}
}

func TestAuthAndSecrets(t *testing.T) {
	base, _ := start(t, "-httpAuth.username=u", "-httpAuth.password=p", "-flagsAuthKey=k")
	if resp, _ := get(t, "GET", base+"/health", nil); resp.StatusCode != 200 {
		t.Errorf("/health needs no password, but answers %d", resp.StatusCode)
	}
	resp, _ := get(t, "GET", base+"/metrics", nil)
	if resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic") {
		t.Errorf("without password: %d %q", resp.StatusCode, resp.Header)
	}
	login := func(r *http.Request) { r.SetBasicAuth("u", "p") }
	if resp, _ := get(t, "GET", base+"/flags", login); resp.StatusCode != 401 {
		t.Errorf("/flags without authKey answers %d", resp.StatusCode)
	}
	resp, body := get(t, "GET", base+"/flags?authKey=k", login)
	if resp.StatusCode != 200 || strings.Contains(body, `"p"`) || !strings.Contains(body, `-httpAuth.password="secret"`) {
		t.Errorf("/flags: %d\n%s", resp.StatusCode, body)
	}
}

func TestPathPrefix(t *testing.T) {
	base, _ := start(t, "-http.pathPrefix=/db/")
	for path, want := range map[string]int{"/db/app?n=": 200, "/db/health": 200, "/health": 200, "/app": 400, "/dbapp": 400} {
		if resp, _ := get(t, "GET", base+path, nil); resp.StatusCode != want {
			t.Errorf("%s answers %d; want %d", path, resp.StatusCode, want)
		}
	}
}

func TestCompression(t *testing.T) {
	base, _ := start(t)
	accept := func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") }
	resp, body := get(t, "GET", base+"/app?n=123456123456", accept)
	if resp.Header.Get("Content-Encoding") != "gzip" || len(body) > 1000 {
		t.Errorf("a large answer came as %q with %d bytes", resp.Header.Get("Content-Encoding"), len(body))
	}
	if resp, body := get(t, "GET", base+"/app?n=123456", accept); resp.Header.Get("Content-Encoding") != "" || len(body) != 6000 || resp.ContentLength != 6000 {
		t.Errorf("a small answer came as %q with %d bytes", resp.Header.Get("Content-Encoding"), len(body))
	}
	if resp, body := get(t, "GET", base+"/app?n=123456123456", nil); resp.Header.Get("Content-Encoding") != "" || len(body) != 12000 {
		t.Errorf("an answer for a plain client came as %q with %d bytes", resp.Header.Get("Content-Encoding"), len(body))
	}
}

// TestCompressorsAreReused asks for compressed answers of several sizes, many at a time: each is its own.
func TestCompressorsAreReused(t *testing.T) {
	base, _ := start(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				want := strings.Repeat(fmt.Sprintf("%d %d,", i, j), 2500+100*j)
				resp, body := get(t, "POST", base+"/upload", func(r *http.Request) {
					r.Header.Set("Accept-Encoding", "gzip")
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(want)), int64(len(want))
				})
				gz, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					t.Errorf("encoding %q: %s", resp.Header.Get("Content-Encoding"), err)
					return
				}
				if got, err := io.ReadAll(gz); err != nil || string(got) != want {
					t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
				}
			}
		})
	}
	wg.Wait()
}

func TestTakenPortIsAClearError(t *testing.T) {
	_, s := start(t)
	var c Config
	c.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError), s.Addrs()[0].String())
	_, err := Start(Options{Config: &c, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err == nil || !strings.Contains(err.Error(), "taken by another process") {
		t.Errorf("got %v", err)
	}
}

func TestStalledBodyFails(t *testing.T) {
	_, s := start(t)
	s.bodyWait = 50 * time.Millisecond
	send := func(connection, body string) string {
		conn, err := net.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("POST /upload HTTP/1.1\r\nHost: x\r\nConnection: " + connection + "\r\nContent-Length: 4\r\n\r\n" + body)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	for _, connection := range []string{"close", "keep-alive"} {
		if got := send(connection, "ab"); !strings.HasPrefix(got, "HTTP/1.1 503") || !strings.Contains(got, "stalled") {
			t.Errorf("a stalled body is answered %q", got)
		}
	}
	if got := send("close", "abcd"); !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.HasSuffix(got, "abcd") {
		t.Errorf("a whole body is answered %q", got)
	}
}

// TestStalledReaderFails checks that a client which does not read its answer does not hold it for ever.
func TestStalledReaderFails(t *testing.T) {
	base, s := start(t)
	s.bodyWait = 50 * time.Millisecond
	conn, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /app?n=" + strings.Repeat("x", 50_000) + " HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	labels := `{name="http", addr="` + s.Addrs()[0].String() + `"} `
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, body := get(t, "GET", base+"/metrics", nil)
		if !strings.Contains(body, "vm_tcplistener_accepts_total"+labels+"1\n") && strings.Contains(body, "vm_tcplistener_conns"+labels+"1\n") {
			return // only the connection of this loop is left
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection stays open")
		}
	}
}

// TestIdleConnectionIsNotStalled checks that deadlines of one answer do not reach the next.
func TestIdleConnectionIsNotStalled(t *testing.T) {
	base, s := start(t)
	s.bodyWait = 50 * time.Millisecond
	for range 3 {
		if resp, body := get(t, "GET", base+"/app?n="+strings.Repeat("x", 300), nil); resp.StatusCode != 200 || len(body) != 300_000 {
			t.Errorf("status %d, %d bytes", resp.StatusCode, len(body))
		}
		time.Sleep(2 * s.bodyWait) // until the deadline of the last answer is over
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	got := strings.Join(withoutSecretFlags([]string{"vm", "-httpAuth.password=p1", "--flagsAuthKey", "k2", "-storageNode=a", "-retentionPeriod", "1"}), " ")
	if want := "vm -httpAuth.password=secret --flagsAuthKey secret -storageNode=a -retentionPeriod 1"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if got, want := withoutSecretArgs("/a?x=1&authKey=k&y=2"), "/a?x=1&authKey=secret&y=2"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

func TestHealthFailsWhileDraining(t *testing.T) {
	base, s := start(t)
	s.draining.Store(true)
	if resp, _ := get(t, "GET", base+"/health", nil); resp.StatusCode != 503 {
		t.Errorf("/health answers %d while shutting down", resp.StatusCode)
	}
}
