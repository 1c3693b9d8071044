package selectrpc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/tsblock"
)

var update = flag.Bool("update", false, "rewrite golden files")

func goldenQuery() *query {
	return &query{
		method: methodLabelValues,
		limit:  100,
		text:   "job",
		search: model.SearchQuery{
			Tenant:    model.TenantID{AccountID: 7, ProjectID: 9},
			Range:     model.TimeRange{Min: 1794268800000, Max: 1794272400000},
			MaxSeries: 1000,
			KeysOnly:  true,
			Detail:    model.NewestKind,
			Filters: [][]model.TagFilter{
				{{Name: model.MetricNameLabel, Value: "up"}, {Name: "job", Value: "a|b", Op: model.NotRegexp}},
				{},
			},
		},
	}
}

func goldenCoverage() storageapi.Coverage {
	return storageapi.Coverage{Partial: true, Failed: []storageapi.NodeFailure{
		{Node: "a:8401", Err: errkind.New(errkind.Unavailable, "gone")},
		{Node: "b:8401", Err: errkind.New(errkind.Overloaded, "busy").WithRetryAfter(time.Second)},
	}}
}

// goldenSeries are items which share prefixes, one of them in two parts. The
// columns of the blocks need no meaning here.
func goldenSeries() []byte {
	block := func(ts int64) tsblock.Block {
		return tsblock.Block{MinTimestamp: ts, MaxTimestamp: ts + 1000, Count: 2, Timestamps: []byte{1, 2, 3}, Values: []byte{4, 5}}
	}
	body := func(blocks ...tsblock.Block) (b []byte) {
		for i := range blocks {
			b = blocks[i].AppendTo(b)
		}
		return b
	}
	w := newTestWriter()
	w.body = body(block(1000))
	w.appendItem([]byte("key-a"), true, 1, false)
	w.body = body(block(1000), block(3000))
	w.appendItem([]byte("key-b"), true, 2, true)
	w.body = body(block(5000))
	w.appendItem([]byte("key-b"), false, 1, false)
	w.body = nil
	w.appendItem([]byte("key-c"), true, 0, false)
	return w.buf.B
}

// TestGolden keeps the bytes of version 1 as they are.
func TestGolden(t *testing.T) {
	var names []byte
	for i, s := range []string{"__name__", "instance", "instant", "job"} {
		shared := []int{0, 0, 6, 0}[i]
		names = appendText(append(names, byte(shared)), s[shared:])
	}
	for name, got := range map[string][]byte{
		"query":    goldenQuery().appendTo(nil),
		"coverage": appendCoverage(nil, goldenCoverage()),
		"fragment": goldenFragment().appendTo(nil),
		"reduced":  goldenReduced(t),
		"series":   goldenSeries(),
		"trace":    appendCoverage(appendTrace(nil, goldenTrace()), goldenCoverage()),
		"strings":  names,
	} {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if hex.Dump(got) != string(want) {
			t.Errorf("%s is now\n%s\nand was\n%s", name, hex.Dump(got), want)
		}
	}
	if got, err := appendStrings(nil, names); err != nil || !reflect.DeepEqual(got, []string{"__name__", "instance", "instant", "job"}) {
		t.Errorf("strings are read as %q, %v", got, err)
	}
}

func TestQueryRoundTrip(t *testing.T) {
	for _, q := range []*query{
		goldenQuery(),
		goldenFragment(),
		{method: methodSearch, search: model.SearchQuery{Range: model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64}, MaxSeries: math.MaxInt32}},
		{method: methodTenants},
		{method: methodSearch, traced: true},
		{method: methodSearch, search: model.SearchQuery{Histograms: model.HistogramParts, Aspect: model.AspectMean}},
		{method: methodMerge, text: "2026_11"},
	} {
		got, err := parseQuery(q.appendTo(nil))
		if err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("%+v became %+v, %v", q, got, err)
		}
		for i := range q.appendTo(nil) {
			if _, err := parseQuery(q.appendTo(nil)[:i]); errkind.Of(err) != errkind.Corrupt {
				t.Errorf("a query cut at %d gives %v", i, err)
			}
		}
		if _, err := parseQuery(append(q.appendTo(nil), 0)); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("a query with a byte more gives %v", err)
		}
	}
	newer := &query{method: methodSearch, search: model.SearchQuery{Filters: [][]model.TagFilter{{{Name: "a", Op: 9}}}}}
	if _, err := parseQuery(newer.appendTo(nil)); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("an unknown operator gives %v", err)
	}
	if _, err := parseQuery((&query{method: methodSearch, search: model.SearchQuery{Histograms: 3}}).appendTo(nil)); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("an unknown choice of histograms gives %v", err)
	}
	if _, err := parseQuery((&query{method: 99}).appendTo(nil)); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("an unknown method gives %v", err)
	}
}

