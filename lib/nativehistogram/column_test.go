package nativehistogram_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	nh "vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
)

// roundTrip encodes and decodes payloads and returns the size of the column.
func roundTrip(t testing.TB, payloads [][]byte) int {
	t.Helper()
	var e nh.Encoder
	column := e.AppendColumn(nil, payloads)
	var c nh.Column
	for range 2 { // the second time with memory that was used before
		if err := nh.DecodeColumn(&c, column, len(payloads)); err != nil {
			t.Fatal(err)
		}
		if len(c.Payloads) != len(payloads) {
			t.Fatalf("%d payloads; want %d", len(c.Payloads), len(payloads))
		}
		for i, p := range payloads {
			if !bytes.Equal(c.Payloads[i], p) {
				t.Fatalf("payload %d is %x; want %x", i, c.Payloads[i], p)
			}
		}
	}
	for _, n := range []int{-1, len(payloads) - 1, len(payloads) + 1, 1 << 20} {
		if err := nh.DecodeColumn(&c, column, n); errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("%d payloads instead of %d: %v", n, len(payloads), err)
		}
	}
	return len(column)
}

func series(rng *rand.Rand, kind histogramtest.Kind, n int) (payloads [][]byte) {
	s := histogramtest.New(rng, kind)
	for range n {
		payloads = append(payloads, s.Payload())
	}
	return payloads
}

func TestColumnsAreExact(t *testing.T) {
	rng := random(t)
	roundTrip(t, nil)
	for i := range 120 {
		payloads := series(rng, histogramtest.Kind(i%histogramtest.Kinds), 1+rng.IntN(1+rng.IntN(300)))
		if i%3 == 0 { // another layout, frames that change, what is none, what is repeated
			payloads = append(payloads, series(rng, histogramtest.Kind(rng.IntN(histogramtest.Kinds)), 5)...)
			payloads = append(payloads, nil, []byte("no histogram"), payloads[0])
			for _, h := range odd() {
				payloads = append(payloads, h.Append(nil))
			}
			rng.Shuffle(len(payloads), func(i, j int) { payloads[i], payloads[j] = payloads[j], payloads[i] })
		}
		roundTrip(t, payloads)
	}
}

func TestLargeColumns(t *testing.T) {
	rng := random(t)
	h := nh.Histogram{Float: true}
	for i := range 4000 {
		h.Positive.Floats = append(h.Positive.Floats, float64(i)+0.1)
	}
	h.Positive.Spans = []nh.Span{{Length: 4000}}
	large := h.Append(nil)
	var payloads [][]byte
	for i := 0; i < nh.MaxColumnBytes; i += len(large) {
		payloads = append(payloads, large)
	}
	if n := roundTrip(t, payloads); n < nh.MaxColumnBytes {
		t.Errorf("%d bytes, but there are too many to be coded", n)
	}
	if n := roundTrip(t, payloads[1:]); n > nh.MaxColumnBytes/10 {
		t.Errorf("%d bytes", n)
	}
	roundTrip(t, series(rng, histogramtest.Whole, 8192))
}

// TestScatteredBuckets: there is no column of so many buckets.
func TestScatteredBuckets(t *testing.T) {
	var payloads [][]byte
	for i := range 700 {
		h := nh.Histogram{Count: 100}
		for range 100 {
			h.Positive.Spans = append(h.Positive.Spans, nh.Span{Offset: int32(1 + i), Length: 1})
			h.Positive.Counts = append(h.Positive.Counts, 1)
		}
		h.Positive.Spans[0].Offset = int32(i * 100_000)
		payloads = append(payloads, h.Append(nil))
	}
	roundTrip(t, payloads)
}

// A layout which changes costs a few bytes, not new columns.
func TestGrowingLayoutsAreOneRun(t *testing.T) {
	var payloads [][]byte
	h := nh.Histogram{}
	for i := range 240 {
		if i%4 == 0 {
			at := (i * 7) % max(1, 2*len(h.Positive.Counts)) / 2
			h.Positive.Counts = append(h.Positive.Counts[:at:at], append([]uint64{0}, h.Positive.Counts[at:]...)...)
			h.Positive.Spans = []nh.Span{{Offset: int32(-at), Length: uint32(len(h.Positive.Counts))}}
		}
		h.Count++
		h.Positive.Counts[i%len(h.Positive.Counts)]++
		payloads = append(payloads, h.Append(nil))
	}
	size := 0
	for _, p := range payloads {
		size += len(p)
	}
	if n := roundTrip(t, payloads); n > size/4 {
		t.Errorf("%d of %d bytes", n, size)
	}
}

func FuzzColumn(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	var e nh.Encoder
	for kind := range histogramtest.Kind(histogramtest.Kinds) {
		payloads := series(rng, kind, 20)
		f.Add(e.AppendColumn(nil, payloads), len(payloads))
	}
	f.Add(e.AppendColumn(nil, [][]byte{nil, {1, 2}}), 2)
	var c nh.Column
	f.Fuzz(func(t *testing.T, column []byte, n int) {
		if err := nh.DecodeColumn(&c, column, n); err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatal(err)
			}
			return
		}
		payloads := make([][]byte, n)
		for i, p := range c.Payloads {
			payloads[i] = bytes.Clone(p)
		}
		roundTrip(t, payloads)
	})
}

func TestGoldenColumns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var e nh.Encoder
	var b strings.Builder
	for kind := range histogramtest.Kind(histogramtest.Kinds) {
		fmt.Fprintf(&b, "%s\n", hex.EncodeToString(e.AppendColumn(nil, series(rng, kind, 12))))
	}
	golden(t, "columns.golden", b.String())
}

// realistic are scrapes of a histogram of response times with about 60 buckets, few of which change between two scrapes.
func realistic(n int) (payloads [][]byte) {
	s := histogramtest.New(rand.New(rand.NewPCG(4, 5)), histogramtest.Whole)
	s.Resets = 0
	s.Latencies()
	for range 400 {
		s.Next()
	}
	for range n {
		payloads = append(payloads, s.Payload())
	}
	return payloads
}

func BenchmarkAppendColumn(b *testing.B) {
	for _, n := range []int{8, 40, 240, 2000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			payloads := realistic(n)
			size := 0
			for _, p := range payloads {
				size += len(p)
			}
			var e nh.Encoder
			var column []byte
			b.ReportAllocs()
			for b.Loop() {
				column = e.AppendColumn(column[:0], payloads)
			}
			b.ReportMetric(float64(len(column))/float64(n), "B/row")
			b.ReportMetric(float64(size)/float64(n), "payload-B/row")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/row")
		})
	}
}

func BenchmarkDecodeColumn(b *testing.B) {
	payloads := realistic(240)
	var e nh.Encoder
	column := e.AppendColumn(nil, payloads)
	var c nh.Column
	b.ReportAllocs()
	for b.Loop() {
		if err := nh.DecodeColumn(&c, column, 240); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*240), "ns/row")
}

func BenchmarkParse(b *testing.B) {
	payload := realistic(1)[0]
	var h nh.Histogram
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Parse(payload); err != nil {
			b.Fatal(err)
		}
	}
}
