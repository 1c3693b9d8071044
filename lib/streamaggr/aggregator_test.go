package streamaggr_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/streamaggr"
)

// newTest returns an Aggregator with rules before a sink.
func newTest(t testing.TB, next storageapi.Ingester, budget *memory.Budget, rules string) (*streamaggr.Aggregator, *metrics.Set) {
	t.Helper()
	set := metrics.NewSet()
	a := streamaggr.New(streamaggr.Options{Next: next, Logger: logger.Discard(), Metrics: set, Budget: budget})
	a.Use(parse(t, rules))
	return a, set
}

func parse(t testing.TB, rules string) *streamaggr.Config {
	t.Helper()
	c, err := streamaggr.Parse("test", []byte(rules), streamaggr.Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// batchOf returns a batch with one sample of each of some series, which have numbers in the space unless that is nil.
func batchOf(space *model.Space, series, groups int, at time.Time, value float64) *model.Batch {
	b := &model.Batch{}
	if space != nil {
		b.SetSpace(space, nil)
	}
	for i := range series {
		labels := []model.Label{{Name: "__name__", Value: "requests_total"}, {Name: "group", Value: fmt.Sprint(i % groups)}, {Name: "instance", Value: fmt.Sprint("host-", i)}}
		if err := b.AddSeries(model.TenantID{}, labels); err != nil {
			panic(err)
		}
		if space != nil {
			b.SetNumber(uint32(i))
		}
		b.AddSample(at.UnixMilli(), value)
	}
	return b
}

func want(t *testing.T, got, want []string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stored are %q; want %q", got, want)
	}
}

// TestNumberedSeriesComeBack: a series which was forgotten is found again, also when its number is known, and also under other rules.
func TestNumberedSeriesComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &stored{start: time.Now()}
		a, _ := newTest(t, sink, nil, "- {interval: 1m, by: [x], outputs: [count_series]}")
		defer func() { _ = a.Close() }()
		space := model.NewSpace()
		defer space.Close()
		ingest := func(wait time.Duration, lines ...string) {
			t.Helper()
			if err := a.Ingest(t.Context(), batchOf(space, 2, 1, time.Now(), 1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(wait)
			synctest.Wait()
			want(t, sink.take(), lines)
		}
		ingest(10*time.Minute, "requests_total:1m_by_x_count_series 2 @1m0s")
		ingest(time.Minute, "requests_total:1m_by_x_count_series 2 @11m0s")
		a.Use(parse(t, "- {interval: 1m, by: [x], outputs: [sum_samples], match: other}\n- {interval: 1m, by: [x], outputs: [last]}"))
		ingest(time.Minute, "requests_total:1m_by_x_last 1 @12m0s")
		a.Use(parse(t, ""))
		ingest(0, `requests_total{group="0",instance="host-0"} 1 @12m0s`, `requests_total{group="0",instance="host-1"} 1 @12m0s`)
	})
}

