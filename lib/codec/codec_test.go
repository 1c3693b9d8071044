package codec

import (
	"bytes"
	"encoding/binary"
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

var update = flag.Bool("update", false, "rewrite golden files")

const staleBits = 0x7ff0000000000002

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// intColumns returns named columns of n integers of typical and of nasty shapes.
func intColumns(r *rand.Rand, n int) map[string][]int64 {
	columns := map[string][]int64{}
	add := func(name string, f func(i int) int64) {
		xs := make([]int64, n)
		for i := range xs {
			xs[i] = f(i)
		}
		columns[name] = xs
	}
	sum, sum2, rate := int64(1e12), int64(0), int64(0)
	add("zero", func(int) int64 { return 0 })
	add("linear", func(i int) int64 { return -5 + int64(i)*15000 })
	add("min", func(int) int64 { return math.MinInt64 })
	add("counter", func(int) int64 { sum += 90 + r.Int64N(20); return sum })
	add("counter with resets", func(int) int64 {
		if sum2 += r.Int64N(1000); r.IntN(50) == 0 {
			sum2 = 0
		}
		return sum2
	})
	add("gauge", func(int) int64 { return r.Int64N(1 << 20) })
	add("pages", func(int) int64 { return 77 + 4096*r.Int64N(100) })
	add("thirds", func(int) int64 { return -12 + 3*r.Int64N(1000) })
	add("accelerating", func(int) int64 { rate += r.Int64N(5); sum += rate; return sum })
	add("mostly zero", func(int) int64 {
		if r.IntN(20) > 0 {
			return 0
		}
		return int64(r.Uint64())
	})
	add("extremes", func(int) int64 { return []int64{math.MinInt64, math.MaxInt64, 0, -1, 1}[r.IntN(5)] })
	add("random", func(int) int64 { return int64(r.Uint64()) })
	idle, level := int64(0), int64(1e6)
	add("idle counter", func(int) int64 {
		if r.IntN(3) == 0 {
			idle += 50 + r.Int64N(300)
		}
		return idle
	})
	add("normal steps", func(int) int64 { level += 1000 + int64(r.NormFloat64()*20); return level })
	add("normal steps, far outliers", func(int) int64 {
		level += 1000 + int64(r.NormFloat64()*20)
		if r.IntN(70) == 0 {
			return int64(r.Uint64())
		}
		return level
	})
	width := r.UintN(64)
	add(fmt.Sprintf("width %d", width), func(int) int64 { return int64(r.Uint64() >> width) })
	return columns
}

func columnLengths(r *rand.Rand) []int {
	return []int{1, 2, 3, 4, 5, 7, 127, 128, 129, 130, 255, 256, 257, 480, 1 + r.IntN(1000), 8192}
}

func TestIntsRoundTrip(t *testing.T) {
	r := newRand(t)
	var e Encoder
	prefix := []byte("prefix")
	for _, n := range columnLengths(r) {
		for name, xs := range intColumns(r, n) {
			original := slices.Clone(xs)
			data := e.AppendInts(prefix[:len(prefix):len(prefix)], xs)[len(prefix):]
			if !slices.Equal(xs, original) {
				t.Fatalf("%s of %d: encoding changes its argument", name, n)
			}
			got, err := DecodeInts([]int64{42}, data, n)
			if err != nil || got[0] != 42 || !slices.Equal(got[1:], xs) {
				t.Fatalf("%s of %d: %v; decoded integers differ", name, n, err)
			}
			if limit := 8*n + n/8 + 40; len(data) > limit {
				t.Errorf("%s of %d takes %d bytes; want at most %d", name, n, len(data), limit)
			}
			if got, err := DecodeTimestamps(nil, e.AppendTimestamps(nil, xs), n); err != nil || !slices.Equal(got, xs) {
				t.Fatalf("%s of %d: %v; decoded timestamps differ", name, n, err)
			}
		}
	}
}

// valueColumns returns named columns of n values of typical and of nasty shapes.
func valueColumns(r *rand.Rand, n int) map[string][]float64 {
	columns := map[string][]float64{}
	add := func(name string, f func(i int) float64) {
		vs := make([]float64, n)
		for i := range vs {
			vs[i] = f(i)
		}
		columns[name] = vs
	}
	for name, xs := range intColumns(r, n) {
		add("integers: "+name, func(i int) float64 { return float64(xs[i]) })
		add("bits: "+name, func(i int) float64 { return math.Float64frombits(uint64(xs[i])) })
	}
	special := []float64{
		math.NaN(), math.Float64frombits(staleBits), math.Float64frombits(0xfff8000000000123), math.Inf(1), math.Inf(-1),
		math.Copysign(0, -1), math.MaxFloat64, -math.SmallestNonzeroFloat64, 0.1 + 0.2, 1 << 62, -(1 << 62), 1 << 63, 1e300,
	}
	cpu := 12345.67
	sum := 0.1
	add("float sums", func(int) float64 { sum += float64(r.IntN(1e7)) / 1e9; return sum })
	add("float sums with gaps", func(int) float64 {
		if r.IntN(40) == 0 {
			return special[r.IntN(len(special))]
		}
		sum += float64(r.IntN(1e7)) / 1e9
		return -sum
	})
	add("constant", func(int) float64 { return 0.1 })
	add("stale", func(int) float64 { return special[1] })
	add("cpu seconds", func(int) float64 { cpu += float64(r.IntN(1500)) / 100; return math.Round(cpu*100) / 100 })
	add("with stale markers", func(i int) float64 {
		if i%97 == 96 {
			return special[1]
		}
		return float64(i) / 4
	})
	add("with an outlier", func(i int) float64 {
		if i == n/2 {
			return 1e300
		}
		return float64(i * 3)
	})
	add("special", func(int) float64 { return special[r.IntN(len(special))] })
	add("some special", func(i int) float64 {
		if r.IntN(10) == 0 {
			return special[r.IntN(len(special))]
		}
		return float64(r.IntN(100000)) / 1000
	})
	add("uniform", func(int) float64 { return r.Float64() })
	add("sine", func(i int) float64 { return 1e6 * math.Sin(float64(i)/50) })
	add("float32", func(int) float64 { return float64(r.Float32()) })
	add("mixed decimals", func(int) float64 { return float64(r.IntN(1e6)) / math.Pow10(r.IntN(9)) })
	add("nanoseconds", func(i int) float64 { return 1.7e18 + float64(i)*15e9 + float64(r.IntN(1e6)) })
	return columns
}

func sameBits(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) })
}

