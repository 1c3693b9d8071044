package lineports

import (
	"flag"
	"net/http"

	"vmcluster/app/internal/insertapi"
	"vmcluster/lib/linelistener"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/service"
)

// Config holds the flags of the ports.
type Config struct {
	listener                                   linelistener.Config
	influx, graphite, openTSDB, openTSDBOfHTTP string // addresses
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.listener.RegisterFlags(fs)
	fs.StringVar(&c.influx, "influxListenAddr", "", "Address to listen at for the Influx line protocol over TCP and UDP, for example :8089; empty: none; over HTTP it is always served")
	fs.StringVar(&c.graphite, "graphiteListenAddr", "", "Address to listen at for the plaintext protocol of Graphite over TCP and UDP, for example :2003; empty: none")
	fs.StringVar(&c.openTSDB, "opentsdbListenAddr", "", "Address to listen at for put lines of OpenTSDB over TCP and UDP, and for its /api/put over HTTP, for example :4242; empty: none")
	fs.StringVar(&c.openTSDBOfHTTP, "opentsdbHTTPListenAddr", "", "Address to listen at for OpenTSDB's /api/put over HTTP, for example :4243; empty: none")
}

// Start opens the ports which have an address.
func (c *Config) Start(env *service.Env, api *insertapi.API) error {
	return c.start(api, env.Logger, env.Metrics, env.OnStop)
}

func (c *Config) start(api *insertapi.API, log *logger.Logger, set *metrics.Set, onStop func(what string, f func() error)) error {
	openTSDB := http.HandlerFunc(api.HandleOpenTSDB)
	for _, p := range []struct {
		name, title, flag, addr string
		lines                   *insertapi.Lines
		http                    http.Handler
	}{
		{"influx", "Influx server", "influxListenAddr", c.influx, api.Lines(insertapi.Influx), nil},
		{"graphite", "Graphite server", "graphiteListenAddr", c.graphite, api.Lines(insertapi.Graphite), nil},
		{"opentsdb", "OpenTSDB collector", "opentsdbListenAddr", c.openTSDB, api.Lines(insertapi.OpenTSDB), openTSDB},
		{"opentsdbhttp", "HTTP OpenTSDB server", "opentsdbHTTPListenAddr", c.openTSDBOfHTTP, nil, openTSDB},
	} {
		if p.addr == "" {
			continue
		}
		o := linelistener.Options{Config: &c.listener, Name: p.name, Flag: p.flag, Addr: p.addr, HTTP: p.http, Logger: log, Metrics: set}
		if p.lines != nil {
			o.Store, o.MaxLine = p.lines.Store, p.lines.MaxLen
		}
		server, err := linelistener.Start(o)
		if err != nil {
			return err
		}
		onStop(p.title, server.Stop)
		log.Infof("started TCP %s at %q", p.title, server.Addr()) // scripts wait for it
		if p.lines != nil {
			log.Infof("started UDP %s at %q", p.title, server.Addr())
		}
	}
	return nil
}
