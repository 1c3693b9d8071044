package prompb

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// decodeRaw decodes as decode does, by NextRaw and Labels.
func decodeRaw(t *testing.T, d *Decoder[label], body []byte) ([]TimeSeries[label], error) {
	t.Helper()
	var all []TimeSeries[label]
	d.Reset(body)
	for d.NextRaw() {
		samples := slices.Clone(d.At().Samples)
		start, end := d.Raw()
		raw := body[start:end]
		labels, ok := d.Labels()
		if !ok {
			break
		}
		if !sameSamples(samples, d.At().Samples) {
			t.Fatalf("samples %v became %v when the labels were decoded", samples, d.At().Samples)
		}
		if again, err := AppendLabels[label](nil, raw); start < end && (err != nil || !slices.Equal(again, labels)) {
			t.Fatalf("raw labels %q are %v, %v; want %v", raw, again, err, labels)
		}
		all = append(all, TimeSeries[label]{Labels: slices.Clone(labels), Samples: samples})
	}
	return all, d.Err()
}

// decodeGuess decodes by NextGuess, and settles every guess. One that was right about the labels must be right about the sample.
func decodeGuess(t *testing.T, d *Decoder[label], body []byte) (all []TimeSeries[label], right int, err error) {
	t.Helper()
	d.Reset(body)
	for d.NextGuess() {
		if d.Guessed() {
			guess, start, end := slices.Clone(d.At().Samples), 0, 0
			guessStart, guessEnd := d.Raw()
			if !d.Settle() {
				break
			}
			if start, end = d.Raw(); start < end && start == guessStart && end == guessEnd {
				right++
				if !sameSamples(guess, d.At().Samples) {
					t.Fatalf("body %q: guessed samples %v; want %v", body, guess, d.At().Samples)
				}
			}
		}
		if d.Guessed() {
			t.Fatal("a guess is one after Settle")
		}
		samples := slices.Clone(d.At().Samples)
		labels, ok := d.Labels()
		if !ok {
			break
		}
		all = append(all, TimeSeries[label]{Labels: slices.Clone(labels), Samples: samples})
	}
	return all, right, d.Err()
}

func TestGuessIsUsuallyRight(t *testing.T) {
	var body []byte
	for i := range 100 {
		s := TimeSeries[label]{Labels: []label{{"a", "b"}, {"c", string(rune('a' + i%26))}}, Samples: []Sample{{Timestamp: 1717200000000 + int64(i), Value: float64(i % 3)}}}
		body = AppendTimeSeries(body, &s)
	}
	var d Decoder[label]
	all, right, err := decodeGuess(t, &d, body)
	if len(all) != 100 || right != 100 || err != nil {
		t.Errorf("%d series, %d right guesses, %v", len(all), right, err)
	}
}

// checkRaw compares the ways to walk over a body.
func checkRaw(t *testing.T, body []byte) {
	t.Helper()
	var eager, raw Decoder[label]
	want, wantErr := decode(&eager, body)
	got, err := decodeRaw(t, &raw, body)
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
		t.Fatalf("body %q: error %v; want %v", body, err, wantErr)
	}
	if !slices.EqualFunc(got, want, func(a, b TimeSeries[label]) bool { return sameSeries(&a, &b) }) {
		t.Fatalf("body %q: series %v; want %v", body, got, want)
	}
	guessed, _, guessErr := decodeGuess(t, &raw, body)
	if (guessErr == nil) != (wantErr == nil) || guessErr != nil && guessErr.Error() != wantErr.Error() {
		t.Fatalf("body %q: error %v of guesses; want %v", body, guessErr, wantErr)
	}
	if !slices.EqualFunc(guessed, want, func(a, b TimeSeries[label]) bool { return sameSeries(&a, &b) }) {
		t.Fatalf("body %q: guessed series %v; want %v", body, guessed, want)
	}
	if raw.Skipped() != eager.Skipped() {
		t.Fatalf("body %q: skipped %+v; want %+v", body, raw.Skipped(), eager.Skipped())
	}
}

