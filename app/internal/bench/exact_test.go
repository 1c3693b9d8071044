package bench

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcluster/lib/prompb"
)

// TestExact reads back from servers that keep everything, lose some, change some and invent some.
func TestExact(t *testing.T) {
	dir, m := smallDataset(t, nil)
	n := 0
	for name, tc := range map[string]struct {
		noExport bool
		alter    func(prompb.Sample) []prompb.Sample
		check    func(e *Exactness) bool
	}{
		"exact":           {check: (*Exactness).OK},
		"exact, by query": {noExport: true, check: (*Exactness).OK},
		"lossy": {alter: func(s prompb.Sample) []prompb.Sample {
			if n++; n%3 == 0 {
				return nil
			}
			return []prompb.Sample{s}
		}, check: func(e *Exactness) bool { return !e.OK() && e.Missing > 0 && e.Unequal+e.Extra == 0 && e.Example != "" }},
		"inexact": {alter: func(s prompb.Sample) []prompb.Sample {
			s.Value = math.Nextafter(s.Value, 1e300)
			return []prompb.Sample{s}
		}, check: func(e *Exactness) bool { return !e.OK() && e.Unequal > 0 && e.Missing+e.Extra == 0 && e.MaxError > 0 }},
		"late": {noExport: true, alter: func(s prompb.Sample) []prompb.Sample {
			s.Timestamp++
			return []prompb.Sample{s}
		}, check: func(e *Exactness) bool { return !e.OK() && e.Missing == e.Compared && e.Extra > 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			db := newFakeDB(t)
			db.noExport, db.alter = tc.noExport, tc.alter
			if _, err := Ingest(t.Context(), IngestOptions{Dataset: dir, URL: db.URL + "/api/v1/write", Conns: 2, ToScrape: math.MaxInt}); err != nil {
				t.Fatal(err)
			}
			e, err := checkExact(t.Context(), db.URL, dir)
			if err != nil {
				t.Fatal(err)
			}
			// One host of three, whose NaNs are left out.
			if !tc.check(e) || int64(e.Compared) > m.Samples/3 || int64(e.Compared) < m.Samples/3*9/10 {
				t.Errorf("got %+v of %d", e, m.Samples)
			}
		})
	}
}

// TestExactWindow: of a long dataset only the start is read back.
func TestExactWindow(t *testing.T) {
	dir, m := smallDataset(t, func(o *GenerateOptions) { o.Hosts, o.Scrapes = 2, 30 })
	w := &sentWindow{untilMs: m.StartMs + 10*scrapeSeconds*1000, sent: rawSamples{}, shard: -1}
	err := ReadBodies(dir, w.take)
	n := 0
	for _, samples := range w.sent {
		n += len(samples)
	}
	if err == nil || n > 10*1098 || n < 9*1098 || w.host != "host-00000" {
		t.Errorf("%d samples of %s, %v; want those of ten scrapes", n, w.host, err)
	}
}

func TestParseRawExport(t *testing.T) {
	got, err := parseRawExport([]byte(`{"metric":{"a":"b"},"values":[1.5,null,"Infinity",-0,NaN,NaN],"timestamps":[1,2,3,4,5,6]}` + "\n"))
	if v := got[`a="b"`]; err != nil || len(v) != 3 || v[1] != 1.5 || !math.IsInf(v[3], 1) || !math.Signbit(v[4]) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"{", `{"metric":{},"values":[1],"timestamps":[]}`, `{"metric":{},"values":["x"],"timestamps":[1]}`} {
		if _, err := parseRawExport([]byte(text)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

func FuzzParseRawExport(f *testing.F) {
	f.Add([]byte(`{"metric":{"a":"b"},"values":[1.5,null,"Infinity"],"timestamps":[1,2,3]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := parseRawExport(data); err == nil {
			if e := compareRaw(got, got, math.MaxInt64); e.Missing+e.Extra+e.Unequal > 0 {
				t.Errorf("it differs from itself: %+v", e)
			}
		}
	})
}

// TestDropFiles: files leave the page cache without an error; what is missing is one.
func TestDropFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if method, err := dropPageCache(dir, true); err != nil || method != "fadvise" {
		t.Errorf("%s, %v", method, err)
	}
	if _, err := dropPageCache(filepath.Join(dir, "nosuch"), true); err == nil || !strings.Contains(err.Error(), "-cold=") {
		t.Errorf("got %v", err)
	}
}

func TestCPUMillis(t *testing.T) {
	self := []int{os.Getpid()}
	before, err := cpuMillis(self)
	if err != nil {
		t.Fatal(err)
	}
	x := 0.0
	for i := range 5_000_000 {
		x += math.Sqrt(float64(i))
	}
	after, err := cpuMillis(self)
	if err != nil || after <= before || x == 0 {
		t.Errorf("%g ms, then %g ms, %v", before, after, err)
	}
	if _, ok := threadMillis(t.TempDir()); ok {
		t.Error("a folder without threads has a time")
	}
}
