package certfiles

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/certfiles/certtest"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// env is a process: clock, log and metrics.
type env struct {
	mu  sync.Mutex
	now time.Time
	log bytes.Buffer
	set *metrics.Set
}

func newEnv() *env { return &env{now: time.Now(), set: metrics.NewSet()} }

func (e *env) options(t *testing.T) Options {
	t.Helper()
	l, err := logger.New(&logger.Config{}, e, metrics.NewSet())
	if err != nil {
		t.Fatal(err)
	}
	return Options{Logger: l, Metrics: e.set, Now: e.time}
}

func (e *env) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.Write(p)
}

func (e *env) logged() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.String()
}

func (e *env) time() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

func (e *env) pass(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = e.now.Add(d)
}

func (e *env) metrics(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := e.set.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func settings(f certtest.Files) Settings {
	return Settings{Flag: "-cluster.tls", CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA}
}

func mutual(f certtest.Files) Settings {
	s := settings(f)
	s.DemandClientCert = true
	return s
}

func server(t *testing.T, s Settings, o Options) *tls.Config {
	t.Helper()
	c, err := NewServer(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func client(t *testing.T, s Settings, o Options) func(host string) *tls.Config {
	t.Helper()
	c, err := NewClient(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// talk connects over TCP and sends a byte there and back. It returns the state of the client and the errors of both.
func talk(t *testing.T, sc, cc *tls.Config) (state tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			defer conn.Close()
			secured := tls.Server(conn, sc)
			buf := make([]byte, 1)
			if _, err = io.ReadFull(secured, buf); err == nil {
				_, err = secured.Write(buf)
			}
		}
		served <- err
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	secured := tls.Client(conn, cc)
	clientErr = secured.Handshake()
	if clientErr == nil {
		_, _ = secured.Write([]byte{1}) // if it fails, so does reading, and says more
		_, clientErr = io.ReadFull(secured, make([]byte, 1))
	}
	state = secured.ConnectionState()
	_ = conn.Close()
	return state, clientErr, <-served
}

// TestTrust has servers and clients of two CAs, with and without certificates.
func TestTrust(t *testing.T) {
	ours, theirs := certtest.NewCA(t, "ours"), certtest.NewCA(t, "theirs")
	node := ours.Write(t, t.TempDir(), certtest.Leaf{})
	elsewhere := ours.Write(t, t.TempDir(), certtest.Leaf{Hosts: []string{"elsewhere", "10.1.2.3"}})
	expired := ours.Write(t, t.TempDir(), certtest.Leaf{NotAfter: time.Now().Add(-time.Hour)})
	foreign := theirs.Write(t, t.TempDir(), certtest.Leaf{})
	onlyCA := func(f certtest.Files) Settings { return Settings{Flag: "-cluster.tls", CAFile: f.CA} }
	withCA := func(f certtest.Files, ca string) Settings {
		s := settings(f)
		s.CAFile = ca
		return s
	}
	careless, named := onlyCA(foreign), onlyCA(node)
	careless.SkipVerify = true
	named.ServerName = "elsewhere"
	for name, c := range map[string]struct {
		server, client   Settings
		host             string
		clientErr, fails string // fails: of the server
	}{
		"mutual":                        {mutual(node), settings(node), "127.0.0.1", "", ""},
		"mutual, by name":               {mutual(node), settings(node), "localhost", "", ""},
		"server only":                   {settings(node), onlyCA(node), "127.0.0.1", "", ""},
		"no certificate":                {mutual(node), onlyCA(node), "127.0.0.1", "certificate required", "didn't provide a certificate"},
		"foreign client":                {mutual(node), withCA(foreign, node.CA), "127.0.0.1", "certificate", "signed by unknown authority"},
		"expired client":                {mutual(node), withCA(expired, node.CA), "127.0.0.1", "certificate", "expired"},
		"foreign server":                {settings(foreign), onlyCA(node), "127.0.0.1", "signed by unknown authority", "bad certificate"},
		"expired server":                {settings(expired), onlyCA(node), "127.0.0.1", "expired", "certificate"},
		"other name":                    {settings(elsewhere), onlyCA(node), "127.0.0.1", "not 127.0.0.1", "certificate"},
		"other name, which is expected": {settings(elsewhere), named, "127.0.0.1", "", ""},
		"foreign server, not verified":  {settings(node), careless, "127.0.0.1", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv()
			_, clientErr, serverErr := talk(t, server(t, c.server, e.options(t)), client(t, c.client, e.options(t))(c.host))
			check := func(who string, err error, want string) {
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("the %s gets %v; want %q", who, err, want)
				}
			}
			check("server", serverErr, c.fails)
			// A reset may overtake what the server says; what it does not get it cannot say wrong.
			var op *net.OpError
			if !errors.As(clientErr, &op) || op.Op == "remote error" {
				check("client", clientErr, c.clientErr)
			}
		})
	}
}

// TestRenewal replaces certificates, and then the CA, while server and client run.
func TestRenewal(t *testing.T) {
	e := newEnv()
	first, second := certtest.NewCA(t, "first"), certtest.NewCA(t, "second")
	atServer, atClient := t.TempDir(), t.TempDir()
	f := first.Write(t, atServer, certtest.Leaf{})
	g := first.Write(t, atClient, certtest.Leaf{ClientOnly: true})
	sc, cc := server(t, mutual(f), e.options(t)), client(t, settings(g), e.options(t))
	serial := func(wantErr bool) string {
		t.Helper()
		state, clientErr, serverErr := talk(t, sc, cc("127.0.0.1"))
		if failed := clientErr != nil || serverErr != nil; failed != wantErr {
			t.Fatalf("client: %v, server: %v; want errors: %t", clientErr, serverErr, wantErr)
		}
		if wantErr {
			return ""
		}
		if state.DidResume {
			t.Error("a connection is resumed")
		}
		return state.PeerCertificates[0].SerialNumber.String()
	}
	old := serial(false)
	first.Write(t, atServer, certtest.Leaf{})
	if serial(false) != old {
		t.Error("the files are read again within a second")
	}
	e.pass(checkInterval)
	renewed := serial(false)
	if renewed == old {
		t.Error("the new certificate is not shown")
	}
	// The CA is replaced without a gap: both are trusted, then certificates are, then the old one goes.
	for _, dir := range []string{atServer, atClient} {
		certtest.WriteFile(t, filepath.Join(dir, "ca.pem"), append(bytes.Clone(first.PEM), second.PEM...))
	}
	e.pass(checkInterval)
	serial(false)
	for _, dir := range []string{atServer, atClient} {
		cert, key := second.Issue(t, certtest.Leaf{})
		certtest.WriteFile(t, filepath.Join(dir, "cert.pem"), cert)
		certtest.WriteFile(t, filepath.Join(dir, "key.pem"), key)
		e.pass(checkInterval)
		serial(false)
	}
	for _, dir := range []string{atServer, atClient} {
		certtest.WriteFile(t, filepath.Join(dir, "ca.pem"), second.PEM)
		e.pass(checkInterval)
		serial(false)
	}
	first.Write(t, atClient, certtest.Leaf{}) // who comes with the old CA now stays outside
	e.pass(checkInterval)
	serial(true)
}

// TestBadFiles replaces files by others which cannot be used: those of before stay.
func TestBadFiles(t *testing.T) {
	ca := certtest.NewCA(t, "ca")
	for name, break_ := range map[string]func(f certtest.Files){
		"no certificate": func(f certtest.Files) { certtest.WriteFile(t, f.Cert, []byte("nothing")) },
		"other key": func(f certtest.Files) {
			_, key := ca.Issue(t, certtest.Leaf{})
			certtest.WriteFile(t, f.Key, key)
		},
		"missing": func(f certtest.Files) {
			if err := os.Remove(f.CA); err != nil {
				t.Fatal(err)
			}
		},
		"empty CA": func(f certtest.Files) { certtest.WriteFile(t, f.CA, nil) },
		"damaged CA": func(f certtest.Files) {
			certtest.WriteFile(t, f.CA, bytes.Replace(ca.PEM, []byte("MI"), []byte("MJ"), 1))
		},
		"a key as a CA": func(f certtest.Files) { certtest.WriteFile(t, f.CA, read(t, f.Key)) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv()
			f := ca.Write(t, t.TempDir(), certtest.Leaf{})
			sc, cc := server(t, mutual(f), e.options(t)), client(t, settings(ca.Write(t, t.TempDir(), certtest.Leaf{})), e.options(t))
			works := func() {
				t.Helper()
				if _, clientErr, serverErr := talk(t, sc, cc("127.0.0.1")); clientErr != nil || serverErr != nil {
					t.Errorf("client: %v, server: %v", clientErr, serverErr)
				}
			}
			break_(f)
			for range 3 {
				e.pass(checkInterval)
				works()
			}
			if n := strings.Count(e.logged(), "the files read before stay in use"); n != 1 {
				t.Errorf("%d records tell of it:\n%s", n, e.logged())
			}
			if !strings.Contains(e.metrics(t), `vm_tls_files_errors_total{flag="cluster.tls"} 3`) {
				t.Errorf("it is not counted:\n%s", e.metrics(t))
			}
			if _, err := NewServer(mutual(f), e.options(t)); err == nil || !strings.Contains(err.Error(), "-cluster.tls") {
				t.Errorf("a process starts with such files: %v", err)
			}
			ca.Write(t, filepath.Dir(f.Cert), certtest.Leaf{})
			e.pass(checkInterval)
			works()
			if !strings.Contains(e.logged(), "they have changed") {
				t.Errorf("good files are not read again:\n%s", e.logged())
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestExpiryGauge has the gauge follow the files without any handshake, and expired certificates logged.
func TestExpiryGauge(t *testing.T) {
	e := newEnv()
	ca := certtest.NewCA(t, "ca")
	dir := t.TempDir()
	end := time.Unix(time.Now().Unix()+5000, 0)
	f := ca.Write(t, dir, certtest.Leaf{NotAfter: end})
	server(t, settings(f), e.options(t))
	want := func(end time.Time) {
		t.Helper()
		line := `vm_tls_certificate_expiry_timestamp_seconds{flag="cluster.tlsCertFile", file="` + f.Cert + `"} `
		if _, rest, ok := strings.Cut(e.metrics(t), line); !ok || !strings.HasPrefix(rest, strconv.FormatInt(end.Unix(), 10)+"\n") {
			t.Errorf("want %s%d in:\n%s", line, end.Unix(), e.metrics(t))
		}
	}
	want(end)
	end = time.Unix(time.Now().Unix()-5000, 0)
	ca.Write(t, dir, certtest.Leaf{NotAfter: end})
	e.pass(checkInterval)
	want(end)
	if !strings.Contains(e.logged(), "has expired at") {
		t.Errorf("nobody is told of the end of the certificate:\n%s", e.logged())
	}
}

// TestConfig checks what flags make of it.
func TestConfig(t *testing.T) {
	e := newEnv()
	ca := certtest.NewCA(t, "ca")
	f := ca.Write(t, t.TempDir(), certtest.Leaf{})
	files := []string{"-x.tlsCertFile=" + f.Cert, "-x.tlsKeyFile=" + f.Key}
	for _, c := range []struct {
		args           []string
		server, client string // errors; "off" for no TLS
	}{
		{nil, "off", "off"},
		{files, "off", "off"},
		{[]string{"-x.tls"}, "needs -x.tlsCertFile and -x.tlsKeyFile", ""},
		{append(files, "-x.tls"), "", ""},
		{[]string{"-x.tls", "-x.tlsCertFile=" + f.Cert}, "needs -x.tlsCertFile and -x.tlsKeyFile", "both are needed"},
		{append(files, "-x.tls", "-x.tlsCAFile=/nosuch"), "cannot read file of -x.tlsCAFile", "cannot read file of -x.tlsCAFile"},
		{append(files, "-x.tls", "-x.tlsCipherSuites=TLS_RSA_WITH_RC4_128_SHA"), `cipher suite "TLS_RSA_WITH_RC4_128_SHA"`, "insecure"},
		{append(files, "-x.tls", "-x.tlsCipherSuites=tls_ecdhe_ecdsa_with_aes_128_gcm_sha256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "", ""},
	} {
		parse := func(register func(c *Config, fs *flag.FlagSet)) *Config {
			var config Config
			fs := flag.NewFlagSet("", flag.ContinueOnError)
			register(&config, fs)
			if err := fs.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			return &config
		}
		sc, err := parse(func(c *Config, fs *flag.FlagSet) { c.RegisterServerFlags(fs, "x", "peers") }).Server(e.options(t))
		checkConfig(t, c.args, sc == nil, err, c.server)
		cc, err := parse(func(c *Config, fs *flag.FlagSet) { c.RegisterClientFlags(fs, "x", "-nodes") }).Client(e.options(t))
		checkConfig(t, c.args, cc == nil, err, c.client)
	}
	if n := strings.Count(e.logged(), "have no effect without -x.tls"); n != 2 {
		t.Errorf("%d records tell of files without -x.tls", n)
	}
	if !strings.Contains(e.logged(), "set -x.tlsCAFile to demand certificates") {
		t.Error("a server without CA does not warn")
	}
	if _, err := (&Settings{MinVersion: "SSL3"}).parseMinVersion(); err == nil {
		t.Error("SSL3 is taken")
	}
}

func checkConfig(t *testing.T, args []string, off bool, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err == nil && !off, want == "off" && err == nil && off:
	case err == nil || want == "" || want == "off" || !strings.Contains(err.Error(), want):
		t.Errorf("%q: off %t, error %v; want %q", args, off, err, want)
	}
}

// FuzzParsePool reads whatever is in a CA file.
func FuzzParsePool(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if pool, err := parsePool(data); err == nil && pool.Equal(x509.NewCertPool()) {
			t.Error("an empty pool is taken")
		}
	})
}
