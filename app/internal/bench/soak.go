package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SoakOptions say how long to load a server how much.
type SoakOptions struct {
	Lab
	Peers    string
	For      time.Duration
	Probe    time.Duration
	Fraction float64
	Rate     float64
	Hosts    int
	Writers  int
	Queries  string
	Pause    time.Duration
	MaxWrite time.Duration
	MaxQuery time.Duration
	Look     time.Duration
	Seed     uint64
}

// RegisterFlags registers the flags of `vmbench soak`.
func (o *SoakOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Peers, "peers", "ours-single", "systems to measure, of "+PeerNames)
	fs.DurationVar(&o.For, "for", 10*time.Minute, "how long")
	fs.DurationVar(&o.Probe, "probe", 20*time.Second, "how long to measure the highest rate first, in a server of its own")
	fs.Float64Var(&o.Fraction, "fraction", 0.5, "of the highest rate, with which to write")
	fs.Float64Var(&o.Rate, "rate", 0, "samples per second to write instead, without measuring the highest rate")
	fs.IntVar(&o.Hosts, "hosts", 100, "hosts, of 1098 series each")
	fs.IntVar(&o.Writers, "c", 4, "concurrent writers")
	fs.StringVar(&o.Queries, "ask", "alert_cpu,rate_by_instance,cpu_by_mode,one_host_cpu,histogram_p99", "queries of the built-in list that are asked in turn, over the newest data; empty is none")
	fs.DurationVar(&o.Pause, "ask-every", time.Second, "pause between queries")
	fs.DurationVar(&o.MaxWrite, "max-write", time.Second, "longest time a request may take, counted from when it was due")
	fs.DurationVar(&o.MaxQuery, "max-query", 10*time.Second, "longest time a query may take")
	fs.DurationVar(&o.Look, "look-every", 5*time.Second, "time between two looks at the number of parts")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of the data")
	o.register(fs)
}

func (o *SoakOptions) check() error {
	switch {
	case o.For <= 0 || o.Hosts < 1 || o.Writers < 1 || o.Hosts < o.Writers:
		return errors.New("cannot soak: give some time with -for, and at least one writer and as many hosts")
	case o.Rate < 0 || o.Rate == 0 && (o.Fraction <= 0 || o.Fraction > 1 || o.Probe <= 0):
		return errors.New("cannot soak: give a -fraction above 0, at most 1, and a -probe time, or a -rate")
	}
	return nil
}

// PartsPoint is the number of files of samples at one moment.
type PartsPoint struct {
	Seconds float64 `json:"s"`
	Parts   float64 `json:"parts"`
}

// SoakResult is how a server bore a steady load.
type SoakResult struct {
	Origin
	HighestRate  float64       `json:"highest_rate,omitempty"` // samples per second
	Rate         float64       `json:"rate"`                   // asked for
	Series       int           `json:"series"`
	Load         *IngestResult `json:"load"`
	Parts        []PartsPoint  `json:"parts"`
	Asked        int           `json:"asked"`
	QueryErrors  int           `json:"query_errors"`
	LastError    string        `json:"last_error,omitempty"`
	QueryP50Ms   float64       `json:"query_p50_ms"`
	QueryMaxMs   float64       `json:"query_max_ms"`
	MaxWriteMs   float64       `json:"max_write_ms"` // allowed
	MaxQueryMs   float64       `json:"max_query_ms"` // allowed
	Stored       *int64        `json:"stored,omitempty"`
	ExpectedRows int64         `json:"expected"`
}

// Soak loads servers for a while.
func Soak(ctx context.Context, o SoakOptions) ([]SoakResult, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if _, err := o.questions(); err != nil {
		return nil, err
	}
	l, err := o.prepare(o.Peers)
	if err != nil {
		return nil, err
	}
	var results []SoakResult
	err = o.eachPeer(ctx, splitList(o.Peers), "a steady load", func(peer string) error {
		r := SoakResult{Origin: newOrigin("soak", peer), Rate: o.Rate, MaxWriteMs: milliseconds(o.MaxWrite), MaxQueryMs: milliseconds(o.MaxQuery)}
		if r.Rate == 0 {
			if err := o.experiment(ctx, l, &r.Origin, func(s *server) error { return o.probe(ctx, s, &r) }); err != nil {
				return err
			}
		}
		if err := o.experiment(ctx, l, &r.Origin, func(s *server) error { return o.soak(ctx, s, &r) }); err != nil {
			return err
		}
		results = append(results, r)
		return o.record(&r)
	})
	return results, err
}

