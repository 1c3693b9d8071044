package relabeling

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fileurl"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/relabel"
	"vmcluster/lib/service"
)

// Config holds the flags.
type Config struct {
	Path          string
	CheckInterval flagvalue.Duration
	ReloadAuthKey flagvalue.Secret
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Path, "relabelConfig", "", "File, or http or https URL, with rules that change labels of all series which are written or drop them, see docs/relabeling.md; "+
		"it is read again on SIGHUP and at /-/reload")
	fs.Var(&c.CheckInterval, "relabelConfigCheckInterval", "How often to look whether what -relabelConfig names has changed; 0 turns it off")
	fs.Var(&c.ReloadAuthKey, "reloadAuthKey", "Value which the authKey argument of /-/reload must have")
}

// Options are the arguments of New.
type Options struct {
	Config  *Config
	Logger  *logger.Logger
	Metrics *metrics.Set
	// Use is called with the rules, first by New, and again when they have changed.
	Use func(*relabel.Rules)
}

// Reloader reads the rules. It is safe for concurrent use; Close ends it.
type Reloader struct {
	o       Options
	name    string // of the source, in messages
	reloads *metrics.Counter
	failed  *metrics.Counter
	usable  atomic.Bool
	usedAt  atomic.Int64 // Unix seconds of the last success
	hangups chan os.Signal
	done    chan struct{}
	running sync.WaitGroup

	mu struct {
		sync.Mutex
		text []byte // of the rules in use, expanded
	}
}

const (
	maxSize      = 16 << 20
	fetchTimeout = 30 * time.Second
)

// New reads the rules and hands them on. SIGHUP does not end the process from then on, even when there are no rules to read.
func New(o Options) (*Reloader, error) {
	r := &Reloader{
		o: o, done: make(chan struct{}), hangups: make(chan os.Signal, 1),
		name:    fmt.Sprintf("-relabelConfig=%q", redacted(o.Config.Path)),
		reloads: o.Metrics.Counter("vm_relabel_config_reloads_total"),
		failed:  o.Metrics.Counter("vm_relabel_config_reloads_errors_total"),
	}
	o.Metrics.Gauge("vm_relabel_config_last_reload_successful", func() float64 {
		if r.usable.Load() {
			return 1
		}
		return 0
	})
	o.Metrics.Gauge("vm_relabel_config_last_reload_success_timestamp_seconds", func() float64 { return float64(r.usedAt.Load()) })
	if o.Config.Path != "" {
		if err := r.read(true); err != nil {
			return nil, err
		}
	}
	signal.Notify(r.hangups, syscall.SIGHUP)
	r.running.Go(r.watch)
	return r, nil
}

// Start is New for a process, which closes the Reloader when it stops.
func Start(env *service.Env, c *Config, use func(*relabel.Rules)) (*Reloader, error) {
	r, err := New(Options{Config: c, Logger: env.Logger, Metrics: env.Metrics, Use: use})
	if r != nil {
		env.OnStop("relabelling", r.Close)
	}
	return r, err
}

// Check reads the rules of a process which only looks at its configuration.
func Check(env *service.Env, c *Config) error {
	_, err := Start(env, c, func(*relabel.Rules) {})
	return err
}

// redacted returns a path or URL without the password in it.
func redacted(path string) string {
	if u, err := url.Parse(path); err == nil && fileurl.IsURL(path) {
		return u.Redacted()
	}
	return path
}

// Close ends looking for new rules.
func (r *Reloader) Close() error {
	signal.Stop(r.hangups)
	close(r.done)
	r.running.Wait()
	return nil
}

func (r *Reloader) watch() {
	var ticks <-chan time.Time
	if interval := r.o.Config.CheckInterval.D(); interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-r.done:
			return
		case <-r.hangups:
			r.o.Logger.Infof("received SIGHUP; reading %s", r.name)
			_ = r.Reload() // it is logged
		case <-ticks:
			_ = r.Reload()
		}
	}
}

// Reload reads the rules again. When they cannot be used, the old ones stay, and the error, of kind BadRequest, is logged as well.
func (r *Reloader) Reload() error {
	if r.o.Config.Path == "" {
		return nil
	}
	err := r.read(false)
	defer r.reloads.Inc() // who sees it sees what came of it
	if err != nil {
		r.failed.Inc()
		r.usable.Store(false)
		r.o.Logger.Errorf("relabelling goes on with the old rules: %s", err)
	}
	return err
}

// read takes over the rules if they have changed.
func (r *Reloader) read(first bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := r.fetch()
	if err != nil {
		return errkind.New(errkind.BadRequest, "cannot read relabelling rules from %s: %w", r.name, err)
	}
	if first || !bytes.Equal(text, r.mu.text) {
		rules, err := relabel.Parse(r.name, text)
		if err != nil {
			return err
		}
		r.o.Use(rules)
		r.mu.text = text
		r.o.Logger.Infof("%d relabelling rules are read from %s", rules.Len(), r.name)
	}
	r.usable.Store(true)
	r.usedAt.Store(time.Now().Unix())
	return nil
}

// fetch returns the text of the rules with %{NAME} replaced by environment variables.
func (r *Reloader) fetch() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	text, err := fileurl.Read(ctx, r.o.Config.Path, maxSize)
	if err != nil {
		return nil, err
	}
	expanded, err := service.ExpandEnv(string(text))
	return []byte(expanded), err
}

// Handle serves /-/reload, or returns false when the path is another.
func (r *Reloader) Handle(w http.ResponseWriter, req *http.Request) bool {
	if req.URL.Path != "/-/reload" {
		return false
	}
	if !httpserver.CheckAuthKey(w, req, "reloadAuthKey", r.o.Config.ReloadAuthKey) {
		return true
	}
	if err := r.Reload(); err != nil {
		http.Error(w, err.Error(), errkind.Of(err).HTTPStatus())
		return true
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}