func TestValuesRoundTrip(t *testing.T) {
	r := newRand(t)
	var e Encoder
	for _, n := range columnLengths(r) {
		for name, vs := range valueColumns(r, n) {
			data := e.AppendValues([]byte("prefix"), vs)[len("prefix"):]
			got, err := DecodeValues([]float64{42}, data, n)
			if err != nil || got[0] != 42 || !sameBits(got[1:], vs) {
				t.Fatalf("%s of %d: %v; decoded values differ", name, n, err)
			}
			if limit := 8*n + 1; len(data) > limit {
				t.Errorf("%s of %d takes %d bytes; want at most %d", name, n, len(data), limit)
			}
			for _, i := range []int{n - 1, r.IntN(n)} {
				if v, err := ValueAt(data, n, i); err != nil || math.Float64bits(v) != math.Float64bits(vs[i]) {
					t.Fatalf("%s of %d: value %d is %v, %v; want %v", name, n, i, v, err, vs[i])
				}
			}
			if again := new(Encoder).AppendValues(nil, vs); !bytes.Equal(again, data) {
				t.Fatalf("%s of %d: encoding twice gives different bytes", name, n)
			}
			quick := e.AppendValuesQuick([]byte("prefix"), vs)[len("prefix"):]
			got, err = DecodeValues(nil, quick, n)
			if err != nil || !sameBits(got, vs) || ValuesFacts(quick) != ValuesFacts(data) || len(quick) > 8*n+1 {
				t.Fatalf("%s of %d: %v; quickly encoded values differ, or their facts, or %d bytes are too many", name, n, err, len(quick))
			}
		}
	}
}

// TestPackings checks that the columns of these tests are packed in all ways, and that each has its ends read alone.
func TestPackings(t *testing.T) {
	r := newRand(t)
	var e Encoder
	seen := map[byte]int{}
	for _, n := range columnLengths(r) {
		for name, xs := range intColumns(r, n) {
			seen[e.AppendInts(nil, xs)[0]&packMask]++
			vs := make([]float64, n)
			for i := range vs {
				vs[i] = float64(xs[i])
			}
			data := e.AppendValues(nil, vs)
			for _, from := range []int{0, n - 1, n, r.IntN(n), max(0, n-128), max(0, n-129)} {
				got, err := DecodeValuesFrom([]float64{42}, data, n, from)
				if err != nil || got[0] != 42 || !sameBits(got[1:], vs[from:]) {
					t.Fatalf("%s of %d from %d: %v; decoded values differ", name, n, from, err)
				}
			}
			at := r.IntN(n)
			if v, err := ValueAt(data, n, at); err != nil || math.Float64bits(v) != math.Float64bits(vs[at]) {
				t.Fatalf("%s of %d: value %d is %v, %v; want %v", name, n, at, v, err, vs[at])
			}
		}
	}
	for _, packing := range []byte{packGroups, packTokens, packZeroTokens} {
		if seen[packing] < 5 {
			t.Errorf("%d columns have packing %d", seen[packing], packing)
		}
	}
}

