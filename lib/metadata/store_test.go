package metadata

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

func TestConformance(t *testing.T) {
	apitest.RunMetadata(t, func(*testing.T) apitest.MetadataTarget {
		s := New(Options{Metrics: metrics.NewSet()})
		return apitest.MetadataTarget{Writer: s, Reader: s}
	})
}

func add(t *testing.T, s *Store, list ...model.Metadata) {
	t.Helper()
	if err := s.AddMetadata(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, s *Store) string {
	t.Helper()
	got, err := s.Metadata(t.Context(), &storageapi.MetadataQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, m := range got.Items {
		fmt.Fprintf(&b, "%s:%s ", m.Metric, m.Help)
	}
	return b.String()
}

// TestBound fills a small store: the metrics described last stay, whatever is sent, and the accounts are right in the end.
func TestBound(t *testing.T) {
	budget := memory.NewBudget(100 << 10)
	s := New(Options{Metrics: metrics.NewSet(), Budget: budget})
	if s.maxBytes != 1024 {
		t.Fatalf("limit of %d bytes", s.maxBytes)
	}
	for i := range 10 {
		add(t, s, model.Metadata{Metric: fmt.Sprintf("m%d", i), Help: "h"}, model.Metadata{Metric: "m0", Help: "h"})
	}
	if got := names(t, s); got != "m0:h m8:h m9:h " || s.Len() != 3 {
		t.Errorf("%s stay", got)
	}
	if s.Bytes() > 1024 || budget.Used() != s.Bytes() {
		t.Errorf("%d bytes held, %d reserved", s.Bytes(), budget.Used())
	}
	add(t, s, model.Metadata{Metric: "huge", Help: strings.Repeat("x", 2000)})
	if s.Len() != 0 || s.Bytes() != 0 || budget.Used() != 0 {
		t.Errorf("%d metrics, %d bytes, %d reserved after one that is too large", s.Len(), s.Bytes(), budget.Used())
	}
}

func TestDescriptionsOfOneMetric(t *testing.T) {
	s := New(Options{Metrics: metrics.NewSet()})
	for i := range maxPerMetric + 2 {
		add(t, s, model.Metadata{Metric: "m", Help: fmt.Sprint(i)})
	}
	add(t, s, model.Metadata{Metric: "m", Help: "5"}, model.Metadata{Metric: "m", Help: "5"})
	if got, want := names(t, s), "m:5 m:9 m:8 m:7 m:6 m:4 m:3 m:2 "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestConcurrent writes and reads from several goroutines; in the end nothing but what is held is accounted for.
func TestConcurrent(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	budget := memory.NewBudget(1 << 30)
	s := New(Options{Metrics: metrics.NewSet(), Budget: budget, Config: Config{MaxBytes: 50 << 10}})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for range 2000 {
				m := model.Metadata{Metric: fmt.Sprint("m", rng.IntN(200)), Help: strings.Repeat("h", rng.IntN(50))}
				_ = s.AddMetadata(context.Background(), []model.Metadata{m}) // fails never
				_, _ = s.Metadata(context.Background(), &storageapi.MetadataQuery{Metric: m.Metric})
			}
		})
	}
	wg.Wait()
	want := int64(0)
	for _, at := range s.mu.metrics {
		x := at.Value.(*metric)
		want += metricOverhead + int64(len(x.name))
		for i := range x.described {
			want += size(&x.described[i])
		}
	}
	if s.Bytes() != want || budget.Used() != want || want > 50<<10 || s.Len() != s.mu.recent.Len() {
		t.Errorf("%d bytes accounted for, %d reserved; %d held", s.Bytes(), budget.Used(), want)
	}
}

func BenchmarkKnown(b *testing.B) {
	s := New(Options{Metrics: metrics.NewSet()})
	var list []model.Metadata
	for i := range 1000 {
		list = append(list, model.Metadata{Metric: fmt.Sprint("metric_", i), Help: "what it is"})
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = s.AddMetadata(context.Background(), list) // fails never
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/item")
}
