package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vmcluster/lib/errkind"
)

// streamColumn is a stream and the words taken from it.
type streamColumn struct {
	s     Stream
	words []byte
}

func (c *streamColumn) append(v float64) {
	c.s.Append(v)
	c.take()
}

func (c *streamColumn) take() {
	for c.s.Full() {
		c.words = binary.LittleEndian.AppendUint64(c.words, c.s.Take())
	}
}

func (c *streamColumn) column() []byte {
	if c.s.IsConst() {
		return AppendConst(nil, c.s.First())
	}
	return c.s.AppendTail(append(c.s.Header().AppendTo(nil), c.words...))
}

// streamShapes are sequences of values of typical and of nasty shapes, which depend on r and on what came before.
func streamShapes(r *rand.Rand) map[string]func(i int) float64 {
	sum, walk, float := 0.0, 0.0, 0.0
	special := []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0, math.Float64frombits(staleBits),
		math.Float64frombits(0x7ff8000000000001), math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 53, -(1 << 53), 1 << 62, 1 << 63, -(1 << 63), 1.5, 1e-9, 0.1 + 0.2}
	return map[string]func(i int) float64{
		"const":    func(int) float64 { return 4.2 },
		"steps":    func(i int) float64 { return float64(i / 37) },
		"linear":   func(i int) float64 { return float64(i) * 15000 },
		"counter":  func(int) float64 { sum += math.Floor(r.ExpFloat64() * 100); return sum },
		"decimals": func(int) float64 { return math.Round(r.NormFloat64()*1000) / 100 },
		"more decimals": func(i int) float64 {
			p := math.Pow10(i / 16 % 18)
			return math.Round(r.Float64()*p) / p
		},
		"pages":  func(int) float64 { walk += float64(r.IntN(5) - 2); return walk * 4096 },
		"halved": func(i int) float64 { return float64(int64(r.IntN(100)) << max(0, 20-i/20)) },
		"summed": func(int) float64 { float += 0.1; return float },
		"random": func(int) float64 { return math.Float64frombits(r.Uint64()) },
		"mixed": func(int) float64 {
			if r.IntN(3) == 0 {
				return special[r.IntN(len(special))]
			}
			return float64(r.IntN(1000)) / 8
		},
		"rarely special": func(i int) float64 {
			if r.IntN(30) == 0 {
				return special[r.IntN(len(special))]
			}
			return float64(i)
		},
		"special": func(int) float64 { return special[r.IntN(len(special))] },
		"bursts":  func(int) float64 { sum += math.Floor(math.Exp(r.Float64() * 40)); return sum },
	}
}

// TestStreamRoundTrip reads streams after every value.
func TestStreamRoundTrip(t *testing.T) {
	r := newRand(t)
	for name, next := range streamShapes(r) {
		for range 5 {
			var c streamColumn
			var want []float64
			for i := range 1 + r.IntN(600) {
				v := next(i)
				if r.IntN(10) == 0 && i > 0 {
					v = want[i-1]
				}
				want = append(want, v)
				if c.append(v); c.s.Len() != len(want) {
					t.Fatalf("%s: %d values; want %d", name, c.s.Len(), len(want))
				}
				got, err := DecodeValues(nil, c.column(), len(want))
				if err != nil || !sameBits(got, want) {
					t.Fatalf("%s: %d values came back as %v of %v, %v", name, len(want), got, want, err)
				}
				checkHeader(t, c.column(), want)
			}
			c.s.End()
			c.take()
			if got, err := DecodeValues(nil, c.column(), len(want)); err != nil || !sameBits(got, want) {
				t.Fatalf("%s: ended stream of %d values came back as %v, %v", name, len(want), got, err)
			}
		}
	}
}

// checkHeader checks what the front of a column says of the values.
func checkHeader(t *testing.T, column []byte, values []float64) {
	t.Helper()
	if !IsStream(column) {
		return
	}
	nan, falls, highest := false, false, math.Inf(-1)
	for _, v := range values {
		nan = nan || v != v
		falls = falls || v < highest
		if v == v {
			highest = v
		}
	}
	if nan && column[0]&streamNoNaN != 0 || falls && column[0]&streamNeverDecreases != 0 {
		t.Fatalf("the format byte of %v is %x", values, column[0])
	}
	if v, ok := StreamLast(column); ok && math.Float64bits(v) != math.Float64bits(values[len(values)-1]) {
		t.Fatalf("the last of %v is said to be %v", values, v)
	}
}

// TestStreamHeader checks that the header knows what can be known.
func TestStreamHeader(t *testing.T) {
	var c streamColumn
	for i := range 100 {
		c.append(float64(i) / 10)
	}
	column := c.column()
	if v, ok := StreamLast(column); !ok || v != 9.9 || column[0] != valuesStream|streamNoNaN|streamNeverDecreases {
		t.Errorf("last value %v %t, format %x", v, ok, column[0])
	}
	c.append(math.NaN())
	if v, ok := StreamLast(c.column()); ok {
		t.Errorf("last value %v; want none", v)
	}
	if v, ok := StreamLast(AppendConst(nil, 5)); ok {
		t.Errorf("last value %v of a constant", v)
	}
}

