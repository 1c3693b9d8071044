package httpserver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/certfiles/certtest"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// httpsClient trusts a CA and shows a certificate, if there is one.
func httpsClient(t *testing.T, ca []byte, cert, key []byte) *http.Client {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(ca)
	if cert != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// fetch returns the answer of a GET.
func fetch(c *http.Client, url string) (*http.Response, string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp, string(body), err
}

// lockedBuffer is a log for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startLogged is start with a log, or returns the error of Start.
func startLogged(t *testing.T, args ...string) (*Server, *lockedBuffer, error) {
	t.Helper()
	var c Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs, "127.0.0.1:0")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	out := &lockedBuffer{}
	l, err := logger.New(&logger.Config{}, out, metrics.NewSet())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(Options{Config: &c, Logger: l, Metrics: metrics.NewSet(), Flags: fs, Handler: func(http.ResponseWriter, *http.Request) bool { return false }})
	if err == nil {
		t.Cleanup(func() { _ = s.Stop() })
	}
	return s, out, err
}

// TestTLS serves HTTPS: all that plain HTTP can, and a readable answer to those who do not use it.
func TestTLS(t *testing.T) {
	ca := certtest.NewCA(t, "ca")
	files := ca.Write(t, t.TempDir(), certtest.Leaf{})
	base, s := start(t, "-tls", "-tlsCertFile="+files.Cert, "-tlsKeyFile="+files.Key)
	s.bodyWait = 50 * time.Millisecond
	addr := s.Addrs()[0].String()
	client := httpsClient(t, ca.PEM, nil, nil)
	for range 3 { // later ones on the same connection, after the deadlines of the first
		resp, body, err := fetch(client, "https://"+addr+"/app?n="+strings.Repeat("x", 500))
		if err != nil || resp.StatusCode != 200 || len(body) != 500_000 || resp.ProtoMajor != 1 {
			t.Fatalf("got %v, %d bytes, %v", resp, len(body), err)
		}
		time.Sleep(2 * s.bodyWait) // until the deadline of the last answer is over
	}
	if resp, body := get(t, "GET", base+"/health", nil); resp.StatusCode != 400 || !strings.Contains(body, "HTTP request to an HTTPS server") {
		t.Errorf("a plain request is answered %d %q", resp.StatusCode, body)
	}
	if _, _, err := fetch(httpsClient(t, certtest.NewCA(t, "other").PEM, nil, nil), "https://"+addr+"/health"); err == nil {
		t.Error("the certificate is signed by any CA")
	}
	conn, err := tls.Dial("tcp", addr, client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 503 {
		t.Fatalf("a stalled body is answered %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	silent, err := net.Dial("tcp", addr) // does not keep the server from ending
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
}

// TestMutualTLS demands certificates at one address of two.
func TestMutualTLS(t *testing.T) {
	ca, other := certtest.NewCA(t, "ca"), certtest.NewCA(t, "other")
	files := ca.Write(t, t.TempDir(), certtest.Leaf{})
	s, out, err := startLogged(t, "-httpListenAddr=127.0.0.1:0,127.0.0.1:0", "-tls=false,true", "-tlsCertFile="+files.Cert, "-tlsKeyFile="+files.Key, "-mtls=false,true", "-mtlsCAFile="+files.CA)
	if err != nil {
		t.Fatal(err)
	}
	if resp, body := get(t, "GET", "http://"+s.Addrs()[0].String()+"/health", nil); resp.StatusCode != 200 {
		t.Errorf("the first address answers %d %q", resp.StatusCode, body)
	}
	url := "https://" + s.Addrs()[1].String() + "/health"
	cert, key := ca.Issue(t, certtest.Leaf{ClientOnly: true})
	if resp, body, err := fetch(httpsClient(t, ca.PEM, cert, key), url); err != nil || resp.StatusCode != 200 || body != "OK" {
		t.Errorf("a client with certificate gets %q, %v", body, err)
	}
	foreignCert, foreignKey := other.Issue(t, certtest.Leaf{})
	oldCert, oldKey := ca.Issue(t, certtest.Leaf{NotAfter: time.Now().Add(-time.Minute)})
	for name, client := range map[string]*http.Client{
		"no":      httpsClient(t, ca.PEM, nil, nil),
		"foreign": httpsClient(t, ca.PEM, foreignCert, foreignKey),
		"expired": httpsClient(t, ca.PEM, oldCert, oldKey),
	} {
		if resp, body, err := fetch(client, url); err == nil {
			t.Errorf("a client with %s certificate gets %d %q", name, resp.StatusCode, body)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), "TLS handshake error"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("failed handshakes are not logged:\n%s", out)
		}
	}
	if !strings.Contains(out.String(), "started server at https://"+s.Addrs()[1].String()) {
		t.Errorf("the log does not say that it is HTTPS:\n%s", out)
	}
}

// TestCertificateIsRenewed has the server read its files again.
func TestCertificateIsRenewed(t *testing.T) {
	ca, next := certtest.NewCA(t, "ca"), certtest.NewCA(t, "next")
	dir := t.TempDir()
	files := ca.Write(t, dir, certtest.Leaf{})
	_, s := start(t, "-tls", "-tlsCertFile="+files.Cert, "-tlsKeyFile="+files.Key)
	url := "https://" + s.Addrs()[0].String() + "/health"
	if _, body, err := fetch(httpsClient(t, ca.PEM, nil, nil), url); err != nil {
		t.Fatal(body, err)
	}
	next.Write(t, dir, certtest.Leaf{})
	client := httpsClient(t, next.PEM, nil, nil)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, _, err := fetch(client, url)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestTLSConfig(t *testing.T) {
	files := certtest.NewCA(t, "ca").Write(t, t.TempDir(), certtest.Leaf{})
	pair := []string{"-tlsCertFile=" + files.Cert, "-tlsKeyFile=" + files.Key}
	for _, c := range []struct {
		args     []string
		err, log string
	}{
		{[]string{"-tls"}, "-tls needs -tlsCertFile and -tlsKeyFile", ""},
		{[]string{"-mtls"}, "set -tls", ""},
		{append(pair, "-tls", "-mtls", "-mtlsCAFile=/nosuch"), "-mtlsCAFile", ""},
		{append(pair, "-tls", "-tlsMinVersion=SSL3"), `-tlsMinVersion="SSL3"`, ""},
		{append(pair, "-tls", "-tlsCipherSuites=X"), `cipher suite "X" of -tlsCipherSuites`, ""},
		{append(pair, "-tls", "-mtlsCAFile="+files.CA), "", "-mtlsCAFile has no effect without -mtls"},
		{append(pair, "-tls=false"), "", "have no effect without -tls"},
	} {
		_, out, err := startLogged(t, c.args...)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !strings.Contains(out.String(), c.log) {
			t.Errorf("%q: %v\n%s", c.args, err, out)
		}
	}
	_, s := start(t, append(pair, "-tls", "-tlsMinVersion=TLS13")...)
	conn, err := tls.Dial("tcp", s.Addrs()[0].String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 is spoken despite -tlsMinVersion=TLS13")
	}
}
