package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/golang/snappy"

	"vmcluster/lib/prompb"
)

func TestWireRoundTrip(t *testing.T) {
	labels := []prompb.Label{{Name: "__name__", Value: "m"}, {Name: "instance", Value: strings.Repeat("host", 50) + ":9100"}}
	message := appendTimeSeries(nil, appendLabels(nil, labels...), 1.5, 1795324981000)
	message = appendTimeSeries(message, appendLabels(nil, labels[0]), math.Float64frombits(staleBits), 7)
	// The product's own encoder writes the same bytes.
	want := prompb.AppendTimeSeries(nil, &prompb.TimeSeries[prompb.Label]{Labels: labels, Samples: []prompb.Sample{{Timestamp: 1795324981000, Value: 1.5}}})
	if !bytes.HasPrefix(message, want) {
		t.Errorf("the first series is\n%x; want\n%x", message[:len(want)], want)
	}
	var d prompb.Decoder[prompb.Label]
	d.Reset(message)
	for i := 0; d.Next(); i++ {
		s := d.At()
		switch {
		case len(s.Samples) != 1:
			t.Fatalf("series %d has %d samples", i, len(s.Samples))
		case i == 0 && (len(s.Labels) != 2 || s.Labels[1] != labels[1] || s.Samples[0] != prompb.Sample{Timestamp: 1795324981000, Value: 1.5}):
			t.Errorf("first series: %+v", s)
		case i == 1 && (len(s.Labels) != 1 || math.Float64bits(s.Samples[0].Value) != staleBits || s.Samples[0].Timestamp != 7):
			t.Errorf("second series: %+v", s)
		case i > 1:
			t.Errorf("a third series: %+v", s)
		}
	}
	if d.Err() != nil {
		t.Error(d.Err())
	}
}

// TestDatasetIsDeterministic pins the bytes: results of different days are comparable only if the data is the same.
func TestDatasetIsDeterministic(t *testing.T) {
	var sums [2]string
	for i := range sums {
		dir, _ := smallDataset(t, func(o *GenerateOptions) { o.Scrapes, o.Churn, o.PhaseAt = 50, 0.5, 1 })
		data, err := os.ReadFile(filepath.Join(dir, bodiesFile))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		sums[i] = hex.EncodeToString(sum[:])
	}
	if sums[0] != sums[1] {
		t.Error("two runs with one seed differ")
	}
	const want = "c56a70ea7876754d1d71dce0ef5dc0a500be619817d5cc6b331674da8dcc6caf"
	if runtime.GOARCH != "amd64" {
		t.Skip("the hash holds for amd64; other processors round some operations otherwise")
	}
	if sums[0] != want {
		t.Errorf("the hash is %s; want %s. If the data model was changed on purpose, measure everything in docs/benchmarks.md again", sums[0], want)
	}
}

