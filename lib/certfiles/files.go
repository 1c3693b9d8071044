package certfiles

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// Options are what a process has to offer.
type Options struct {
	Logger  *logger.Logger   // nil means none
	Metrics *metrics.Set     // nil means none
	Now     func() time.Time // nil means time.Now
}

// checkInterval is the least time between two looks at the files.
const checkInterval = time.Second

// NewServer returns the configuration of a server. It is good for tls.Server and tls.NewListener and follows the files by itself.
func NewServer(s Settings, o Options) (*tls.Config, error) {
	if s.CertFile == "" || s.KeyFile == "" {
		return nil, fmt.Errorf("cannot serve TLS without a certificate: %s needs %sCertFile and %sKeyFile", s.Flag, s.Flag, s.Flag)
	}
	f, err := open(s, o)
	if err != nil {
		return nil, err
	}
	config := f.base.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.current().server, nil }
	return config, nil
}

// NewClient returns a function which makes the configuration of one connection to a host.
func NewClient(s Settings, o Options) (func(host string) *tls.Config, error) {
	if (s.CertFile == "") != (s.KeyFile == "") {
		return nil, fmt.Errorf("cannot use %sCertFile=%q with %sKeyFile=%q: both are needed, or none", s.Flag, s.CertFile, s.Flag, s.KeyFile)
	}
	f, err := open(s, o)
	if err != nil {
		return nil, err
	}
	return func(host string) *tls.Config {
		b := f.current()
		config := f.base.Clone()
		config.RootCAs, config.ServerName, config.InsecureSkipVerify = b.roots, host, s.SkipVerify
		if s.ServerName != "" {
			config.ServerName = s.ServerName
		}
		if b.cert != nil {
			// Not Certificates: of those a client shows only what is signed by a CA which the server names, and with another one
			// the server could not say what is wrong.
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return b.cert, nil }
		}
		return config
	}, nil
}

// files are the files of one side and what was read from them last.
type files struct {
	s      Settings
	base   *tls.Config // what does not come from files
	logger *logger.Logger
	now    func() time.Time
	loaded *metrics.Counter
	failed *metrics.Counter

	mu struct {
		sync.Mutex
		bundle  *bundle
		checked time.Time
		failure string // of the last look; empty when it was good
	}
}

// bundle is the content of all files at a time. It is not changed.
type bundle struct {
	sum    [sha256.Size]byte
	cert   *tls.Certificate // nil without
	roots  *x509.CertPool   // nil: those of the system
	expiry time.Time        // of the first certificate of the chain to end
	server *tls.Config
}

