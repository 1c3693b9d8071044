package clustertest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/trace"
)

// cachedCluster is a cluster to which samples are written while time goes by, with engines with and without a result cache.
type cachedCluster struct {
	*Cluster
	rng           *rand.Rand
	now           int64
	values        []float64
	with, without *query.Engine
	notes         map[string]int
}

func newCachedCluster(t *testing.T, nodes, series int) *cachedCluster {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &cachedCluster{Cluster: New(t, nodes), rng: rand.New(rand.NewPCG(seed, 0)), now: apitest.DefaultBase, values: make([]float64, series), notes: map[string]int{}}
	cfg := &query.Config{MaxPointsPerSeries: 30_000, MaxSamplesPerQuery: 1e9}
	if err := cfg.CacheTimestampOffset.Set("2m"); err != nil {
		t.Fatal(err)
	}
	budget := memory.NewBudget(1 << 30)
	options := query.Options{
		Source: querysource.New(c.Searcher, c.Reducer, query.Reading{}), Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: budget,
		Now: func() time.Time { return time.UnixMilli(c.now) },
	}
	c.without = query.New(cfg, options)
	options.Cache = query.NewCache(query.CacheOptions{Versions: querysource.Versioner(c.Versions), Budget: budget, Metrics: metrics.NewSet()})
	c.with = query.New(cfg, options)
	return c
}

func (c *cachedCluster) labels(i int) []model.Label {
	return []model.Label{{Name: model.MetricNameLabel, Value: "m"}, {Name: "group", Value: fmt.Sprint(i % 4)}, {Name: "i", Value: fmt.Sprint(i)}}
}

// advance lets time go by, with a scrape of all series every 15 seconds.
func (c *cachedCluster) advance(t *testing.T, ms int64) {
	t.Helper()
	var b model.Batch
	for i := range c.values {
		if err := b.AddSeries(model.TenantID{}, c.labels(i)); err != nil {
			t.Fatal(err)
		}
		for at := c.now + 15_000 - c.now%15_000; at <= c.now+ms; at += 15_000 {
			if c.values[i] += c.rng.Float64(); c.rng.IntN(500) == 0 {
				c.values[i] = 0
			}
			b.AddSample(at+int64(i), c.values[i])
		}
	}
	c.now += ms
	if err := c.Ingester.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

// late writes a sample which is older than others.
func (c *cachedCluster) late(t *testing.T, age int64) {
	t.Helper()
	var b model.Batch
	if err := b.AddSeries(model.TenantID{}, c.labels(c.rng.IntN(len(c.values)))); err != nil {
		t.Fatal(err)
	}
	b.AddSample(c.now-age, 1e6)
	if err := c.Ingester.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

// ask compares the answers of both engines and returns what came of the cache.
func (c *cachedCluster) ask(t *testing.T, text string) (answer, note string) {
	t.Helper()
	r := &query.Request{Query: text, Start: c.now - 3600_000, End: c.now, Step: 30_000}
	want, err := c.without.QueryRange(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	span := trace.New(time.Now, time.Now(), "")
	got, err := c.with.QueryRange(span.Within(context.Background()), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range span.Node().Children {
		note += n.Message + "; "
	}
	answer = describeResult(got)
	if answer != describeResult(want) || got.Partial != want.Partial {
		t.Fatalf("%s differs:\n%s\nwithout cache\n%s\n%s", text, answer, describeResult(want), note)
	}
	switch {
	case strings.Contains(note, "partial hit"):
		c.notes["hit"]++
	case strings.Contains(note, "samples have changed"):
		c.notes["changed"]++
	}
	return answer, note
}

// TestCacheInACluster asks dashboards' questions with and without cache while samples arrive, late ones too, series are deleted and
// nodes come and go.
func TestCacheInACluster(t *testing.T) {
	c := newCachedCluster(t, 3, 40)
	defer c.with.ResetCache()
	c.advance(t, 3700_000)
	queries := []string{"sum(rate(m[5m])) by (group)", "max_over_time(m[3m])", "histogram_quantile(0.5, sum(rate(m[5m])) by (group))", "topk(3, m)", "sum(rate(m[5m])) / on() group_left() count(m)"}
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		c.advance(t, 15_000*c.rng.Int64N(4))
		for _, text := range queries {
			c.ask(t, text)
		}
		switch c.rng.IntN(20) {
		case 0:
			c.late(t, 180_000+c.rng.Int64N(3000_000))
		case 1:
			if err := c.Nodes[c.rng.IntN(3)].Storage.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c.notes["hit"] < 15 && !testing.Short() {
		t.Errorf("%v: the queries test little", c.notes)
	}
}

// warm asks until the answer comes from the cache.
func (c *cachedCluster) warm(t *testing.T, text string) {
	t.Helper()
	for range 4 {
		c.advance(t, 30_000)
		if _, note := c.ask(t, text); strings.Contains(note, "partial hit") {
			return
		}
	}
	t.Fatal("the cache is not used")
}

func TestCacheSeesChangesAtOnce(t *testing.T) {
	c := newCachedCluster(t, 2, 12)
	defer c.with.ResetCache()
	c.advance(t, 3700_000)
	const text = "max(max_over_time(m[1m])) by (group)"
	c.warm(t, text)
	c.late(t, 600_000)
	answer, note := c.ask(t, text)
	if !strings.Contains(note, "samples have changed") || !strings.Contains(answer, fmt.Sprintf("%x", math.Float64bits(1e6))) {
		t.Errorf("a sample which is ten minutes late: %s\n%s", note, answer)
	}
	c.warm(t, text)
	filters := [][]model.TagFilter{{{Name: "group", Value: "1"}}}
	if n, err := c.Catalog.DeleteSeries(t.Context(), &model.SearchQuery{Filters: filters}); err != nil || n != 3 {
		t.Fatalf("%d series are deleted, %v", n, err)
	}
	if _, note := c.ask(t, text); !strings.Contains(note, "samples have changed") {
		t.Errorf("deleted series: %s", note)
	}
	c.warm(t, text)
	c.Nodes[1].Stop()
	if _, note := c.ask(t, text); !strings.Contains(note, "not all stores tell") {
		t.Errorf("a node is down: %s", note)
	}
	c.Nodes[1].Start()
}
