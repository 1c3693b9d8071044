package storage

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs/memfs"
)

func startKey(t *testing.T, name string) []byte {
	t.Helper()
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: name}})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ingestAt(t *testing.T, s *Storage, name string, value float64, times ...int64) {
	t.Helper()
	key := startKey(t, name)
	var b model.Batch
	b.AddKey(key, model.HashSeriesKey(key))
	for _, at := range times {
		b.AddSample(at, value)
	}
	ingest(t, s, &b)
}

// samplesOf returns all samples of a metric.
func samplesOf(t *testing.T, s *Storage, name string) (list []string) {
	t.Helper()
	r := model.TimeRange{Max: 1 << 42}
	it, err := s.Search(t.Context(), &model.SearchQuery{Range: r, Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Value: name}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var found tsblock.Samples
	var scratch tsblock.Scratch
	for it.Next() {
		found.Reset()
		if err := tsblock.ReadRange(&found, it.At().Blocks, r, 0, &scratch); err != nil {
			t.Fatal(err)
		}
		for i, at := range found.Timestamps {
			list = append(list, fmt.Sprintf("%d=%v", at-testNow().UnixMilli(), found.Values[i]))
		}
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return list
}

// TestStarts tells when series began which have no samples, older ones, newer ones, in memory, in parts, and in other months.
func TestStarts(t *testing.T) {
	now := testNow().UnixMilli()
	const start, month = -10_000, 31 * 24 * 3600 * 1000
	for _, where := range []string{"head", "part", "restarted"} {
		t.Run(where, func(t *testing.T) {
			fsys := memfs.New(memfs.Options{})
			s := openTest(t, testConfig(), testOptions(fsys))
			ingestAt(t, s, "older", 7, now+start-1)
			ingestAt(t, s, "much_older", 7, now-2*month)
			ingestAt(t, s, "at", 7, now+start)
			ingestAt(t, s, "newer", 7, now+start-5, now+start+1)
			ingestAt(t, s, "much_newer", 7, now-2*month)
			if where == "part" {
				if err := s.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if where == "restarted" {
				closeTest(t, s)
				s = openTest(t, testConfig(), testOptions(fsys))
			}
			defer func() { closeTest(t, s) }()
			var list []model.Start
			for _, name := range []string{"unknown", "older", "much_older", "at", "newer"} {
				list = append(list, model.Start{Series: startKey(t, name), Timestamp: now + start})
			}
			list = append(list, model.Start{Series: startKey(t, "much_newer"), Timestamp: now - 2*month - 1})
			for range 2 {
				if err := s.AddStarts(t.Context(), list); err != nil {
					t.Fatal(err)
				}
			}
			for name, want := range map[string][]string{
				"unknown": {"-10000=0"}, "older": {"-10001=7", "-10000=0"}, "much_older": {fmt.Sprint(-2*month, "=7"), "-10000=0"},
				"at": {"-10000=7"}, "newer": {"-10005=7", "-9999=7"}, "much_newer": {fmt.Sprint(-2*month, "=7")},
			} {
				if got := samplesOf(t, s, name); !slices.Equal(got, want) {
					t.Errorf("%s has %v; want %v", name, got, want)
				}
			}
			wantMetrics(t, s.o.Metrics, map[string]string{"vm_start_timestamps_added_total": "3"})
		})
	}
}

// TestStartOfDeletedSeries: what was deleted does not keep a new series from beginning.
func TestStartOfDeletedSeries(t *testing.T) {
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	now := testNow().UnixMilli()
	ingestAt(t, s, "m", 7, now)
	if _, err := s.DeleteSeries(t.Context(), &model.SearchQuery{Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Value: "m"}}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddStarts(t.Context(), []model.Start{{Series: startKey(t, "m"), Timestamp: now - time.Minute.Milliseconds()}}); err != nil {
		t.Fatal(err)
	}
	if got := samplesOf(t, s, "m"); !slices.Equal(got, []string{"-60000=0"}) {
		t.Errorf("%v", got)
	}
}
