package prompb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	oracle "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"vmcluster/lib/errkind"
)

// describeV2 renders a body as this decoder sees it.
func describeV2(d *DecoderV2, body []byte) (lines []string, err error) {
	d.Reset(body)
	for i := range d.Symbols() {
		lines = append(lines, fmt.Sprintf("symbol %q", d.Symbol(uint32(i))))
	}
	histograms := 0
	var e Exemplar[Label]
	for d.Next() {
		histograms += d.Histograms()
		start, end := d.Raw()
		var raw []uint32
		for p := 0; p < end-start; {
			var ref uint32
			ref, p = NextRef(body[start:end], p)
			raw = append(raw, ref)
		}
		refs, ok := d.Refs()
		if !ok {
			break
		}
		if start < end && !slices.Equal(raw, refs) {
			return nil, fmt.Errorf("raw references of %v are %v", refs, raw)
		}
		m := d.Metadata()
		line := fmt.Sprint("series ", refs, m.Type, m.Help, m.Unit)
		for _, x := range d.Samples() {
			line += fmt.Sprintf(" %d=%x@%d", x.Timestamp, x.Value, x.Start)
		}
		for i := range d.Exemplars() {
			if err := d.Exemplar(i, &e); err != nil {
				return nil, err
			}
			line += fmt.Sprintf(" exemplar %v %d=%x", e.Refs, e.Timestamp, e.Value)
		}
		lines = append(lines, line)
	}
	return append(lines, fmt.Sprint(histograms)), d.Err()
}

// oracleV2 renders a body as Prometheus' own decoder sees it.
func oracleV2(body []byte) (lines []string, err error) {
	var r oracle.Request
	if err := r.Unmarshal(body); err != nil {
		return nil, err
	}
	for _, s := range r.Symbols {
		lines = append(lines, fmt.Sprintf("symbol %q", s))
	}
	histograms := 0
	for _, s := range r.Timeseries {
		line := fmt.Sprint("series ", slices.Concat([]uint32{}, s.LabelsRefs), uint64(s.Metadata.Type), s.Metadata.HelpRef, s.Metadata.UnitRef)
		for _, x := range s.Samples {
			line += fmt.Sprintf(" %d=%x@%d", x.Timestamp, x.Value, x.StartTimestamp)
		}
		for _, x := range s.Exemplars {
			line += fmt.Sprintf(" exemplar %v %d=%x", slices.Concat([]uint32{}, x.LabelsRefs), x.Timestamp, x.Value)
		}
		histograms += len(s.Histograms)
		lines = append(lines, line)
	}
	return append(lines, fmt.Sprint(histograms)), nil
}

func randomV2(rng *rand.Rand) []byte {
	r := oracle.Request{Symbols: []string{""}}
	for range rng.IntN(20) {
		r.Symbols = append(r.Symbols, string(bytes.Repeat([]byte{'a'}, rng.IntN(300))))
	}
	for range rng.IntN(10) {
		var s oracle.TimeSeries
		for range rng.IntN(12) {
			s.LabelsRefs = append(s.LabelsRefs, rng.Uint32N(300))
		}
		for range rng.IntN(4) {
			s.Samples = append(s.Samples, oracle.Sample{Value: rng.NormFloat64(), Timestamp: []int64{0, -5, 1_700_000_000_000}[rng.IntN(3)], StartTimestamp: []int64{0, 1, 1_699_999_990_000}[rng.IntN(3)]})
		}
		for range rng.IntN(2) {
			s.Histograms = append(s.Histograms, oracle.Histogram{Sum: 2, Schema: 3, Timestamp: 7})
			s.Exemplars = append(s.Exemplars, oracle.Exemplar{LabelsRefs: []uint32{1, rng.Uint32N(400)}, Value: rng.NormFloat64(), Timestamp: rng.Int64N(1 << 40)})
		}
		s.Metadata = oracle.Metadata{Type: oracle.Metadata_MetricType(rng.IntN(8)), HelpRef: rng.Uint32N(9), UnitRef: rng.Uint32N(300)}
		r.Timeseries = append(r.Timeseries, s)
	}
	body, err := r.Marshal()
	if err != nil {
		panic(err)
	}
	return body
}

func TestDecoderV2AgainstPrometheus(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var d DecoderV2
	for range 500 {
		body := randomV2(rng)
		got, err := describeV2(&d, body)
		want, oracleErr := oracleV2(body)
		if err != nil || oracleErr != nil || !slices.Equal(got, want) {
			t.Fatalf("%v, %v\nwant %v, %v", got, err, want, oracleErr)
		}
	}
}

// TestRefsInPieces: references may come one by one, and in several lists, and symbols behind the series.
func TestRefsInPieces(t *testing.T) {
	series := []byte{1<<3 | wireVarint, 1, 1<<3 | wireBytes, 2, 2, 3, 1<<3 | wireVarint, 4}
	body := append([]byte{5<<3 | wireBytes, byte(len(series))}, series...)
	body = append(body, 4<<3|wireBytes, 1, 'x')
	var d DecoderV2
	got, err := describeV2(&d, body)
	want, oracleErr := oracleV2(body)
	if err != nil || oracleErr != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v, %v", got, err, want, oracleErr)
	}
}

func FuzzDecoderV2(f *testing.F) {
	f.Add(randomV2(rand.New(rand.NewPCG(1, 1))))
	f.Add([]byte{4<<3 | wireBytes, 9, 'x'})
	f.Fuzz(func(t *testing.T, body []byte) {
		var d DecoderV2
		got, err := describeV2(&d, body)
		if err != nil && errkind.Of(err) != errkind.BadRequest {
			t.Fatalf("error %v has the kind %v", err, errkind.Of(err))
		}
		want, oracleErr := oracleV2(body)
		if oracleErr != nil || err != nil && strings.Contains(err.Error(), "field number") {
			return // it decodes what we skip, so it finds more faults; within groups it takes the field 0
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v, %v; the reference sees %v", got, err, want)
		}
	})
}

// TestTinySymbolsAreBounded checks that a body of empty symbols does not become many times as much memory.
func TestTinySymbolsAreBounded(t *testing.T) {
	const size = 8 << 20
	refs := append(binary.AppendUvarint([]byte{5<<3 | wireBytes}, size+5), 1<<3|wireBytes)
	refs = append(binary.AppendUvarint(refs, size), make([]byte, size)...)
	for name, body := range map[string][]byte{
		"symbols":    bytes.Repeat([]byte{4<<3 | wireBytes, 0}, size/2),
		"references": refs,
		"samples":    append(binary.AppendUvarint([]byte{5<<3 | wireBytes}, size), bytes.Repeat([]byte{2<<3 | wireBytes, 0}, size/2)...),
	} {
		var d DecoderV2
		d.Reset(body)
		if d.Next() {
			_, _ = d.Refs()
		}
		if errkind.Of(d.Err()) != errkind.BadRequest {
			t.Errorf("%s: error %v", name, d.Err())
		}
		if n := cap(d.symbols)*8 + cap(d.refs)*4 + cap(d.samples)*16; n > 6*size {
			t.Errorf("%s: %d bytes of memory for %d", name, n, size)
		}
		d.Reset(nil)
		if n := cap(d.symbols)*8 + cap(d.refs)*4 + cap(d.samples)*16; n > 6<<20 {
			t.Errorf("%s: %d bytes of memory are kept", name, n)
		}
	}
}
