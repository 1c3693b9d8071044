package storage

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs/memfs"
)

// naive is what the storage should hold: per key and timestamp the values sent.
type naive struct {
	sent map[string]map[int64][]uint64 // everything sent, acknowledged or not
	kept map[string]map[int64]uint64   // acknowledged: the value which stays
}

func newNaive() *naive {
	return &naive{sent: map[string]map[int64][]uint64{}, kept: map[string]map[int64]uint64{}}
}

func (n *naive) send(t testing.TB, b *model.Batch) {
	t.Helper()
	ModelSamples(t, b, func(key string, timestamp int64, bits uint64) {
		if n.sent[key] == nil {
			n.sent[key] = map[int64][]uint64{}
		}
		n.sent[key][timestamp] = append(n.sent[key][timestamp], bits)
	})
}

func (n *naive) acknowledge(t testing.TB, b *model.Batch) {
	t.Helper()
	ModelSamples(t, b, func(key string, timestamp int64, bits uint64) {
		if n.kept[key] == nil {
			n.kept[key] = map[int64]uint64{}
		}
		if old, ok := n.kept[key][timestamp]; !ok || BetterBits(key, bits, old) {
			n.kept[key][timestamp] = bits
		}
	})
}

// readAll returns the samples in r of all series of the tenants that the generator uses.
func readAll(t *testing.T, s storageapi.Searcher, r model.TimeRange) map[string]map[int64]uint64 {
	t.Helper()
	got, cov := readCovered(t, s, r)
	if cov.Partial {
		t.Fatalf("partial answer: %+v", cov)
	}
	return got
}

