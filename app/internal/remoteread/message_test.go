package remoteread

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func randomText(r *rand.Rand) string {
	return strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(200))
}

// TestParseRequest compares with what Prometheus encodes.
func TestParseRequest(t *testing.T) {
	r := newRand(t)
	for range 300 {
		var sent prompb.ReadRequest
		var want readRequest
		for range r.IntN(4) {
			q := &prompb.Query{StartTimestampMs: r.Int64() - r.Int64(), EndTimestampMs: r.Int64()}
			w := readQuery{timeRange: model.TimeRange{Min: q.StartTimestampMs, Max: q.EndTimestampMs}}
			for range r.IntN(4) {
				m := &prompb.LabelMatcher{Type: prompb.LabelMatcher_Type(r.IntN(4)), Name: randomText(r), Value: randomText(r)[r.IntN(2):]}
				q.Matchers = append(q.Matchers, m)
				w.matchers = append(w.matchers, model.TagFilter{Name: m.Name, Value: m.Value, Op: []model.FilterOp{model.Equal, model.NotEqual, model.Regexp, model.NotRegexp}[m.Type]})
			}
			sent.Queries = append(sent.Queries, q)
			want.queries = append(want.queries, w)
		}
		if r.IntN(2) == 0 {
			sent.AcceptedResponseTypes = []prompb.ReadRequest_ResponseType{7, prompb.ReadRequest_STREAMED_XOR_CHUNKS, prompb.ReadRequest_SAMPLES}
			want.response = streamedChunks
		}
		data, err := sent.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseRequest(data)
		if err != nil || !reflect.DeepEqual(got, &want) {
			t.Fatalf("%v\ngot  %+v %v\nwant %+v", &sent, got, err, want)
		}
	}
}

func TestHintsNarrow(t *testing.T) {
	for _, tc := range []struct {
		hints *prompb.ReadHints
		want  model.TimeRange
	}{
		{nil, model.TimeRange{Min: 100, Max: 900}},
		{&prompb.ReadHints{StepMs: 5, Func: "rate", Grouping: []string{"a"}}, model.TimeRange{Min: 100, Max: 900}},
		{&prompb.ReadHints{StartMs: 200, EndMs: 300}, model.TimeRange{Min: 200, Max: 300}},
		{&prompb.ReadHints{StartMs: -5, EndMs: 300}, model.TimeRange{Min: 100, Max: 300}},
		{&prompb.ReadHints{EndMs: 300}, model.TimeRange{Min: 100, Max: 300}},
		{&prompb.ReadHints{StartMs: 2000, EndMs: 3000}, model.TimeRange{Min: 100, Max: 900}}, // makes no sense
	} {
		data, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{StartTimestampMs: 100, EndTimestampMs: 900, Hints: tc.hints}}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseRequest(data)
		if err != nil || got.queries[0].timeRange != tc.want {
			t.Errorf("%v: got %+v %v, want %v", tc.hints, got, err, tc.want)
		}
	}
}

