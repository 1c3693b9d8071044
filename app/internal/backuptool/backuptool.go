package backuptool

import (
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/fsstore"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/service"
)

// Config holds the flags of the tools.
type Config struct {
	http        httpserver.Config
	stores      storeConfig
	concurrency int
	limit       flagvalue.Bytes
}

// RegisterFlags registers the flags; addr is where the tool serves its metrics, such as ":8420", and moved what it does to files.
func (c *Config) RegisterFlags(fs *flag.FlagSet, addr, moved string) {
	c.http.RegisterFlags(fs, addr)
	c.stores.registerFlags(fs)
	fs.IntVar(&c.concurrency, "concurrency", 10, "How many pieces of files are "+moved+" at once")
	fs.Var(&c.limit, "maxBytesPerSecond", "Most bytes "+moved+" per second; 0 means as fast as it goes")
}

// Options returns what the flags and the process say of a run.
func (c *Config) Options(env *service.Env) backup.Options {
	return backup.Options{Concurrency: c.concurrency, MaxBytesPerSecond: int64(c.limit), Logger: env.Logger, Metrics: env.Metrics}
}

// Serve opens the HTTP port until the process stops. Does tells at / what the tool does.
func (c *Config) Serve(env *service.Env, does string) error {
	return c.ServeAPI(env, nil, func(w http.ResponseWriter, r *http.Request) bool {
		return httpserver.ServeIndex(w, r, env.Name, does, "/metrics", "/flags", "/debug/pprof/")
	})
}

// ServeAPI is Serve for a tool with paths of its own; see httpserver.Options.
func (c *Config) ServeAPI(env *service.Env, hasKey func(path string) bool, handle httpserver.Handler) error {
	httpserver.RegisterFlagMetrics(env.Metrics, env.Flags)
	server, err := httpserver.Start(httpserver.Options{Config: &c.http, Logger: env.Logger, Metrics: env.Metrics, Flags: env.Flags, Handler: handle, HasKey: hasKey})
	if err != nil {
		return err
	}
	env.OnStop("http server", server.Stop)
	return nil
}

// Authorize gives a request to another process of the kind the password which the flags set for this one.
func (c *Config) Authorize(r *http.Request) {
	if c.http.AuthUsername != "" || c.http.AuthPassword.Get() != "" {
		r.SetBasicAuth(c.http.AuthUsername, c.http.AuthPassword.Get())
	}
}

// Outside refuses stores within the data directory, which would be backed up with it, or lost with it.
func Outside(s backup.Store, dataPath string) error {
	dir, ok := s.(*fsstore.Store)
	if !ok || dataPath == "" {
		return nil
	}
	path, err := filepath.Abs(dataPath)
	if err != nil {
		return fmt.Errorf("cannot use -storageDataPath=%q: %w", dataPath, err)
	}
	if dir.Root() == path || strings.HasPrefix(dir.Root(), path+string(filepath.Separator)) {
		return fmt.Errorf("cannot keep a backup at %s: it is within -storageDataPath=%q", s, dataPath)
	}
	return nil
}
