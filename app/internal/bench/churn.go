package bench

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ChurnOptions say how many series are replaced how often.
type ChurnOptions struct {
	Lab
	Peers     string
	Repeat    int
	Hosts     int
	Scrapes   int
	Fraction  float64
	Every     int
	Writers   int
	StormTime time.Duration
	KnownRate float64
	NewRate   float64
	Settle    time.Duration
	Seed      uint64
}

// RegisterFlags registers the flags of `vmbench churn`.
func (o *ChurnOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Peers, "peers", "ours-cluster,ours-single,vm-single,prometheus", "systems to measure, of "+PeerNames)
	fs.IntVar(&o.Repeat, "repeat", 1, "how often to measure each; the table shows medians")
	fs.IntVar(&o.Hosts, "hosts", 100, "hosts, of 1098 series each")
	fs.IntVar(&o.Scrapes, "scrapes", 120, "scrapes after the first, with and without churn")
	fs.Float64Var(&o.Fraction, "churn", 0.1, "fraction of the hosts that are replaced every -churn-every scrapes")
	fs.IntVar(&o.Every, "churn-every", 10, "scrapes between replacements")
	fs.IntVar(&o.Writers, "c", 4, "concurrent writers of these")
	fs.DurationVar(&o.StormTime, "storm-time", 20*time.Second, "how long to write known series, first alone, then beside a writer of new ones")
	fs.Float64Var(&o.KnownRate, "known-rate", 20000, "samples of known series per second, in requests of 500")
	fs.Float64Var(&o.NewRate, "new-rate", 20000, "new series per second; 0 is as fast as the answers come")
	fs.DurationVar(&o.Settle, "settle", 5*time.Second, "how long background work after the last request counts")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of the data")
	o.register(fs)
}

func (o *ChurnOptions) check() error {
	if o.Hosts < 1 || o.Scrapes < 1 || o.Every < 1 || o.Writers < 1 || o.Fraction <= 0 || o.Fraction > 1 {
		return fmt.Errorf("cannot measure churn: -hosts, -scrapes, -churn-every and -c must be at least 1 and -churn a fraction above 0, at most 1")
	}
	return nil
}

// ChurnResult is what the replacement of series costs.
type ChurnResult struct {
	Origin
	Series  int           `json:"series"`  // active
	Steady  *IngestResult `json:"steady"`  // without churn
	Churned *IngestResult `json:"churned"` // with it; stale markers count as samples
	Created int64         `json:"created"` // series by the churn
	Alone   *IngestResult `json:"alone"`   // known series, with nobody else writing
	Storm   *IngestResult `json:"storm"`   // known series, beside the registration of new ones
	Stormed int64         `json:"stormed"` // series registered meanwhile
}

// Churn measures what it costs to replace series, and how long writes of known series take beside the registration of new ones.
func Churn(ctx context.Context, o ChurnOptions) ([]ChurnResult, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	l, err := o.prepare(o.Peers)
	if err != nil {
		return nil, err
	}
	var results []ChurnResult
	for i := range max(1, o.Repeat) {
		err = o.eachPeer(ctx, inTurn(splitList(o.Peers), i), "churn", func(peer string) error {
			r := ChurnResult{Origin: newOrigin("churn", peer)}
			if err := o.measure(ctx, l, &r); err != nil {
				return err
			}
			results = append(results, r)
			return o.record(&r)
		})
		if err != nil {
			return results, err
		}
	}
	return results, nil
}

func (o *ChurnOptions) measure(ctx context.Context, l *launcher, r *ChurnResult) (err error) {
	o.logf("  without churn")
	if r.Steady, _, err = o.scrapes(ctx, l, r, 0); err != nil {
		return err
	}
	o.logf("  with churn")
	if r.Churned, r.Created, err = o.scrapes(ctx, l, r, o.Fraction); err != nil {
		return err
	}
	o.logf("  known series beside new ones")
	return o.experiment(ctx, l, &r.Origin, func(s *server) error { return o.storm(ctx, s, r) })
}

// scrapes measures the scrapes after the first.
func (o *ChurnOptions) scrapes(ctx context.Context, l *launcher, r *ChurnResult, churn float64) (res *IngestResult, created int64, err error) {
	err = o.experiment(ctx, l, &r.Origin, func(s *server) error {
		load, err := newLoad(loadOptions{
			url: s.writeURL, writers: o.Writers, hosts: o.Hosts, scrapes: o.Scrapes + 1, churn: churn, churnEvery: o.Every, seed: o.Seed,
		})
		if err != nil {
			return err
		}
		defer load.close()
		r.Series = load.perScan
		if _, err := load.run(ctx, s.pids(), phase{scrapes: 1, settle: o.Settle}); err != nil {
			return err
		}
		if res, err = load.run(ctx, s.pids(), phase{scrapes: o.Scrapes, settle: o.Settle}); err != nil {
			return err
		}
		res.Memory = nil
		created = load.created() - int64(load.perScan)
		return nil
	})
	return res, created, err
}

