package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/vfs/memfs"
)

// accounts is a storage with the samples it should have: the newest of each series, by tenant.
type accounts struct {
	*Storage
	o      Options
	clock  atomic.Int64 // since testNow
	rng    *rand.Rand
	newest map[uint32]map[int]int64
}

func newAccounts(t *testing.T, seed uint64) *accounts {
	t.Helper()
	a := &accounts{rng: rand.New(rand.NewPCG(seed, 1)), newest: map[uint32]map[int]int64{}}
	a.o = testOptions(memfs.New(memfs.Options{}))
	a.o.Now = func() time.Time { return testNow().Add(time.Duration(a.clock.Load())) }
	a.Storage = openTest(t, testConfig(), a.o)
	t.Cleanup(func() { closeTest(t, a.Storage) })
	return a
}

// send ingests samples of series of a tenant at a time, one of each.
func (a *accounts) send(t *testing.T, account uint32, at int64, series ...int) {
	t.Helper()
	b := &model.Batch{}
	if a.newest[account] == nil {
		a.newest[account] = map[int]int64{}
	}
	for _, i := range series {
		labels := []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprintf("m%d", i%3)}, {Name: "i", Value: fmt.Sprint(i)}}
		if err := b.AddSeries(model.TenantID{AccountID: account, ProjectID: 1}, labels); err != nil {
			t.Fatal(err)
		}
		b.AddSample(at, a.rng.NormFloat64())
		a.newest[account][i] = max(a.newest[account][i], at)
	}
	ingest(t, a.Storage, b)
}

func (a *accounts) reopen(t *testing.T) {
	t.Helper()
	closeTest(t, a.Storage)
	a.o.Metrics, a.o.Budget = metrics.NewSet(), memory.NewBudget(256<<20)
	a.Storage = openTest(t, testConfig(), a.o)
}

