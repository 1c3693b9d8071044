package nativehistogram_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	nh "vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
)

var update = flag.Bool("update", false, "rewrite golden files")

func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// odd are histograms with all that is rare.
func odd() []*nh.Histogram {
	stale := math.Float64frombits(0x7ff0000000000002)
	return []*nh.Histogram{
		{},
		{Hint: nh.Reset, Schema: -4, Sum: stale, Count: 1},
		{Schema: 8, ZeroThreshold: 1e-300, Sum: math.Inf(-1), Count: 7, ZeroCount: 1,
			Positive: nh.Buckets{Spans: []nh.Span{{Offset: -1 << 29, Length: 2}, {Offset: 1<<30 - 100, Length: 1}}, Counts: []uint64{1, 0, 3}},
			Negative: nh.Buckets{Spans: []nh.Span{{Offset: 5, Length: 1}}, Counts: []uint64{2}}},
		{Float: true, Hint: nh.Gauge, FloatCount: math.NaN(), FloatZero: math.Inf(1), Sum: math.Copysign(0, -1),
			Positive: nh.Buckets{Spans: []nh.Span{{Offset: 0, Length: 1}}, Floats: []float64{math.SmallestNonzeroFloat64}}},
		{Schema: nh.CustomBuckets, Hint: nh.NoReset, Count: 5, Sum: 12.5, CustomValues: []float64{-1, 0.1, 1e300},
			Positive: nh.Buckets{Spans: []nh.Span{{Offset: 0, Length: 1}, {Offset: 2, Length: 1}}, Counts: []uint64{2, 3}}},
		{Count: 1 << 62, Positive: nh.Buckets{Spans: []nh.Span{{Offset: 1, Length: 1}}, Counts: []uint64{1 << 62}}},
	}
}

func TestPayloadsAreExact(t *testing.T) {
	rng := random(t)
	list := odd()
	for i := range 300 {
		list = append(list, histogramtest.New(rng, histogramtest.Kind(i%histogramtest.Kinds)).Next())
	}
	var got nh.Histogram
	for _, h := range list {
		if err := h.Check(); err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		payload := h.Append(nil)
		if err := got.Parse(payload); err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		if text := fmt.Sprintf("%+v", got); text != fmt.Sprintf("%+v", *h) || math.Float64bits(got.Sum) != math.Float64bits(h.Sum) {
			t.Fatalf("got %s; want %+v", text, *h)
		}
		for n := range payload {
			if err := new(nh.Histogram).Parse(payload[:n]); errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("%d of %d bytes: %v", n, len(payload), err)
			}
		}
		if got.Parse(append(payload, 0)) == nil {
			t.Fatal("a byte left over is no error")
		}
	}
}

