package httpserver

import (
	"bytes"
	"crypto/tls"
	"flag"
	"fmt"

	"vmcluster/lib/certfiles"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
)

// TLSConfig holds the flags of HTTPS. The values of a list belong to those of -httpListenAddr in order; a single one is for all of them.
type TLSConfig struct {
	Enabled      flagvalue.Bools
	CertFiles    flagvalue.Strings
	KeyFiles     flagvalue.Strings
	CipherSuites flagvalue.Strings // for all addresses
	MinVersions  flagvalue.Strings
	ClientCerts  flagvalue.Bools
	CAFiles      flagvalue.Strings
}

func (c *TLSConfig) registerFlags(fs *flag.FlagSet) {
	const each = "; one value for all addresses of -httpListenAddr, or a list with one for each"
	fs.Var(&c.Enabled, "tls", "Serve HTTPS instead of HTTP"+each)
	fs.Var(&c.CertFiles, "tlsCertFile", "File with the certificate to show, in PEM, intermediate certificates after it; it is read again when it changes"+each)
	fs.Var(&c.KeyFiles, "tlsKeyFile", "File with the key of -tlsCertFile, in PEM; it is read again when it changes"+each)
	fs.Var(&c.CipherSuites, "tlsCipherSuites", "Cipher suites to allow in TLS 1.2 and before, by their names such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; TLS 1.3 has its own (default those which Go deems secure)")
	fs.Var(&c.MinVersions, "tlsMinVersion", "Oldest version of TLS to speak: TLS10, TLS11, TLS12 or TLS13"+each+" (default TLS12)")
	fs.Var(&c.ClientCerts, "mtls", "Demand a certificate of clients, signed by a CA of -mtlsCAFile; needs -tls"+each)
	fs.Var(&c.CAFiles, "mtlsCAFile", "File with the CA certificates for -mtls, in PEM; it is read again when it changes (default the CAs of the system)"+each)
}

// at returns what to serve at the listen address with the given index; nil for plain HTTP.
func (c *TLSConfig) at(i int, o Options) (*tls.Config, error) {
	demand := c.ClientCerts.At(i)
	if !c.Enabled.At(i) {
		if demand {
			return nil, fmt.Errorf("cannot demand certificates of clients by -mtls at address %d of -httpListenAddr, which serves no TLS: set -tls", i+1)
		}
		if c.CertFiles.At(i)+c.KeyFiles.At(i) != "" {
			o.Logger.Warnf("-tlsCertFile and -tlsKeyFile have no effect without -tls at address %d of -httpListenAddr: it serves plain HTTP", i+1)
		}
		return nil, nil
	}
	s := certfiles.Settings{
		Flag: "-tls", CertFile: c.CertFiles.At(i), KeyFile: c.KeyFiles.At(i), CipherSuites: c.CipherSuites, MinVersion: c.MinVersions.At(i),
		CAFlag: "-mtlsCAFile", DemandClientCert: demand,
	}
	switch {
	case demand:
		s.CAFile = c.CAFiles.At(i)
	case c.CAFiles.At(i) != "":
		o.Logger.Warnf("-mtlsCAFile has no effect without -mtls at address %d of -httpListenAddr: clients need no certificate", i+1)
	}
	return certfiles.NewServer(s, certfiles.Options{Logger: o.Logger, Metrics: o.Metrics})
}

// errorLog takes what net/http has to say of connections, failed handshakes above all, to the log. Strangers must not fill it.
type errorLog struct{ throttle *logger.Throttle }

// Write logs a line.
func (l errorLog) Write(line []byte) (int, error) {
	l.throttle.Warnf("%s", bytes.TrimSpace(line))
	return len(line), nil
}