// TestNothingIsLost has many senders while rules change and flush. All samples are in some aggregate.
func TestNothingIsLost(t *testing.T) {
	const senders, batches, series = 4, 50, 30
	for _, rule := range []string{"", ", dedup_interval: 1ms", ", enable_windows: true"} {
		synctest.Test(t, func(t *testing.T) {
			seed := rand.Uint64()
			t.Log("seed", seed)
			sink := &results{}
			rules := fmt.Sprintf("- {interval: 1s, no_align_flush_to_interval: true, flush_on_shutdown: true, by: [group], outputs: [count_samples]%s}\n", rule)
			budget := memory.NewBudget(1 << 30)
			a, set := newTest(t, sink, budget, rules)
			space := model.NewSpace()
			var running sync.WaitGroup
			for i := range senders {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				running.Go(func() {
					for range batches {
						time.Sleep(time.Duration(8+rng.IntN(300)) * time.Millisecond)
						in := space
						if rng.IntN(4) == 0 {
							in = nil
						}
						// No two samples of a series have one time.
						at := time.Now().Truncate(8 * time.Millisecond).Add(time.Duration(i) * time.Millisecond)
						if err := a.Ingest(t.Context(), batchOf(in, series, 7, at, 1)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			for i := range 20 {
				time.Sleep(200 * time.Millisecond)
				a.Use(parse(t, strings.Repeat("- {interval: 1s, outputs: [last]}\n", i%2)+rules))
			}
			running.Wait()
			total := sumOf(t, set, "vm_streamaggr_dedup_dropped_samples_total") + sumOf(t, set, "vm_streamaggr_ignored_samples_total")
			if rule == "" && total != 0 || total > senders*batches*series/2 {
				t.Errorf("%q: %g samples are left out", rule, total)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			for key, v := range sink.values {
				if strings.Contains(key, "_count_samples") {
					total += v
				}
			}
			if total != senders*batches*series {
				t.Errorf("%q: %g samples are counted; %d were sent", rule, total, senders*batches*series)
			}
			space.Close()
			if used := budget.Used(); used != 0 {
				t.Errorf("%q: %d bytes stay reserved", rule, used)
			}
		})
	}
}

// sumOf adds up the values of a family.
func sumOf(t *testing.T, set *metrics.Set, family string) (sum float64) {
	t.Helper()
	for _, line := range metricLines(t, set, family) {
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// TestKnownSeries: nothing is allocated for a series that is known, also under new rules, with one place or several or none.
func TestKnownSeries(t *testing.T) {
	const series = 1000
	a, _ := newTest(t, nowhere{}, nil, "- {interval: 1h, outputs: [last]}")
	defer func() { _ = a.Close() }()
	space := model.NewSpace()
	defer space.Close()
	b := batchOf(space, series, 10, time.Now(), 1)
	for _, rules := range []string{"- {interval: 1h, by: [group], outputs: [total, avg]}", "- {interval: 1h, outputs: [max]}\n- {interval: 2h, outputs: [max]}", "- {interval: 1h, match: other, outputs: [min]}"} {
		a.Use(parse(t, rules))
		allocated := testing.AllocsPerRun(20, func() {
			if err := a.Ingest(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		})
		if allocated > series/10 { // the race detector has pools forget
			t.Errorf("%s: %g allocations for a batch of %d series", rules, allocated, series)
		}
	}
}

// TestMemory: what there is no memory for is stored as it came.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &stored{start: time.Now()}
		budget := memory.NewBudget(2 << 20)
		a, set := newTest(t, sink, budget, "- {interval: 1m, outputs: [count_series]}\n")
		const series = 20_000
		space := model.NewSpace()
		for range 3 {
			if err := a.Ingest(t.Context(), batchOf(space, series, series, time.Now(), 1)); err != nil {
				t.Fatal(err)
			}
		}
		if budget.Used() > budget.Limit() {
			t.Errorf("%d of %d bytes are used", budget.Used(), budget.Limit())
		}
		asTheyCame := len(sink.take())
		ignored := metricLines(t, set, `vm_streamaggr_ignored_samples_total{reason="memory"`)
		if asTheyCame == 0 || asTheyCame >= 3*series || len(ignored) != 1 {
			t.Errorf("%d samples of %d are stored as they came; ignored: %s", asTheyCame, 3*series, ignored)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if aggregates := len(sink.take()); 3*aggregates+asTheyCame != 3*series {
			t.Errorf("there are %d aggregates besides %d samples", aggregates, asTheyCame)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		space.Close()
		if used := budget.Used(); used != 0 {
			t.Errorf("%d bytes stay reserved", used)
		}
	})
}

// TestStorageFails: a batch which cannot be stored counts for nothing; aggregates are tried again for as long as an interval.
func TestStorageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &stored{start: time.Now()}
		a, set := newTest(t, sink, nil, "- {interval: 1m, match: '{group=\"0\"}', outputs: [count_samples], without: [group, instance]}\n")
		fail := func(err error) {
			sink.mu.Lock()
			defer sink.mu.Unlock()
			sink.err = err
		}
		ingest := func(failing bool) {
			t.Helper()
			if err := a.Ingest(t.Context(), batchOf(nil, 4, 2, time.Now(), 1)); (err != nil) != failing {
				t.Errorf("error %v", err)
			}
		}
		busy := errkind.New(errkind.Overloaded, "busy")
		fail(busy)
		ingest(true)
		fail(nil)
		ingest(false)
		sink.take()
		fail(busy)
		time.Sleep(90 * time.Second)
		fail(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want(t, sink.take(), []string{"requests_total:1m_without_group_instance_count_samples 2 @1m0s"})
		ingest(false)
		sink.take()
		fail(busy)
		time.Sleep(90 * time.Second) // the next flush gives up at the end of its interval
		fail(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, sink.take(), nil)
		if lost := metricLines(t, set, "vm_streamaggr_lost_samples_total"); len(lost) != 1 {
			t.Errorf("lost: %q", lost)
		}
		ingest(false)
		fail(busy)
		time.Sleep(90 * time.Second)
		before := time.Now()
		if err := a.Close(); err != nil || time.Since(before) > time.Second { // of a clock which does not pass by itself
			t.Errorf("Close takes %s: %v", time.Since(before), err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("- {interval: 1m, outputs: [total], by: [a], match: ['foo', '{a=~\"b.*\"}']}"))
	f.Add([]byte("- interval: 1m\n  outputs: [\"quantiles(0.5, 0.9)\"]\n  input_relabel_configs:\n  - {action: labeldrop, regex: x}\n"))
	f.Add([]byte("- &a {interval: 2h, dedup_interval: 1h, outputs: [last]}\n- *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := streamaggr.Parse("fuzz", text, streamaggr.Defaults{})
		if err != nil {
			if errkind.Of(err) != errkind.BadRequest || !strings.HasPrefix(err.Error(), "cannot parse rules of stream aggregation of fuzz: ") {
				t.Errorf("error %q of kind %s", err, errkind.Of(err))
			}
			return
		}
		if c.Len() > 100 {
			return
		}
		a, _ := newTest(t, &results{}, nil, "")
		a.Use(c)
		if err := a.Ingest(t.Context(), batchOf(nil, 3, 2, time.Now(), 1)); err != nil {
			t.Error(err)
		}
		_ = a.Close()
	})
}