// TestStreamRepeats checks that only a value equal to the newest one is said to repeat it.
func TestStreamRepeats(t *testing.T) {
	r := newRand(t)
	repeats := 0
	for name, next := range streamShapes(r) {
		var c streamColumn
		var values []float64
		for i := range 300 {
			v := next(i)
			values = append(values, v)
			c.append(v)
			for _, x := range values {
				if c.s.Repeats(x) && math.Float64bits(x) != math.Float64bits(v) {
					t.Fatalf("%s: %v is said to repeat %v", name, x, v)
				}
			}
			if c.s.Repeats(v) {
				repeats++
			}
		}
	}
	if repeats < 300 {
		t.Errorf("%d repeats were found", repeats)
	}
}

func TestStreamIntsRoundTrip(t *testing.T) {
	r := newRand(t)
	for name, xs := range intColumns(r, 500) {
		var c streamColumn
		xs[0] = 0
		for i, x := range xs {
			c.s.AppendInt(x)
			c.take()
			src := c.s.AppendTail(slices.Clone(c.words))
			n := 1 + r.IntN(i+1)
			got, err := DecodeStreamInts(nil, src, n)
			if err != nil || !slices.Equal(got, xs[:n]) {
				t.Fatalf("%s: %d of %d integers came back as %v of %v, %v", name, n, i+1, got, xs[:n], err)
			}
			if got, err := DecodeStreamInts([]int64{5}, src, 65535); i > 0 && errkind.Of(err) != errkind.Corrupt || len(got) > 1 && err != nil {
				t.Fatalf("%s: more integers than there are came back as %d, %v", name, len(got), err)
			}
		}
	}
}

// TestStreamSizes holds the sizes of columns of 240 values below limits.
func TestStreamSizes(t *testing.T) {
	r := newRand(t)
	shapes := streamShapes(r)
	for _, c := range []struct {
		shape string
		most  int
	}{{"steps", 64}, {"linear", 72}, {"counter", 300}, {"decimals", 420}, {"pages", 150}, {"summed", 2100}, {"random", 3000}} {
		var s streamColumn
		for i := range 240 {
			s.append(shapes[c.shape](i))
		}
		if n := len(s.column()); n > c.most {
			t.Errorf("%s: 240 values take %d bytes; want at most %d", c.shape, n, c.most)
		}
	}
}

func TestStreamRejectsDamage(t *testing.T) {
	r := newRand(t)
	for name, next := range streamShapes(r) {
		var c streamColumn
		for i := range 100 {
			c.append(next(i))
		}
		if c.s.IsConst() {
			continue
		}
		good := c.column()
		for i := range good {
			if _, err := DecodeValues(nil, good[:i], 100); errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("%s: cut off after %d of %d bytes: %v", name, i, len(good), err)
			}
		}
		if _, err := DecodeValues(nil, append(good, make([]byte, 8)...), 100); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: bytes behind the end: %v", name, err)
		}
	}
	for _, n := range []int{0, -1, 1 << 16} {
		if _, err := DecodeStreamInts(nil, make([]byte, 100), n); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%d integers: %v", n, err)
		}
	}
}

func TestStreamGolden(t *testing.T) {
	var got bytes.Buffer
	shapes := streamShapes(rand.New(rand.NewPCG(1, 2)))
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		var c streamColumn
		for i := range 40 {
			c.append(shapes[name](i))
		}
		fmt.Fprintf(&got, "%s %s\n", name, hex.EncodeToString(c.column()))
	}
	path := filepath.Join("testdata", "streams.golden")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("streams have changed; got\n%s", got.Bytes())
	}
}

func FuzzDecodeStream(f *testing.F) {
	for _, next := range streamShapes(rand.New(rand.NewPCG(1, 2))) {
		var c streamColumn
		for i := range 50 {
			c.append(next(i))
		}
		f.Add(c.column(), 50)
	}
	f.Fuzz(func(t *testing.T, src []byte, n int) {
		if n < 0 || n > 8192 {
			return
		}
		dst := []float64{7}
		got, err := DecodeValues(dst, append([]byte{valuesStream}, src...), n)
		if err != nil && (errkind.Of(err) != errkind.Corrupt || len(got) != 1) || err == nil && len(got) != n+1 {
			t.Fatalf("%d values, %v", len(got), err)
		}
		ints, err := DecodeStreamInts(nil, src, n)
		if err != nil && (errkind.Of(err) != errkind.Corrupt || len(ints) != 0) || err == nil && len(ints) != n {
			t.Fatalf("%d integers, %v", len(ints), err)
		}
	})
}

func BenchmarkStream(b *testing.B) {
	shapes := streamShapes(rand.New(rand.NewPCG(1, 2)))
	for _, name := range []string{"steps", "counter", "decimals"} {
		var values []float64
		var c streamColumn
		for i := range 240 {
			values = append(values, shapes[name](i))
			c.append(values[i])
		}
		column := c.column()
		b.Run(name+"/append", func(b *testing.B) {
			for b.Loop() {
				var s Stream
				for _, v := range values {
					for s.Append(v); s.Full(); {
						s.Take()
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(values)), "ns/sample")
		})
		b.Run(name+"/decode", func(b *testing.B) {
			var out []float64
			for b.Loop() {
				out, _ = DecodeValues(out[:0], column, len(values))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(values)), "ns/sample")
			b.ReportMetric(float64(len(column))/float64(len(values)), "B/sample")
		})
	}
}
