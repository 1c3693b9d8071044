package insertrpc

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

var update = flag.Bool("update", false, "rewrite golden files")

// rowsOf renders the rows of a batch by series key, for comparison.
func rowsOf(b *model.Batch, into map[string][]string) {
	for i := range b.Len() {
		key := model.SeriesKeyString(b.Key(i))
		for _, s := range b.Samples(i) {
			into[key] = append(into[key], fmt.Sprintf("%d:%#x", s.Timestamp, math.Float64bits(s.Value)))
		}
	}
}

func sameRows(t *testing.T, got, want map[string][]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d series; want %d", len(got), len(want))
	}
	for key, rows := range want {
		if fmt.Sprint(got[key]) != fmt.Sprint(rows) {
			t.Fatalf("rows of %s are %.300v; want %.300v", key, got[key], rows)
		}
	}
}

func seriesName(i int) []model.Label {
	return []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprintf("metric_%d", i%17)}, {Name: "instance", Value: fmt.Sprintf("host-%d:9100", i)}, {Name: "job", Value: "node"}}
}

func addSeries(t testing.TB, b *model.Batch, i int) {
	t.Helper()
	if err := b.AddSeries(model.TenantID{AccountID: uint32(i % 3)}, seriesName(i)); err != nil {
		t.Fatal(err)
	}
}

func randomValue(rng *rand.Rand) float64 {
	switch rng.IntN(8) {
	case 0:
		return math.Float64frombits(rng.Uint64())
	case 1:
		return math.Float64frombits(0x7ff0000000000002)
	case 2:
		return math.Copysign(0, -1)
	case 3:
		return float64(rng.Int64N(1<<54) - 1<<53)
	case 4:
		return rng.NormFloat64()
	}
	return float64(rng.IntN(1000))
}

func randomBatch(t testing.TB, rng *rand.Rand, b *model.Batch, series int) {
	b.Reset()
	for range rng.IntN(50) {
		addSeries(t, b, rng.IntN(series))
		now := rng.Int64N(1 << 41)
		for range rng.IntN(5) * rng.IntN(5) {
			b.AddSample(now, randomValue(rng))
			if now += 15000; rng.IntN(10) == 0 {
				now = int64(rng.Uint64())
			}
		}
	}
}

// TestRoundTrip sends random batches through the codec, with resets.
func TestRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dict := newSenderDict(1000, nil)
	var d decoder
	var b model.Batch
	for round := range 500 {
		randomBatch(t, rng, &b, 2000)
		gotRows, wantRows := map[string][]string{}, map[string][]string{}
		for p, first := (position{}), true; first || !atEnd(&b, p); first = false {
			reset := round == 0 && first || dict.full()
			if reset {
				dict.reset()
			}
			e := encoder{dict: dict}
			var err error
			if p, err = appendBody(&e, &b, p, reset); err != nil {
				t.Fatal(err)
			}
			var got received
			if err := d.decode(e.dst, &got); err != nil {
				t.Fatalf("round %d: %s", round, err)
			}
			rowsOf(&got.batch, gotRows)
			checkHashes(t, &got.batch)
			got.reset()
		}
		rowsOf(&b, wantRows)
		sameRows(t, gotRows, wantRows)
	}
}

func checkHashes(t *testing.T, b *model.Batch) {
	t.Helper()
	for i := range b.Len() {
		if b.Hash(i) != model.HashSeriesKey(b.Key(i)) {
			t.Fatal("the hash is not that of the key")
		}
	}
}

func TestValues(t *testing.T) {
	special := []uint64{0, 1, 1 << 63, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff0000000000002, 0x7ff8000000000001, math.MaxUint64,
		math.Float64bits(1), math.Float64bits(-1), math.Float64bits(63), math.Float64bits(64), math.Float64bits(1<<53 - 1), math.Float64bits(1 << 53),
		math.Float64bits(-(1 << 53) + 1), math.Float64bits(math.MaxFloat64), math.Float64bits(math.Pi), math.Float64bits(0.1), math.Float64bits(1e300)}
	for _, last := range special {
		for _, value := range special {
			checkValue(t, last, value)
		}
	}
	for _, c := range []struct {
		last, value float64
		size        int
	}{{5, 5, 1}, {5, 68, 1}, {5, -59, 1}, {5, 69, 2}, {1e6, 1e6 + 100000, 4}, {0.5, 0.25, 2}} {
		if got := appendValue(nil, math.Float64bits(c.last), math.Float64bits(c.value)); len(got) != c.size {
			t.Errorf("%v after %v takes %d bytes; want %d", c.value, c.last, len(got), c.size)
		}
	}
}

