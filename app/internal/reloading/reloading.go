package reloading

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fileurl"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/service"
)

// Options are the arguments of New.
type Options struct {
	Flag          string // its name
	Path          string // its value: a file or a URL; empty: there is nothing to read
	What          string // is read, for messages
	Metric        string // what the names of metrics begin with
	CheckInterval time.Duration
	Logger        *logger.Logger
	Metrics       *metrics.Set
	// Use is called with the text and its name, first by New, and again when it has changed. It returns how much of What there is.
	Use func(name string, text []byte) (int, error)
}

// Reloader reads the text. It is safe for concurrent use; Close ends it.
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
		text []byte // in use, expanded
	}
}

// MaxSize is the largest text which is read, in bytes.
const MaxSize = 16 << 20

const fetchTimeout = 30 * time.Second

// New reads the text and hands it on. SIGHUP does not end the process from then on, even when there is nothing to read.
func New(o Options) (*Reloader, error) {
	r := &Reloader{
		o: o, done: make(chan struct{}), hangups: make(chan os.Signal, 1),
		name:    fmt.Sprintf("-%s=%q", o.Flag, redacted(o.Path)),
		reloads: o.Metrics.Counter(o.Metric + "_reloads_total"),
		failed:  o.Metrics.Counter(o.Metric + "_reloads_errors_total"),
	}
	o.Metrics.Gauge(o.Metric+"_last_reload_successful", func() float64 {
		if r.usable.Load() {
			return 1
		}
		return 0
	})
	o.Metrics.Gauge(o.Metric+"_last_reload_success_timestamp_seconds", func() float64 { return float64(r.usedAt.Load()) })
	if o.Path != "" {
		if err := r.read(true); err != nil {
			return nil, err
		}
	}
	signal.Notify(r.hangups, syscall.SIGHUP)
	r.running.Go(r.watch)
	return r, nil
}

// redacted returns a path or URL without the password in it.
func redacted(path string) string {
	if u, err := url.Parse(path); err == nil && fileurl.IsURL(path) {
		return u.Redacted()
	}
	return path
}

// Close ends looking for changes.
func (r *Reloader) Close() error {
	signal.Stop(r.hangups)
	close(r.done)
	r.running.Wait()
	return nil
}

func (r *Reloader) watch() {
	var ticks <-chan time.Time
	if interval := r.o.CheckInterval; interval > 0 {
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

// Reload reads the text again. When it cannot be used, the old one stays, and the error, of kind BadRequest, is logged as well.
func (r *Reloader) Reload() error {
	if r.o.Path == "" {
		return nil
	}
	err := r.read(false)
	defer r.reloads.Inc() // who sees it sees what came of it
	if err != nil {
		r.failed.Inc()
		r.usable.Store(false)
		r.o.Logger.Errorf("the old %s stay in use: %s", r.o.What, err)
	}
	return err
}

// read takes over the text if it has changed.
func (r *Reloader) read(first bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := r.fetch()
	if err != nil {
		return errkind.New(errkind.BadRequest, "cannot read %s from %s: %w", r.o.What, r.name, err)
	}
	if first || !bytes.Equal(text, r.mu.text) {
		n, err := r.o.Use(r.name, text)
		if err != nil {
			return err
		}
		r.mu.text = text
		r.o.Logger.Infof("%d %s are read from %s", n, r.o.What, r.name)
	}
	r.usable.Store(true)
	r.usedAt.Store(time.Now().Unix())
	return nil
}

// fetch returns the text with %{NAME} replaced by environment variables.
func (r *Reloader) fetch() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	text, err := fileurl.Read(ctx, r.o.Path, MaxSize)
	if err != nil {
		return nil, err
	}
	expanded, err := service.ExpandEnv(string(text))
	return []byte(expanded), err
}
