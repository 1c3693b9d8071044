package backuptool

import (
	"flag"
	"fmt"
	"net/http"
	"strings"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/fsstore"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/service"
)

// Config holds the flags of both tools.
type Config struct {
	http        httpserver.Config
	concurrency int
	limit       flagvalue.Bytes
}

// RegisterFlags registers the flags; addr is where the tool serves its metrics, such as ":8420", and moved what it does to files.
func (c *Config) RegisterFlags(fs *flag.FlagSet, addr, moved string) {
	c.http.RegisterFlags(fs, addr)
	fs.IntVar(&c.concurrency, "concurrency", 10, "How many files are "+moved+" at once")
	fs.Var(&c.limit, "maxBytesPerSecond", "Most bytes "+moved+" per second; 0 means as fast as it goes")
}

// Options returns what the flags and the process say of a run.
func (c *Config) Options(env *service.Env) backup.Options {
	return backup.Options{Concurrency: c.concurrency, MaxBytesPerSecond: int64(c.limit), Logger: env.Logger, Metrics: env.Metrics}
}

// Serve opens the HTTP port until the process stops. Does tells at / what the tool does.
func (c *Config) Serve(env *service.Env, does string) error {
	httpserver.RegisterFlagMetrics(env.Metrics, env.Flags)
	server, err := httpserver.Start(httpserver.Options{
		Config: &c.http, Logger: env.Logger, Metrics: env.Metrics, Flags: env.Flags,
		Handler: func(w http.ResponseWriter, r *http.Request) bool {
			return httpserver.ServeIndex(w, r, env.Name, does, "/metrics", "/flags", "/debug/pprof/")
		},
	})
	if err != nil {
		return err
	}
	env.OnStop("http server", server.Stop)
	return nil
}

// Open returns the store which the value of a flag names.
func Open(flagName, url string) (backup.Store, error) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return nil, fmt.Errorf("cannot use -%s=%q: want a URL, such as fs:///mnt/backups/node1", flagName, url)
	}
	if scheme != "fs" {
		return nil, fmt.Errorf("cannot use -%s=%q: no store is known for %s://; known is fs://", flagName, url, scheme)
	}
	s, err := fsstore.New(rest)
	if err != nil {
		return nil, fmt.Errorf("cannot use -%s=%q: %w", flagName, url, err)
	}
	return s, nil
}
