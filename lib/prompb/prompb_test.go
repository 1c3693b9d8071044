package prompb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	oracle "github.com/prometheus/prometheus/prompb"

	"vmcluster/lib/errkind"
)

type label struct{ Name, Value string }

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func randomString(rng *rand.Rand) string {
	b := make([]byte, rng.IntN(200))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b[:rng.IntN(len(b)+1)])
}

func randomSeries(rng *rand.Rand) TimeSeries[label] {
	var s TimeSeries[label]
	for range rng.IntN(10) {
		s.Labels = append(s.Labels, label{randomString(rng), randomString(rng)})
	}
	for range rng.IntN(10) {
		s.Samples = append(s.Samples, Sample{Timestamp: int64(rng.Uint64()) >> rng.IntN(64), Value: math.Float64frombits(rng.Uint64())})
	}
	return s
}

func sameSamples(a, b []Sample) bool {
	return slices.EqualFunc(a, b, func(x, y Sample) bool {
		return x.Timestamp == y.Timestamp && math.Float64bits(x.Value) == math.Float64bits(y.Value)
	})
}

func sameSeries(a, b *TimeSeries[label]) bool {
	return slices.Equal(a.Labels, b.Labels) && sameSamples(a.Samples, b.Samples)
}

// decode returns deep copies of all series before the first fault.
func decode(d *Decoder[label], body []byte) ([]TimeSeries[label], error) {
	var all []TimeSeries[label]
	d.Reset(body)
	for d.Next() {
		s := d.At()
		all = append(all, TimeSeries[label]{Labels: slices.Clone(s.Labels), Samples: slices.Clone(s.Samples)})
	}
	return all, d.Err()
}

func TestRoundTrip(t *testing.T) {
	rng := newRand(t)
	var d Decoder[label]
	for range 300 {
		var body []byte
		var want []TimeSeries[label]
		metadata := 0
		for range rng.IntN(8) {
			if rng.IntN(4) == 0 {
				body = AppendMetadata(body, &Metadata{Type: uint64(rng.IntN(300)), Metric: randomString(rng), Help: "h", Unit: "u"})
				metadata++
			}
			s := randomSeries(rng)
			want = append(want, s)
			body = AppendTimeSeries(body, &s)
		}
		got, err := decode(&d, body)
		if err != nil || len(got) != len(want) || d.Skipped().Metadata != metadata {
			t.Fatalf("%d series and %d metadata, error %v; want %d and %d", len(got), d.Skipped().Metadata, err, len(want), metadata)
		}
		for i := range want {
			if !sameSeries(&got[i], &want[i]) {
				t.Fatalf("series %d is %v; want %v", i, got[i], want[i])
			}
		}
		if theirs, err := oracleDecode(body); err != nil || !slices.EqualFunc(theirs, want, func(a, b TimeSeries[label]) bool { return sameSeries(&a, &b) }) {
			t.Fatalf("the reference decoder sees %v, %v; want %v", theirs, err, want)
		}
	}
}

func oracleDecode(body []byte) ([]TimeSeries[label], error) {
	var req oracle.WriteRequest
	if err := req.Unmarshal(body); err != nil {
		return nil, err
	}
	var all []TimeSeries[label]
	for _, ts := range req.Timeseries {
		var s TimeSeries[label]
		for _, l := range ts.Labels {
			s.Labels = append(s.Labels, label{l.Name, l.Value})
		}
		for _, x := range ts.Samples {
			s.Samples = append(s.Samples, Sample{Timestamp: x.Timestamp, Value: x.Value})
		}
		all = append(all, s)
	}
	return all, nil
}

// Everything the reference encoder can write is read: exemplars, histograms and metadata included.
func TestReadsWhatTheReferenceWrites(t *testing.T) {
	req := oracle.WriteRequest{
		Timeseries: []oracle.TimeSeries{{
			Labels:     []oracle.Label{{Name: "__name__", Value: "m"}, {Name: "a", Value: ""}},
			Samples:    []oracle.Sample{{Value: 0, Timestamp: 0}, {Value: -1.5, Timestamp: -7}},
			Exemplars:  []oracle.Exemplar{{Labels: []oracle.Label{{Name: "trace", Value: "x"}}, Value: 3, Timestamp: 5}},
			Histograms: []oracle.Histogram{{Sum: 4, Schema: 1, Timestamp: 9}},
		}},
		Metadata: []oracle.MetricMetadata{{MetricFamilyName: "m", Help: "h"}},
	}
	body, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder[label]
	got, err := decode(&d, body)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	want := TimeSeries[label]{Labels: []label{{"__name__", "m"}, {"a", ""}}, Samples: []Sample{{}, {Timestamp: -7, Value: -1.5}}}
	if !sameSeries(&got[0], &want) {
		t.Errorf("got %v; want %v", got[0], want)
	}
	if s := d.Skipped(); s != (Skipped{Metadata: 1}) {
		t.Errorf("skipped %+v", s)
	}
	for d.Reset(body); d.Next(); {
		var e Exemplar[label]
		if n := d.Exemplars(); n != 1 {
			t.Fatalf("%d exemplars", n)
		}
		if err := d.Exemplar(0, &e); err != nil || len(e.Labels) != 1 || e.Labels[0] != (label{"trace", "x"}) || e.Value != 3 || e.Timestamp != 5 {
			t.Errorf("exemplar %+v, %v", e, err)
		}
	}
}

