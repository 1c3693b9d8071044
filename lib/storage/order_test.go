package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs/memfs"
)

// TestOrderOfKeys searches while series come in, so that months know the order of none, some and all of what is found.
func TestOrderOfKeys(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	now := testNow().UnixMilli()
	const month = int64(31 * 86400_000)
	written := map[string]bool{}
	for _, n := range []int{10, 1500, 30, 700, 3000, 1} {
		var b model.Batch
		for range n {
			labels := []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprint("m", rng.IntN(20))}, {Name: "i", Value: fmt.Sprint(rng.IntN(10_000))}}
			if err := b.AddSeries(model.TenantID{}, labels); err != nil {
				t.Fatal(err)
			}
			b.AddSample(now-month*int64(rng.IntN(2)), 1)
			written[string(b.Key(b.Len()-1))] = true
		}
		ingest(t, s, &b)
		want := make([]string, 0, len(written))
		for key := range written {
			want = append(want, key)
		}
		slices.Sort(want)
		for range 2 {
			if got := keysOf(t, s, nil); !slices.Equal(got, want) {
				t.Fatalf("%d keys, sorted: %t; want %d", len(got), slices.IsSorted(got), len(want))
			}
		}
		some := keysOf(t, s, [][]model.TagFilter{{{Name: "i", Op: model.Regexp, Value: ".*[123]"}}})
		if !slices.IsSorted(some) {
			t.Fatalf("the keys of a part of the series are not sorted")
		}
	}
	learned := 0
	partitions := s.acquire(allTime())
	for _, p := range partitions {
		if _, ok := p.KeyOrder().Rank(0); ok {
			learned++
		}
	}
	if err := release(partitions); err != nil || learned != 2 {
		t.Errorf("%d months know the order of their series, %v; want 2", learned, err)
	}
	closeTest(t, s)
}

func keysOf(t *testing.T, s *Storage, filters [][]model.TagFilter) []string {
	t.Helper()
	it, err := s.Search(context.Background(), &model.SearchQuery{Range: allTime(), Filters: filters, KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for it.Next() {
		keys = append(keys, string(it.At().Key))
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return keys
}
