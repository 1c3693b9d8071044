package pushmetrics

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// StopTimeout is how long the last push may take.
const StopTimeout = 2 * time.Second

// Config holds the -pushmetrics.* flags.
type Config struct {
	URLs               flagvalue.Strings
	Interval           flagvalue.Duration
	ExtraLabels        flagvalue.Strings
	Headers            flagvalue.Strings
	DisableCompression bool
}

// RegisterFlags registers the flags.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.Interval = flagvalue.Duration(10 * time.Second)
	fs.Var(&c.URLs, "pushmetrics.url", "URL which the metrics of /metrics are sent to, such as http://victoria-metrics:8428/api/v1/import/prometheus; may be repeated. Nothing is sent without it")
	fs.Var(&c.Interval, "pushmetrics.interval", "Distance of the pushes to -pushmetrics.url")
	fs.Var(&c.ExtraLabels, "pushmetrics.extraLabel", `Label added to all metrics sent to -pushmetrics.url, such as instance="db-1"; may be repeated`)
	fs.Var(&c.Headers, "pushmetrics.header", "Header of the requests to -pushmetrics.url, such as 'Authorization: Bearer token'; may be repeated")
	fs.BoolVar(&c.DisableCompression, "pushmetrics.disableCompression", false, "Send metrics to -pushmetrics.url without gzip")
}

// Options are the arguments of New.
type Options struct {
	Config  *Config
	Logger  *logger.Logger
	Metrics *metrics.Set
}

// Pusher pushes.
type Pusher struct {
	o       Options
	targets []*target
	labels  string // as they stand between braces
	header  http.Header
	client  http.Client
	warn    *logger.Throttle
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// target is a receiver.
type target struct {
	url      string
	name     string // without credentials and arguments
	pushes   *metrics.Counter
	errors   *metrics.Counter
	bytes    *metrics.Counter
	size     *metrics.Histogram
	duration *metrics.Histogram
}

// New checks the flags. Nothing is pushed before Start.
func New(o Options) (*Pusher, error) {
	c := o.Config
	p := &Pusher{o: o, header: http.Header{}, warn: logger.NewThrottle(o.Logger, time.Minute), cancel: func() {}}
	p.client.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1}
	if len(c.URLs) > 0 && c.Interval <= 0 {
		return nil, fmt.Errorf("cannot use -pushmetrics.interval=%s: want a positive duration", c.Interval.D())
	}
	for _, text := range c.ExtraLabels {
		label, err := parseLabel(text)
		if err != nil {
			return nil, err
		}
		p.labels += "," + label
	}
	p.labels = strings.TrimPrefix(p.labels, ",")
	for i, text := range c.Headers {
		name, value, ok := strings.Cut(text, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("cannot use -pushmetrics.header number %d: want 'Name: value'", i+1) // the value is secret
		}
		p.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	for i, text := range c.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("cannot use -pushmetrics.url number %d: want a URL such as http://victoria-metrics:8428/api/v1/import/prometheus", i+1)
		}
		p.targets = append(p.targets, newTarget(u, o.Metrics))
	}
	if len(p.targets) > 0 {
		o.Metrics.Gauge("metrics_push_interval_seconds", func() float64 { return c.Interval.D().Seconds() })
	}
	return p, nil
}

func newTarget(u *url.URL, set *metrics.Set) *target {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	t := &target{url: u.String(), name: shown.String()}
	labels := "{url=" + strconv.Quote(t.name) + "}"
	t.pushes = set.Counter("metrics_push_total" + labels)
	t.errors = set.Counter("metrics_push_errors_total" + labels)
	t.bytes = set.Counter("metrics_push_bytes_pushed_total" + labels)
	t.size = set.Histogram("metrics_push_block_size_bytes" + labels)
	t.duration = set.Histogram("metrics_push_duration_seconds" + labels)
	return t
}

// parseLabel returns name="value" for a label whose value may lack the quotes.
func parseLabel(text string) (string, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return "", fmt.Errorf(`cannot use -pushmetrics.extraLabel=%s: want a label such as instance="db-1"`, text)
	}
	if value != "" && value[0] == '"' {
		unquoted, err := strconv.Unquote(value)
		if err != nil {
			return "", fmt.Errorf(`cannot use -pushmetrics.extraLabel=%s: want a label such as instance="db-1": %w`, text, err)
		}
		value = unquoted
	}
	return name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `"`, nil
}

// Start begins to push to each receiver.
func (p *Pusher) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	for _, t := range p.targets {
		p.wg.Go(func() { p.run(ctx, t) })
	}
}

// Stop pushes a last time and ends.
func (p *Pusher) Stop() error {
	p.cancel()
	p.wg.Wait()
	p.client.CloseIdleConnections()
	return nil
}

func (p *Pusher) run(ctx context.Context, t *target) {
	ticker := time.NewTicker(p.o.Config.Interval.D())
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.push(ctx, t, min(max(p.o.Config.Interval.D(), time.Second), time.Minute))
		case <-ctx.Done():
			p.push(context.Background(), t, StopTimeout)
			return
		}
	}
}

// push pushes once.
func (p *Pusher) push(ctx context.Context, t *target, timeout time.Duration) {
	pushCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	started := time.Now()
	t.pushes.Inc()
	n, err := p.send(pushCtx, t)
	t.duration.Update(time.Since(started).Seconds())
	if err != nil {
		if ctx.Err() == nil { // else the last push follows
			t.errors.Inc()
			p.warn.Warnf("cannot push metrics to %s: %s", t.name, err)
		}
		return
	}
	t.bytes.Add(n)
	t.size.Update(float64(n))
}

// send sends the metrics and returns how many bytes they took.
func (p *Pusher) send(ctx context.Context, t *target) (int, error) {
	var page bytes.Buffer
	if err := p.o.Metrics.Write(&page, false); err != nil {
		return 0, err
	}
	body := appendLabelled(nil, page.Bytes(), p.labels)
	if !p.o.Config.DisableCompression {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, err := z.Write(body)
		if err = errors.Join(err, z.Close()); err != nil {
			return 0, err
		}
		body = packed.Bytes()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = p.header.Clone()
	req.Header.Set("Content-Type", "text/plain")
	if !p.o.Config.DisableCompression {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := p.client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the URL, which may hold credentials
		}
		return 0, err
	}
	defer resp.Body.Close()
	const mostShown = 512
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostShown))
	if resp.StatusCode/100 != 2 {
		return 0, fmt.Errorf("the answer is status %d, %q", resp.StatusCode, text)
	}
	return len(body), err
}

// appendLabelled appends a page of metrics, each line with the labels.
func appendLabelled(dst, page []byte, labels string) []byte {
	if labels == "" {
		return append(dst, page...)
	}
	for line := range bytes.Lines(page) {
		end := bytes.IndexAny(line, "{ ")
		switch {
		case line[0] == '#' || end < 0:
			dst = append(dst, line...)
		case line[end] == ' ':
			dst = append(append(append(append(append(dst, line[:end]...), '{'), labels...), '}'), line[end:]...)
		default:
			dst = append(append(append(append(dst, line[:end+1]...), labels...), ','), line[end+1:]...)
		}
	}
	return dst
}
