package httpserver

import (
	"flag"
	"time"

	"vmcluster/lib/flagvalue"
)

// Config holds the flags of the HTTP server.
type Config struct {
	ListenAddrs         flagvalue.Strings
	defaultAddr         string
	PathPrefix          string
	ConnTimeout         time.Duration
	IdleConnTimeout     time.Duration
	DisableKeepAlive    bool
	DisableCompression  bool
	DisableCORS         bool
	DisableHostname     bool
	MaxGracefulShutdown time.Duration
	ShutdownDelay       time.Duration
	HSTS                string
	CSP                 string
	FrameOptions        string
	AuthUsername        string
	AuthPassword        flagvalue.Secret
	MetricsAuthKey      flagvalue.Secret
	FlagsAuthKey        flagvalue.Secret
	PprofAuthKey        flagvalue.Secret
	ExposeMetadata      bool
	TLS                 TLSConfig
}

// RegisterFlags registers the -http* flags; defaultAddr is the component's own port, such as ":8482".
func (c *Config) RegisterFlags(fs *flag.FlagSet, defaultAddr string) {
	c.defaultAddr = defaultAddr
	fs.Var(&c.ListenAddrs, "httpListenAddr", "Address to listen at for HTTP; may be repeated; port 0 picks a free port, which the log then shows (default "+defaultAddr+")")
	fs.StringVar(&c.PathPrefix, "http.pathPrefix", "", "Prefix of all paths, such as /metrics-db for a server behind a proxy")
	fs.DurationVar(&c.ConnTimeout, "http.connTimeout", 2*time.Minute, "Age at which a client connection is closed after its next answer, so that load balancers spread connections; 0 means never")
	fs.DurationVar(&c.IdleConnTimeout, "http.idleConnTimeout", time.Minute, "How long an idle client connection is kept")
	fs.BoolVar(&c.DisableKeepAlive, "http.disableKeepAlive", false, "Close client connections after every answer")
	fs.BoolVar(&c.DisableCompression, "http.disableResponseCompression", false, "Never compress answers: saves CPU, costs network")
	fs.BoolVar(&c.DisableCORS, "http.disableCORS", false, "Leave out the Access-Control-Allow-* headers")
	fs.BoolVar(&c.DisableHostname, "http.header.disableServerHostname", false, "Leave out the X-Server-Hostname header")
	fs.DurationVar(&c.MaxGracefulShutdown, "http.maxGracefulShutdownDuration", 7*time.Second, "Longest wait for running requests at shutdown")
	fs.DurationVar(&c.ShutdownDelay, "http.shutdownDelay", 0, "How long /health fails before the server stops accepting, so that load balancers notice")
	fs.StringVar(&c.HSTS, "http.header.hsts", "", "Value of the Strict-Transport-Security header")
	fs.StringVar(&c.CSP, "http.header.csp", "", "Value of the Content-Security-Policy header")
	fs.StringVar(&c.FrameOptions, "http.header.frameOptions", "", "Value of the X-Frame-Options header")
	fs.StringVar(&c.AuthUsername, "httpAuth.username", "", "User name for basic auth on all paths but /health, /-/healthy, /-/ready and /ping; off when empty")
	fs.Var(&c.AuthPassword, "httpAuth.password", "Password for basic auth")
	fs.Var(&c.MetricsAuthKey, "metricsAuthKey", "Value which the authKey argument of /metrics must have; it stands for the password of -httpAuth.*")
	fs.Var(&c.FlagsAuthKey, "flagsAuthKey", "Value which the authKey argument of /flags must have; it stands for the password of -httpAuth.*")
	fs.Var(&c.PprofAuthKey, "pprofAuthKey", "Value which the authKey argument of /debug/pprof/* must have; it stands for the password of -httpAuth.*")
	c.TLS.registerFlags(fs)
	fs.BoolVar(&c.ExposeMetadata, "metrics.exposeMetadata", false, "Write TYPE lines at /metrics")
}

func (c *Config) addrs() []string {
	if len(c.ListenAddrs) == 0 {
		return []string{c.defaultAddr}
	}
	return c.ListenAddrs
}