// TestDecodeDoesNotAllocate holds that scratch memory of decoders stays on the stack.
func TestDecodeDoesNotAllocate(t *testing.T) {
	r := newRand(t)
	const n = 600
	var e Encoder
	dst, ints := make([]float64, 0, n), make([]int64, 0, n)
	for name, vs := range valueColumns(r, n) {
		data := e.AppendValues(nil, vs)
		if allocs := testing.AllocsPerRun(10, func() {
			_, _ = DecodeValues(dst, data, n)
			_, _ = ValueAt(data, n, n-1)
			_, _ = ValueAt(data, n, n-20)
		}); allocs > 0 {
			t.Errorf("%s: decoding allocates %v times", name, allocs)
		}
	}
	for name, xs := range intColumns(r, n) {
		data := e.AppendTimestamps(nil, xs)
		if allocs := testing.AllocsPerRun(10, func() { _, _ = DecodeTimestamps(ints, data, n) }); allocs > 0 {
			t.Errorf("timestamps %s: decoding allocates %v times", name, allocs)
		}
	}
}

// TestTokensRoundTrip encodes residuals as tokens even where groups would be smaller.
func TestTokensRoundTrip(t *testing.T) {
	r := newRand(t)
	for range 300 {
		n := 1 + r.IntN(700)
		width, common := r.UintN(65), int64(r.Uint64()>>r.UintN(64))
		rs := make([]int64, n)
		for i := range rs {
			switch r.IntN(4) {
			case 0:
				rs[i] = common + r.Int64N(100)
			case 1:
				rs[i] = int64(r.Uint64() >> width)
			case 2:
				rs[i] = -int64(r.Uint64() >> width)
			}
		}
		var p tokenPlan
		symbols := make([]uint8, n)
		planTokens(&p, rs, symbols)
		if p.shift > maxShift {
			continue
		}
		data := appendTokens(nil, rs, symbols, &p)
		if got := len(data); got > p.bits/8+16 {
			t.Errorf("%d residuals take %d bytes; planned %d bits", n, got, p.bits)
		}
		var reader tokenReader
		if err := reader.init(data, n, p.zero); err != nil {
			t.Fatal(err)
		}
		got := make([]int64, n)
		for at := 0; at < n; at += groupLen {
			if err := reader.next(got[at:min(n, at+groupLen)]); err != nil {
				t.Fatal(err)
			}
		}
		if err := reader.finish(); err != nil || !slices.Equal(got, rs) {
			t.Fatalf("%d residuals with shift %d, zero form %v, %d escapes: %v; they differ", n, p.shift, p.zero, p.counts[tokenEscape], err)
		}
	}
}

func TestValuesSizes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 480
	columns := valueColumns(r, n)
	var e Encoder
	for name, want := range map[string]int{ // bytes
		"constant":           9,
		"stale":              9,
		"integers: linear":   16,
		"integers: counter":  5 * n / 8 * 11 / 10,
		"integers: pages":    7 * n / 8 * 12 / 10,
		"cpu seconds":        11 * n / 8 * 11 / 10,
		"with an outlier":    60,
		"with stale markers": 120,
		"float32":            30 * n / 8,
		"float sums":         30 * n / 8,
		"uniform":            60 * n / 8,
	} {
		if got := len(e.AppendValues(nil, columns[name])); got > want {
			t.Errorf("%s takes %d bytes; want at most %d", name, got, want)
		}
	}
}