func TestDatasetIsConsistent(t *testing.T) {
	dir, m := smallDataset(t, func(o *GenerateOptions) { o.Scrapes, o.Churn, o.Shards, o.PhaseAt = 50, 0.5, 2, 20 })
	samples, stale, last, shards := int64(0), int64(0), map[string]int64{}, map[string]int{}
	var d prompb.Decoder[prompb.Label]
	err := ReadBodies(dir, func(b Body) error {
		raw, err := snappy.Decode(nil, b.Data)
		if err != nil {
			return err
		}
		d.Reset(raw)
		inBody := 0
		for d.Next() {
			s := d.At()
			inBody += len(s.Samples)
			var key strings.Builder
			for i, l := range s.Labels {
				if i > 0 && s.Labels[i-1].Name >= l.Name {
					t.Fatalf("labels out of order: %v", s.Labels)
				}
				key.WriteString(l.Name + "\x00" + l.Value + "\x00")
			}
			if last[key.String()] >= s.Samples[0].Timestamp {
				t.Fatalf("%q: timestamp %d after %d", key.String(), s.Samples[0].Timestamp, last[key.String()])
			}
			if shard, ok := shards[key.String()]; ok && shard != b.Shard {
				t.Fatalf("%q is in shards %d and %d", key.String(), shard, b.Shard)
			}
			if b.Scrape < 20 != (s.Samples[0].Timestamp < m.StartMs+20*scrapeSeconds*1000) {
				// A host's offset moves its scrapes by less than the interval.
				t.Fatalf("sample at %d in a request of scrape %d: phases are mixed", s.Samples[0].Timestamp, b.Scrape)
			}
			last[key.String()], shards[key.String()] = s.Samples[0].Timestamp, b.Shard
			if math.Float64bits(s.Samples[0].Value) == staleBits {
				stale++
			}
		}
		if inBody != b.Samples {
			t.Errorf("a request has %d samples and claims %d", inBody, b.Samples)
		}
		samples += int64(inBody)
		return d.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if samples != m.Samples || int64(len(last)) != m.Series || stale != m.Stale || stale == 0 {
		t.Errorf("got %d samples of %d series, %d stale; the manifest says %d of %d, %d", samples, len(last), stale, m.Samples, m.Series, m.Stale)
	}
	if loaded, err := LoadManifest(dir); err != nil || *loaded != *m {
		t.Errorf("the manifest is read as %+v, %v", loaded, err)
	}
}

// TestHostsAreIndependent: the data of a host does not depend on how many there are.
func TestHostsAreIndependent(t *testing.T) {
	read := func(hosts int) map[string][]prompb.Sample {
		dir, _ := smallDataset(t, func(o *GenerateOptions) { o.Hosts = hosts })
		of := map[string][]prompb.Sample{}
		err := ReadSeries(dir, func(s *prompb.TimeSeries[prompb.Label]) error {
			var key strings.Builder
			for _, l := range s.Labels {
				key.WriteString(l.Name + "=" + l.Value + ",")
			}
			if strings.Contains(key.String(), "host-00000:") {
				of[key.String()] = append(of[key.String()], s.Samples...)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return of
	}
	one, three := read(1), read(3)
	if len(one) != 1098 || len(three) != len(one) {
		t.Fatalf("one host has %d series; the same host among three has %d; want 1098", len(one), len(three))
	}
	for key, samples := range one {
		for i, s := range samples {
			if other := three[key][i]; other.Timestamp != s.Timestamp || math.Float64bits(other.Value) != math.Float64bits(s.Value) {
				t.Fatalf("%s: %v and %v", key, s, other)
			}
		}
	}
}

func TestHistogramsAreCumulative(t *testing.T) {
	prometheus, err := loadTarget("prometheus", 9090, 2)
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(rand.New(rand.NewPCG(1, 1)), []*target{prometheus})
	buckets := 0
	for i := range int64(100) {
		previous := 0.0
		h.step(i*scrapeSeconds, func(_, j int, value float64) {
			tpl := prometheus.templates[j]
			if tpl.kind == kindBucket && !tpl.first {
				buckets++
				if value < previous {
					t.Fatalf("%v: %g after a bucket of %g", tpl.labels, value, previous)
				}
			}
			previous = value
		})
	}
	if buckets == 0 {
		t.Error("there are no buckets")
	}
}

func TestGenerateRefusals(t *testing.T) {
	for text, change := range map[string]func(*GenerateOptions){
		"-out":   func(o *GenerateOptions) { o.Dir = "" },
		"-hosts": func(o *GenerateOptions) { o.Hosts = 0 },
		"-churn": func(o *GenerateOptions) { o.Churn = 2 },
		"folder": func(o *GenerateOptions) { o.Dir = "/dev/null/x" },
	} {
		o := DefaultGenerateOptions()
		o.Dir, o.Hosts, o.Scrapes = t.TempDir(), 1, 1
		change(&o)
		if _, err := Generate(o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v; want %q in it", err, text)
		}
	}
}

// TestBrokenDataset: the message says what to do.
func TestBrokenDataset(t *testing.T) {
	if _, err := LoadManifest(t.TempDir()); err == nil || !strings.Contains(err.Error(), "vmbench gen") {
		t.Error(err)
	}
	dir, _ := smallDataset(t, nil)
	path := filepath.Join(dir, bodiesFile)
	if err := os.Truncate(path, 1000); err != nil {
		t.Fatal(err)
	}
	if err := ReadBodies(dir, func(Body) error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "generate") {
		t.Error(err)
	}
	huge := append([]byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 100)...)
	if err := os.WriteFile(path, huge, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ReadBodies(dir, func(Body) error { return nil }); err == nil || !strings.Contains(err.Error(), "claims") {
		t.Error(err)
	}
}

func TestColumns(t *testing.T) {
	dir, m := smallDataset(t, nil)
	var size [3]int
	for i, format := range []string{"float", "delta2", "decimal"} {
		var b bytes.Buffer
		if err := WriteColumns(&b, ColumnsOptions{Dataset: dir, Format: format, Parts: "v"}); err != nil {
			t.Fatal(err)
		}
		size[i] = b.Len()
	}
	if int64(size[0]) != 8*m.Samples || size[1] >= size[0] || size[2] >= size[1] {
		t.Errorf("sizes are %v for %d samples", size, m.Samples)
	}
	if err := WriteColumns(io.Discard, ColumnsOptions{Dataset: dir, Format: "decimal", Parts: "x"}); err == nil {
		t.Error("parts x are accepted")
	}
	if ints, exponent, ok := toDecimals([]float64{0.25, 3}); !ok || exponent != 2 || ints[0] != 25 || ints[1] != 300 {
		t.Errorf("got %v, %d, %v", ints, exponent, ok)
	}
	if _, _, ok := toDecimals([]float64{math.NaN()}); ok {
		t.Error("NaN is taken for a decimal")
	}
}

func TestDecimalsOf(t *testing.T) {
	for text, want := range map[string]int{"1": 0, "1.25": 2, "1.5e+09": 0, "1e-05": 5, "2.5e-07": 8, "NaN": 0} {
		if got := decimalsOf(text); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

func FuzzReadBody(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 'a', 'b', 'c'})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4 && data[3] > 0 {
			t.Skip("too large to be allocated again and again")
		}
		b, err := readBody(bytes.NewReader(data))
		if err == nil && !bytes.Equal(b.Data, data[16:16+len(b.Data)]) {
			t.Errorf("got %x", b.Data)
		}
	})
}

func FuzzParseScrape(f *testing.F) {
	f.Add([]byte("# TYPE m counter\nm{a=\"b\\n\\\"\"} 1.5\nn 2e-3\n"))
	f.Add([]byte("m{ 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseScrape(data)
		if err == nil && len(s.series) > len(s.order) {
			t.Errorf("%d series, %d in order", len(s.series), len(s.order))
		}
	})
}
