package tenantlimits

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/service"
)

// Config holds the flags.
type Config struct {
	Path          string
	CheckInterval flagvalue.Duration
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Path, "tenantLimits.config", "", "File with the limits of tenants, see docs/multitenancy.md; it is read again when it changes; no limits without it")
	c.CheckInterval = flagvalue.Duration(10 * time.Second)
	fs.Var(&c.CheckInterval, "tenantLimits.checkInterval", "How often to look whether the file of -tenantLimits.config has changed")
}

// Options are the arguments of New.
type Options struct {
	Config  *Config
	Logger  *logger.Logger
	Metrics *metrics.Set
	Budget  *memory.Budget // for active series; may be nil
	Now     func() time.Time
}

// Limiter knows how much of their limits tenants have used. It is safe for concurrent use; Close ends it. A nil Limiter has no limits.
type Limiter struct {
	o         Options
	current   atomic.Pointer[table]
	text      []byte // of the file, as far as the goroutine which looks at it knows
	failed    string // why the file could not be read last
	usable    atomic.Bool
	samples   *metrics.Counter
	queries   *metrics.Counter
	series    *metrics.Counter
	uncounted *metrics.Counter
	warn      *logger.Throttle
	done      chan struct{}
	running   sync.WaitGroup

	sets struct {
		sync.RWMutex
		tenants map[model.TenantID]*seriesSet
	}

	mu struct {
		sync.Mutex
		tenants map[model.TenantID]*usage
	}
}

// usage is what a tenant has used.
type usage struct {
	balance float64 // samples it may send at once; negative after a large request
	at      time.Time
	queries int
}

// maxUsages is how many tenants are remembered before those which use nothing are forgotten.
const maxUsages = 10_000

// New reads the file, and looks at it again and again from then on. It returns nil when no file is configured.
func New(o Options) (*Limiter, error) {
	if o.Config.Path == "" {
		return nil, nil
	}
	l := &Limiter{
		o: o, done: make(chan struct{}),
		samples: o.Metrics.Counter(`vm_tenant_limit_exceeded_total{limit="samples_per_second"}`),
		queries: o.Metrics.Counter(`vm_tenant_limit_exceeded_total{limit="concurrent_queries"}`),
		series:  o.Metrics.Counter(`vm_tenant_limit_exceeded_total{limit="active_series"}`),
		// Each is a series which a batch has, not a series as such: nobody remembers them.
		uncounted: o.Metrics.Counter("vm_tenant_limit_uncounted_series_total"),
		warn:      logger.NewThrottle(o.Logger, 5*time.Second),
	}
	l.mu.tenants = map[model.TenantID]*usage{}
	l.sets.tenants = map[model.TenantID]*seriesSet{}
	if err := l.read(); err != nil {
		return nil, err
	}
	o.Metrics.Gauge("vm_tenant_limits_last_reload_successful", func() float64 {
		if l.usable.Load() {
			return 1
		}
		return 0
	})
	o.Metrics.AddCollector(l.collectSeries)
	l.running.Go(l.watch)
	return l, nil
}

// Start is New for a process, which closes the Limiter when it stops.
func Start(env *service.Env, c *Config) (*Limiter, error) {
	l, err := New(Options{Config: c, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget, Now: time.Now})
	if l != nil {
		env.OnStop("limits of tenants", l.Close)
	}
	return l, err
}

// Close ends looking at the file.
func (l *Limiter) Close() error {
	close(l.done)
	l.running.Wait()
	l.endSeries()
	return nil
}

func (l *Limiter) watch() {
	ticker := time.NewTicker(max(time.Millisecond, l.o.Config.CheckInterval.D()))
	defer ticker.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-ticker.C:
		}
		err := l.read()
		l.sweepSeries()
		if err == nil {
			l.failed = ""
		} else if l.failed != err.Error() {
			l.failed = err.Error()
			l.o.Logger.Errorf("the limits of tenants stay as they are: %s", err)
		}
	}
}