// appendOdd appends a series in a form no encoder writes: fields in any order, unknown ones, lengths with excess bytes.
func appendOdd(dst, series []byte, pick func(int) int) []byte {
	fields := [][]byte{
		{1<<3 | wireBytes, 0x86, 0, 1<<3 | wireBytes, 1, 'a', 2<<3 | wireBytes, 1, 'b'},
		{3<<3 | wireBytes, 0},
		{4<<3 | wireBytes, 1, 0},
		{9 << 3, 7},
		{2<<3 | wireBytes, 0},
	}
	body := bytes.Clone(series)
	for range pick(4) {
		f := fields[pick(len(fields))]
		if pick(2) == 0 {
			body = append(bytes.Clone(f), body...)
		} else {
			body = append(body, f...)
		}
	}
	return append(append(dst, 1<<3|wireBytes, byte(len(body)&0x7f|0x80), byte(len(body)>>7&0x7f|0x80), byte(len(body)>>14)), body...)
}

func TestRawAgainstEager(t *testing.T) {
	rng := newRand(t)
	for range 2000 {
		var body []byte
		for range rng.IntN(5) {
			s := randomSeries(rng)
			for i := range s.Samples {
				if rng.IntN(2) == 0 {
					s.Samples[i].Timestamp = 1717200000000 + rng.Int64N(1<<35)
				}
			}
			one := AppendTimeSeries(nil, &s)
			if rng.IntN(3) > 0 {
				body = append(body, one...)
				continue
			}
			size, _ := shortLength(one[1:])
			body = appendOdd(body, one[1+size:], rng.IntN)
		}
		checkRaw(t, body)
		if len(body) > 0 {
			body[rng.IntN(len(body))] = byte(rng.Uint32())
			checkRaw(t, body)
			checkRaw(t, body[:rng.IntN(len(body))])
		}
	}
}

func TestRawOfPlainSeries(t *testing.T) {
	s := TimeSeries[label]{Labels: []label{{"__name__", "m"}, {"a", "b"}}, Samples: []Sample{{Timestamp: 1717200000000, Value: 1}}}
	zero := binary.AppendUvarint([]byte{2<<3 | wireBytes, 7, 2<<3 | wireVarint}, 1717200000000) // without a value
	body := AppendTimeSeries(nil, &s)
	labelsOnly := AppendTimeSeries(nil, &TimeSeries[label]{Labels: s.Labels})
	series := append(bytes.Clone(labelsOnly[2:]), zero...)
	body = append(append(body, 1<<3|wireBytes, byte(len(series))), series...)
	var d Decoder[label]
	d.Reset(body)
	for i := range 2 {
		if !d.NextRaw() || !d.lazy {
			t.Fatalf("series %d is not read without its labels: %v", i, d.Err())
		}
		start, end := d.Raw()
		if !bytes.Equal(body[start:end], labelsOnly[2:]) {
			t.Errorf("series %d: raw labels %q", i, body[start:end])
		}
		want := Sample{Timestamp: 1717200000000, Value: float64(1 - i)}
		if got := d.At().Samples; len(got) != 1 || got[0] != want {
			t.Errorf("series %d: samples %v; want %v", i, got, want)
		}
	}
	checkRaw(t, body)
}

func TestAppendLabelsRejects(t *testing.T) {
	for _, raw := range []string{"\x12\x00", "\x0a", "\x0a\x05", "\x0a\x02\x0a\x05", "\xff"} {
		if _, err := AppendLabels[label](nil, []byte(raw)); err == nil {
			t.Errorf("%q is taken", raw)
		}
	}
}

func FuzzRaw(f *testing.F) {
	f.Add([]byte("\x0a\x04\x0a\x02\x0a\x05"))
	f.Add([]byte("\x0a\x82\x00\x12\x00"))
	f.Add(benchmarkBody(2))
	f.Add(appendOdd(nil, benchmarkBody(1)[2:], func(n int) int { return n - 1 }))
	f.Fuzz(func(t *testing.T, body []byte) { checkRaw(t, body) })
}

func BenchmarkRaw(b *testing.B) {
	benchmarkDecoding(b, (*Decoder[label]).NextRaw)
}
