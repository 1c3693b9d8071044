package clustertest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/tsblock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// admin flushes and merges all nodes.
type admin struct{ c *Cluster }

func (a admin) Flush(ctx context.Context) error {
	return a.each(func(n *Node) error { return n.Storage.Flush(ctx) })
}

func (a admin) Merge(ctx context.Context, prefix string) error {
	return a.each(func(n *Node) error { return n.Storage.Merge(ctx, prefix) })
}

func (a admin) each(f func(n *Node) error) error {
	for _, n := range a.c.Nodes {
		if err := f(n); err != nil {
			return err
		}
	}
	return nil
}

func TestConformance(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			apitest.Run(t, func(t *testing.T) apitest.Target {
				c := New(t, n)
				return apitest.Target{Ingester: c.Ingester, Searcher: c.Searcher, Admin: admin{c}, Catalog: c.Catalog, Nodes: n}
			})
		})
	}
}

// acknowledged is the model of what a cluster must hold: per series the number
// of samples, sample i having timestamp base+i and value i.
type acknowledged struct {
	sync.Mutex
	samples map[string]map[int64]float64
}

func (a *acknowledged) add(name string, s model.Sample) {
	a.Lock()
	defer a.Unlock()
	if a.samples[name] == nil {
		a.samples[name] = map[int64]float64{}
	}
	a.samples[name][s.Timestamp] = s.Value
}

// TestCrashingNodes writes from several goroutines while nodes lose power in
// turn. Every sample that was acknowledged must be found, once all are back.
func TestCrashingNodes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := New(t, 3)
	acked := acknowledged{samples: map[string]map[int64]float64{}}
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		writers.Go(func() { write(t.Context(), c, w, &acked, stop) })
	}
	for range 6 {
		waitForGrowth(t, &acked)
		n := c.Nodes[rng.IntN(len(c.Nodes))]
		n.Crash(rng)
		waitForGrowth(t, &acked) // the others take its share
		n.Start()
	}
	close(stop)
	writers.Wait()
	waitFor(t, "whole answers", func() bool {
		names, err := c.Searcher.LabelNames(t.Context(), everything(), 0)
		return err == nil && !names.Coverage.Partial
	})
	compare(t, c, &acked)
}

// write sends batches until it is told to stop; what was acknowledged goes to the model.
func write(ctx context.Context, c *Cluster, writer int, acked *acknowledged, stop <-chan struct{}) {
	for i := int64(0); ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		var b model.Batch
		const perBatch = 20
		names := make([]string, perBatch)
		for j := range names {
			names[j] = fmt.Sprintf("m%d_%d", writer, j)
			if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: names[j]}}); err != nil {
				panic(err)
			}
			b.AddSample(apitest.DefaultBase+i, float64(i)+float64(j)/100)
		}
		if c.Ingester.Ingest(ctx, &b) != nil {
			time.Sleep(time.Millisecond) // all nodes down for a moment
			continue
		}
		for j, name := range names {
			acked.add(name, b.Samples(j)[0])
		}
	}
}

func (a *acknowledged) count() int {
	a.Lock()
	defer a.Unlock()
	n := 0
	for _, s := range a.samples {
		n += len(s)
	}
	return n
}

func waitForGrowth(t *testing.T, acked *acknowledged) {
	t.Helper()
	before := acked.count()
	waitFor(t, "writes to go on", func() bool { return acked.count() > before+400 })
}

func everything() *model.SearchQuery {
	return &model.SearchQuery{Range: model.TimeRange{Min: apitest.DefaultBase - 1000, Max: apitest.DefaultBase + 24*3600*1000}}
}

func compare(t *testing.T, c *Cluster, acked *acknowledged) {
	t.Helper()
	it, err := c.Searcher.Search(t.Context(), everything())
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	found := map[string]map[int64]float64{}
	var scratch tsblock.Scratch
	for it.Next() {
		name, samples := read(t, it.At(), &scratch)
		found[name] = samples
	}
	if err := it.Err(); err != nil || it.Coverage().Partial {
		t.Fatalf("error %v, coverage %v", err, it.Coverage())
	}
	lost := 0
	for name, want := range acked.samples {
		for ts, v := range want {
			if got, ok := found[name][ts]; !ok || math.Float64bits(got) != math.Float64bits(v) {
				lost++
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged samples are lost or wrong", lost, acked.count())
	}
	if len(found) != len(acked.samples) {
		t.Errorf("%d series found; %d were written", len(found), len(acked.samples))
	}
}

func read(t *testing.T, s *storageapi.Series, scratch *tsblock.Scratch) (string, map[int64]float64) {
	t.Helper()
	var samples tsblock.Samples
	if err := tsblock.ReadRange(&samples, s.Blocks, everything().Range, 0, scratch); err != nil {
		t.Fatal(err)
	}
	_, labels, err := model.ParseSeriesKey(nil, s.Key)
	if err != nil {
		t.Fatal(err)
	}
	byTime := map[int64]float64{}
	for i, ts := range samples.Timestamps {
		byTime[ts] = samples.Values[i]
	}
	return strings.Clone(labels[0].Value), byTime // the key goes with the next step
}
