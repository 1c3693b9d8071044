package native

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/tsdump"
)

func newParser(t testing.TB) (*Parser, *metrics.Set) {
	t.Helper()
	var c protoparser.Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	if err := fs.Parse([]string{"-maxLabelsPerTimeseries=3"}); err != nil {
		t.Fatal(err)
	}
	set := metrics.NewSet()
	return New(protoparser.New(protoparser.Options{Config: &c, Logger: logger.Discard(), Metrics: set})), set
}

func parse(p *Parser, body []byte) (rows []string, result protoparser.Result, err error) {
	result, err = p.Parse(&protoparser.Request{Body: bytes.NewReader(body), ExtraLabels: []model.Label{{Name: "x", Value: "1"}}, Sink: func(b *model.Batch) error {
		for i := range b.Len() {
			for _, s := range b.Samples(i) {
				rows = append(rows, fmt.Sprintf("%s@%d=%x", strings.TrimPrefix(model.SeriesKeyString(b.Key(i)), "tenant 0:0 "), s.Timestamp, math.Float64bits(s.Value)))
			}
			for _, h := range b.AppendHistograms(nil, i) {
				rows = append(rows, fmt.Sprintf("%s@%d=histogram %x", strings.TrimPrefix(model.SeriesKeyString(b.Key(i)), "tenant 0:0 "), h.Timestamp, h.Payload))
			}
		}
		return nil
	}})
	return rows, result, err
}

func block(values ...float64) tsblock.Block {
	var s tsblock.Samples
	for i, v := range values {
		s.Append(int64(i), v)
	}
	_, b := tsblock.AppendEncode(nil, &s)
	return b
}

func dump() []byte {
	var w tsdump.Writer
	b := w.AppendHeader(nil)
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "m"}, {Name: "x", Value: "own"}}, []tsblock.Block{block(1, math.Float64frombits(0x7ff0000000000002))})
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "many"}, {Name: "a", Value: "1"}, {Name: "b", Value: "2"}}, []tsblock.Block{block(1, 2, 3)})
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "n"}}, []tsblock.Block{block(2)})
	return w.AppendEnd(b)
}

func TestParse(t *testing.T) {
	p, set := newParser(t)
	rows, result, err := parse(p, dump())
	want := []string{`m{x="1"}@0=3ff0000000000000`, `m{x="1"}@1=7ff0000000000002`, `n{x="1"}@0=4000000000000000`}
	if err != nil || !slices.Equal(rows, want) || result.Rows != 3 || result.Dropped != 3 {
		t.Errorf("rows %q, %+v, error %v", rows, result, err)
	}
	if n := set.Counter(`vm_rows_ignored_total{reason="too_many_labels"}`).Get(); n != 3 {
		t.Errorf("%d rows counted as dropped", n)
	}
}

func TestDamaged(t *testing.T) {
	p, set := newParser(t)
	rows, result, err := parse(p, dump()[:len(dump())-6])
	if errkind.Of(err) != errkind.BadRequest || len(rows) != 3 || result.Rows != 3 || !strings.Contains(err.Error(), "3 samples") {
		t.Errorf("rows %q, %+v, error %v", rows, result, err)
	}
	// A block that decoding refuses, in a record with a right checksum.
	broken := block(1, 2)
	broken.Values = []byte{0x7f}
	var w tsdump.Writer
	body := w.AppendEnd(w.AppendSeries(w.AppendHeader(nil), []model.Label{{Name: "__name__", Value: "m"}}, []tsblock.Block{broken}))
	if rows, _, err = parse(p, body); errkind.Of(err) != errkind.BadRequest || len(rows) != 0 {
		t.Errorf("broken block: rows %q, error %v", rows, err)
	}
	if n := set.Counter(`vm_protoparser_unmarshal_errors_total{type="native"}`).Get(); n != 2 {
		t.Errorf("%d errors counted", n)
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f)
	f.Add(dump())
	f.Fuzz(func(t *testing.T, body []byte) {
		rows, result, err := parse(p, body)
		if err != nil && errkind.Of(err) != errkind.BadRequest || len(rows) != result.Rows {
			t.Fatalf("%d rows, %+v, error %v", len(rows), result, err)
		}
	})
}

// TestHistograms: native histograms come in as they were; those that cannot be end the import.
func TestHistograms(t *testing.T) {
	source := histogramtest.New(rand.New(rand.NewPCG(1, 1)), histogramtest.Whole)
	var found tsblock.HistogramSamples
	var want []string
	for i := range int64(20_000) { // which are several batches
		payload := source.Payload()
		found.Append(i, payload)
		want = append(want, fmt.Sprintf("h{x=\"1\"}@%d=histogram %x", i, payload))
	}
	broken := tsblock.HistogramSamples{Timestamps: []int64{1}, Payloads: [][]byte{(&nativehistogram.Histogram{Schema: 77}).Append(nil)}}
	dump := func(s *tsblock.HistogramSamples) []byte {
		blocks, _ := (&tsblock.Encoder{}).AppendHistogramBlocks(nil, nil, s)
		var w tsdump.Writer
		b := w.AppendHeader(nil)
		b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "h"}}, append(blocks, block(7)))
		return w.AppendEnd(b)
	}
	p, _ := newParser(t)
	rows, result, err := parse(p, dump(&found))
	want = append(want, fmt.Sprintf("h{x=\"1\"}@0=%x", math.Float64bits(7)))
	slices.Sort(want)
	slices.Sort(rows)
	if err != nil || result.Rows != len(want) || !slices.Equal(rows, want) {
		t.Errorf("%d rows, want %d; %+v, %v", len(rows), len(want), result, err)
	}
	if _, result, err = parse(p, dump(&broken)); errkind.Of(err) != errkind.BadRequest || result.Rows != 0 {
		t.Errorf("a histogram with an unknown schema: %+v, %v", result, err)
	}
}