func TestBadRequests(t *testing.T) {
	for _, tc := range []struct{ message, want string }{
		{"\x0a\x05abc", "ends within a field"},
		{"\x08\x01", "a query is not a message"},
		{"\x0a\x02\x18\x01", "a matcher is not a message"},
		{"\x0a\x04\x1a\x02\x08\x04", "matcher type 4 is not known"},
		{"\x0a\x04\x1a\x02\x08\x01", "no label name"},
		{"\x12\x01\x05", "accepted response types [5]"},
		{"\x0b", "wire type 3"},
		{"\x00\x00", "ends within a field"},
	} {
		_, err := parseRequest([]byte(tc.message))
		if errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: error is %v, want one with %q", tc.message, err, tc.want)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("\x0a\x06\x08\x01\x10\x02\x1a\x00\x12\x02\x01\x00"))
	data, err := (&prompb.ReadRequest{
		Queries:               []*prompb.Query{{StartTimestampMs: -1, EndTimestampMs: 5, Matchers: []*prompb.LabelMatcher{{Type: 3, Name: "a", Value: "b"}}, Hints: &prompb.ReadHints{StartMs: 7, EndMs: 8}}},
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{1},
	}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseRequest(data)
		var oracle prompb.ReadRequest
		if err != nil || oracle.Unmarshal(data) != nil {
			if err != nil && errkind.Of(err) != errkind.BadRequest {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		if len(got.queries) != len(oracle.Queries) {
			t.Fatalf("%d queries, Prometheus finds %d", len(got.queries), len(oracle.Queries))
		}
		for i, q := range oracle.Queries {
			if len(q.Matchers) != len(got.queries[i].matchers) {
				t.Fatalf("query %d has %d matchers, Prometheus finds %d", i, len(got.queries[i].matchers), len(q.Matchers))
			}
		}
	})
}

// oddValues are values whose bits must survive.
var oddValues = []float64{0, math.Copysign(0, -1), 1, -1.5, math.Inf(1), math.Inf(-1), math.NaN(), math.Float64frombits(0x7ff0000000000002), math.MaxFloat64, math.SmallestNonzeroFloat64}

func randomSeries(r *rand.Rand, n int) (labels []model.Label, times []int64, values []float64) {
	for range r.IntN(4) {
		labels = append(labels, model.Label{Name: randomText(r), Value: randomText(r)})
	}
	at := r.Int64N(1e13) - 1e9
	for range n {
		times, values = append(times, at), append(values, oddValues[r.IntN(len(oddValues))])
		at += 1 + r.Int64N(1e6)
	}
	return labels, times, values
}

func sameLabels(got []prompb.Label, want []model.Label) bool {
	if len(got) != len(want) {
		return false
	}
	for i, l := range want {
		if got[i].Name != l.Name || got[i].Value != l.Value {
			return false
		}
	}
	return true
}

func TestAppendSeries(t *testing.T) {
	r := newRand(t)
	for range 100 {
		labels, times, values := randomSeries(r, r.IntN(50))
		var got prompb.QueryResult
		if err := got.Unmarshal(appendSeries(nil, labels, times, values, nil)); err != nil {
			t.Fatal(err)
		}
		s := got.Timeseries[0]
		if len(got.Timeseries) != 1 || !sameLabels(s.Labels, labels) || len(s.Samples) != len(times) {
			t.Fatalf("got %v", got)
		}
		for i, p := range s.Samples {
			if p.Timestamp != times[i] || math.Float64bits(p.Value) != math.Float64bits(values[i]) {
				t.Fatalf("sample %d is %v, want %d %v", i, p, times[i], values[i])
			}
		}
	}
}

// readFrames decodes a stream as a client does.
func readFrames(t *testing.T, stream []byte) []*prompb.ChunkedReadResponse {
	t.Helper()
	var out []*prompb.ChunkedReadResponse
	for len(stream) > 0 {
		size, n := binary.Uvarint(stream)
		if n <= 0 || uint64(len(stream)-n) < 4+size {
			t.Fatalf("a frame of %d bytes ends early", size)
		}
		sum, message := binary.BigEndian.Uint32(stream[n:]), stream[n+4:n+4+int(size)]
		if crc32.Checksum(message, crc32.MakeTable(crc32.Castagnoli)) != sum {
			t.Fatal("the checksum is wrong")
		}
		m := &prompb.ChunkedReadResponse{}
		if err := m.Unmarshal(message); err != nil {
			t.Fatal(err)
		}
		again, err := m.Marshal()
		if err != nil || !bytes.Equal(again, message) {
			t.Fatalf("Prometheus would encode %x (%v), got %x", again, err, message)
		}
		out = append(out, m)
		stream = stream[n+4+int(size):]
	}
	return out
}

// chunkSamples appends the samples of a chunk.
func chunkSamples(t *testing.T, c *prompb.Chunk, times []int64, values []float64) ([]int64, []float64) {
	t.Helper()
	x, err := chunkenc.FromData(chunkenc.EncXOR, c.Data)
	if err != nil || c.Type != prompb.Chunk_XOR {
		t.Fatalf("chunk of type %v: %v", c.Type, err)
	}
	first := len(times)
	for it := x.Iterator(nil); it.Next() != chunkenc.ValNone; {
		at, v := it.At()
		times, values = append(times, at), append(values, v)
	}
	if c.MinTimeMs != times[first] || c.MaxTimeMs != times[len(times)-1] {
		t.Fatalf("chunk says %d..%d, holds %d..%d", c.MinTimeMs, c.MaxTimeMs, times[first], times[len(times)-1])
	}
	return times, values
}

func TestFrames(t *testing.T) {
	r := newRand(t)
	for i, n := range []int{1, 119, 120, 121, 1000, 300_000} {
		labels, times, values := randomSeries(r, n)
		chunks, err := encodeChunks(nil, times, values)
		if err != nil {
			t.Fatal(err)
		}
		frames := readFrames(t, appendFrames(nil, i, labels, chunks))
		if n == 300_000 && len(frames) < 2 {
			t.Errorf("%d samples are in one frame", n)
		}
		var gotTimes []int64
		var gotValues []float64
		for _, f := range frames {
			if f.QueryIndex != int64(i) || len(f.ChunkedSeries) != 1 || !sameLabels(f.ChunkedSeries[0].Labels, labels) || f.Size() > frameBytes+64<<10 {
				t.Fatalf("frame of query %d has %d bytes and %d series", f.QueryIndex, f.Size(), len(f.ChunkedSeries))
			}
			for k := range f.ChunkedSeries[0].Chunks {
				gotTimes, gotValues = chunkSamples(t, &f.ChunkedSeries[0].Chunks[k], gotTimes, gotValues)
			}
		}
		if !reflect.DeepEqual(gotTimes, times) || !reflect.DeepEqual(bitsOf(gotValues), bitsOf(values)) {
			t.Fatalf("%d samples differ", n)
		}
	}
}

func bitsOf(values []float64) []uint64 {
	out := make([]uint64, len(values))
	for i, v := range values {
		out[i] = math.Float64bits(v)
	}
	return out
}

// BenchmarkEncode measures both forms of an answer, per sample of a counter.
func BenchmarkEncode(b *testing.B) {
	const n = 1440
	labels := []model.Label{{Name: "__name__", Value: "work_total"}, {Name: "instance", Value: "host-17:9100"}}
	var times []int64
	var values []float64
	for i := range n {
		times, values = append(times, 1717200000_000+int64(i)*15000+int64(i%7)), append(values, float64(i*i))
	}
	perSample := func(b *testing.B) { b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/sample") }
	b.Run("chunks", func(b *testing.B) {
		var out []byte
		var chunks []chunk
		for b.Loop() {
			chunks, _ = encodeChunks(chunks[:0], times, values)
			out = appendFrames(out[:0], 0, labels, chunks)
		}
		perSample(b)
		b.ReportMetric(float64(len(out))/n, "bytes/sample")
	})
	b.Run("samples", func(b *testing.B) {
		var out []byte
		for b.Loop() {
			out = appendSeries(out[:0], labels, times, values, nil)
		}
		perSample(b)
		b.ReportMetric(float64(len(out))/n, "bytes/sample")
	})
}
