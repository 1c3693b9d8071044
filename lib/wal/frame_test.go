package wal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vmcluster/lib/errkind"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// event is a series, a histogram (key is its payload) or one sample, with bits compared.
type event struct {
	partition, id uint32
	key           string
	series        bool
	histogram     bool
	timestamp     int64
	bits          uint64
}

type recorder struct {
	events []event
	runs   int
}

func (r *recorder) Series(partition, id uint32, key []byte) error {
	r.events = append(r.events, event{partition: partition, id: id, key: string(key), series: true})
	return nil
}

func (r *recorder) Samples(partition, id uint32, timestamps []int64, values []float64) error {
	if len(timestamps) != len(values) || len(timestamps) == 0 || len(timestamps) > maxRun {
		return fmt.Errorf("run of %d timestamps and %d values", len(timestamps), len(values))
	}
	r.runs++
	for i := range timestamps {
		r.events = append(r.events, event{partition: partition, id: id, timestamp: timestamps[i], bits: math.Float64bits(values[i])})
	}
	return nil
}

func (r *recorder) Histogram(partition, id uint32, timestamp int64, payload []byte) error {
	r.events = append(r.events, event{partition: partition, id: id, timestamp: timestamp, key: string(payload), histogram: true})
	return nil
}

func encode(e *FrameEncoder, events []event) []byte {
	e.Reset()
	for _, ev := range events {
		switch {
		case ev.series:
			e.AddSeries(ev.partition, ev.id, []byte(ev.key))
		case ev.histogram:
			e.AddHistogram(ev.partition, ev.id, ev.timestamp, []byte(ev.key))
		default:
			e.AddSample(ev.partition, ev.id, ev.timestamp, math.Float64frombits(ev.bits))
		}
	}
	return e.Bytes()
}

func checkRoundTrip(t *testing.T, e *FrameEncoder, events []event) {
	t.Helper()
	frame := encode(e, events)
	var got recorder
	must(t, DecodeFrame(frame, &got))
	if !slices.Equal(got.events, events) {
		for i := range min(len(events), len(got.events)) {
			if got.events[i] != events[i] {
				t.Fatalf("event %d is %+v; want %+v", i, got.events[i], events[i])
			}
		}
		t.Fatalf("got %d events; want %d", len(got.events), len(events))
	}
}

func specialValues() []float64 {
	stale := math.Float64frombits(0x7ff0000000000002)
	values := []float64{0, math.Copysign(0, -1), 1, -1, 2, 127, 128, -128, 65535, 0.5, 0.1, -0.1, 0.001, 0.0001, 12.345, 99.99, 1e9, 1e15, 1e18, 1e19, -1e19, 1e300,
		math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN(), stale, math.Float64frombits(0xfff8000000000123), math.Pi, 1 << 46, 1<<47 - 1, 1 << 47, 1 << 53, 1<<53 + 2,
		math.MaxInt64, math.MinInt64, math.MaxUint64, 1.0000000000000002, 4503599627370.497}
	for k := range 64 {
		values = append(values, float64(uint64(1)<<k-1), -float64(uint64(1)<<k), float64(uint64(1)<<k)/1000)
	}
	return values
}

func TestFrameKeepsEveryBit(t *testing.T) {
	var e FrameEncoder
	var events []event
	for i, v := range specialValues() {
		for range 2 { // the second is the same as the one before
			events = append(events, event{partition: 7, id: uint32(i), timestamp: int64(len(events)), bits: math.Float64bits(v)})
		}
	}
	checkRoundTrip(t, &e, events)
	for _, ev := range events { // and each alone, so that it ends the frame
		checkRoundTrip(t, &e, []event{ev})
	}
}

func TestFrameExtremes(t *testing.T) {
	var e FrameEncoder
	edge := []uint32{0, 1, math.MaxUint32, math.MaxUint32 - 1, 1 << 31}
	times := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1700000000000}
	var events []event
	for _, p := range edge {
		for _, id := range edge {
			events = append(events, event{partition: p, id: id, key: fmt.Sprint("key", id), series: true}, event{partition: p, id: id, series: true})
			for _, ts := range times {
				events = append(events, event{partition: p, id: id, timestamp: ts, bits: uint64(id) << 32}, event{partition: p, id: id, timestamp: ts, key: "h", histogram: true})
			}
		}
	}
	checkRoundTrip(t, &e, events)
}

