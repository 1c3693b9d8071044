package streamaggr_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/streamaggr"
	"vmcluster/lib/tsblock"
)

// raw is a query.Source with all samples that were sent.
type raw struct {
	keys    [][]byte
	samples []tsblock.Samples
}

func (r *raw) Reading() query.Reading { return query.Reading{} }
func (r *raw) Select(context.Context, *model.SearchQuery) (query.SeriesIterator, error) {
	return &rawIterator{raw: r, at: -1}, nil
}

type rawIterator struct {
	*raw
	at     int
	series query.EncodedSeries
}

func (it *rawIterator) Next() bool {
	if it.at++; it.at >= len(it.keys) {
		return false
	}
	_, b := tsblock.AppendEncode(nil, &it.samples[it.at])
	it.series = query.EncodedSeries{Key: it.keys[it.at], Blocks: []tsblock.Block{b}}
	return true
}
func (it *rawIterator) At() *query.EncodedSeries { return &it.series }
func (it *rawIterator) Err() error               { return nil }
func (it *rawIterator) Partial() bool            { return false }
func (it *rawIterator) Close() error             { return nil }

// arrival is a sample on its way.
type arrival struct {
	series int
	at     time.Duration // since the start, as timestamp
	lag    time.Duration
	value  float64
}

const (
	testInterval  = time.Minute
	testIntervals = 8
	testGroups    = 3
	testSeries    = 12
)

// newTraffic returns samples of counters which begin again now and then, in the order in which they come. Without windows none is late, and series may pause.
func newTraffic(rng *rand.Rand, windows bool) (list []arrival) {
	for s := range testSeries {
		lag := time.Duration(0)
		if windows {
			lag = time.Duration(rng.IntN(20_000)) * time.Millisecond
		}
		value := float64(rng.IntN(1000))
		for at := time.Duration(1+rng.IntN(5000)) * time.Millisecond; at < testIntervals*testInterval; at += time.Duration(5000+rng.IntN(20_000)) * time.Millisecond {
			if at%time.Second == 0 {
				at++ // an end of a window is not raced for
			}
			list = append(list, arrival{s, at.Truncate(time.Millisecond), lag, value})
			switch rng.IntN(12) {
			case 0:
				value = math.Floor(value / 9) // less than that would be taken for a partial reset by queries
			case 1:
				if !windows {
					at += time.Duration(rng.IntN(120)) * time.Second
				}
			default:
				value += float64(rng.IntN(50)) / 4
			}
		}
	}
	slices.SortStableFunc(list, func(a, b arrival) int { return int(a.at + a.lag - b.at - b.lag) })
	return list
}

func seriesOfTest(s int) []model.Label {
	return []model.Label{{Name: "__name__", Value: "x"}, {Name: "g", Value: strconv.Itoa(s % testGroups)}, {Name: "i", Value: strconv.Itoa(s)}}
}

// perGroup and perSeries are queries for what outputs are to be at the end of an interval. I stands for the interval, ALL for all time since the start.
func perGroup() map[string]string {
	return map[string]string{
		"avg":                 "sum(sum_over_time(x[I])) by (g) / sum(count_over_time(x[I])) by (g)",
		"count_samples":       "sum(count_over_time(x[I])) by (g)",
		"count_series":        "count(count_over_time(x[I])) by (g)",
		"increase":            "sum(increase_pure(x[I])) by (g)",
		"increase_prometheus": "sum(increase_pure(x[I]) - (first_over_time(x[I]) unless count_over_time(x[ALL] offset I) > 0 or first_over_time(x[I]) * 0)) by (g)",
		"max":                 "max(max_over_time(x[I])) by (g)",
		"min":                 "min(min_over_time(x[I])) by (g)",
		"rate_avg":            "avg(rate(x[I])) by (g)",
		"rate_sum":            "sum(rate(x[I])) by (g)",
		"sum_samples":         "sum(sum_over_time(x[I])) by (g)",
		"sum_samples_total":   "sum(sum_over_time(x[ALL])) by (g)",
		"total":               "sum(increase_pure(x[ALL])) by (g)",
		"total_prometheus":    "sum(increase_pure(x[ALL]) - first_over_time(x[ALL])) by (g)",
		"histogram_bucket":    "sum(histogram_over_time(x[ALL])) by (g, vmrange)",
	}
}

func perSeries() map[string]string {
	return map[string]string{
		"last": "last_over_time(x[I])", "stddev": "stddev_over_time(x[I])", "stdvar": "stdvar_over_time(x[I])", "unique_samples": "distinct_over_time(x[I])",
		"quantiles(0.1,0.5,0.99)": `quantiles_over_time("quantile", 0.1, 0.5, 0.99, x[I])`,
		"avg":                     "avg_over_time(x[I])", "increase": "increase_pure(x[I])", "rate_sum": "rate(x[I])",
	}
}

