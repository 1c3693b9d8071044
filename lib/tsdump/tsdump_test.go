package tsdump

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/tsblock"
)

var update = flag.Bool("update", false, "rewrite golden files")

// text renders all series of a dump, with the bits of values.
func text(dump []byte) (string, error) {
	var b strings.Builder
	r := NewReader(bytes.NewReader(dump))
	for r.Next() {
		s := r.At()
		b.WriteString(model.LabelsString(s.Labels))
		for i := range s.Blocks {
			if s.Blocks[i].Content() == tsblock.Histograms {
				var found tsblock.HistogramSamples
				if err := s.Blocks[i].DecodeHistograms(&found); err != nil {
					return b.String(), err
				}
				for j, ts := range found.Timestamps {
					fmt.Fprintf(&b, " %d=%x", ts, found.Payloads[j])
				}
				continue
			}
			var samples tsblock.Samples
			if err := s.Blocks[i].Decode(&samples); err != nil {
				return b.String(), err
			}
			for j, ts := range samples.Timestamps {
				fmt.Fprintf(&b, " %d=%016x", ts, math.Float64bits(samples.Values[j]))
			}
		}
		b.WriteString("\n")
	}
	return b.String(), r.Err()
}

func block(start int64, values ...float64) tsblock.Block {
	var s tsblock.Samples
	for i, v := range values {
		s.Append(start+int64(i)*1000, v)
	}
	_, b := tsblock.AppendEncode(nil, &s)
	return b
}

func sample() []byte {
	var w Writer
	b := w.AppendHeader(nil)
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "ü"}}, []tsblock.Block{
		block(1717200000000, 1, 2.5, math.Inf(1)), block(1717200003000, math.Float64frombits(0x7ff0000000000002), math.NaN())})
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "none"}}, nil)
	b = w.AppendSeries(b, nil, []tsblock.Block{block(-5, math.Copysign(0, -1))})
	return w.AppendEnd(b)
}

// withHistograms is a dump of a series without native histograms and one with some, then one without again.
func withHistograms() []byte {
	var found tsblock.HistogramSamples
	for i := range uint64(3) {
		h := nativehistogram.Histogram{Count: i, Sum: 1, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Offset: -2, Length: 1}}, Counts: []uint64{i}}}
		found.Append(int64(i)*1000, h.Append(nil))
	}
	_, histograms := (&tsblock.Encoder{}).AppendHistograms(nil, &found)
	var w Writer
	b := w.AppendHeader(nil)
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "a"}}, []tsblock.Block{block(1000, 1)})
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "b"}}, []tsblock.Block{histograms, block(9000, 2)})
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "c"}}, []tsblock.Block{block(1000, 3)})
	return w.AppendEnd(b)
}

// TestHistograms: native histograms are in a dump of the second version behind one of the first, so that older readers take what they know and refuse the rest.
func TestHistograms(t *testing.T) {
	dump := withHistograms()
	got, err := text(dump)
	if lines := strings.Split(got, "\n"); err != nil || len(lines) != 4 || lines[0] != "a 1000=3ff0000000000000" || strings.Count(lines[1], "=") != 4 || lines[2] != "c 1000=4008000000000000" {
		t.Errorf("got %q, %v", got, err)
	}
	if n := bytes.Count(dump, []byte(magic)); n != 2 || dump[len(magic)] != plainVersion || dump[bytes.LastIndex(dump, []byte(magic))+len(magic)] != histogramVersion {
		t.Errorf("%d headers, or other versions: %q", n, dump)
	}
}

func TestGolden(t *testing.T) {
	for path, got := range map[string]string{
		"testdata/dump.hex": hex.EncodeToString(sample()) + "\n", "testdata/histograms.hex": hex.EncodeToString(withHistograms()) + "\n",
	} {
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Errorf("got  %swant %s%v", got, want, err)
		}
	}
	rendered, err := text(sample())
	const wantText = "up{job=\"ü\"} 1717200000000=3ff0000000000000 1717200001000=4004000000000000 1717200002000=7ff0000000000000 " +
		"1717200003000=7ff0000000000002 1717200004000=7ff8000000000001\n{} -5=8000000000000000\n"
	if err != nil || rendered != wantText {
		t.Errorf("got  %qwant %q%v", rendered, wantText, err)
	}
}

// TestDamage cuts and changes a dump everywhere: nothing but what was written may come back without an error.
func TestDamage(t *testing.T) {
	dump := sample()
	if two, err := text(append(bytes.Clone(dump), dump...)); err != nil || strings.Count(two, "\n") != 4 {
		t.Errorf("two dumps: %q, %v", two, err)
	}
	for n := 1; n < len(dump); n++ {
		if got, err := text(dump[:n]); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%d of %d bytes: %q, error %v", n, len(dump), got, err)
		}
	}
	for i := range dump {
		for bit := range 8 {
			damaged := bytes.Clone(dump)
			damaged[i] ^= 1 << bit
			if got, err := text(damaged); err == nil {
				t.Errorf("bit %d of byte %d changed: %q and no error", bit, i, got)
			}
		}
	}
}

// TestLongSeries has series in several records, and one record missing.
func TestLongSeries(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var blocks []tsblock.Block
	want := 0
	for i := range 100 {
		values := make([]float64, 1+rng.IntN(tsblock.MaxSamplesPerBlock))
		for j := range values {
			values[j] = math.Float64frombits(rng.Uint64())
		}
		want += len(values)
		blocks = append(blocks, block(int64(i)*1e8, values...))
	}
	var w Writer
	header := w.AppendHeader(nil)
	dump := w.AppendSeries(header, []model.Label{{Name: "__name__", Value: "long"}}, blocks)
	if w.records < 2 {
		t.Fatalf("%d bytes are %d record", len(dump), w.records)
	}
	dump = w.AppendEnd(dump)
	n := 0
	r := NewReader(bytes.NewReader(dump))
	for r.Next() {
		for _, b := range r.At().Blocks {
			n += b.Count
		}
	}
	if r.Err() != nil || n != want {
		t.Errorf("%d of %d samples, %v", n, want, r.Err())
	}
	r = NewReader(bytes.NewReader(dump))
	r.Next()
	var again Writer
	first := len(again.AppendSeries(again.AppendHeader(nil), r.At().Labels, r.At().Blocks))
	if _, err := text(append(bytes.Clone(header), dump[first:]...)); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("a record is missing: error %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(sample())
	f.Fuzz(func(t *testing.T, dump []byte) {
		_, err := text(dump)
		if err != nil && errkind.Of(err) != errkind.BadRequest && errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("error of another kind: %v", err)
		}
	})
}
