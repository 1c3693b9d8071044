package storage

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

var update = flag.Bool("update", false, "rewrite golden files")

func goldenNameStats() *nameStats {
	n := newNameStats(1<<20, 1794268800)
	for _, x := range []struct {
		tenant model.TenantID
		name   string
		usage  storageapi.Usage
	}{
		{model.TenantID{}, "up", storageapi.Usage{Requests: 3, LastRequestSecs: 1794268900}},
		{model.TenantID{}, "", storageapi.Usage{Requests: 1, LastRequestSecs: 1794268901}},
		{model.TenantID{AccountID: 7, ProjectID: 9}, "http_requests_total", storageapi.Usage{Requests: 1 << 40, LastRequestSecs: 1794268902}},
	} {
		*n.recordLocked(appendPrefix(nil, x.tenant, x.name)) = x.usage
	}
	return n
}

// goldenFile compares bytes with a file of testdata, which it returns; with -update it writes the file first.
func goldenFile(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the file %s is\n%x\nwant\n%x", name, got, want)
	}
	return want
}

func TestNameStatsGolden(t *testing.T) {
	want := goldenFile(t, "name_stats", goldenNameStats().AppendTo(nil))
	n := newNameStats(1<<20, 0)
	if err := n.unmarshal(want); err != nil {
		t.Fatal(err)
	}
	if again := n.AppendTo(nil); !bytes.Equal(again, want) {
		t.Errorf("read and written again it is\n%x", again)
	}
	for i := range want { // every damage is found
		damaged := bytes.Clone(want)
		damaged[i] ^= 0x40
		if err := newNameStats(1<<20, 0).unmarshal(damaged); err == nil {
			t.Errorf("damage at %d is not found", i)
		}
		if err := newNameStats(1<<20, 0).unmarshal(want[:i]); err == nil {
			t.Errorf("a file cut at %d is read", i)
		}
	}
}

func FuzzNameStats(f *testing.F) {
	f.Add(goldenNameStats().AppendTo(nil))
	f.Add(newNameStats(1, 0).AppendTo(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := newNameStats(1000, 0)
		if n.unmarshal(data) != nil {
			return
		}
		again := newNameStats(1000, 0)
		if err := again.unmarshal(n.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		if again.mu.bytes > 1000 || len(again.mu.records) != len(n.mu.records) {
			t.Fatalf("%d records in %d bytes; want %d", len(again.mu.records), again.mu.bytes, len(n.mu.records))
		}
	})
}

// usage returns the requests by name.
func usage(t *testing.T, s *Storage) map[string]uint64 {
	t.Helper()
	stats, err := s.NameStats(context.Background(), &storageapi.NameStatsQuery{MaxRequests: -1})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, r := range stats.Records {
		out[r.Name] = r.Usage.Requests
	}
	return out
}

func ask(t *testing.T, s *Storage, name string) {
	t.Helper()
	it, err := s.Search(context.Background(), &model.SearchQuery{Range: allTime(), Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Value: name}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNameStatsSurviveRestarts(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	ingest(t, s, batchOf(t, 3, testNow().UnixMilli(), 1))
	ask(t, s, "m1")
	ask(t, s, "m1")
	ask(t, s, "m2")
	closeTest(t, s)
	s = openTest(t, testConfig(), testOptions(fsys))
	ask(t, s, "m2")
	if got := fmt.Sprint(usage(t, s)); got != "map[m0:0 m1:2 m2:2]" {
		t.Errorf("usage after a restart is %s", got)
	}
	path := s.nameStatsPath()
	closeTest(t, s)
	if err := vfs.WriteFileDurable(fsys, path, []byte("vmns rubbish")); err != nil {
		t.Fatal(err)
	}
	o, log := logged(t, fsys)
	s = openTest(t, testConfig(), o)
	defer closeTest(t, s)
	if got := fmt.Sprint(usage(t, s)); got != "map[m0:0 m1:0 m2:0]" {
		t.Errorf("usage out of a damaged file is %s", got)
	}
	if !strings.Contains(log.String(), "the usage of metrics is counted anew") {
		t.Error("damage is not logged")
	}
}

func TestNameStatsAreBounded(t *testing.T) {
	cfg := testConfig()
	cfg.NameStatsBytes = 400
	s := openTest(t, cfg, testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	ingest(t, s, batchOf(t, 100, testNow().UnixMilli(), 1))
	for i := range 100 {
		ask(t, s, fmt.Sprintf("m%d", i))
	}
	stats, err := s.NameStats(context.Background(), &storageapi.NameStatsQuery{MaxRequests: -1})
	if err != nil || stats.MaxBytes != 400 || stats.CurrentBytes > 400 || stats.Tracked != 3 || len(stats.Records) != 100 {
		t.Errorf("%d tracked in %d of %d bytes, %d records, %v", stats.Tracked, stats.CurrentBytes, stats.MaxBytes, len(stats.Records), err)
	}
}

func TestNameStatsTurnedOff(t *testing.T) {
	cfg := testConfig()
	cfg.TrackNames = false
	s := openTest(t, cfg, testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	ingest(t, s, batchOf(t, 3, testNow().UnixMilli(), 1))
	ask(t, s, "m1")
	if _, err := s.NameStats(context.Background(), &storageapi.NameStatsQuery{}); errkind.Of(err) != errkind.Unprocessable || !strings.Contains(err.Error(), "-storage.trackMetricNamesStats") {
		t.Errorf("usage which is not counted: %v", err)
	}
	if err := s.ResetNameStats(context.Background()); err != nil {
		t.Error(err)
	}
}

// BenchmarkNoteSearch is the cost of counting a search which has found many series.
func BenchmarkNoteSearch(b *testing.B) {
	n := newNameStats(1<<20, 0)
	var keys [][]byte
	for i := range 100_000 {
		keys = append(keys, fmt.Appendf(appendPrefix(nil, model.TenantID{}, "http_requests_total"), "instance%06d", i))
	}
	b.ResetTimer()
	for range b.N {
		n.count(len(keys), func(i int) []byte { return keys[i] }, 1)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(keys)), "ns/series")
}