func checkValue(t *testing.T, last, value uint64) {
	t.Helper()
	b := appendValue(nil, last, value)
	if len(b) > maxValueLen {
		t.Errorf("%#x after %#x takes %d bytes", value, last, len(b))
	}
	for _, tail := range []int{0, 1, 20} {
		got, size := cutValue(append(bytes.Clone(b), make([]byte, tail)...), last)
		if got != value || size != len(b) {
			t.Errorf("%#x after %#x is read as %#x with %d bytes of %x", value, last, got, size, b)
		}
	}
	for i := range b {
		if _, size := cutValue(b[:i], last); size != 0 {
			t.Errorf("%x cut at %d is taken", b, i)
		}
	}
}

// goldenBatches are the requests in the golden file.
func goldenBatches(t testing.TB) []*model.Batch {
	const now = 1794268800000
	var a, b, c model.Batch
	for i := range 3 {
		addSeries(t, &a, i)
		a.AddSample(now, float64(i))
		addSeries(t, &b, i)
		b.AddSample(now+15000, float64(i)+0.5)
		b.AddSample(now+30000, 1e6)
		b.AddSample(now+45000, math.Float64frombits(0x7ff0000000000002))
	}
	addSeries(t, &c, 7)
	c.AddSample(now+60000, math.Inf(1))
	addSeries(t, &c, 1)
	c.AddSample(now+60000, -1e6)
	return []*model.Batch{&a, &b, &c}
}

func goldenRequests(t testing.TB) [][]byte {
	var out [][]byte
	dict := newSenderDict(1000, nil)
	for i, b := range goldenBatches(t) {
		e := encoder{dict: dict}
		if p, err := appendBody(&e, b, position{}, i == 0); err != nil || !atEnd(b, p) {
			t.Fatal("the batch does not fit a request")
		}
		out = append(out, e.dst)
	}
	return out
}

// TestGolden keeps the bytes of version 1 as they are.
func TestGolden(t *testing.T) {
	for i, got := range goldenRequests(t) {
		path := filepath.Join("testdata", fmt.Sprintf("request%d.hex", i+1))
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
			t.Errorf("request %d is now\n%s\nand was\n%s", i+1, hex.Dump(got), want)
		}
	}
}

func TestDecodeRejects(t *testing.T) {
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, seriesName(1))
	if err != nil {
		t.Fatal(err)
	}
	announce := append([]byte{1, 1, byte(len(key))}, key...)
	for name, body := range map[string][]byte{
		"empty":          {},
		"unknown flag":   {2},
		"unknown series": {1, 0, 2, 0},
		"negative":       {1, 4, 2, 0},
		"cut key":        announce[:20],
		"no sample":      announce,
		"bad key":        {1, 1, 3, 'b', 'a', 'd', 2, 0},
		"shared key":     {1, 5, 1, 'x', 2, 0},
		"many samples":   append(append([]byte{1, 3, byte(len(key))}, key...), 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0),
		"no value":       append(bytes.Clone(announce), 2),
		"bad value":      append(bytes.Clone(announce), 2, 250),
		"cut value":      append(bytes.Clone(announce), 2, 135, 1),
		"cut timestamp":  append(bytes.Clone(announce), 0x80),
	} {
		var d decoder
		var r received
		if err := d.decode(body, &r); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %x gives %v", name, body, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	requests := goldenRequests(f)
	f.Add(histogramRequest(f))
	for _, r := range requests {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, start := range []int{0, 1, 2} {
			var d decoder
			var got received
			for _, r := range requests[:start] {
				if err := d.decode(r, &got); err != nil {
					t.Fatal(err)
				}
				got.reset()
			}
			b := &got.batch
			if err := d.decode(data, &got); err != nil {
				if errkind.Of(err) != errkind.Corrupt {
					t.Fatalf("error %v is of kind %s", err, errkind.Of(err))
				}
				continue
			}
			if b.Rows() > len(data) {
				t.Fatalf("%d rows out of %d bytes", b.Rows(), len(data))
			}
		}
	})
}