// TestAsQueries compares every output with a query over the raw samples.
func TestAsQueries(t *testing.T) {
	for _, windows := range []bool{false, true} {
		for range 3 {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("windows=%t,seed=%d", windows, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { compareWithQueries(t, rand.New(rand.NewPCG(seed, 1)), windows) })
			})
		}
	}
}

func compareWithQueries(t *testing.T, rng *rand.Rand, windows bool) {
	start := time.Now()
	sink := &results{}
	a := streamaggr.New(streamaggr.Options{Next: sink, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	defer func() { _ = a.Close() }()
	var rules strings.Builder
	for labels, queries := range map[string]map[string]string{"by: [g]": perGroup(), "name: all": perSeries()} {
		for output := range queries {
			fmt.Fprintf(&rules, "- {interval: 1m, staleness_interval: 4m, ignore_first_sample_interval: 0s, enable_windows: %t, %s, outputs: [%q]}\n", windows, labels, output)
		}
	}
	c, err := streamaggr.Parse("test", []byte(rules.String()), streamaggr.Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	a.Use(c)
	source := send(t, a, newTraffic(rng, windows), rng, start)
	time.Sleep(time.Until(start.Add((testIntervals + 1) * testInterval)))
	synctest.Wait()
	var config query.Config
	config.RegisterFlags(flag.NewFlagSet("test", flag.ContinueOnError))
	engine := query.New(&config, query.Options{Source: source, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	for labels, queries := range map[string]map[string]string{"_by_g": perGroup(), "": perSeries()} {
		for output, text := range queries {
			output, _, _ = strings.Cut(output, "(")
			name := "x:1m" + labels + "_" + output
			for k := 1; k <= testIntervals; k++ {
				sink.compare(t, engine, name, text, start, k)
			}
		}
	}
}

// send sends the samples when it is time, some of them as series with numbers, and returns them for queries.
func send(t *testing.T, a *streamaggr.Aggregator, traffic []arrival, rng *rand.Rand, start time.Time) *raw {
	source := &raw{samples: make([]tsblock.Samples, testSeries)}
	for s := range testSeries {
		key, err := model.AppendSeriesKey(nil, model.TenantID{}, seriesOfTest(s))
		if err != nil {
			t.Fatal(err)
		}
		source.keys = append(source.keys, key)
	}
	space := model.NewSpace()
	defer space.Close()
	for _, x := range traffic {
		time.Sleep(time.Until(start.Add(x.at + x.lag)))
		var b model.Batch
		numbered := rng.IntN(3) > 0
		if numbered {
			b.SetSpace(space, nil)
		}
		b.AddKey(source.keys[x.series], model.HashSeriesKey(source.keys[x.series]))
		if numbered {
			b.SetNumber(uint32(x.series))
		}
		timestamp := start.Add(x.at).UnixMilli()
		b.AddSample(timestamp, x.value)
		if err := a.Ingest(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		s := &source.samples[x.series]
		s.Timestamps, s.Values = append(s.Timestamps, timestamp), append(s.Values, x.value)
	}
	return source
}

// results are aggregates by name, time and labels.
type results struct {
	mu     sync.Mutex
	values map[string]float64
}

func (r *results) Ingest(_ context.Context, b *model.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values == nil {
		r.values = map[string]float64{}
	}
	for i := range b.Len() {
		_, labels, err := model.ParseSeriesKey(nil, b.Key(i))
		if err != nil {
			return err
		}
		for _, x := range b.Samples(i) {
			r.values[fmt.Sprint(labels[0].Value, " ", x.Timestamp, " ", model.LabelsString(labels[1:]))] = x.Value
		}
	}
	return nil
}

// compare compares the aggregates of the kth interval with the answer to a query at its end.
func (r *results) compare(t *testing.T, engine *query.Engine, name, text string, start time.Time, k int) {
	t.Helper()
	end := start.Add(time.Duration(k) * testInterval).UnixMilli()
	text = strings.NewReplacer("ALL", fmt.Sprint(k, "m"), "offset I", "offset 1m", "[I]", "[1m]").Replace(text)
	answer, err := engine.Query(t.Context(), &query.Request{Query: text, Start: end, NoCache: true})
	if err != nil {
		t.Fatal(err)
	}
	prefix := fmt.Sprint(name, " ", end, " ")
	want := map[string]float64{}
	for _, s := range answer.Series {
		labels := slices.DeleteFunc(slices.Clone(s.Labels), func(l model.Label) bool { return l.Name == model.MetricNameLabel })
		want[prefix+model.LabelsString(labels)] = s.Values[0]
	}
	if len(want) == 0 {
		t.Errorf("%s: the query %s has no answer", name, text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, v := range r.values {
		if _, ok := want[key]; !ok && strings.HasPrefix(key, prefix) {
			t.Errorf("there is %s %g; the query %s has no such series", key, v, text)
		}
	}
	for key, v := range want {
		if got, ok := r.values[key]; !ok || math.Abs(got-v) > 1e-9*math.Max(1, math.Abs(v)) {
			t.Errorf("%s is %g, %t; the query %s says %g", key, got, ok, text, v)
		}
	}
}