// storm measures writes of known series alone, then beside a writer of new series.
func (o *ChurnOptions) storm(ctx context.Context, s *server, r *ChurnResult) error {
	const perBody = 500
	planned := int(2*o.StormTime.Seconds()*o.KnownRate)/(o.Hosts*1000) + 3
	known, err := newLoad(loadOptions{url: s.writeURL, writers: 1, hosts: o.Hosts, scrapes: planned, perBody: perBody, rate: o.KnownRate, seed: o.Seed})
	if err != nil {
		return err
	}
	defer known.close()
	for _, w := range known.writers {
		w.rate = 0 // the registration need not be slow
	}
	if _, _, err := known.send(ctx, phase{scrapes: 2}); err != nil {
		return err
	}
	for _, w := range known.writers {
		w.rate = o.KnownRate
	}
	if err := pause(ctx, o.Settle); err != nil {
		return err
	}
	scrapes := max(1, int(o.StormTime.Seconds()*o.KnownRate)/known.perScan)
	if r.Alone, err = known.run(ctx, s.pids(), phase{scrapes: scrapes}); err != nil {
		return err
	}
	stop := o.registerNew(ctx, s.writeURL)
	r.Storm, err = known.run(ctx, s.pids(), phase{scrapes: scrapes})
	stormed, stormErr := stop()
	if err == nil {
		err = stormErr
	}
	if err != nil {
		return err
	}
	r.Stormed, r.Alone.Memory, r.Storm.Memory = stormed, nil, nil
	return nil
}

// registerNew sends a scrape of ever new hosts until the returned function is called.
func (o *ChurnOptions) registerNew(ctx context.Context, url string) (stop func() (int64, error)) {
	ctx, cancel := context.WithCancel(ctx)
	var sent int64
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		const perRound = 10
		for round := 0; ctx.Err() == nil && err == nil; round++ {
			var load *load
			load, err = newLoad(loadOptions{url: url, writers: 1, hosts: perRound, firstHost: 1_000_000 + round*perRound, scrapes: 1, rate: o.NewRate, seed: o.Seed})
			if err != nil {
				return
			}
			_, _, err = load.send(ctx, phase{scrapes: 1})
			sent += load.acked.samples.Load()
			load.close()
		}
	}()
	return func() (int64, error) {
		stopped := ctx.Err() == nil
		cancel()
		<-done
		if stopped && err != nil && ctx.Err() != nil { // the request under way was cut off by us
			return sent, nil
		}
		return sent, err
	}
}

// churnRuns are the repeated measurements of one peer.
type churnRuns []ChurnResult

func (rs churnRuns) median(decimals int, f func(*ChurnResult) float64) string {
	var values []float64
	for i := range rs {
		values = append(values, f(&rs[i]))
	}
	return spreadOf(decimals, values)
}

// churnTable writes a row for each peer.
func churnTable(b *strings.Builder, results []ChurnResult) {
	if len(results) == 0 {
		return
	}
	byPeer := groupBy(results, func(r *ChurnResult) string { return r.Peer })
	fmt.Fprintf(b, "\n### Churn\n\n%s active series, on %d CPUs.\n\n", thousands(int64(results[0].Series)), results[0].CPUs)
	row(b, "peer", "runs", "CPU-s per M samples, steady", "with churn", "ratio", "CPU-s per M replaced series", "known series alone, request p50 / p99 / max, ms", "beside registration, ms", "new series/s meanwhile")
	ruler(b, 9)
	for _, group := range byPeer {
		rs := churnRuns(group)
		latency := func(f func(*ChurnResult) *IngestResult) string {
			return rs.median(1, func(r *ChurnResult) float64 { return f(r).P50Ms }) + " / " +
				rs.median(1, func(r *ChurnResult) float64 { return f(r).P99Ms }) + " / " + rs.median(1, func(r *ChurnResult) float64 { return f(r).MaxMs })
		}
		row(b, rs[0].Peer, strconv.Itoa(len(rs)),
			rs.median(3, func(r *ChurnResult) float64 { return r.Steady.CPUPerM }),
			rs.median(3, func(r *ChurnResult) float64 { return r.Churned.CPUPerM }),
			rs.median(2, func(r *ChurnResult) float64 { return r.Churned.CPUPerM / r.Steady.CPUPerM }),
			rs.median(1, func(r *ChurnResult) float64 {
				return (r.Churned.CPUPerM - r.Steady.CPUPerM) * float64(r.Churned.Samples) / float64(r.Created)
			}),
			latency(func(r *ChurnResult) *IngestResult { return r.Alone }),
			latency(func(r *ChurnResult) *IngestResult { return r.Storm }),
			rs.median(0, func(r *ChurnResult) float64 { return float64(r.Stormed) / r.Storm.WallSeconds }))
	}
}
