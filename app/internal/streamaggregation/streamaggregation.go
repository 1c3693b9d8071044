package streamaggregation

import (
	"flag"

	"vmcluster/app/internal/reloading"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/service"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/streamaggr"
)

// Config holds the flags.
type Config struct {
	Path          string
	CheckInterval flagvalue.Duration
	dedupInterval flagvalue.Duration
	dropLabels    flagvalue.Strings
	defaults      streamaggr.Defaults
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Path, "streamAggr.config", "", "File, or http or https URL, with rules of stream aggregation, see docs/stream-aggregation.md; it is read again on SIGHUP and at /-/reload")
	fs.Var(&c.CheckInterval, "streamAggr.configCheckInterval", "How often to look whether what -streamAggr.config names has changed; 0 turns it off")
	fs.Var(&c.dedupInterval, "streamAggr.dedupInterval", "Keep only the newest sample of each series in each of these intervals: before aggregation by rules which do not say otherwise, "+
		"or, without -streamAggr.config, before storing; 0 keeps all")
	fs.BoolVar(&c.defaults.KeepInput, "streamAggr.keepInput", false, "Store samples which rules of -streamAggr.config match as well; they are dropped otherwise")
	fs.BoolVar(&c.defaults.DropInput, "streamAggr.dropInput", false, "Drop samples which no rule of -streamAggr.config matches; they are stored otherwise")
	fs.Var(&c.dropLabels, "streamAggr.dropInputLabels", "Labels to remove from samples before deduplication and aggregation, unless a rule says otherwise; may be given more than once or with commas")
	fs.BoolVar(&c.defaults.IgnoreOldSamples, "streamAggr.ignoreOldSamples", false, "Leave samples out of aggregation whose time is before the interval which is being aggregated")
	fs.IntVar(&c.defaults.IgnoreFirstIntervals, "streamAggr.ignoreFirstIntervals", 0, "How many whole intervals each rule of -streamAggr.config leaves out after the start")
	fs.BoolVar(&c.defaults.EnableWindows, "streamAggr.enableWindows", false, "Have all rules, and deduplication, go by the times of samples and wait for late ones")
}

// parse reads rules.
func (c *Config) parse(name string, text []byte) (*streamaggr.Config, error) {
	d := c.defaults
	d.DedupInterval, d.DropInputLabels = c.dedupInterval.D(), c.dropLabels
	if c.Path == "" && d.DedupInterval == 0 {
		return &streamaggr.Config{}, nil
	}
	if c.Path == "" {
		return streamaggr.Deduplication(d)
	}
	return streamaggr.Parse(name, text, d)
}

// Aggregation is stream aggregation before an Ingester.
type Aggregation struct {
	*streamaggr.Aggregator
	reloader *reloading.Reloader
}

// Start puts stream aggregation before the Ingester. It ends with the process, before what was started earlier.
func Start(env *service.Env, c *Config, next storageapi.Ingester) (*Aggregation, error) {
	a := &Aggregation{Aggregator: streamaggr.New(streamaggr.Options{Next: next, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget})}
	env.OnStop("stream aggregation", a.Close)
	var err error
	a.reloader, err = reload(env, c, a.Use)
	return a, err
}

// Check reads the rules of a process which only looks at its configuration.
func Check(env *service.Env, c *Config) error {
	_, err := reload(env, c, func(*streamaggr.Config) {})
	return err
}

// reload starts to read the rules, and takes over what flags alone say.
func reload(env *service.Env, c *Config, use func(*streamaggr.Config)) (*reloading.Reloader, error) {
	take := func(name string, text []byte) (int, error) {
		rules, err := c.parse(name, text)
		if err != nil {
			return 0, err
		}
		use(rules)
		return rules.Len(), nil
	}
	if c.Path == "" {
		if _, err := take("", nil); err != nil {
			return nil, err
		}
	}
	r, err := reloading.New(reloading.Options{
		Flag: "streamAggr.config", Path: c.Path, What: "rules of stream aggregation", Metric: "vm_streamaggr_config", CheckInterval: c.CheckInterval.D(),
		Logger: env.Logger, Metrics: env.Metrics, Use: take,
	})
	if err == nil {
		env.OnStop("reading of the rules of stream aggregation", r.Close)
	}
	return r, err
}

// Reload reads the rules again.
func (a *Aggregation) Reload() error { return a.reloader.Reload() }