func TestFaults(t *testing.T) {
	for body, want := range map[string]string{
		"\x0c\xff\xff\xff\xff":     "wrong wire type",
		"\xff":                     "cut off",
		"\x0a":                     "cut off",
		"\x0a\x05\x0a":             "the time series is cut off",
		"\x0a\x03\x0a\x05a":        "the label is cut off",
		"\x0a\x04\x0a\x02\x0a\x05": "the label name is cut off",
		"\x0a\x04\x12\x02\x09\x01": "the value is cut off",
		"\x0a\x04\x12\x02\x08\x01": "the sample has a wrong wire type",
		"\x08\x01":                 "the time series has a wrong wire type",
		"\x00\x00":                 "the field number is not positive",
		"\x3c":                     "a group ends which was not begun",
		"\x3b\x08\x01":             "the group is not closed",
		"\x3f":                     "the wire type is unknown",
		"\x3d\x01":                 "the unknown field is cut off",
		"\x10" + strings.Repeat("\xff", 10) + "\x01": "longer than 10 bytes",
	} {
		var d Decoder[label]
		_, err := decode(&d, []byte(body))
		if errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "at offset") {
			t.Errorf("%q gives %v; want %q", body, err, want)
		}
	}
}

func TestTruncatedBodyGivesWholeSeriesThenAnError(t *testing.T) {
	s := TimeSeries[label]{Labels: []label{{"__name__", "m"}}, Samples: []Sample{{Timestamp: 1, Value: 2}}}
	one := AppendTimeSeries(nil, &s)
	body := AppendTimeSeries(slices.Clone(one), &s)
	var d Decoder[label]
	for n := range body {
		got, err := decode(&d, body[:n])
		whole := n / len(one)
		if len(got) != whole || (err == nil) != (n%len(one) == 0) {
			t.Fatalf("%d of %d bytes: %d series, error %v", n, len(body), len(got), err)
		}
	}
}

func TestDecoderDoesNotAllocate(t *testing.T) {
	body := benchmarkBody(100)
	var d Decoder[label]
	run := func() {
		d.Reset(body)
		for d.Next() {
		}
	}
	run()
	if n := testing.AllocsPerRun(10, run); n != 0 {
		t.Errorf("%v allocations per body", n)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x0a\x04\x0a\x02\x0a\x05"))
	f.Add([]byte("\x3b\x3b\x3c\x3c\x0a\x00"))
	f.Add(benchmarkBody(2))
	f.Add(AppendMetadata(nil, &Metadata{Type: 1, Metric: "m"}))
	f.Fuzz(func(t *testing.T, body []byte) {
		var d Decoder[label]
		got, err := decode(&d, body)
		if err != nil && errkind.Of(err) != errkind.BadRequest {
			t.Fatalf("error %v has the kind %v", err, errkind.Of(err))
		}
		// The reference also decodes what we skip, so it may find more faults, never fewer.
		want, oracleErr := oracleDecode(body)
		if oracleErr != nil {
			return
		}
		if err != nil || !slices.EqualFunc(got, want, func(a, b TimeSeries[label]) bool { return sameSeries(&a, &b) }) {
			t.Fatalf("decoded %v, %v; the reference sees %v", got, err, want)
		}
		var again []byte
		for i := range got {
			again = AppendTimeSeries(again, &got[i])
		}
		if twice, err := decode(&d, again); err != nil || !slices.EqualFunc(got, twice, func(a, b TimeSeries[label]) bool { return sameSeries(&a, &b) }) {
			t.Fatalf("encoding %v again gives %v, %v", got, twice, err)
		}
	})
}

func benchmarkBody(series int) []byte {
	var body []byte
	for i := range series {
		s := TimeSeries[label]{Labels: []label{
			{"__name__", "node_cpu_seconds_total"}, {"cluster", "production-eu"}, {"cpu", fmt.Sprint(i % 64)},
			{"env", "prod"}, {"instance", fmt.Sprintf("10.0.%d.%d:9100", i/250%250, i%250)}, {"job", "node-exporter"},
			{"mode", "idle"}, {"region", "eu-west-1"},
		}, Samples: []Sample{{Timestamp: 1717200000000 + int64(i), Value: float64(i) * 1.5}}}
		body = AppendTimeSeries(body, &s)
	}
	return body
}

func BenchmarkDecoder(b *testing.B) {
	benchmarkDecoding(b, (*Decoder[label]).Next)
}

// benchmarkDecoding walks over a body of a thousand series.
func benchmarkDecoding(b *testing.B, next func(*Decoder[label]) bool) {
	const series = 1000
	body := benchmarkBody(series)
	var d Decoder[label]
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		d.Reset(body)
		n := 0
		for next(&d) {
			n += len(d.At().Samples)
		}
		if n != series || d.Err() != nil {
			b.Fatal(n, d.Err())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
}

// TestTinyFieldsAreBounded checks that a body of empty labels or samples does not become many times as much memory.
func TestTinyFieldsAreBounded(t *testing.T) {
	for _, field := range []byte{1<<3 | wireBytes, 2<<3 | wireBytes} {
		const size = 8 << 20
		body := binary.AppendUvarint([]byte{1<<3 | wireBytes}, size)
		body = append(body, bytes.Repeat([]byte{field, 0}, size/2)...)
		var d Decoder[Label]
		d.Reset(body)
		if d.Next() || errkind.Of(d.Err()) != errkind.BadRequest {
			t.Errorf("field %#x: error %v", field, d.Err())
		}
		if n := cap(d.series.Labels)*32 + cap(d.series.Samples)*16; n > 4*size {
			t.Errorf("field %#x: %d bytes of memory for %d", field, n, size)
		}
		d.Reset(nil)
		if n := cap(d.series.Labels)*32 + cap(d.series.Samples)*16; n > 4<<20 {
			t.Errorf("field %#x: %d bytes of memory are kept", field, n)
		}
	}
}
