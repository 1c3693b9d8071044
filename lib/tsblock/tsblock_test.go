package tsblock

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

var update = flag.Bool("update", false, "rewrite golden files")

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func stale() float64 { return math.Float64frombits(staleBits) }

func randomValue(r *rand.Rand) float64 {
	special := []float64{math.NaN(), stale(), 0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), 1, 2, 0.5}
	if r.IntN(3) == 0 {
		return special[r.IntN(len(special))]
	}
	return float64(r.IntN(1000)) / 10
}

// randomSamples returns 1 to n sorted samples, some at the same timestamp, from start on.
func randomSamples(r *rand.Rand, start int64, n int) Samples {
	var s Samples
	step := 1 + r.Int64N(20)
	for range 1 + r.IntN(n) {
		s.Append(start, randomValue(r))
		if r.IntN(10) > 0 {
			start += r.Int64N(2 * step)
		}
	}
	return s
}

func sameSamples(a, b *Samples) bool {
	return slices.Equal(a.Timestamps, b.Timestamps) && slices.EqualFunc(a.Values, b.Values, func(x, y float64) bool {
		return math.Float64bits(x) == math.Float64bits(y)
	})
}

// modelMerge is the naive form of Merge.
func modelMerge(sources []Samples, r model.TimeRange, intervalMs int64) Samples {
	best := map[int64]float64{}
	for _, s := range sources {
		for i, t := range s.Timestamps {
			if old, ok := best[t]; r.Contains(t) && (!ok || modelBetter(s.Values[i], old)) {
				best[t] = s.Values[i]
			}
		}
	}
	var out Samples
	for _, t := range slices.Sorted(maps.Keys(best)) {
		if n := out.Len(); intervalMs > 0 && n > 0 && modelBucket(out.Timestamps[n-1], intervalMs) == modelBucket(t, intervalMs) {
			out.truncate(n - 1)
		}
		out.Append(t, best[t])
	}
	return out
}

func modelBucket(t, intervalMs int64) float64 { return math.Ceil(float64(t) / float64(intervalMs)) }

// modelBetter orders by (rank, number, bits).
func modelBetter(a, b float64) bool {
	key := func(v float64) (int, float64, uint64) {
		bits := math.Float64bits(v)
		switch {
		case bits == staleBits:
			return 0, 0, bits
		case math.IsNaN(v):
			return 1, 0, bits
		}
		return 2, v, bits
	}
	rankA, numberA, bitsA := key(a)
	rankB, numberB, bitsB := key(b)
	if rankA != rankB {
		return rankA > rankB
	}
	if numberA != numberB {
		return numberA > numberB
	}
	return bitsA > bitsB
}

func everything() model.TimeRange { return model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64} }

func TestBetter(t *testing.T) {
	// In ascending order: each loses to all that follow.
	ordered := []float64{
		stale(), math.Float64frombits(0x7ff0000000000003), math.NaN(), math.Float64frombits(0xfff8000000000000),
		math.Inf(-1), -1, 0, math.Copysign(0, -1), 1, math.Inf(1),
	}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := Better(a, b); got != (i > j) {
				t.Errorf("Better(%v %x, %v %x) = %v", a, math.Float64bits(a), b, math.Float64bits(b), got)
			}
		}
	}
}

func TestBucketEnd(t *testing.T) {
	for _, c := range [][3]int64{
		{0, 10, 0}, {1, 10, 10}, {10, 10, 10}, {11, 10, 20}, {-1, 10, 0}, {-9, 10, 0}, {-10, 10, -10}, {-11, 10, -10},
		{math.MaxInt64, 10, math.MaxInt64}, {math.MinInt64, 10, math.MinInt64 + 8}, {5, math.MaxInt64, math.MaxInt64},
	} {
		if got := bucketEnd(c[0], c[1]); got != c[2] {
			t.Errorf("bucketEnd(%d, %d) = %d; want %d", c[0], c[1], got, c[2])
		}
	}
}

