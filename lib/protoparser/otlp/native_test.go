package otlp

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/nativehistogram"
)

// describe renders the payload of a native histogram.
func describe(payload []byte) string {
	var h nativehistogram.Histogram
	if err := h.Parse(payload); err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("hint=%d schema=%d threshold=%g count=%d sum=%g", h.Hint, h.Schema, h.ZeroThreshold, h.Count, h.Sum)
	for _, r := range h.AppendRanges(nil) {
		text += fmt.Sprintf(" %s=%g", nativehistogram.AppendVMRange(nil, r.Low, r.High), r.Count)
	}
	return text
}

// TestNativeHistograms stores the exponential histogram of a request with all kinds of metrics as a native one, from protobuf and JSON.
func TestNativeHistograms(t *testing.T) {
	// The count of the request is not that of its buckets, which no native histogram may have.
	good := bytes.Replace(mixed(t), []byte{4<<3 | 1, 9, 0, 0}, []byte{4<<3 | 1, 10, 0, 0}, 1)
	for format, body := range map[string][]byte{"": good, "json": []byte(strings.Replace(mixedJSON, `"count": "9"`, `"count": "10"`, 1))} {
		p, _ := newParser(t, "-opentelemetry.nativeHistograms")
		rows, _, result, err := parse(p, body, format)
		var got []string
		for _, row := range rows {
			if strings.Contains(row, "otlp.exphist") {
				got = append(got, row)
			}
		}
		want := "hint=0 schema=1 threshold=1e-128 count=10 sum=20.5 -1.000e+00...-7.071e-01=1 -1.000e-128...1.000e-128=2 2.000e+00...2.828e+00=3 4.000e+00...5.657e+00=4 1717200000000"
		if err != nil || result.Invalid != 0 || result.Histograms != 1 || len(got) != 1 || !strings.HasPrefix(got[0], "otlp.exphist{") || !strings.HasSuffix(got[0], want) {
			t.Errorf("%q: %q, %+v, %v; want %s", format, got, result, err, want)
		}
	}
}

func TestNativeHistogramPoints(t *testing.T) {
	point := func(text string) string {
		return `{"name":"m","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1000000",` + text + `}]}}`
	}
	for name, c := range map[string]struct {
		metric  string
		rows    []string
		invalid string
	}{
		"no buckets": {point(`"count":"0"`), []string{"m hint=0 schema=0 threshold=1e-128 count=0 sum=0 1"}, ""},
		"too fine": {point(`"count":"6","sum":3,"scale":10,"positive":{"offset":1024,"bucketCounts":["1","1","1","1","0","2"]}`),
			[]string{"m hint=0 schema=8 threshold=1e-128 count=6 sum=3 2.000e+00...2.005e+00=4 2.005e+00...2.011e+00=2 1"}, ""},
		"as fine as can be": {point(`"count":"1","sum":3,"scale":20,"positive":{"offset":-1125000000,"bucketCounts":["1"]}`),
			[]string{"m hint=0 schema=8 threshold=1e-128 count=1 sum=3 9.881e-324...9.881e-324=1 1"}, ""},
		"delta, by name":   {strings.Replace(point(`"count":"0"`), "2", `"AGGREGATION_TEMPORALITY_DELTA"`, 1), []string{"m hint=3 schema=0 threshold=1e-128 count=0 sum=0 1"}, ""},
		"delta, by number": {strings.Replace(point(`"count":"0"`), "2", "1", 1), []string{"m hint=3 schema=0 threshold=1e-128 count=0 sum=0 1"}, ""},
		"threshold":        {point(`"count":"1","zeroCount":"1","zeroThreshold":0.5`), []string{"m hint=0 schema=0 threshold=0.5 count=1 sum=0 -5.000e-01...5.000e-01=1 1"}, ""},
		"gaps":             {point(`"count":"3","positive":{"bucketCounts":["1","0","0","1","0","0","0","1"]}`), []string{"m hint=0 schema=0 threshold=1e-128 count=3 sum=0 1.000e+00...2.000e+00=1 8.000e+00...1.600e+01=1 1.280e+02...2.560e+02=1 1"}, ""},
		"gone":             {point(`"flags":1`), []string{"m stale 1"}, ""},
		"too coarse":       {point(`"scale":-5`), nil, "schema is -5"},
		"wrong count":      {point(`"count":"5","sum":1,"zeroCount":"1"`), nil, "its count is 5"},
		"beyond the end":   {point(`"count":"1","positive":{"offset":2147483647,"bucketCounts":["1"]}`), nil, "are not between"},
	} {
		p, _ := newParser(t, "-opentelemetry.nativeHistograms", "-opentelemetry.promoteScopeMetadata=false", "-opentelemetry.promoteAllResourceAttributes=false")
		rows, _, result, err := parse(p, []byte(one(c.metric)), "json")
		if err != nil || !slices.Equal(rows, c.rows) || (result.Invalid == 0) != (c.invalid == "") || !strings.Contains(result.Reason, c.invalid) {
			t.Errorf("%s: %q, %+v, %v; want %q", name, rows, result, err, c.rows)
		}
	}
}

// TestNativeSpans: gaps of up to two buckets are bridged, and the buckets are where they were.
func TestNativeSpans(t *testing.T) {
	var dst nativehistogram.Buckets
	if b := (buckets{offset: -3, counts: []uint64{0, 1, 0, 0, 2, 0, 0, 0, 3, 0}}); !b.appendTo(&dst) {
		t.Fatal("refused")
	}
	if want := []nativehistogram.Span{{Offset: -1, Length: 4}, {Offset: 3, Length: 1}}; !slices.Equal(dst.Spans, want) || !slices.Equal(dst.Counts, []uint64{1, 0, 0, 2, 3}) {
		t.Errorf("%v, %v", dst.Spans, dst.Counts)
	}
	if b := (buckets{offset: math.MaxInt32, counts: []uint64{0}}); !b.appendTo(&dst) {
		t.Error("an empty bucket beyond the end is refused")
	}
}
