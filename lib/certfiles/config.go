package certfiles

import (
	"crypto/tls"
	"flag"
	"fmt"
	"slices"
	"strings"

	"vmcluster/lib/flagvalue"
)

// Settings name the files and say what is demanded of the other side.
type Settings struct {
	Flag         string // with which the names of the flags begin, such as -cluster.tls; for messages and metrics
	CertFile     string
	KeyFile      string
	CAFile       string // empty: the CAs of the system
	CAFlag       string // the flag of CAFile; empty: Flag with CAFile appended
	CipherSuites []string
	MinVersion   string // TLS10 to TLS13; empty means TLS12
	ServerName   string // of a client: what certificates of servers must be for; empty: the host which is dialled
	// DemandClientCert makes a server talk to clients only whose certificate is signed by a CA of CAFile.
	DemandClientCert bool
	// SkipVerify makes a client accept servers with any certificate.
	SkipVerify bool
}

// Config holds the flags of the connections between nodes, on one of their sides.
type Config struct {
	Enabled            bool
	Optional           bool // of servers
	CertFile           string
	KeyFile            string
	CAFile             string
	CipherSuites       flagvalue.Strings
	InsecureSkipVerify bool
	ServerName         string // of clients
	flag               string
}

// RegisterServerFlags registers -<prefix>.tls, -<prefix>.tlsCertFile and so on for a port at which the given peers connect.
func (c *Config) RegisterServerFlags(fs *flag.FlagSet, prefix, peers string) {
	name := c.register(fs, prefix)
	fs.BoolVar(&c.Enabled, name, false, "Accept connections from "+peers+" over TLS only")
	fs.BoolVar(&c.Optional, name+"Optional", false, "With -"+name+", accept connections from "+peers+" without TLS and certificate, too: for the time in which it is turned on or off in a running cluster; see vm_rpc_plain_conns")
	fs.StringVar(&c.CertFile, name+"CertFile", "", "File with the certificate shown to "+peers+", in PEM, intermediate certificates after it; it is read again when it changes")
	fs.StringVar(&c.CAFile, name+"CAFile", "", "File with the CA certificates, in PEM, one of which must have signed the certificates of "+peers+"; without it they need none")
	fs.BoolVar(&c.InsecureSkipVerify, name+"InsecureSkipVerify", false, "Let "+peers+" connect without a certificate also when -"+name+"CAFile is set")
}

// RegisterClientFlags registers -<prefix>.tls, -<prefix>.tlsCertFile and so on for connections to the nodes given with the flag nodes.
func (c *Config) RegisterClientFlags(fs *flag.FlagSet, prefix, nodes string) {
	name := c.register(fs, prefix)
	fs.BoolVar(&c.Enabled, name, false, "Connect to "+nodes+" over TLS")
	fs.StringVar(&c.CertFile, name+"CertFile", "", "File with the certificate shown to "+nodes+", in PEM, for those which demand one; it is read again when it changes")
	fs.StringVar(&c.CAFile, name+"CAFile", "", "File with the CA certificates, in PEM, one of which must have signed the certificate of "+nodes+" (default the CAs of the system)")
	fs.BoolVar(&c.InsecureSkipVerify, name+"InsecureSkipVerify", false, "Accept any certificate of "+nodes+": keeps listeners out, but nobody who gets in between")
	fs.StringVar(&c.ServerName, name+"ServerName", "", "Name which the certificate of "+nodes+" must be for (default the host in its address); for nodes found by their IP address")
}

// register registers what both sides have and returns the name of the first flag.
func (c *Config) register(fs *flag.FlagSet, prefix string) string {
	name := prefix + ".tls"
	c.flag = "-" + name
	fs.StringVar(&c.KeyFile, name+"KeyFile", "", "File with the key of -"+name+"CertFile, in PEM; it is read again when it changes")
	fs.Var(&c.CipherSuites, name+"CipherSuites", "Cipher suites to allow in TLS 1.2, by their names such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; TLS 1.3 has its own (default those which Go deems secure)")
	return name
}

func (c *Config) settings() Settings {
	return Settings{Flag: c.flag, CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile, CipherSuites: c.CipherSuites, ServerName: c.ServerName}
}

// Server returns the configuration for NewServer's callers; nil when TLS is off.
func (c *Config) Server(o Options) (*tls.Config, error) {
	if !c.Enabled {
		c.warnUnused(o)
		return nil, nil
	}
	if c.Optional && o.Logger != nil {
		o.Logger.Warnf("whoever reaches the port may connect without TLS: remove %sOptional when vm_rpc_plain_conns is 0", c.flag)
	}
	s := c.settings()
	s.DemandClientCert = c.CAFile != "" && !c.InsecureSkipVerify
	if !s.DemandClientCert && o.Logger != nil {
		o.Logger.Warnf("connections are encrypted, but whoever reaches the port may connect: set %sCAFile to demand certificates", c.flag)
	}
	return NewServer(s, o)
}

// Client returns the function which makes the configuration of each connection, as NewClient does; nil when TLS is off.
func (c *Config) Client(o Options) (func(host string) *tls.Config, error) {
	if !c.Enabled {
		c.warnUnused(o)
		return nil, nil
	}
	s := c.settings()
	s.SkipVerify = c.InsecureSkipVerify
	return NewClient(s, o)
}

// warnUnused tells who gives files and forgets to turn TLS on.
func (c *Config) warnUnused(o Options) {
	if o.Logger != nil && c.Optional {
		o.Logger.Warnf("%sOptional has no effect without %s: connections are not encrypted", c.flag, c.flag)
	}
	if o.Logger != nil && c.CertFile+c.KeyFile+c.CAFile != "" {
		o.Logger.Warnf("%sCertFile, %sKeyFile and %sCAFile have no effect without %s: connections are not encrypted", c.flag, c.flag, c.flag, c.flag)
	}
}

func (s *Settings) caFlag() string {
	if s.CAFlag != "" {
		return s.CAFlag
	}
	return s.Flag + "CAFile"
}

// parseSuites returns the numbers of cipher suites.
func (s *Settings) parseSuites() ([]uint16, error) {
	var ids []uint16
	for _, name := range s.CipherSuites {
		if name == "" {
			continue
		}
		known := tls.CipherSuites()
		i := slices.IndexFunc(known, func(c *tls.CipherSuite) bool { return strings.EqualFold(c.Name, name) })
		if i < 0 {
			return nil, fmt.Errorf("cannot use cipher suite %q of %sCipherSuites: it is unknown or insecure; use some of %s", name, s.Flag, strings.Join(suiteNames(known), ", "))
		}
		ids = append(ids, known[i].ID)
	}
	return ids, nil
}

func suiteNames(suites []*tls.CipherSuite) []string {
	var names []string
	for _, c := range suites {
		names = append(names, c.Name)
	}
	return names
}

// parseMinVersion returns the number of the oldest version to speak.
func (s *Settings) parseMinVersion() (uint16, error) {
	switch strings.ToUpper(s.MinVersion) {
	case "", "TLS12":
		return tls.VersionTLS12, nil
	case "TLS13":
		return tls.VersionTLS13, nil
	case "TLS11":
		return tls.VersionTLS11, nil
	case "TLS10":
		return tls.VersionTLS10, nil
	}
	return 0, fmt.Errorf("cannot use %sMinVersion=%q: want TLS10, TLS11, TLS12 or TLS13", s.Flag, s.MinVersion)
}