func TestMergeAgainstModel(t *testing.T) {
	r := newRand(t)
	for round := range 2000 {
		var sources []Samples
		for range r.IntN(6) {
			if r.IntN(4) == 0 && len(sources) > 0 { // a replica, with values of its own here and there
				replica := Samples{Timestamps: sources[0].Timestamps, Values: slices.Clone(sources[0].Values)}
				replica.Values[r.IntN(replica.Len())] = randomValue(r)
				sources = append(sources, replica)
				continue
			}
			sources = append(sources, randomSamples(r, r.Int64N(1500)-500, 100))
		}
		interval := []int64{0, 0, 1, 7, 50, 1000}[r.IntN(6)]
		var got Samples
		got.Append(7, 7)
		Merge(&got, sources, interval)
		want := modelMerge(sources, everything(), interval)
		got.Timestamps, got.Values = got.Timestamps[1:], got.Values[1:]
		if !sameSamples(&got, &want) {
			t.Fatalf("round %d, %d sources, interval %d:\ngot  %v\nwant %v", round, len(sources), interval, got, want)
		}
	}
}

func TestReadRangeAgainstModel(t *testing.T) {
	r := newRand(t)
	var scratch Scratch
	for round := range 1000 {
		var sources []Samples
		var blocks []Block
		spread := []int64{1, 1000, 100000}[r.IntN(3)]
		for range r.IntN(8) {
			s := randomSamples(r, r.Int64N(spread), 200)
			if n := len(sources); n > 0 && r.IntN(3) == 0 { // a shared column of timestamps
				s.Timestamps = slices.Clone(sources[n-1].Timestamps)
				s.Values = slices.Repeat([]float64{r.Float64()}, len(s.Timestamps))
			}
			_, b := AppendEncode(nil, &s)
			sources, blocks = append(sources, s), append(blocks, b)
		}
		if len(blocks) > 0 && r.IntN(2) == 0 { // copies, as other nodes have them
			i := r.IntN(len(blocks))
			sources, blocks = append(sources, sources[i:]...), append(blocks, blocks[i:]...)
			if r.IntN(2) == 0 {
				SortBlocks(blocks)
			}
		}
		tr := everything()
		if r.IntN(3) > 0 {
			tr.Min = r.Int64N(spread)
			tr.Max = tr.Min + r.Int64N(2000)
		}
		interval := []int64{0, 7, 500}[r.IntN(3)]
		var got Samples
		got.Append(7, 7)
		if err := ReadRange(&got, blocks, tr, interval, &scratch); err != nil {
			t.Fatal(err)
		}
		want := modelMerge(sources, tr, interval)
		got.Timestamps, got.Values = got.Timestamps[1:], got.Values[1:]
		if !sameSamples(&got, &want) {
			t.Fatalf("round %d, %d blocks, interval %d, %v:\ngot  %v\nwant %v", round, len(blocks), interval, tr, got, want)
		}
	}
}

// TestReadRangeReusedMemory reads blocks whose memory is overwritten between reads.
func TestReadRangeReusedMemory(t *testing.T) {
	r := newRand(t)
	var scratch Scratch
	var buf []byte
	for range 200 {
		s := Samples{}
		for i := range 300 {
			s.Append(int64(i*15000)+r.Int64N(10), float64(i))
		}
		s.Timestamps[0], s.Timestamps[299] = 0, 299*15000+10
		var b Block
		buf, b = AppendEncode(buf[:0], &s)
		var got Samples
		if err := ReadRange(&got, []Block{b}, everything(), 0, &scratch); err != nil {
			t.Fatal(err)
		}
		if !sameSamples(&got, &s) {
			t.Fatal("samples of an earlier block are returned")
		}
	}
}