// questions returns the queries to ask.
func (o *SoakOptions) questions() ([]QuerySpec, error) {
	all, err := LoadQueries("")
	if err != nil {
		return nil, err
	}
	var specs []QuerySpec
	for _, name := range splitList(o.Queries) {
		i := slices.IndexFunc(all, func(q QuerySpec) bool { return q.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("cannot ask %q: there is no such query in the built-in list", name)
		}
		specs = append(specs, all[i])
	}
	return specs, nil
}

// load returns a load of registered series for so long at about the given rate.
func (o *SoakOptions) load(ctx context.Context, s *server, rate float64, forTime time.Duration) (*load, error) {
	opts := loadOptions{url: s.writeURL, writers: o.Writers, hosts: o.Hosts, seed: o.Seed}
	perHost, err := hostSeries()
	if err != nil {
		return nil, err
	}
	opts.scrapes = int(forTime.Seconds()*rate)/(perHost*o.Hosts) + 2
	l, err := newLoad(opts)
	if err != nil {
		return nil, err
	}
	if _, _, err := l.send(ctx, phase{scrapes: 1}); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// probe measures the highest rate.
func (o *SoakOptions) probe(ctx context.Context, s *server, r *SoakResult) error {
	const guess = 2e6 // more than any has been seen to take, so that no timestamp lies in the future
	l, err := o.load(ctx, s, guess, o.Probe)
	if err != nil {
		return err
	}
	defer l.close()
	res, err := l.run(ctx, s.pids(), phase{scrapes: math.MaxInt32, forTime: o.Probe})
	if err != nil {
		return err
	}
	r.HighestRate, r.Rate = res.PerSecond, res.PerSecond*o.Fraction
	o.logf("  takes %.0f samples per second; writing %.0f for %s", r.HighestRate, r.Rate, o.For)
	return nil
}

func (o *SoakOptions) soak(ctx context.Context, s *server, r *SoakResult) error {
	l, err := o.load(ctx, s, r.Rate, o.For)
	if err != nil {
		return err
	}
	defer l.close()
	for _, w := range l.writers {
		w.rate = r.Rate / float64(o.Writers)
	}
	r.Series = l.perScan
	beside, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	start := time.Now()
	wg.Go(func() { o.ask(beside, s, l, r) })
	wg.Go(func() { r.Parts = o.watchParts(beside, s, start) })
	r.Load, err = l.run(ctx, s.pids(), phase{scrapes: math.MaxInt32, forTime: o.For})
	stop()
	wg.Wait()
	if err != nil || s.readURL == "" {
		return err
	}
	return o.countStored(ctx, s, l, r)
}

// countStored counts what is stored of what was acknowledged.
func (o *SoakOptions) countStored(ctx context.Context, s *server, l *load, r *SoakResult) error {
	if err := s.call(ctx, http.MethodGet, s.flush); err != nil {
		return err
	}
	var window Manifest
	r.ExpectedRows, window = l.expected(r.Peer)
	stored, err := countSamples(ctx, s, r.Peer, &window)
	r.Stored = &stored
	return err
}

// ask asks one query after the other until the context ends. The result's fields of queries are its own until it returns.
func (o *SoakOptions) ask(ctx context.Context, s *server, l *load, r *SoakResult) {
	specs, err := o.questions()
	if err != nil || s.readURL == "" || len(specs) == 0 {
		return
	}
	var latencies []float64
	for ; pause(ctx, o.Pause) == nil; r.Asked++ {
		q := specs[r.Asked%len(specs)]
		m := &Manifest{StartMs: l.startMs, EndMs: l.nowMs()}
		data, took, err := q.fetch(ctx, s.readURL, m, true)
		if err == nil {
			_, err = q.parse(data)
		}
		if ctx.Err() != nil {
			break // cut off by the end
		}
		latencies = append(latencies, milliseconds(took))
		if err != nil {
			r.QueryErrors++
			r.LastError = fmt.Sprintf("%s: %s", q.Name, err)
		}
	}
	r.QueryP50Ms, r.QueryMaxMs = quantile(latencies, 0.5), quantile(latencies, 1)
}

// watchParts looks at the number of parts until the context ends.
func (o *SoakOptions) watchParts(ctx context.Context, s *server, start time.Time) []PartsPoint {
	var points []PartsPoint
	for pause(ctx, o.Look) == nil {
		if n, ok := countParts(ctx, s); ok {
			points = append(points, PartsPoint{time.Since(start).Seconds(), n})
		}
	}
	return points
}

// countParts sums up the metrics that tell how many files of samples there are.
func countParts(ctx context.Context, s *server) (parts float64, ok bool) {
	for _, p := range s.storage {
		for _, prefix := range []string{"prometheus_tsdb_blocks_loaded", `vm_parts{type="storage/`} {
			if n, found, err := p.sumMetrics(ctx, prefix); err == nil && found {
				parts, ok = parts+n, true
			}
		}
	}
	return parts, ok
}

// sumMetrics sums up the metrics of a process that begin with a text.
func (p *process) sumMetrics(ctx context.Context, prefix string) (sum float64, found bool, err error) {
	base, _, _ := strings.Cut(strings.TrimPrefix(p.health, "http://"), "/")
	page, err := httpGet(ctx, "http://"+base+"/metrics")
	if err != nil {
		return 0, false, fmt.Errorf("cannot read the metrics of %s: %w", p.name, err)
	}
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err == nil && strings.HasPrefix(line, prefix) {
			sum, found = sum+v, true
		}
	}
	return sum, found, nil
}

// hostSeries returns how many series a host has.
func hostSeries() (int, error) {
	targets, err := loadTargets(DefaultGenerateOptions().CPUs)
	return seriesPerHost(targets), err
}
