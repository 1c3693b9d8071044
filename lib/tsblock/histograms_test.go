package tsblock

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
)

// randomPayload stands for a histogram: what it says does not matter here.
func randomPayload(r *rand.Rand) []byte {
	p := make([]byte, 1+r.IntN(20))
	for i := range p {
		p[i] = byte(r.IntN(3))
	}
	return p
}

// randomHistograms returns 1 to n sorted histograms, some at the same timestamp, from start on.
func randomHistograms(r *rand.Rand, start int64, n int) HistogramSamples {
	var s HistogramSamples
	for range 1 + r.IntN(n) {
		s.Append(start, randomPayload(r))
		start += r.Int64N(20)
	}
	return s
}

func sameHistograms(a, b *HistogramSamples) bool {
	return slices.Equal(a.Timestamps, b.Timestamps) && slices.EqualFunc(a.Payloads, b.Payloads, bytes.Equal)
}

// modelHistograms is the naive form of ReadHistograms.
func modelHistograms(sources []HistogramSamples, r model.TimeRange, intervalMs int64) HistogramSamples {
	best := map[int64][]byte{}
	for _, s := range sources {
		for i, t := range s.Timestamps {
			if old, ok := best[t]; r.Contains(t) && (!ok || nativehistogram.Better(s.Payloads[i], old)) {
				best[t] = s.Payloads[i]
			}
		}
	}
	var out HistogramSamples
	for _, t := range slices.Sorted(maps.Keys(best)) {
		if n := out.Len(); intervalMs > 0 && n > 0 && modelBucket(out.Timestamps[n-1], intervalMs) == modelBucket(t, intervalMs) {
			out.truncate(n - 1)
		}
		out.Append(t, best[t])
	}
	return out
}

func TestReadHistograms(t *testing.T) {
	r := newRand(t)
	var e Encoder
	var scratch Scratch
	var got HistogramSamples
	for range 2000 {
		var sources []HistogramSamples
		var blocks []Block
		for range r.IntN(5) {
			s := randomHistograms(r, r.Int64N(300), 40)
			sources = append(sources, s)
			blocks, _ = e.AppendHistogramBlocks(blocks, nil, &s)
			if r.IntN(3) == 0 {
				blocks = append(blocks, blocks[len(blocks)-1]) // of another node
			}
		}
		samples := randomSamples(r, r.Int64N(300), 40)
		_, b := e.AppendEncode(nil, &samples)
		blocks = append(blocks, b)
		r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		span := everything()
		if r.IntN(2) == 0 {
			span = model.TimeRange{Min: r.Int64N(400), Max: r.Int64N(600)}
		}
		interval := []int64{0, 1, 10, 100}[r.IntN(4)]
		want := modelHistograms(sources, span, interval)
		got.Reset()
		if err := ReadHistograms(&got, blocks, span, interval, &scratch); err != nil || !sameHistograms(&got, &want) {
			t.Fatalf("read %d histograms of %d blocks in %v, %v; want %d", got.Len(), len(blocks), span, err, want.Len())
		}
		var numbers Samples
		if err := ReadRange(&numbers, blocks, span, interval, &scratch); err != nil {
			t.Fatal(err)
		}
		if want := modelMerge([]Samples{samples}, span, interval); !sameSamples(&numbers, &want) {
			t.Fatalf("%d samples beside histograms; want %d", numbers.Len(), want.Len())
		}
	}
}

func TestHistogramBlocks(t *testing.T) {
	r := newRand(t)
	var e Encoder
	s := HistogramSamples{}
	for i := range 20_000 { // the limit is that of a block's samples, then that of its bytes
		size := 1
		if i >= 9000 {
			size = 300 + r.IntN(300)
		}
		s.Append(int64(i), bytes.Repeat([]byte{byte(r.IntN(256))}, size))
	}
	s.Append(20_000, make([]byte, maxBlockPayload+1))
	blocks, _ := e.AppendHistogramBlocks(nil, nil, &s)
	var back HistogramSamples
	for i := range blocks {
		b := &blocks[i]
		if b.Content() != Histograms || b.Count > MaxSamplesPerBlock || b.Content().Serves(model.AspectSamples) {
			t.Fatalf("block %s has content %d", b, b.Content())
		}
		if len(b.Values) > maxBlockPayload+5*MaxSamplesPerBlock && b.Count > 1 {
			t.Fatalf("block %s has %d bytes", b, len(b.Values))
		}
		var other Block
		if _, err := UnmarshalBlock(b.AppendTo(nil), &other); err != nil || !other.equal(b) {
			t.Fatalf("block %s went over the wire as %s, %v", b, &other, err)
		}
		if err := other.DecodeHistograms(&back); err != nil {
			t.Fatal(err)
		}
		if err := b.Decode(&Samples{}); errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("histograms are decoded as numbers: %v", err)
		}
	}
	if len(blocks) < 5 || !sameHistograms(&back, &s) {
		t.Fatalf("%d blocks have %d histograms; want %d", len(blocks), back.Len(), s.Len())
	}
	numbers := Samples{Timestamps: []int64{1}, Values: []float64{2}}
	_, b := e.AppendEncode(nil, &numbers)
	if err := b.DecodeHistograms(&back); errkind.Of(err) != errkind.Corrupt || back.Len() != s.Len() {
		t.Errorf("numbers are decoded as histograms: %v", err)
	}
	_, b = e.AppendEncode(nil, &Samples{Timestamps: []int64{1, 2}, Values: []float64{2, 2}})
	b.Values = append([]byte{contentMark | byte(Histograms)}, 99, 99, 99)
	if err := ReadHistograms(&back, []Block{blocks[0], b}, everything(), 0, &Scratch{}); errkind.Of(err) != errkind.Corrupt || !sameHistograms(&back, &s) {
		t.Errorf("damaged histograms are read: %v", err)
	}
}

func TestGoldenHistograms(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var e Encoder
	var out bytes.Buffer
	for range 5 {
		var s HistogramSamples
		for i := range int64(1 + r.IntN(20)) {
			s.Append(1.7e12+i*15_000, histogramtest.OfBits(r.Uint64()>>r.IntN(50)))
		}
		_, b := e.AppendHistograms(nil, &s)
		fmt.Fprintf(&out, "%x\n", b.AppendTo(nil))
	}
	checkGolden(t, "histograms.golden", out.Bytes())
}

func FuzzDecodeHistograms(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	var e Encoder
	for range 20 {
		s := randomHistograms(r, 0, 50)
		_, b := e.AppendHistograms(nil, &s)
		f.Add(b.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b Block
		if _, err := UnmarshalBlock(data, &b); err != nil {
			return
		}
		var s, again HistogramSamples
		if err := b.DecodeHistograms(&s); err != nil {
			if errkind.Of(err) != errkind.Corrupt || s.Len() > 0 {
				t.Fatal(err)
			}
			return
		}
		if s.Len() != b.Count || !slices.IsSorted(s.Timestamps) {
			t.Fatalf("%d histograms in block %s", s.Len(), &b)
		}
		_, c := e.AppendHistograms(nil, &s)
		if err := c.DecodeHistograms(&again); err != nil || !sameHistograms(&s, &again) {
			t.Fatalf("histograms came back as others, %v", err)
		}
	})
}