func TestBlockRoundTrip(t *testing.T) {
	r := newRand(t)
	for range 300 {
		s := randomSamples(r, int64(r.Uint64())>>1, MaxSamplesPerBlock)
		data, b := AppendEncode([]byte("prefix"), &s)
		if len(data) != len("prefix")+len(b.Timestamps)+len(b.Values) || b.Count != s.Len() {
			t.Fatalf("%d bytes for block %s of %d and %d bytes", len(data), &b, len(b.Timestamps), len(b.Values))
		}
		wire := append(b.AppendTo(nil), "tail"...)
		var c Block
		tail, err := UnmarshalBlock(wire, &c)
		if err != nil || string(tail) != "tail" {
			t.Fatalf("%v, tail %q", err, tail)
		}
		var got Samples
		if err := c.Decode(&got); err != nil || !sameSamples(&got, &s) {
			t.Fatalf("%v: samples differ", err)
		}
		for range 20 {
			cut := r.IntN(len(wire) - len("tail"))
			if _, err := UnmarshalBlock(wire[:cut], &c); errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("%d of %d bytes: %v", cut, len(wire), err)
			}
		}
	}
}

func TestDecodeRejects(t *testing.T) {
	encode := func(timestamps ...int64) Block {
		s := Samples{Timestamps: timestamps, Values: make([]float64, len(timestamps))}
		_, b := AppendEncode(nil, &s)
		return b
	}
	for name, change := range map[string]func(b *Block){
		"no samples":          func(b *Block) { b.Count = 0 },
		"too many samples":    func(b *Block) { b.Count = MaxSamplesPerBlock + 1 },
		"another count":       func(b *Block) { b.Count = 400 },
		"another start":       func(b *Block) { b.MinTimestamp-- },
		"another end":         func(b *Block) { b.MaxTimestamp++ },
		"a reversed range":    func(b *Block) { b.MinTimestamp, b.MaxTimestamp = b.MaxTimestamp, b.MinTimestamp },
		"no timestamps":       func(b *Block) { b.Timestamps = nil },
		"no values":           func(b *Block) { b.Values = nil },
		"unsorted timestamps": func(b *Block) { *b = encode(1, 9, 3, 10) },
	} {
		b := encode(1, 2, 10)
		change(&b)
		s := Samples{Timestamps: []int64{5}, Values: []float64{5}}
		var scratch Scratch
		if err := b.Decode(&s); errkind.Of(err) != errkind.Corrupt || s.Len() != 1 || len(s.Values) != 1 {
			t.Errorf("%s: Decode gives %v and %v", name, s, err)
		}
		if b.Count == 0 || b.MinTimestamp > b.MaxTimestamp {
			continue
		}
		if err := ReadRange(&s, []Block{encode(-5, -4), b}, everything(), 0, &scratch); errkind.Of(err) != errkind.Corrupt || s.Len() != 1 || len(s.Values) != 1 {
			t.Errorf("%s: ReadRange gives %v and %v", name, s, err)
		}
	}
}

func TestGolden(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var out bytes.Buffer
	for range 10 {
		s := randomSamples(r, 1.7e12, 40)
		_, b := AppendEncode(nil, &s)
		fmt.Fprintf(&out, "%x\n", b.AppendTo(nil))
	}
	checkGolden(t, "blocks.golden", out.Bytes())
}

func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes of blocks have changed: other nodes could not read them; see git diff after -update")
	}
}

func FuzzUnmarshalBlock(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		s := randomSamples(r, 0, 300)
		_, b := AppendEncode(nil, &s)
		f.Add(b.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b Block
		if _, err := UnmarshalBlock(data, &b); err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatal(err)
			}
			return
		}
		var s, again Samples
		if err := b.Decode(&s); err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatal(err)
			}
			return
		}
		if s.Len() != b.Count || !slices.IsSorted(s.Timestamps) {
			t.Fatalf("%d samples in block %s", s.Len(), &b)
		}
		_, c := AppendEncode(nil, &s)
		if err := c.Decode(&again); err != nil || !sameSamples(&s, &again) {
			t.Fatalf("%v: samples differ after a round trip", err)
		}
	})
}