func TestDecodersRejectDamage(t *testing.T) {
	r := newRand(t)
	var e Encoder
	for name, vs := range valueColumns(r, 300) {
		data := e.AppendValues(nil, vs)
		for cut := range data {
			if cut > 0 && ValuesFacts(data).Has(Constant) {
				continue // a constant without its last bytes is another one
			}
			if got, err := DecodeValues(nil, data[:cut], len(vs)); errkind.Of(err) != errkind.Corrupt || len(got) != 0 {
				t.Fatalf("%s: %d of %d bytes decode to %d values, %v", name, cut, len(data), len(got), err)
			}
		}
		if _, err := DecodeValues(nil, append(data, 0), len(vs)); errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("%s: a byte too many gives %v", name, err)
		}
		for range 200 {
			damaged := slices.Clone(data)
			damaged[r.IntN(len(damaged))] ^= byte(1 + r.IntN(255))
			if got, err := DecodeValues(nil, damaged, len(vs)); err != nil && errkind.Of(err) != errkind.Corrupt || err == nil && len(got) != len(vs) {
				t.Fatalf("%s: damaged bytes give %d values, %v", name, len(got), err)
			}
		}
	}
	for _, n := range []int{-1, MaxColumnLen + 1} {
		if _, err := DecodeTimestamps(nil, e.AppendTimestamps(nil, []int64{1}), n); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%d timestamps: %v", n, err)
		}
	}
}

func TestVarints(t *testing.T) {
	r := newRand(t)
	for range 1000 {
		x := int64(r.Uint64()) >> r.UintN(64)
		if UnZigZag(ZigZag(x)) != x {
			t.Fatalf("zigzag of %d", x)
		}
		data := AppendBytes(AppendUvarint(AppendVarint(nil, x), uint64(x)), []byte("abc"))
		y, tail, err := CutVarint(data)
		u, tail, err2 := CutUvarint(tail)
		b, tail, err3 := CutBytes(tail)
		if y != x || u != uint64(x) || string(b) != "abc" || len(tail) > 0 || err != nil || err2 != nil || err3 != nil {
			t.Fatalf("%d became %d, %d, %q", x, y, u, b)
		}
	}
	for _, data := range [][]byte{{}, {0x80}, bytes.Repeat([]byte{0xff}, 11), {5, 'a'}} {
		if _, tail, err := CutBytes(data); errkind.Of(err) != errkind.Corrupt || len(tail) != len(data) {
			t.Errorf("CutBytes(%x): %v", data, err)
		}
	}
}

func TestChecksum(t *testing.T) {
	if got := Checksum([]byte("123456789")); got != 0xe3069283 {
		t.Errorf("got %08x; want the check value of CRC32C", got)
	}
	if got := UpdateChecksum(Checksum([]byte("1234")), []byte("56789")); got != 0xe3069283 {
		t.Errorf("got %08x in two steps", got)
	}
	r := newRand(t)
	data := make([]byte, 5000)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for range 200 {
		all := data[:r.IntN(len(data)+1)]
		a, b := all[:r.IntN(len(all)+1)], len(all)
		rest := all[len(a):b]
		if got, want := CombineChecksums(Checksum(a), Checksum(rest), int64(len(rest))), Checksum(all); got != want {
			t.Fatalf("%d and %d bytes: got %08x; want %08x", len(a), len(rest), got, want)
		}
	}
}

func TestPacked(t *testing.T) {
	r := newRand(t)
	for width := range uint(65) {
		xs := make([]uint64, r.IntN(400))
		base := r.Uint64() >> 1
		for i := range xs {
			xs[i] = base + r.Uint64()>>(64-width)>>1
		}
		data := append(AppendPacked(nil, xs), "tail"...)
		p, tail, err := CutPacked(data, len(xs))
		if err != nil || string(tail) != "tail" || p.Len() != len(xs) {
			t.Fatalf("width %d: %v, tail %q", width, err, tail)
		}
		for i, x := range xs {
			if p.At(i) != x {
				t.Fatalf("width %d: integer %d of %d is %d; want %d", width, i, len(xs), p.At(i), x)
			}
		}
		for cut := range len(data) - len("tail") {
			if _, _, err := CutPacked(data[:cut], len(xs)); errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("width %d: %d bytes give %v", width, cut, err)
			}
		}
	}
}

// TestGolden holds the bytes of columns which earlier releases wrote.
func TestGolden(t *testing.T) {
	var out bytes.Buffer
	r := rand.New(rand.NewPCG(7, 7))
	var e Encoder
	write := func(name string, data []byte) { fmt.Fprintf(&out, "%s %x\n", name, data) }
	for _, n := range []int{1, 20, 150} {
		columns := intColumns(r, n)
		for _, name := range []string{"linear", "counter", "idle counter", "normal steps", "gauge", "pages", "accelerating", "mostly zero"} {
			write(fmt.Sprintf("timestamps/%s/%d", name, n), e.AppendTimestamps(nil, columns[name]))
		}
		values := valueColumns(r, n)
		for _, name := range []string{"constant", "cpu seconds", "float sums with gaps", "with stale markers", "some special", "float32", "special"} {
			write(fmt.Sprintf("values/%s/%d", name, n), e.AppendValues(nil, values[name]))
		}
	}
	path := filepath.Join("testdata", "columns.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("the bytes of columns have changed: existing data could not be read; see git diff after -update")
	}
}