func TestEqualHistogramsHaveEqualBytes(t *testing.T) {
	counts := []uint64{1, 2, 3}
	make := func(spans ...nh.Span) []byte {
		h := nh.Histogram{Count: 6, Positive: nh.Buckets{Spans: spans, Counts: counts}}
		if err := h.Check(); err != nil {
			t.Fatal(err)
		}
		return h.Append(nil)
	}
	want := make(nh.Span{Offset: -3, Length: 2}, nh.Span{Offset: 4, Length: 1})
	for _, spans := range [][]nh.Span{
		{{Offset: -3, Length: 1}, {Offset: 0, Length: 1}, {Offset: 4, Length: 1}},
		{{Offset: -5, Length: 0}, {Offset: 2, Length: 2}, {Offset: 4, Length: 1}, {Offset: 9, Length: 0}},
		{{Offset: -3, Length: 2}, {Offset: 1, Length: 0}, {Offset: 0, Length: 0}, {Offset: 3, Length: 1}, {Offset: 0, Length: 0}},
	} {
		if got := make(spans...); !bytes.Equal(got, want) {
			t.Errorf("%v: %x; want %x", spans, got, want)
		}
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	one := nh.Buckets{Spans: []nh.Span{{Offset: 0, Length: 1}}, Counts: []uint64{1}}
	floats := nh.Buckets{Spans: one.Spans, Floats: []float64{-1}}
	for want, h := range map[string]nh.Histogram{
		"reset hint 4":                 {Hint: 4},
		"schema is 9":                  {Schema: 9},
		"schema is -5":                 {Schema: -5},
		"zero threshold NaN":           {ZeroThreshold: math.NaN()},
		"zero threshold -1":            {ZeroThreshold: -1},
		"have 1 buckets, but there":    {Count: 1, Positive: nh.Buckets{Spans: one.Spans}},
		"have 0 buckets, but there":    {Count: 1, Negative: nh.Buckets{Counts: one.Counts}},
		"the gap before span 1":        {Count: 1, Positive: nh.Buckets{Spans: []nh.Span{{Offset: 0, Length: 1}, {Offset: -1}}, Counts: one.Counts}},
		"reaches from 2147483647":      {Count: 1, Positive: nh.Buckets{Spans: []nh.Span{{Offset: math.MaxInt32, Length: 1}}, Counts: one.Counts}},
		"both whole and fractional":    {Count: 1, Positive: nh.Buckets{Spans: one.Spans, Counts: one.Counts, Floats: []float64{1}}},
		"count is 0, but its buckets":  {Positive: one},
		"count is 2, but its buckets":  {Count: 2, Positive: one},
		"buckets has the count -1":     {Count: 2, Positive: nh.Buckets{Spans: one.Spans, Counts: []uint64{math.MaxUint64}}},
		"neither may be negative":      {Float: true, FloatCount: -1},
		"has the count -1":             {Float: true, Positive: floats},
		"bounds of custom buckets, b":  {CustomValues: []float64{1}},
		"bound 1 of its custom":        {Schema: nh.CustomBuckets, CustomValues: []float64{1, 1}},
		"bound 0 of its custom":        {Schema: nh.CustomBuckets, CustomValues: []float64{math.NaN()}},
		"is +Inf":                      {Schema: nh.CustomBuckets, CustomValues: []float64{1, math.Inf(1)}},
		"negative buckets, which":      {Schema: nh.CustomBuckets, Count: 1, Negative: one},
		"zero bucket, which":           {Schema: nh.CustomBuckets, Count: 1, ZeroCount: 1},
		"spans reach to bucket 3":      {Schema: nh.CustomBuckets, Count: 1, CustomValues: []float64{1}, Positive: nh.Buckets{Spans: []nh.Span{{Offset: 2, Length: 1}}, Counts: one.Counts}},
		"custom buckets begin at -1":   {Schema: nh.CustomBuckets, Count: 1, Positive: nh.Buckets{Spans: []nh.Span{{Offset: -1, Length: 1}}, Counts: one.Counts}},
		"more than 8192; let":          {Positive: nh.Buckets{Spans: []nh.Span{{Length: 8193}}, Counts: make([]uint64, 8193)}},
		"8193 bounds of custom":        {Schema: nh.CustomBuckets, CustomValues: ascending(8193)},
		"has 32769 spans":              {Positive: nh.Buckets{Spans: make([]nh.Span, 4*nh.MaxBuckets+1)}},
		"but its buckets have 9223372": {Count: 1, ZeroCount: math.MaxInt64},
	} {
		err := h.Check()
		if errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	nan := nh.Histogram{Count: 2, Sum: math.NaN(), Positive: one}
	if err := nan.Check(); err != nil {
		t.Errorf("an observation which is not a number: %v", err)
	}
}

func ascending(n int) (list []float64) {
	for i := range n {
		list = append(list, float64(i))
	}
	return list
}

func TestLargestPayload(t *testing.T) {
	h := nh.Histogram{Schema: nh.CustomBuckets, Float: true, FloatCount: 0.1, CustomValues: make([]float64, nh.MaxCustomValues)}
	for i := range h.CustomValues {
		h.CustomValues[i] = 0.1 + float64(i)
	}
	for range nh.MaxBuckets {
		h.Positive.Floats = append(h.Positive.Floats, 0.1)
	}
	h.Positive.Spans = []nh.Span{{Length: nh.MaxBuckets}}
	if err := h.Check(); err != nil {
		t.Fatal(err)
	}
	if n := len(h.Append(nil)); n > nh.MaxPayloadBytes {
		t.Errorf("%d bytes of custom buckets", n)
	}
	h = nh.Histogram{Float: true, Positive: nh.Buckets{Floats: h.Positive.Floats}}
	for range nh.MaxBuckets {
		h.Positive.Spans = append(h.Positive.Spans, nh.Span{Offset: 1 << 16, Length: 1})
	}
	if err := h.Check(); err != nil {
		t.Fatal(err)
	}
	if n := len(h.Append(nil)); n > nh.MaxPayloadBytes {
		t.Errorf("%d bytes of single buckets", n)
	}
}

func TestReduceKeepsObservationsInTheirRanges(t *testing.T) {
	rng := random(t)
	for range 200 {
		schema := int32(9 + rng.IntN(4))
		h := nh.Histogram{Schema: schema, Float: rng.IntN(2) == 0}
		index := int64(rng.IntN(4000) - 2000)
		want := map[int64]float64{} // by index of schema 8
		b := &h.Positive
		for i := range 1 + rng.IntN(5) {
			s := nh.Span{Offset: int32(rng.IntN(30)), Length: uint32(rng.IntN(40))}
			if i == 0 {
				s.Offset = int32(index)
				index = 0
			}
			index += int64(s.Offset)
			for range s.Length {
				n := uint64(1 + rng.IntN(9))
				if h.Float {
					b.Floats = append(b.Floats, float64(n))
				} else {
					b.Counts = append(b.Counts, n)
				}
				high := math.Exp2(math.Ldexp(float64(index), -int(schema)))
				want[int64(math.Ceil(math.Ldexp(math.Log2(high), 8)-1e-6))] += float64(n)
				index++
			}
			b.Spans = append(b.Spans, s)
		}
		h.Reduce()
		got := map[int64]float64{}
		index = 0
		at := 0
		for _, s := range b.Spans {
			index += int64(s.Offset)
			for range s.Length {
				if h.Float {
					got[index] = b.Floats[at]
				} else {
					got[index] = float64(b.Counts[at])
				}
				at++
				index++
			}
		}
		if h.Schema != nh.MaxSchema || !reflect.DeepEqual(got, want) || h.Buckets() != len(want) {
			t.Fatalf("schema %d: got %v; want %v", schema, got, want)
		}
	}
	for _, schema := range []int32{-5, 8, 53, nh.CustomBuckets} {
		h := nh.Histogram{Schema: schema}
		if h.Reduce(); h.Schema != schema {
			t.Errorf("schema %d became %d", schema, h.Schema)
		}
	}
}

func TestRanges(t *testing.T) {
	h := nh.Histogram{Schema: 1, Count: 10, ZeroCount: 2, ZeroThreshold: 0.25,
		Positive: nh.Buckets{Spans: []nh.Span{{Offset: 3, Length: 3}}, Counts: []uint64{3, 0, 4}},
		Negative: nh.Buckets{Spans: []nh.Span{{Offset: 0, Length: 1}}, Counts: []uint64{1}},
	}
	custom := nh.Histogram{Schema: nh.CustomBuckets, Float: true, CustomValues: []float64{-1, 5},
		Positive: nh.Buckets{Spans: []nh.Span{{Length: 3}}, Floats: []float64{0.5, 1, 2}}}
	above := nh.Histogram{Schema: nh.CustomBuckets, Count: 1, CustomValues: []float64{5}, Positive: nh.Buckets{Spans: []nh.Span{{Length: 1}}, Counts: []uint64{1}}}
	for want, h := range map[string]*nh.Histogram{
		"-1.000e+00...-7.071e-01 1, -2.500e-01...2.500e-01 2, 2.000e+00...2.828e+00 3, 4.000e+00...5.657e+00 4": &h,
		"-Inf...-1.000e+00 0.5, -1.000e+00...5.000e+00 1, 5.000e+00...+Inf 2":                                   &custom,
		"0.000e+00...5.000e+00 1": &above,
		"":                        {},
	} {
		var got []string
		for _, r := range h.AppendRanges(nil) {
			got = append(got, fmt.Sprintf("%s %v", nh.AppendVMRange(nil, r.Low, r.High), r.Count))
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("got %s; want %s", text, want)
		}
	}
}

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		schema int32
		index  int64
		want   float64
	}{
		{0, 0, 1}, {0, 1, 2}, {0, -1, 0.5}, {0, 1024, math.MaxFloat64}, {0, 1025, math.Inf(1)}, {0, -2000, 0}, {2, -3, math.Exp2(-0.75)},
		{-4, 64, math.MaxFloat64}, {-4, 1, 65536}, {-2, -1, 1. / 16}, {8, 256, 2}, {8, 256 * 1024, math.MaxFloat64}, {8, 1 << 30, math.Inf(1)}, {-4, 1 << 40, math.Inf(1)},
	} {
		if got := nh.Bound(c.schema, c.index); got != c.want {
			t.Errorf("schema %d, index %d: %v; want %v", c.schema, c.index, got, c.want)
		}
	}
}