// open reads the files for the first time.
func open(s Settings, o Options) (*files, error) {
	f := &files{s: s, logger: o.Logger, now: o.Now}
	if f.logger == nil {
		f.logger = logger.Discard()
	}
	if f.now == nil {
		f.now = time.Now
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	suites, err := s.parseSuites()
	if err != nil {
		return nil, err
	}
	minVersion, err := s.parseMinVersion()
	if err != nil {
		return nil, err
	}
	// Small first records would make the first answers appear sooner; between servers they cost only.
	f.base = &tls.Config{MinVersion: minVersion, CipherSuites: suites, Time: f.now, DynamicRecordSizingDisabled: true}
	flag := strings.TrimPrefix(s.Flag, "-")
	f.loaded = o.Metrics.Counter(fmt.Sprintf("vm_tls_files_loaded_total{flag=%q}", flag))
	f.failed = o.Metrics.Counter(fmt.Sprintf("vm_tls_files_errors_total{flag=%q}", flag))
	b, err := f.read(nil)
	if err != nil {
		return nil, err
	}
	f.mu.bundle, f.mu.checked = b, f.now()
	f.use(b)
	if s.CertFile != "" {
		o.Metrics.Gauge(fmt.Sprintf("vm_tls_certificate_expiry_timestamp_seconds{flag=%q, file=%q}", flag+"CertFile", s.CertFile),
			func() float64 { return float64(f.current().expiry.Unix()) })
	}
	return f, nil
}

// current returns what to use now, after a look at the files if the last one was a while ago.
func (f *files) current() *bundle {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if since := now.Sub(f.mu.checked); since >= 0 && since < checkInterval {
		return f.mu.bundle
	}
	f.mu.checked = now
	b, err := f.read(f.mu.bundle)
	if err != nil {
		f.failed.Inc()
		if text := err.Error(); text != f.mu.failure {
			f.mu.failure = text
			f.logger.Errorf("%s; the files read before stay in use", text)
		}
		return f.mu.bundle
	}
	f.mu.failure = ""
	if b != f.mu.bundle {
		f.mu.bundle = b
		f.use(b)
		f.logger.Infof("read the files of %sCertFile, %sKeyFile and %s again: they have changed", f.s.Flag, f.s.Flag, f.s.caFlag())
	}
	return b
}

// use counts files that are taken into use and warns of a certificate which nobody will accept.
func (f *files) use(b *bundle) {
	f.loaded.Inc()
	if b.cert != nil && !f.now().Before(b.expiry) {
		f.logger.Errorf("the certificate in %sCertFile=%q has expired at %s: renew it", f.s.Flag, f.s.CertFile, b.expiry.UTC().Format(time.RFC3339))
	}
}

// read returns the content of the files; old when it is the same.
func (f *files) read(old *bundle) (*bundle, error) {
	var content [3][]byte
	hash := sha256.New()
	for i, file := range []struct{ flag, path string }{{f.s.Flag + "CertFile", f.s.CertFile}, {f.s.Flag + "KeyFile", f.s.KeyFile}, {f.s.caFlag(), f.s.CAFile}} {
		if file.path == "" {
			continue
		}
		data, err := os.ReadFile(file.path)
		if err != nil {
			return nil, fmt.Errorf("cannot read file of %s: %w", file.flag, err)
		}
		content[i] = data
		_, _ = hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(data)))) // hashes take everything
		_, _ = hash.Write(data)
	}
	b := &bundle{sum: [sha256.Size]byte(hash.Sum(nil))}
	if old != nil && b.sum == old.sum {
		return old, nil
	}
	if f.s.CertFile != "" {
		if err := b.setCert(content[0], content[1]); err != nil {
			return nil, fmt.Errorf("cannot use certificate %sCertFile=%q with %sKeyFile=%q: %w", f.s.Flag, f.s.CertFile, f.s.Flag, f.s.KeyFile, err)
		}
	}
	if f.s.CAFile != "" {
		var err error
		if b.roots, err = parsePool(content[2]); err != nil {
			return nil, fmt.Errorf("cannot use CA certificates of %s=%q: %w", f.s.caFlag(), f.s.CAFile, err)
		}
	}
	b.setServer(f)
	return b, nil
}

func (b *bundle) setCert(cert, key []byte) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	b.cert = &pair
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if b.expiry.IsZero() || c.NotAfter.Before(b.expiry) {
			b.expiry = c.NotAfter
		}
	}
	return nil
}

// setServer makes the configuration for handshakes of a server with these files.
func (b *bundle) setServer(f *files) {
	if b.cert == nil {
		return
	}
	b.server = f.base.Clone()
	b.server.Certificates = []tls.Certificate{*b.cert}
	if f.s.DemandClientCert {
		b.server.ClientAuth, b.server.ClientCAs = tls.RequireAndVerifyClientCert, b.roots
		b.server.SessionTicketsDisabled = true // who resumes shows no certificate: it would stay in after its CA has gone
	}
}

// parsePool reads CA certificates. Other than the standard library it does not pass over those which it cannot read.
func parsePool(data []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s; want certificates only", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, errors.New("it holds no certificate in PEM form")
	}
	return pool, nil
}
