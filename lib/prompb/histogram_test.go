package prompb

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	oracle "github.com/prometheus/prometheus/prompb"
	oracleV2Messages "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
)

func TestHistogramsAgainstPrometheus(t *testing.T) {
	rng := newRand(t)
	var v1 Decoder[label]
	var v2 DecoderV2
	var got nativehistogram.Histogram
	for round := range 300 {
		var list []*nativehistogram.Histogram
		var messages []oracle.Histogram
		for i := range rng.IntN(4) {
			h := histogramtest.New(rng, histogramtest.Kind(rng.IntN(histogramtest.Kinds))).Next()
			list, messages = append(list, h), append(messages, histogramtest.Message(h, int64(i-1)*1_700_000_000_000))
		}
		ts := oracle.TimeSeries{Labels: []oracle.Label{{Name: "__name__", Value: "m"}}, Histograms: messages}
		if rng.IntN(2) == 0 {
			ts.Samples = []oracle.Sample{{Value: 1, Timestamp: 1_700_000_000_000}}
		}
		body, err := (&oracle.WriteRequest{Timeseries: []oracle.TimeSeries{ts, ts}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		other := asV2(t, &ts)
		v1.Reset(body)
		v2.Reset(other)
		next := [3]func() bool{v1.Next, v1.NextRaw, v1.NextGuess}[round%3]
		for range 2 {
			if !next() || !v2.Next() || v1.Histograms() != len(list) || v2.Histograms() != len(list) || len(v2.Samples()) != len(ts.Samples) {
				t.Fatalf("%d and %d histograms, %v, %v; want %d", v1.Histograms(), v2.Histograms(), v1.Err(), v2.Err(), len(list))
			}
			for i, h := range list {
				for _, decode := range []func(int, *nativehistogram.Histogram) (int64, error){v1.Histogram, v2.Histogram} {
					timestamp, err := decode(i, &got)
					if err != nil || timestamp != messages[i].Timestamp || !bytes.Equal(got.Append(nil), h.Append(nil)) {
						t.Fatalf("got %+v at %d, %v; want %+v", got, timestamp, err, h)
					}
				}
			}
			if labels, ok := v1.Labels(); !ok || len(labels) != 1 || v1.Histograms() != len(list) {
				t.Fatalf("labels %v, %d histograms", labels, v1.Histograms())
			}
		}
		if v1.Next() || v2.Next() || v1.Err() != nil || v2.Err() != nil {
			t.Fatalf("more series, or %v, %v", v1.Err(), v2.Err())
		}
	}
}

// asV2 makes a request of 2.0 which has a series of 1.0 twice. Histograms have the same fields.
func asV2(t *testing.T, ts *oracle.TimeSeries) []byte {
	t.Helper()
	r := oracleV2Messages.Request{Symbols: []string{"", "__name__", "m"}}
	s := oracleV2Messages.TimeSeries{LabelsRefs: []uint32{1, 2}}
	for _, x := range ts.Samples {
		s.Samples = append(s.Samples, oracleV2Messages.Sample{Value: x.Value, Timestamp: x.Timestamp})
	}
	for _, h := range ts.Histograms {
		m := histogramtest.MessageV2(&h)
		m.StartTimestamp = 5
		s.Histograms = append(s.Histograms, m)
	}
	r.Timeseries = []oracleV2Messages.TimeSeries{s, s}
	body, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestHistogramFieldsInPieces: lists may come in pieces or one by one, and of the two forms of a count the last one holds.
func TestHistogramFieldsInPieces(t *testing.T) {
	b := []byte{1 << 3, 7, 6 << 3, 9, 2<<3 | wireFixed64}
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(1.5))
	b = append(b, 1<<3, 5, 12<<3, 2, 12<<3|wireBytes, 2, 2, 1, 12<<3, 4)
	b = append(b, 11<<3|wireBytes, 2, 1<<3, 3, 11<<3|wireBytes, 4, 1<<3, 4, 2<<3, 1)
	b = append(b, 16<<3&0x7f|0x80|wireFixed64, 1)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(2))
	var h nativehistogram.Histogram
	timestamp, err := decodeHistogram(b, span{0, len(b)}, &h)
	if err != nil || timestamp != 0 || h.Float || h.Count != 5 || h.FloatCount != 0 || h.ZeroCount != 9 || len(h.CustomValues) != 1 || h.CustomValues[0] != 2 {
		t.Fatalf("%+v at %d, %v", h, timestamp, err)
	}
	if want := []uint64{1, 2, 1, 3}; len(h.Positive.Counts) != 4 || h.Positive.Counts[1] != want[1] || h.Positive.Counts[2] != want[2] || h.Positive.Counts[3] != want[3] {
		t.Errorf("counts %v; want %v", h.Positive.Counts, want)
	}
	if s := h.Positive.Spans; len(s) != 2 || s[0] != (nativehistogram.Span{Offset: -2}) || s[1] != (nativehistogram.Span{Offset: 2, Length: 1}) {
		t.Errorf("spans %v", s)
	}
}

// TestHugeHistogramsAreBounded checks that a message does not become many times as much memory, and does not pass the check.
func TestHugeHistogramsAreBounded(t *testing.T) {
	const size = 4 << 20
	list := func(field uint64) []byte {
		b := binary.AppendUvarint(nil, field<<3|wireBytes)
		return append(binary.AppendUvarint(b, size), make([]byte, size)...)
	}
	span := []byte{11<<3 | wireBytes, 0}
	for name, b := range map[string][]byte{"counts": list(12), "numbers": list(13), "bounds": list(16), "spans": bytes.Repeat(span, size/2)} {
		var h nativehistogram.Histogram
		if _, err := decodeHistogram(b, struct{ start, end int }{0, len(b)}, &h); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := cap(h.Positive.Counts) + cap(h.Positive.Floats) + cap(h.Positive.Spans) + cap(h.CustomValues); n > 64<<10 {
			t.Errorf("%s: room for %d", name, n)
		}
		if h.Check() == nil {
			t.Errorf("%s: it passes the check", name)
		}
	}
}

func FuzzHistogram(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for kind := range histogramtest.Kind(histogramtest.Kinds) {
		m := histogramtest.Message(histogramtest.New(rng, kind).Next(), 1_700_000_000_000)
		b, err := m.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h nativehistogram.Histogram
		timestamp, err := decodeHistogram(b, span{0, len(b)}, &h)
		if err != nil {
			if errkind.Of(err) != errkind.BadRequest {
				t.Fatal(err)
			}
			return
		}
		h.Reduce()
		if h.Check() != nil {
			return
		}
		var again nativehistogram.Histogram
		if err := again.Parse(h.Append(nil)); err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		var theirs oracle.Histogram
		if theirs.Unmarshal(b) == nil && (theirs.Timestamp != timestamp || math.Float64bits(theirs.Sum) != math.Float64bits(h.Sum)) {
			t.Fatalf("%v at %d; Prometheus sees %v at %d", h.Sum, timestamp, theirs.Sum, theirs.Timestamp)
		}
	})
}
