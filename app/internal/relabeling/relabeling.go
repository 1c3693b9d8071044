package relabeling

import (
	"errors"
	"flag"
	"net/http"

	"vmcluster/app/internal/reloading"
	"vmcluster/lib/errkind"
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
	*reloading.Reloader
	authKey *flagvalue.Secret
	others  []func() error
}

// New reads the rules and hands them on. SIGHUP does not end the process from then on, even when there are no rules to read.
func New(o Options) (*Reloader, error) {
	r, err := reloading.New(reloading.Options{
		Flag: "relabelConfig", Path: o.Config.Path, What: "relabelling rules", Metric: "vm_relabel_config", CheckInterval: o.Config.CheckInterval.D(),
		Logger: o.Logger, Metrics: o.Metrics,
		Use: func(name string, text []byte) (int, error) {
			rules, err := relabel.Parse(name, text)
			if err == nil {
				o.Use(rules)
			}
			return rules.Len(), err
		},
	})
	if err != nil {
		return nil, err
	}
	return &Reloader{Reloader: r, authKey: &o.Config.ReloadAuthKey}, nil
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

// Also has /-/reload call another function as well.
func (r *Reloader) Also(reload func() error) { r.others = append(r.others, reload) }

// Handle serves /-/reload, or returns false when the path is another.
func (r *Reloader) Handle(w http.ResponseWriter, req *http.Request) bool {
	if req.URL.Path != "/-/reload" {
		return false
	}
	if !httpserver.CheckAuthKey(w, req, "reloadAuthKey", *r.authKey) {
		return true
	}
	err := r.Reload()
	for _, reload := range r.others {
		err = errors.Join(err, reload())
	}
	if err != nil {
		http.Error(w, err.Error(), errkind.Of(err).HTTPStatus())
		return true
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}