// gauge returns the metric of a tenant, 0 if it has none, as one all of whose series are deleted.
func (a *accounts) gauge(t *testing.T, family string, account uint32) float64 {
	t.Helper()
	text := metric(t, a.o.Metrics, fmt.Sprintf(`%s{accountID="%d",projectID="1"}`, family, account))
	if text == "missing" {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// count brings the metrics up to date.
func (a *accounts) count() {
	for deadline := time.Now().Add(20 * time.Second); a.counting(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			panic("counting takes too long")
		}
	}
	a.accountForTenants()
}

// counting reports whether a page has started a count that has not ended.
func (a *accounts) counting() bool {
	a.tenants.mu.Lock()
	defer a.tenants.mu.Unlock()
	return a.tenants.mu.counting
}

// check compares the active series with the model. As of one month they are exact, but for the precision of the time.
func (a *accounts) check(t *testing.T) {
	t.Helper()
	a.count()
	since := partition.ActiveSince(a.o.Now().UnixMilli() - activeMs)
	for account, series := range a.newest {
		want := 0
		for _, at := range series {
			if at >= since {
				want++
			}
		}
		if got := a.gauge(t, "vm_tenant_active_timeseries", account); got != float64(want) {
			t.Fatalf("tenant %d has %g active series; want %d", account, got, want)
		}
	}
}

// diskBytes returns the bytes of parts and indexes.
func (a *accounts) diskBytes() float64 {
	st := a.sum()
	return float64(st.Small.SizeBytes + st.Big.SizeBytes + st.IndexBytes)
}

// checkBytes compares the sum of the bytes of all tenants with those of the storage.
func (a *accounts) checkBytes(t *testing.T) {
	t.Helper()
	want := a.diskBytes()
	for a.count(); a.diskBytes() != want; a.count() { // merges in the background come to an end
		want = a.diskBytes()
	}
	sum := 0.0
	for account := range a.newest {
		sum += a.gauge(t, "vm_tenant_used_tenant_bytes", account)
	}
	if math.Abs(sum-want) > 1e-6*want+1 {
		t.Fatalf("tenants have %g bytes; the storage has %g", sum, want)
	}
}

// TestActiveSeriesOfTenants sends random samples, old ones and new ones, and flushes, merges, deletes and starts again in between.
func TestActiveSeriesOfTenants(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	a := newAccounts(t, seed)
	ctx := context.Background()
	seen := map[string]int{}
	for range 400 {
		account := uint32(a.rng.IntN(4))
		step := "send"
		switch a.rng.IntN(20) {
		case 0:
			step = "flush"
			if err := a.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		case 1:
			step = "merge"
			if err := a.Merge(ctx, ""); err != nil {
				t.Fatal(err)
			}
		case 2:
			step = "reopen"
			a.reopen(t)
		case 3:
			if len(a.newest[account]) == 0 {
				continue
			}
			step = "delete"
			f := model.TagFilter{Name: model.MetricNameLabel, Value: "m1"}
			n, err := a.DeleteSeries(ctx, &model.SearchQuery{Tenant: model.TenantID{AccountID: account, ProjectID: 1}, Range: allTime(), Filters: [][]model.TagFilter{{f}}})
			if err != nil {
				t.Fatal(err)
			}
			for i := range a.newest[account] {
				if i%3 == 1 {
					n--
					delete(a.newest[account], i)
				}
			}
			if n != 0 {
				t.Fatalf("the model lacks %d deleted series", n)
			}
		default:
			at := a.o.Now().UnixMilli() - int64(a.rng.ExpFloat64()*float64(hourMs/2)) + hourMs/20
			series := make([]int, 1+a.rng.IntN(20))
			for i := range series {
				series[i] = a.rng.IntN(100)
			}
			a.send(t, account, at, series...)
			a.clock.Add(int64(a.rng.ExpFloat64() * float64(4*time.Minute)))
		}
		seen[step]++
		a.check(t)
		if seen["delete"] == 0 { // afterwards bytes of deleted series may be nobody's
			a.checkBytes(t)
		}
	}
	t.Logf("%v", seen)
}

// TestBytesOfTenants has tenants of very different sizes, whose columns are partly the same.
func TestBytesOfTenants(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	a := newAccounts(t, seed)
	all := make([]int, 100)
	for i := range all {
		all[i] = i
	}
	now := a.o.Now().UnixMilli()
	for k := range int64(100) {
		a.send(t, 1, now-k*15_000, all...)
		a.send(t, 2, now-k*15_000, all[:10]...)
		a.send(t, 3, now-k*15_000-1, all[:1]...)
		if k == 50 {
			if err := a.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			a.checkBytes(t)
		}
	}
	for _, step := range []func(context.Context) error{a.Flush, func(ctx context.Context) error { return a.Merge(ctx, "") }} {
		if err := step(context.Background()); err != nil {
			t.Fatal(err)
		}
		a.checkBytes(t)
		one, two, three := a.gauge(t, "vm_tenant_used_tenant_bytes", 1), a.gauge(t, "vm_tenant_used_tenant_bytes", 2), a.gauge(t, "vm_tenant_used_tenant_bytes", 3)
		if one < 7*two || one > 13*two || two < 3*three || one < 40_000 {
			t.Errorf("the tenants have %g, %g and %g bytes", one, two, three)
		}
	}
}

// TestTenantMetrics reads the page as scrapers do: figures are there from the first time on, and follow.
func TestTenantMetrics(t *testing.T) {
	a := newAccounts(t, 1)
	a.send(t, 7, a.o.Now().UnixMilli(), 1, 2, 3)
	const active, created = `vm_tenant_active_timeseries{accountID="7",projectID="1"}`, `vm_tenant_timeseries_created_total{accountID="7",projectID="1"}`
	wantMetrics(t, a.o.Metrics, map[string]string{active: "3", created: "3"})
	a.send(t, 7, a.o.Now().UnixMilli(), 3, 4)
	a.send(t, 8, a.o.Now().UnixMilli(), 1)
	wantMetrics(t, a.o.Metrics, map[string]string{active: "3", created: "4"}) // not counted again within a second
	a.clock.Add(int64(time.Minute))
	for deadline := time.Now().Add(10 * time.Second); metric(t, a.o.Metrics, active) != "4"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the metric does not follow")
		}
	}
	wantMetrics(t, a.o.Metrics, map[string]string{`vm_tenant_active_timeseries{accountID="8",projectID="1"}`: "1"})
}