func TestFrameRandom(t *testing.T) {
	rng := newRand(t)
	special := specialValues()
	var e FrameEncoder
	for range 300 {
		var events []event
		ev := event{timestamp: 1700000000000 + rng.Int64N(1e9)}
		for range rng.IntN(500) {
			switch rng.IntN(8) {
			case 0:
				ev.partition = uint32(rng.IntN(4))
			case 1, 2, 3:
				ev.id++
			case 4:
				ev.id = rng.Uint32() >> rng.IntN(32)
			}
			if rng.IntN(5) == 0 {
				events = append(events, event{partition: ev.partition, id: ev.id, series: true, key: string(make([]byte, rng.IntN(300)))})
				continue
			}
			if rng.IntN(9) == 0 {
				events = append(events, event{partition: ev.partition, id: ev.id, timestamp: ev.timestamp, histogram: true, key: string(make([]byte, rng.IntN(300)))})
				continue
			}
			switch rng.IntN(4) {
			case 0:
				ev.timestamp += 15000
			case 1:
				ev.timestamp += rng.Int64N(2000) - 1000
			}
			ev.bits = math.Float64bits(special[rng.IntN(len(special))])
			if rng.IntN(2) == 0 {
				ev.bits = rng.Uint64()
			}
			events = append(events, ev)
		}
		if len(events) > 0 {
			checkRoundTrip(t, &e, events)
		}
	}
}

func TestFrameRuns(t *testing.T) {
	var e FrameEncoder
	for i := range 3 * maxRun {
		e.AddSample(1, 5, int64(i)*1000, 1)
	}
	if perSample := float64(e.Len()) / (3 * maxRun); perSample > 1.01 {
		t.Errorf("a regular run takes %.2f bytes per sample", perSample)
	}
	var got recorder
	must(t, DecodeFrame(e.Bytes(), &got))
	if got.runs != 3 || len(got.events) != 3*maxRun {
		t.Errorf("got %d runs, %d samples", got.runs, len(got.events))
	}
}

func TestEncoderDoesNotAllocate(t *testing.T) {
	var e FrameEncoder
	key := []byte("some key")
	work := func() {
		e.Reset()
		for i := range uint32(1000) {
			e.AddSeries(1, i, key)
			e.AddSample(1, i, 1700000000000, float64(i)*0.7)
			e.AddHistogram(1, i, 1700000000000, key)
		}
	}
	work()
	if n := testing.AllocsPerRun(10, work); n > 0 {
		t.Errorf("%v allocations per frame", n)
	}
	var d FrameDecoder
	var v FrameVisitor = nopVisitor{}
	if n := testing.AllocsPerRun(10, func() { must(t, d.Decode(e.Bytes(), v)) }); n > 0 {
		t.Errorf("%v allocations per decoded frame", n)
	}
}

type nopVisitor struct{ err error }

func (v nopVisitor) Series(uint32, uint32, []byte) error              { return v.err }
func (v nopVisitor) Samples(uint32, uint32, []int64, []float64) error { return v.err }
func (v nopVisitor) Histogram(uint32, uint32, int64, []byte) error    { return v.err }

func TestDecodeFrameErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		frame []byte
		want  errkind.Kind
	}{
		"empty":             {nil, errkind.Corrupt},
		"later version":     {[]byte{3, 0}, errkind.Unsupported},
		"unknown entry":     {[]byte{1, noSample | 3<<2}, errkind.Corrupt},
		"huge payload":      {[]byte{2, entryHistogram, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, errkind.Corrupt},
		"payload cut off":   {[]byte{2, entryHistogram, 0, 0, 2, 'a'}, errkind.Corrupt},
		"histogram, no id":  {[]byte{2, entryHistogram, 1, 0, 0}, errkind.Corrupt},
		"histogram's time":  {[]byte{2, entryHistogram, 0, 0x80}, errkind.Corrupt},
		"short partition":   {[]byte{1, entryPartition, 0x80}, errkind.Corrupt},
		"large partition":   {[]byte{1, entryPartition, 0x80, 0x80, 0x80, 0x80, 0x10}, errkind.Corrupt},
		"key beyond end":    {[]byte{1, entrySeries, 0, 5, 'a'}, errkind.Corrupt},
		"huge key":          {[]byte{1, entrySeries, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, errkind.Corrupt},
		"negative id":       {[]byte{1, entrySeries, 1, 0}, errkind.Corrupt},
		"negative id 2":     {[]byte{1, idDelta, 1}, errkind.Corrupt},
		"short timestamp":   {[]byte{1, timestampDelta}, errkind.Corrupt},
		"short value":       {[]byte{1, (valueBits + 8) << valueShift & 0xff, 1, 2, 3}, errkind.Corrupt},
		"unknown value":     {[]byte{1, valueCodes << valueShift & 0xff}, errkind.Corrupt},
		"last value code":   {[]byte{1, 31 << valueShift}, errkind.Corrupt},
		"short integer":     {[]byte{1, (valueInt + 6) << valueShift, 1}, errkind.Corrupt},
		"intact, no sample": {[]byte{1}, errkind.OK},
	} {
		if err := DecodeFrame(tc.frame, &recorder{}); errkind.Of(err) != tc.want {
			t.Errorf("%s: error %v of kind %v; want %v", name, err, errkind.Of(err), tc.want)
		}
	}
	var e FrameEncoder
	stop := errors.New("stop")
	for _, add := range []func(){func() { e.AddSample(1, 1, 1, 1) }, func() { e.AddSeries(1, 1, nil) }, func() { e.AddHistogram(1, 1, 1, nil) }} {
		e.Reset()
		add()
		if err := DecodeFrame(e.Bytes(), nopVisitor{stop}); !errors.Is(err, stop) {
			t.Errorf("the visitor's error came out as %v", err)
		}
	}
}

// goldenEvents use every way to give an id, a timestamp and a value.
func goldenEvents() []event {
	const month = 202611
	sample := func(id uint32, ts int64, v float64) event {
		return event{partition: month, id: id, timestamp: ts, bits: math.Float64bits(v)}
	}
	return []event{
		{partition: month, id: 10, series: true, key: "first"},
		{partition: month, id: 11, series: true, key: "second"},
		sample(10, 1700000000000, 0), sample(10, 1700000015000, 1), sample(10, 1700000030000, 1),
		sample(11, 1700000000000, 300), sample(12, 1700000000001, 12.345), sample(500, 1700000000001, -0.1),
		sample(501, 1700000000001, 0.5), sample(502, 1700000000001, math.Pi), sample(503, 1700000000001, math.Float64frombits(0x7ff0000000000002)),
		{partition: month + 1, id: 0, timestamp: 1700000000001, bits: math.Float64bits(-0x1p60)},
	}
}

// goldenHistograms have a sample between histograms, whose predictions they leave alone.
func goldenHistograms() []event {
	const month = 202611
	return []event{
		{partition: month, id: 10, series: true, key: "first"},
		{partition: month, id: 10, timestamp: 1700000000000, histogram: true, key: "payload"},
		{partition: month, id: 10, timestamp: 1700000000000, bits: math.Float64bits(300)},
		{partition: month, id: 10, timestamp: 1700000015000, histogram: true, key: "another"},
		{partition: month, id: 10, timestamp: 1700000015000, bits: math.Float64bits(300)},
		{partition: month + 1, id: 3, timestamp: 1700000000001, histogram: true},
	}
}

func checkGolden(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, []byte(hex.Dump(data)), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got := hex.Dump(data); got != string(want) {
		t.Errorf("the format has changed; raise its version.\ngot\n%swant\n%s", got, want)
	}
}

func TestGoldenFrame(t *testing.T) {
	var e FrameEncoder
	checkRoundTrip(t, &e, goldenEvents())
	checkGolden(t, "frame.v1.hex", encode(&e, goldenEvents()))
	checkRoundTrip(t, &e, goldenHistograms())
	checkGolden(t, "frame.v2.hex", encode(&e, goldenHistograms()))
}

func FuzzDecodeFrame(f *testing.F) {
	var e FrameEncoder
	f.Add(bytes.Clone(encode(&e, goldenEvents())))
	f.Add(bytes.Clone(encode(&e, goldenHistograms())))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, frame []byte) {
		var got recorder
		if err := DecodeFrame(frame, &got); err != nil {
			if k := errkind.Of(err); k != errkind.Corrupt && k != errkind.Unsupported {
				t.Fatalf("error %v of kind %v", err, k)
			}
			return
		}
		if len(got.events) > 0 { // what can be decoded can be encoded again
			var e FrameEncoder
			checkRoundTrip(t, &e, got.events)
		}
	})
}

// benchSamples returns values as a scrape of n series brings them.
func benchSamples(kind string, n int) []float64 {
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, n)
	for i := range values {
		switch kind {
		case "counters":
			values[i] = float64(rng.IntN(10_000_000))
		case "decimals":
			values[i] = float64(rng.IntN(100_000)) / 1000
		case "floats":
			values[i] = rng.NormFloat64() * 100
		case "mixed":
			switch rng.IntN(10) {
			case 0, 1, 2:
				values[i] = 0
			case 3, 4, 5, 6:
				values[i] = float64(rng.IntN(100_000))
			case 7, 8:
				values[i] = float64(rng.IntN(100_000)) / 1000
			default:
				values[i] = rng.NormFloat64()
			}
		}
	}
	return values
}

func BenchmarkAddSample(b *testing.B) {
	const n = 10000
	for _, kind := range []string{"counters", "decimals", "floats", "mixed"} {
		values := benchSamples(kind, n)
		b.Run(kind, func(b *testing.B) {
			var e FrameEncoder
			b.ReportAllocs()
			for b.Loop() {
				e.Reset()
				for i, v := range values {
					e.AddSample(202611, uint32(i)*3, 1700000000000, v)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/sample")
			b.ReportMetric(float64(e.Len())/n, "B/sample")
		})
	}
}

func BenchmarkDecodeFrame(b *testing.B) {
	const n = 10000
	var e FrameEncoder
	for i, v := range benchSamples("mixed", n) {
		e.AddSample(202611, uint32(i)*3, 1700000000000, v)
	}
	var d FrameDecoder
	var v FrameVisitor = nopVisitor{}
	b.ReportAllocs()
	for b.Loop() {
		must(b, d.Decode(e.Bytes(), v))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/sample")
}
