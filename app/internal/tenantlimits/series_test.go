package tenantlimits

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// batchOf has a sample of each of the numbered series of a tenant.
func batchOf(t testing.TB, tenant model.TenantID, numbers ...int) *model.Batch {
	t.Helper()
	b := &model.Batch{}
	for _, n := range numbers {
		if err := b.AddSeries(tenant, []model.Label{{Name: model.MetricNameLabel, Value: "m"}, {Name: "n", Value: fmt.Sprint(n)}}); err != nil {
			t.Fatal(err)
		}
		b.AddSample(1, 1)
	}
	return b
}

// send returns the numbers of the series which are refused.
func (e *env) send(t testing.TB, tenant model.TenantID, numbers ...int) (refused []int, err error) {
	t.Helper()
	x := e.AdmitSeries(tenant, batchOf(t, tenant, numbers...), nil)
	for _, i := range x.Series {
		refused = append(refused, numbers[i])
	}
	return refused, x.Err
}

func (e *env) page(t *testing.T) string {
	t.Helper()
	var page bytes.Buffer
	if err := e.set.Write(&page, false); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

func TestActiveSeries(t *testing.T) {
	e := newEnv(t, "1:2 active_series=3\n2 active_series=1 excess_series=drop\n3 samples_per_second=1", time.Hour)
	one := model.TenantID{AccountID: 1, ProjectID: 2}
	check := func(want []int, numbers ...int) {
		t.Helper()
		refused, err := e.send(t, one, numbers...)
		if !slices.Equal(refused, want) || (err == nil) != (len(want) == 0) {
			t.Fatalf("of %d %d are refused, %v; want %d", numbers, refused, err, want)
		}
		if err != nil && (!IsLimit(err) || errkind.Of(err) != errkind.Overloaded || !strings.Contains(err.Error(), "tenant 1:2") || !strings.Contains(err.Error(), "active_series=3 ") ||
			!strings.Contains(err.Error(), fmt.Sprintf("of %d new series", len(want)))) {
			t.Error(err)
		}
	}
	check(nil, 1, 2, 2, 1)
	check([]int{4, 5}, 1, 2, 3, 4, 3, 5)
	check([]int{4}, 4)
	check(nil, 1, 2, 3)
	if x := e.AdmitSeries(one, batchOf(t, one, 1, 9, 9, 3), []uint32{0, 2, 3}); !slices.Equal(x.Series, []uint32{2}) || x.Drop {
		t.Errorf("of some of a batch, %+v is kept out", x)
	}
	if page := e.page(t); !strings.Contains(page, `vm_tenant_limit_active_series{accountID="1",projectID="2"} 3`) || !strings.Contains(page, `vm_tenant_limit_exceeded_total{limit="active_series"} 3`) {
		t.Error(page)
	}
	e.now = e.now.Add(40 * time.Minute)
	check(nil, 1)
	e.now = e.now.Add(26 * time.Minute) // 2 and 3 were there 66 minutes ago
	check([]int{6}, 4, 5, 6)
	check(nil, 1)
	e.now = e.now.Add(-26 * time.Minute) // a clock that goes back makes nobody younger
	check([]int{2}, 2)
	e.now = e.now.Add(100 * 24 * time.Hour)
	check([]int{8}, 5, 6, 7, 8)
	for _, none := range []uint32{3, 4} { // who has no limit leaves no trace
		if refused, err := e.send(t, model.TenantID{AccountID: none}, 1, 2, 3, 4, 5); len(refused) > 0 || err != nil {
			t.Errorf("tenant %d: %d, %v", none, refused, err)
		}
	}
	if x := e.AdmitSeries(model.TenantID{AccountID: 2}, batchOf(t, model.TenantID{AccountID: 2}, 1, 2), nil); !x.Drop || len(x.Series) != 1 {
		t.Errorf("what is to be dropped is %+v", x)
	}
	e.now = e.now.Add(2 * time.Hour)
	if e.sweepSeries(); len(e.sets.tenants) > 0 {
		t.Errorf("%d tenants are remembered", len(e.sets.tenants))
	}
}

// TestActiveSeriesModel sends random series and compares with an exact set: a series is active for an hour after its last sample, and for no more than a slot longer.
func TestActiveSeriesModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const limit = 200
	e := newEnv(t, fmt.Sprintf("default active_series=%d", limit), time.Hour)
	tenant := model.TenantID{AccountID: 5}
	admitted := map[int]time.Time{} // when the last sample came of those which are or were active
	refusals, expired := 0, 0
	for range 3000 {
		e.now = e.now.Add(time.Duration(rng.ExpFloat64() * float64(2*time.Minute)))
		var numbers []int
		base := rng.IntN(5) * 100
		for range rng.IntN(60) {
			numbers = append(numbers, base+rng.IntN(100))
		}
		refused, _ := e.send(t, tenant, numbers...)
		surely, perhaps := 0, 0 // active
		for _, at := range admitted {
			if age := e.now.Sub(at); age <= time.Hour {
				surely++
				perhaps++
			} else if age <= time.Hour+slotSeconds*time.Second {
				perhaps++
			}
		}
		fresh := map[int]bool{} // admitted now, and not active for sure before
		for _, n := range numbers {
			at, known := admitted[n]
			if known && e.now.Sub(at) > time.Hour+slotSeconds*time.Second {
				expired++
			}
			if active := known && e.now.Sub(at) <= time.Hour; active || !slices.Contains(refused, n) {
				if active && slices.Contains(refused, n) {
					t.Fatalf("series %d with a sample at %s is refused at %s", n, at, e.now)
				}
				if !active && !fresh[n] {
					fresh[n] = true
				}
			}
		}
		if surely+len(fresh) > limit {
			t.Fatalf("%d series are active and %d more come in", surely, len(fresh))
		}
		if len(refused) > 0 && perhaps+len(fresh) < limit {
			t.Fatalf("%d series are refused while at most %d are active", len(refused), perhaps+len(fresh))
		}
		refusals += len(refused)
		for _, n := range numbers {
			if !slices.Contains(refused, n) {
				admitted[n] = e.now
			}
		}
	}
	if refusals == 0 || expired == 0 {
		t.Errorf("%d series were refused and %d came back: nothing is tested", refusals, expired)
	}
}