// TestActiveSeriesAcrossMonths has the same series in two months, which have an index each.
func TestActiveSeriesAcrossMonths(t *testing.T) {
	a := newAccounts(t, 1)
	next := partition.MonthOf(a.o.Now().UnixMilli()).Range().Max + 1
	a.clock.Store(int64(time.UnixMilli(next).Add(-time.Minute).Sub(testNow())))
	a.send(t, 1, next-1, 1, 2, 3)
	a.clock.Add(int64(2 * time.Minute))
	a.send(t, 1, next, 2, 3)
	a.count()
	if n := a.gauge(t, "vm_tenant_active_timeseries", 1); n != 3 {
		t.Errorf("%g series are active; want 3", n)
	}
	a.send(t, 1, next, 4, 5)
	a.count()
	if n := a.gauge(t, "vm_tenant_active_timeseries", 1); n != 4 {
		t.Errorf("%g series are active; want the 4 of the new month", n)
	}
	a.clock.Add(int64(2 * time.Hour))
	if a.count(); a.gauge(t, "vm_tenant_active_timeseries", 1) != 0 {
		t.Error("series are active for ever")
	}
	if a.gauge(t, "vm_tenant_used_tenant_bytes", 1) < 0 {
		t.Error("less than nothing")
	}
}

// endingContext is done when it has been asked so many times.
type endingContext struct {
	context.Context
	left int
}

func (c *endingContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCountingEnds gives counts up at every place where they can be, within parts too. The next count says what there is all the same.
func TestCountingEnds(t *testing.T) {
	a := newAccounts(t, 1)
	all := make([]int, 4000)
	for i := range all {
		all[i] = i
	}
	a.send(t, 1, a.o.Now().UnixMilli(), all...)
	a.send(t, 2, a.o.Now().UnixMilli(), all...)
	if err := a.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	partitions := a.acquire(allTime())
	defer func() { a.noteErr("close", release(partitions)) }()
	since, given := partition.ActiveSince(a.o.Now().UnixMilli()-activeMs), 0
	for ; ; given++ {
		if _, err := partitions[0].Usage(&endingContext{Context: context.Background(), left: given}, since); err == nil {
			break
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if given < 2*len(all)/1024 { // that many times for either question a part is asked, less what is remembered
		t.Errorf("a count asks %d times whether it may go on", given)
	}
	a.check(t)
	a.checkBytes(t)
}

// BenchmarkCountTenants counts what tenants have: in the head, for the first time after a flush, and again.
func BenchmarkCountTenants(b *testing.B) {
	for _, tenants := range []int{1, 1000, 10_000} {
		const series = 200_000
		s := openBench(b)
		batch := &model.Batch{}
		for i := range series {
			if err := batch.AddSeries(model.TenantID{AccountID: uint32(i % tenants)}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprintf("m%d", i%50)}, {Name: "i", Value: fmt.Sprint(i)}}); err != nil {
				b.Fatal(err)
			}
			batch.AddSample(testNow().UnixMilli(), float64(i))
		}
		ingest(b, s, batch)
		count := func(b *testing.B) {
			active, _, _ := s.countTenants()
			if len(active) != tenants || active[model.TenantID{}] != float64(series/tenants) {
				b.Fatalf("%d tenants", len(active))
			}
		}
		run := func(name string, before func()) {
			b.Run(fmt.Sprintf("tenants=%d/%s", tenants, name), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					before()
					b.StartTimer()
					count(b)
				}
			})
		}
		run("head", func() {})
		run("merged", func() { // a new part with all series
			ingest(b, s, batch)
			for _, step := range []func(context.Context) error{s.Flush, func(ctx context.Context) error { return s.Merge(ctx, "") }} {
				if err := step(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
		run("again", func() {})
		closeTest(b, s)
	}
}