// read takes over the file if it has changed.
func (l *Limiter) read() error {
	path := l.o.Config.Path
	text, err := os.ReadFile(path)
	if err == nil && l.current.Load() != nil && bytes.Equal(text, l.text) {
		l.usable.Store(true)
		return nil
	}
	var t *table
	if err == nil {
		t, err = parse(string(text))
	}
	l.usable.Store(err == nil)
	if err != nil {
		return errkind.New(errkind.BadRequest, "cannot read limits of tenants from -tenantLimits.config=%q: %w", path, err)
	}
	if l.text = text; l.current.Swap(t) != nil {
		l.o.Logger.Infof("limits of %d tenants are read from %q", len(t.tenants), path)
	}
	return nil
}

// errLimit marks what a limit of a tenant has refused.
var errLimit = errors.New("limit of the tenant")

// IsLimit reports whether an error is that of a limit, which is answered with status 429.
func IsLimit(err error) bool { return errors.Is(err, errLimit) }

// AdmitSamples reports, as an error of kind Overloaded, that the tenant has sent more samples than it may. A request may always be larger than what is
// left, so that none is too large for ever; who is in debt waits.
func (l *Limiter) AdmitSamples(t model.TenantID) error {
	if l == nil {
		return nil
	}
	rate := l.current.Load().of(t).SamplesPerSecond
	if rate == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	debt := -l.fillLocked(t, rate).balance
	if debt < 0 {
		return nil
	}
	l.samples.Inc()
	wait := time.Duration((debt/rate + 0.001) * float64(time.Second))
	return errkind.New(errkind.Overloaded, "cannot take samples of tenant %s: it has sent more than samples_per_second=%g; send less, or raise it in -tenantLimits.config: %w", t, rate, errLimit).WithRetryAfter(wait)
}

// CountSamples notes samples of a tenant.
func (l *Limiter) CountSamples(t model.TenantID, n int) {
	if l == nil {
		return
	}
	rate := l.current.Load().of(t).SamplesPerSecond
	if rate == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fillLocked(t, rate).balance -= float64(n)
}

// fillLocked returns the usage of a tenant with what it has been given since. No more than a second's worth is saved.
func (l *Limiter) fillLocked(t model.TenantID, rate float64) *usage {
	now := l.o.Now()
	u := l.usageLocked(t)
	if u.at.IsZero() {
		u.balance = rate
	} else {
		u.balance = min(rate, u.balance+rate*max(0, now.Sub(u.at).Seconds()))
	}
	u.at = now
	return u
}

func (l *Limiter) usageLocked(t model.TenantID) *usage {
	u := l.mu.tenants[t]
	if u != nil {
		return u
	}
	if len(l.mu.tenants) >= maxUsages {
		l.forgetLocked()
	}
	u = &usage{}
	l.mu.tenants[t] = u
	return u
}

// forgetLocked forgets tenants which run no query and, had they been asked, would have no debt.
func (l *Limiter) forgetLocked() {
	current := l.current.Load()
	for t, u := range l.mu.tenants {
		rate := current.of(t).SamplesPerSecond
		if u.queries == 0 && u.balance+rate*l.o.Now().Sub(u.at).Seconds() >= rate {
			delete(l.mu.tenants, t)
		}
	}
}

// AdmitQuery notes a query of a tenant until release is called, or returns an error of kind Overloaded when as many run as may.
func (l *Limiter) AdmitQuery(t model.TenantID) (release func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	most := l.current.Load().of(t).ConcurrentQueries
	if most == 0 {
		return func() {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.usageLocked(t)
	if u.queries >= most {
		l.queries.Inc()
		return nil, errkind.New(errkind.Overloaded, "cannot start a query of tenant %s: concurrent_queries=%d of it are running; send fewer at a time, or raise it in -tenantLimits.config: %w", t, most, errLimit).
			WithRetryAfter(time.Second)
	}
	u.queries++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		u.queries--
	}, nil
}