func TestBetterIsATotalOrder(t *testing.T) {
	rng := random(t)
	list := [][]byte{nil, {1}, {2, 0}, []byte("what is this")}
	for _, h := range odd() {
		list = append(list, h.Append(nil))
	}
	for i := range 30 {
		list = append(list, histogramtest.New(rng, histogramtest.Kind(i%histogramtest.Kinds)).Payload())
	}
	compare := func(a, b []byte) int {
		switch {
		case nh.Better(a, b) && nh.Better(b, a):
			t.Fatalf("%x and %x are better than each other", a, b)
		case nh.Better(a, b):
			return 1
		case nh.Better(b, a):
			return -1
		case !bytes.Equal(a, b):
			t.Fatalf("neither of %x and %x is better", a, b)
		}
		return 0
	}
	slices.SortFunc(list, compare)
	for i := range list {
		for j := range i {
			if compare(list[j], list[i]) > 0 {
				t.Fatalf("%x before %x", list[j], list[i])
			}
		}
	}
	few, many := nh.Histogram{Count: 300, ZeroCount: 300}, nh.Histogram{Float: true, FloatCount: 300.5}
	if !nh.Better(many.Append(nil), few.Append(nil)) {
		t.Error("the larger count is not better")
	}
}

func FuzzPayload(f *testing.F) {
	for _, h := range odd() {
		f.Add(h.Append(nil))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var h nh.Histogram
		if err := h.Parse(payload); err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatal(err)
			}
			return
		}
		if again := h.Append(nil); !bytes.Equal(again, payload) {
			t.Fatalf("%x became %x", payload, again)
		}
		if h.Check() == nil {
			h.AppendRanges(nil)
			if len(payload) > nh.MaxPayloadBytes {
				t.Fatalf("%d bytes", len(payload))
			}
		}
	})
}

func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path) //nolint:gosec // a path of this test
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("bytes of %s have changed: existing data could not be read; see git diff after -update", name)
	}
}

func TestGoldenPayloads(t *testing.T) {
	var b strings.Builder
	for _, h := range odd() {
		fmt.Fprintf(&b, "%s\n", hex.EncodeToString(h.Append(nil)))
	}
	golden(t, "payloads.golden", b.String())
}