// TestActiveSeriesReload lowers, raises and removes a limit.
func TestActiveSeriesReload(t *testing.T) {
	e := newEnv(t, "1 active_series=2", time.Hour)
	tenant := model.TenantID{AccountID: 1}
	for _, step := range []struct {
		file    string
		send    []int
		refused []int
	}{
		{"1 active_series=2", []int{1, 2, 3}, []int{3}},
		{"1 active_series=4", []int{1, 2, 3, 4, 5}, []int{5}},
		{"1 active_series=1", []int{1, 2, 3, 4, 5}, []int{5}}, // what was there stays
		{"2 active_series=1", []int{1, 2, 3, 4, 5, 6}, nil},
		{"1 active_series=1", []int{6, 5, 1}, []int{5, 1}}, // who comes first
	} {
		e.write(t, step.file)
		if err := e.read(); err != nil {
			t.Fatal(err)
		}
		e.sweepSeries()
		if refused, _ := e.send(t, tenant, step.send...); !slices.Equal(refused, step.refused) {
			t.Errorf("%s: of %d %d are refused; want %d", step.file, step.send, refused, step.refused)
		}
	}
}

// TestActiveSeriesMemory has tenants and series which are more than there is memory for: they come in, and are counted.
func TestActiveSeriesMemory(t *testing.T) {
	budget := memory.NewBudget(100_000)
	e := newEnv(t, "", time.Hour)
	set := metrics.NewSet()
	e.write(t, "default active_series=1e6")
	l, err := New(Options{
		Config: &Config{Path: e.path, CheckInterval: flagvalue.Duration(time.Hour)}, Logger: logger.Discard(), Metrics: set, Budget: budget, Now: func() time.Time { return e.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	tenant := model.TenantID{AccountID: 1}
	for i := range 100 {
		numbers := make([]int, 200)
		for j := range numbers {
			numbers[j] = 200*i + j
		}
		if x := l.AdmitSeries(tenant, batchOf(t, tenant, numbers...), nil); len(x.Series) > 0 {
			t.Fatalf("%d series are refused: %v", len(x.Series), x.Err)
		}
	}
	for i := range uint32(1000) {
		l.AdmitSeries(model.TenantID{AccountID: 2, ProjectID: i}, batchOf(t, tenant, 1), nil)
	}
	if used := budget.Used(); used < 50_000 || used > budget.Limit() {
		t.Errorf("%d bytes are reserved", used)
	}
	var page bytes.Buffer
	if err := set.Write(&page, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(page.String(), "vm_tenant_limit_uncounted_series_total 0\n") {
		t.Error("nothing is uncounted")
	}
	e.now = e.now.Add(2 * time.Hour)
	if l.sweepSeries(); budget.Used() != 0 {
		t.Errorf("%d bytes are reserved when no series is active", budget.Used())
	}
	l.AdmitSeries(tenant, batchOf(t, tenant, 1), nil)
	if err := l.Close(); err != nil || budget.Used() != 0 {
		t.Errorf("%d bytes are reserved after Close, %v", budget.Used(), err)
	}
}

// TestActiveSeriesAtATime has many writers, while limits change and series are swept.
func TestActiveSeriesAtATime(t *testing.T) {
	e := newEnv(t, "1 active_series=500", time.Hour)
	tenant := model.TenantID{AccountID: 1}
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(k)))
			for range 200 {
				numbers := make([]int, 20)
				for i := range numbers {
					numbers[i] = rng.IntN(1000)
				}
				_, _ = e.send(t, tenant, numbers...)
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			e.sweepSeries()
			_ = e.page(t)
		}
	})
	wg.Wait()
	if n := e.seriesOf(tenant).len(); n != 500 {
		t.Errorf("%d series are active; want 500", n)
	}
}

func BenchmarkAdmitSeries(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := &seriesSet{budget: memory.NewBudget(1 << 40)}
			batch := &model.Batch{}
			rng := rand.New(rand.NewPCG(1, 2))
			hashes := make([]uint64, n)
			for i := range hashes {
				hashes[i] = rng.Uint64()
			}
			for start := 0; start < n; start += 1000 {
				batch.Reset()
				for _, h := range hashes[start : start+1000] {
					batch.AddNumbered(0, h, 0)
				}
				if refused, _ := s.admit(batch, nil, 1<<40); len(refused) > 0 {
					b.Fatal("refused")
				}
			}
			b.ReportMetric(float64(s.bytes)/float64(n), "B/series")
			b.ReportAllocs()
			start := 0
			for b.Loop() {
				b.StopTimer()
				batch.Reset()
				for _, h := range hashes[start : start+1000] {
					batch.AddNumbered(0, h, 0)
				}
				start = (start + 1000) % n
				b.StartTimer()
				s.admit(batch, nil, 1<<40)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/series")
		})
	}
}