func FuzzDecodeValues(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	var e Encoder
	for _, vs := range valueColumns(r, 140) {
		f.Add(e.AppendValues(nil, vs), len(vs))
	}
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		values, err := DecodeValues(nil, data, n)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatal(err)
			}
			return
		}
		if n > 0 {
			if last, err := ValueAt(data, n, n-1); err != nil || math.Float64bits(last) != math.Float64bits(values[n-1]) {
				t.Fatalf("the last value is %v, %v; decoded it is %v", last, err, values[n-1])
			}
		}
		again, err := DecodeValues(nil, e.AppendValues(nil, values), n)
		if err != nil || !sameBits(values, again) {
			t.Fatalf("%v: values differ after a round trip", err)
		}
	})
}

// FuzzValuesRoundTrip takes any bits for values.
func FuzzValuesRoundTrip(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 1))
	for _, vs := range valueColumns(r, 140) {
		var data []byte
		for _, v := range vs {
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
		}
		f.Add(data, 7)
	}
	f.Fuzz(func(t *testing.T, data []byte, from int) {
		values := make([]float64, min(len(data)/8, MaxColumnLen))
		for i := range values {
			values[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
		}
		var e Encoder
		column := e.AppendValues(nil, values)
		got, err := DecodeValues(nil, column, len(values))
		if err != nil || !sameBits(got, values) {
			t.Fatalf("%v: values differ after a round trip", err)
		}
		if from >= 0 && from <= len(values) {
			if got, err = DecodeValuesFrom(nil, column, len(values), from); err != nil || !sameBits(got, values[from:]) {
				t.Fatalf("%v: values from %d on differ after a round trip", err, from)
			}
		}
	})
}

func FuzzDecodeTimestamps(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	var e Encoder
	for _, xs := range intColumns(r, 140) {
		f.Add(e.AppendTimestamps(nil, xs), len(xs))
	}
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		xs, err := DecodeTimestamps(nil, data, n)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatal(err)
			}
			return
		}
		again, err := DecodeTimestamps(nil, e.AppendTimestamps(nil, xs), n)
		if err != nil || !slices.Equal(xs, again) {
			t.Fatalf("%v: timestamps differ after a round trip", err)
		}
	})
}

func FuzzCutPacked(f *testing.F) {
	f.Add(AppendPacked(nil, []uint32{1, 2, 300}), 3)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		p, _, err := CutPacked(data, n)
		if err != nil {
			return
		}
		for i := range min(n, 1000) {
			p.At(i)
			p.At(n - 1 - i)
		}
	})
}

func benchmarkColumns() map[string][]float64 {
	r := rand.New(rand.NewPCG(3, 4))
	columns := valueColumns(r, 960)
	return map[string][]float64{
		"counter": columns["integers: counter"], "gauge": columns["integers: gauge"], "cpu": columns["cpu seconds"],
		"pages": columns["integers: pages"], "uniform": columns["uniform"], "const": columns["constant"],
	}
}

func BenchmarkAppendValues(b *testing.B) {
	for name, vs := range benchmarkColumns() {
		b.Run(name, func(b *testing.B) {
			var e Encoder
			var data []byte
			for b.Loop() {
				data = e.AppendValues(data[:0], vs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(vs)), "ns/sample")
			b.ReportMetric(float64(len(data))/float64(len(vs)), "B/sample")
		})
	}
}

func BenchmarkDecodeValues(b *testing.B) {
	for name, vs := range benchmarkColumns() {
		b.Run(name, func(b *testing.B) {
			data := new(Encoder).AppendValues(nil, vs)
			var dst []float64
			for b.Loop() {
				var err error
				if dst, err = DecodeValues(dst[:0], data, len(vs)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(vs)), "ns/sample")
		})
	}
}

func BenchmarkDecodeTimestamps(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, jitter := range map[string]int64{"regular": 1, "jitter": 20} {
		xs := make([]int64, 960)
		for i := range xs {
			xs[i] = 1.7e12 + int64(i)*15000 + r.Int64N(jitter)
		}
		b.Run(name, func(b *testing.B) {
			data := new(Encoder).AppendTimestamps(nil, xs)
			var dst []int64
			for b.Loop() {
				var err error
				if dst, err = DecodeTimestamps(dst[:0], data, len(xs)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(xs)), "ns/sample")
			b.ReportMetric(float64(len(data))/float64(len(xs)), "B/sample")
		})
	}
}