// readCovered is readAll for answers which may be partial.
func readCovered(t *testing.T, s storageapi.Searcher, r model.TimeRange) (map[string]map[int64]uint64, storageapi.Coverage) {
	t.Helper()
	var cov storageapi.Coverage
	got := map[string]map[int64]uint64{}
	for account := range uint32(tenants) {
		it, err := s.Search(context.Background(), &model.SearchQuery{Tenant: model.TenantID{AccountID: account}, Range: r})
		if err != nil {
			t.Fatal(err)
		}
		var scratch tsblock.Scratch
		previous := ""
		for it.Next() {
			var samples tsblock.Samples
			if err := tsblock.ReadRange(&samples, it.At().Blocks, r, 0, &scratch); err != nil {
				t.Fatal(err)
			}
			key := string(it.At().Key)
			if key <= previous || samples.Len() == 0 || model.SeriesKeyTenant(it.At().Key).AccountID != account {
				t.Fatalf("series %q after %q with %d samples for tenant %d", key, previous, samples.Len(), account)
			}
			previous = key
			got[key] = map[int64]uint64{}
			for i, ts := range samples.Timestamps {
				got[key][ts] = math.Float64bits(samples.Values[i])
			}
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		cov.Partial = cov.Partial || it.Coverage().Partial
		cov.Failed = append(cov.Failed, it.Coverage().Failed...)
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		q := &model.SearchQuery{Tenant: model.TenantID{AccountID: account}, Range: r, Histograms: model.WithHistograms}
		cov.Partial = readHistograms(t, s, q, got).Partial || cov.Partial
	}
	return got, cov
}

// check compares the storage with the model in a range.
func (n *naive) check(t *testing.T, s storageapi.Searcher, r model.TimeRange) {
	t.Helper()
	got := readAll(t, s, r)
	for key, samples := range n.kept {
		for ts, bits := range samples {
			if !r.Contains(ts) {
				continue
			}
			have, ok := got[key][ts]
			if !ok {
				t.Fatalf("acknowledged sample at %d of %s is missing; histogram: %t", ts, model.SeriesKeyString([]byte(SeriesOf(key))), IsMarked(key))
			}
			if have != bits && !slices.Contains(n.sent[key][ts], have) {
				t.Fatalf("sample at %d of %s has bits %x; want %x", ts, model.SeriesKeyString([]byte(SeriesOf(key))), have, bits)
			}
			if have != bits && !BetterBits(key, have, bits) {
				t.Fatalf("sample at %d of %s has bits %x, which lose against %x", ts, model.SeriesKeyString([]byte(SeriesOf(key))), have, bits)
			}
		}
	}
	for key, samples := range got {
		for ts, bits := range samples {
			if !slices.Contains(n.sent[key][ts], bits) {
				t.Fatalf("sample at %d of %s with bits %x was never sent", ts, model.SeriesKeyString([]byte(SeriesOf(key))), bits)
			}
		}
	}
}

const tenants = 3

// generator makes random batches over three months.
type generator struct {
	rng    *rand.Rand
	series int
	cursor []int64
}

func newGenerator(rng *rand.Rand, series int) *generator {
	g := &generator{rng: rng, series: series}
	for range series {
		g.cursor = append(g.cursor, testNow().UnixMilli()-rng.Int64N(70*dayMs))
	}
	return g
}

func (g *generator) labels(i int) (model.TenantID, []model.Label) {
	return model.TenantID{AccountID: uint32(i % tenants)}, []model.Label{
		{Name: model.MetricNameLabel, Value: fmt.Sprintf("m%d", i%4)},
		{Name: "instance", Value: fmt.Sprintf("host-%d", i/7)},
		{Name: "i", Value: fmt.Sprint(i)},
	}
}

func (g *generator) value() float64 {
	switch g.rng.IntN(8) {
	case 0:
		return math.Float64frombits(0x7ff0000000000002)
	case 1:
		return math.Float64frombits(g.rng.Uint64())
	case 2:
		return math.Inf(1)
	}
	return float64(g.rng.IntN(100_000)) / 10
}

// batch returns a batch whose timestamps are all inside of retention.
func (g *generator) batch(t *testing.T) *model.Batch {
	b := &model.Batch{}
	for range 1 + g.rng.IntN(12) {
		i := g.rng.IntN(g.series)
		tenant, labels := g.labels(i)
		if err := b.AddSeries(tenant, labels); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 && g.rng.IntN(2) == 0 {
			g.addHistograms(b, i)
		}
		if i%9 == 0 { // has no samples ever
			continue
		}
		for range 1 + g.rng.IntN(6) {
			ts := g.cursor[i] + 15_000
			switch g.rng.IntN(10) {
			case 0:
				ts = testNow().UnixMilli() - g.rng.Int64N(75*dayMs)
			case 1:
				ts -= 15_000
			default:
				g.cursor[i] = min(ts, testNow().UnixMilli())
			}
			b.AddSample(min(ts, testNow().UnixMilli()+dayMs), g.value())
		}
	}
	return b
}

func (g *generator) timeRange() model.TimeRange {
	start := testNow().UnixMilli() - g.rng.Int64N(75*dayMs)
	return model.TimeRange{Min: start, Max: start + g.rng.Int64N(20*dayMs)}
}

// TestAgainstModel runs random operations, with clean restarts, and compares with the model.
func TestAgainstModel(t *testing.T) {
	steps := 1500
	if testing.Short() {
		steps = 400
	}
	runAgainstModel(t, steps, false)
}

// runAgainstModel makes so many random steps, deletions among them when asked for.
func runAgainstModel(t *testing.T, steps int, deletions bool) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	fsys := memfs.New(memfs.Options{})
	g, n := newGenerator(rng, 60), newNaive()
	s := openTest(t, testConfig(), testOptions(fsys))
	ctx := context.Background()
	for range steps {
		var err error
		switch r := rng.IntN(200); {
		case r < 150:
			b := g.batch(t)
			n.send(t, b)
			if err = s.Ingest(ctx, b); err == nil {
				n.acknowledge(t, b)
			}
		case r < 156:
			err = s.Flush(ctx)
		case r < 158:
			err = s.Merge(ctx, []string{"", "2026", "2026_10", "2026_1"}[rng.IntN(4)])
		case r < 162:
			for _, p := range s.table.Load().sorted {
				s.mergeWhileDue(p)
			}
		case r < 164:
			closeTest(t, s)
			s = openTest(t, testConfig(), testOptions(fsys))
		case deletions && r < 176:
			deleteFromBoth(t, rng, s, n)
		default:
			n.check(t, s, g.timeRange())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	n.check(t, s, allTime())
	closeTest(t, s)
}

// TestLabelsAgainstModel compares names, values and tenants with those sent.
func TestLabelsAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	g := newGenerator(rng, 40)
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	ctx := context.Background()
	want := map[model.TenantID]map[string]bool{}
	for i := range 100 {
		b := g.batch(t)
		if err := s.Ingest(ctx, b); err != nil {
			t.Fatal(err)
		}
		for j := range b.Len() {
			tenant, labels, err := model.ParseSeriesKey(nil, b.Key(j))
			if err != nil {
				t.Fatal(err)
			}
			if want[tenant] == nil {
				want[tenant] = map[string]bool{}
			}
			want[tenant][labels[1].Value] = true
		}
		if i%30 == 7 {
			if err := s.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := s.Tenants(ctx, allTime())
	if err != nil || len(got.Values) != len(want) {
		t.Fatalf("tenants %v, %v; want %d", got, err, len(want))
	}
	for tenant, values := range want {
		q := &model.SearchQuery{Tenant: tenant, Range: allTime()}
		list, err := s.LabelValues(ctx, q, "i", 0)
		if err != nil || len(list.Values) != len(values) || !slices.IsSorted(list.Values) {
			t.Errorf("tenant %s has values %v, %v; want %d", tenant, list.Values, err, len(values))
		}
		if list, err = s.LabelValues(ctx, q, "i", 3); err != nil || len(list.Values) != min(3, len(values)) {
			t.Errorf("tenant %s has values %v, %v; want 3", tenant, list.Values, err)
		}
		names, err := s.LabelNames(ctx, q, 0)
		if want := []string{model.MetricNameLabel, "i", "instance"}; err != nil || !slices.Equal(names.Values, want) {
			t.Errorf("tenant %s has names %v, %v; want %v", tenant, names.Values, err, want)
		}
	}
}