func TestCoverageRoundTrip(t *testing.T) {
	want := goldenCoverage()
	got, err := parseCoverage(appendCoverage(nil, want))
	if err != nil || !got.Partial || len(got.Failed) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i, f := range got.Failed {
		if f.Node != want.Failed[i].Node || errkind.Of(f.Err) != errkind.Of(want.Failed[i].Err) || f.Err.Error() != want.Failed[i].Err.Error() {
			t.Errorf("got %+v; want %+v", f, want.Failed[i])
		}
	}
	if b := appendCoverage(nil, storageapi.Coverage{}); len(b) != 0 {
		t.Errorf("a whole answer ends with %x", b)
	}
}

func TestSeriesReaderRejects(t *testing.T) {
	item := func(flags byte, rest ...byte) []byte { return append([]byte{flags}, rest...) }
	good := item(0, 0, 1, 'b', 0)
	for name, frame := range map[string][]byte{
		"unknown flags":           item(8, 0, 1, 'a', 0),
		"continuation of nothing": item(itemContinues, 0),
		"no key":                  item(0),
		"shares too much":         item(0, 1, 1, 'a', 0),
		"blocks without bytes":    item(0, 0, 1, 'a', 5),
		"out of order":            append(bytes.Clone(good), item(0, 0, 1, 'a', 0)...),
		"twice":                   append(bytes.Clone(good), good...),
		"missing continuation":    append(item(itemMore, 0, 1, 'a', 0), good...),
	} {
		r := &seriesReader{first: true}
		r.frame(frame)
		var err error
		for len(r.src) > 0 && err == nil {
			err = r.item()
		}
		if errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %x gives %v", name, frame, err)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add(goldenQuery().appendTo(nil))
	f.Add(goldenFragment().appendTo(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := parseQuery(data)
		if err != nil {
			if k := errkind.Of(err); k != errkind.Corrupt && k != errkind.Unsupported && k != errkind.BadRequest {
				t.Fatalf("error %v is of kind %s", err, k)
			}
			return
		}
		again, err := parseQuery(q.appendTo(nil))
		if err != nil || !bytes.Equal(again.appendTo(nil), q.appendTo(nil)) { // NaN is not equal to itself
			t.Fatalf("%+v became %+v, %v", q, again, err)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add(goldenSeries())
	f.Add(appendCoverage(nil, goldenCoverage()))
	f.Add([]byte("\x00\x03job\x02\x01x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &seriesReader{first: true}
		r.frame(data)
		for len(r.src) > 0 {
			if err := r.item(); err != nil {
				break
			}
			if len(r.series.Blocks) > len(data) || len(r.series.Key) > len(data) {
				t.Fatalf("%d blocks out of %d bytes", len(r.series.Blocks), len(data))
			}
		}
		if c, err := parseCoverage(data); err == nil && len(c.Failed) > len(data) {
			t.Fatal("more nodes than bytes")
		}
		if s, err := appendStrings(nil, data); err == nil && len(s) > len(data) {
			t.Fatal("more strings than bytes")
		} else if err != nil && errors.Unwrap(err) == nil {
			t.Fatalf("error %v says no cause", err)
		}
	})
}

// TestSmallerLimit: what a node answers at most, whatever it is asked for.
func TestSmallerLimit(t *testing.T) {
	for _, tc := range [][3]int{{0, 0, 0}, {5, 0, 5}, {0, 5, 5}, {3, 5, 3}, {7, 5, 5}, {-1, 5, 5}} {
		if got := smallerLimit(tc[0], tc[1]); got != tc[2] {
			t.Errorf("of %d and %d: %d; want %d", tc[0], tc[1], got, tc[2])
		}
	}
}

// TestTagLimits: an answer has no more names and values than the server's configuration says.
func TestTagLimits(t *testing.T) {
	store := apitest.NewMemory()
	var b model.Batch
	if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: "m"}, {Name: "a", Value: "1"}, {Name: "b", Value: "1"}}); err != nil {
		t.Fatal(err)
	}
	b.AddSample(1000, 1)
	if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: "n"}}); err != nil {
		t.Fatal(err)
	}
	b.AddSample(1000, 1)
	if err := store.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	n := inMemory()
	_, addr := serve(t, n, ServerOptions{Searcher: store, Config: ServerConfig{MaxTagKeys: 2, MaxTagValues: 1}})
	c := dial(t, n, addr)
	names, err := c.LabelNames(t.Context(), everything(), 10)
	if err != nil || len(names.Values) != 2 {
		t.Errorf("label names %v, %v", names.Values, err)
	}
	values, err := c.LabelValues(t.Context(), everything(), model.MetricNameLabel, 0)
	if err != nil || len(values.Values) != 1 {
		t.Errorf("values %v, %v", values.Values, err)
	}
}