func FuzzValue(f *testing.F) {
	f.Add(uint64(0), uint64(1), []byte{136, 1})
	f.Fuzz(func(t *testing.T, last, value uint64, data []byte) {
		checkValue(t, last, value)
		if _, size := cutValue(data, last); size > len(data) || size > maxValueLen {
			t.Fatalf("%d bytes taken from %x", size, data)
		}
	})
}

// scrape fills b with one sample of each of n series, as a scraper does.
func scrape(t testing.TB, b *model.Batch, n, round int) {
	b.Reset()
	for i := range n {
		addSeries(t, b, i)
		value := float64(i)                   // a gauge which stays
		if switchOn := i % 3; switchOn == 1 { // a counter
			value = float64(1000000*i + round*(i%1000))
		} else if switchOn == 2 { // a measurement
			value = math.Round(1000*math.Sin(float64(i+round))) / 1000
		}
		b.AddSample(1794268800000+int64(round)*15000, value)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	var batches [4]model.Batch
	for i := range batches {
		scrape(t, &batches[i], 1000, i)
	}
	dict := newSenderDict(1<<20, nil)
	var d decoder
	var buf []byte
	var got received
	round, size := 0, 0
	run := func() {
		b := &batches[round%len(batches)]
		e := encoder{dict: dict, dst: buf[:0]}
		if _, err := appendBody(&e, b, position{}, false); err != nil {
			t.Fatal(err)
		}
		buf, size = e.dst, len(e.dst)
		got.reset()
		if err := d.decode(buf, &got); err != nil {
			t.Fatal(err)
		}
		round++
	}
	if n := testing.AllocsPerRun(100, run); n > 0 {
		t.Errorf("%v allocations per request of 1000 samples", n)
	}
	t.Logf("%.2f bytes per sample", float64(size)/1000)
}

func BenchmarkEncode(b *testing.B) { benchmarkCodec(b, true, false) }
func BenchmarkDecode(b *testing.B) { benchmarkCodec(b, false, true) }

// benchmarkCodec counts time per sample in steady state, one sample per series.
func benchmarkCodec(b *testing.B, encode, decode bool) {
	const series, rounds = 10000, 8
	var batches [rounds]model.Batch
	dict := newSenderDict(1<<20, nil)
	var d decoder
	var got received
	var bodies [rounds][]byte
	for i := range batches {
		scrape(b, &batches[i], series, i)
		e := encoder{dict: dict}
		if _, err := appendBody(&e, &batches[i], position{}, false); err != nil {
			b.Fatal(err)
		}
		bodies[i] = e.dst
		got.reset()
		if err := d.decode(e.dst, &got); err != nil {
			b.Fatal(err)
		}
	}
	var buf []byte
	b.ReportAllocs()
	size := 0
	for i := 0; b.Loop(); i++ {
		// The bodies from the second on do not announce; values differ from
		// what the dictionary expects after the first time round, which costs the same.
		k := 1 + i%(rounds-1)
		if encode {
			e := encoder{dict: dict, dst: buf[:0]}
			if _, err := appendBody(&e, &batches[k], position{}, false); err != nil {
				b.Fatal(err)
			}
			buf = e.dst
			size = len(buf)
		}
		if decode {
			got.reset()
			if err := d.decode(bodies[k], &got); err != nil {
				b.Fatal(err)
			}
			size = len(bodies[k])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
	b.ReportMetric(float64(size)/series, "B/sample")
}

// appendBody appends a whole body of one batch.
func appendBody(e *encoder, b *model.Batch, p position, reset bool) (position, error) {
	e.begin(reset, 0)
	return e.appendEntries(b, p)
}