func benchmarkSamples(n int, offset int64) Samples {
	r := rand.New(rand.NewPCG(1, 2))
	var s Samples
	v := 1e6
	for i := range n {
		v += float64(r.IntN(100))
		s.Append(1.7e12+offset+int64(i)*15000, v)
	}
	return s
}

func BenchmarkReadRange(b *testing.B) {
	var blocks []Block
	for i := range 4 {
		s := benchmarkSamples(2000, int64(i)*2000*15000)
		_, block := AppendEncode(nil, &s)
		blocks = append(blocks, block)
	}
	for name, blocks := range map[string][]Block{"following": blocks, "replicas": append(slices.Clone(blocks), blocks...)} {
		b.Run(name, func(b *testing.B) {
			var dst Samples
			var scratch Scratch
			for b.Loop() {
				dst.Reset()
				if err := ReadRange(&dst, blocks, everything(), 0, &scratch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*2000*len(blocks)), "ns/sample")
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	for name, sources := range map[string][]Samples{
		"interleaved": {benchmarkSamples(5000, 0), benchmarkSamples(5000, 7000)},
		"replicas":    {benchmarkSamples(5000, 0), benchmarkSamples(5000, 0)},
	} {
		b.Run(name, func(b *testing.B) {
			var dst Samples
			for b.Loop() {
				dst.Reset()
				Merge(&dst, sources, 0)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*10000), "ns/sample")
		})
	}
}

// TestEncoderReusesColumns encodes columns which differ though the ends and the count are equal.
func TestEncoderReusesColumns(t *testing.T) {
	r := newRand(t)
	var e Encoder
	for range 500 {
		s := Samples{Timestamps: []int64{0, 1 + r.Int64N(3), 5 + r.Int64N(3), 1000}, Values: []float64{1, 2, 3, 4}}
		got, _ := e.AppendEncode(nil, &s)
		want, _ := AppendEncode(nil, &s)
		if !bytes.Equal(got, want) {
			t.Fatalf("%v: an Encoder gives %x; want %x", s, got, want)
		}
	}
}

func TestTakeDeduplicated(t *testing.T) {
	var in Samples
	for i := range int64(10) {
		in.Append(i*10, float64(i))
	}
	_, b := AppendEncode(nil, &in)
	var scratch Scratch
	for _, c := range []struct{ interval, want int64 }{{0, 0}, {1, 0}, {20, 4}, {1000, 8}} { // 0 is a bucket of its own
		var out Samples
		if err := ReadRange(&out, []Block{b}, model.TimeRange{Min: 0, Max: 1000}, c.interval, &scratch); err != nil {
			t.Fatal(err)
		}
		if got := scratch.TakeDeduplicated(); int64(got) != c.want || out.Len()+got != 10 {
			t.Errorf("interval %d: %d left out and %d left; want %d left out", c.interval, got, out.Len(), c.want)
		}
	}
	if scratch.TakeDeduplicated() != 0 {
		t.Error("the count does not start again")
	}
}

// BenchmarkReadTail reads the last 240 of 1920 samples, as a query for the latest hour of a merged part does.
func BenchmarkReadTail(b *testing.B) {
	s := benchmarkSamples(1920, 0)
	_, block := AppendEncode(nil, &s)
	tr := model.TimeRange{Min: s.Timestamps[1680], Max: s.Timestamps[1919]}
	var dst Samples
	var scratch Scratch
	for b.Loop() {
		dst.Reset()
		if err := ReadRange(&dst, []Block{block}, tr, 0, &scratch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*240), "ns/sample")
}

func BenchmarkLastValue(b *testing.B) {
	s := benchmarkSamples(1920, 0)
	_, block := AppendEncode(nil, &s)
	for b.Loop() {
		if v, err := block.LastValue(); err != nil || v != s.Values[1919] {
			b.Fatal(v, err)
		}
	}
}
