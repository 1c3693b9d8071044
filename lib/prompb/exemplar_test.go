package prompb

import (
	"math"
	"slices"
	"testing"

	oracle "github.com/prometheus/prometheus/prompb"

	"vmcluster/lib/errkind"
)

func FuzzExemplar(f *testing.F) {
	good, _ := (&oracle.Exemplar{Labels: []oracle.Label{{Name: "trace_id", Value: "x"}}, Value: 1.5, Timestamp: -7}).Marshal() // fails never
	f.Add(good)
	f.Add([]byte{1<<3 | wireBytes, 2, 1<<3 | wireBytes, 9})
	f.Fuzz(func(t *testing.T, message []byte) {
		d := Decoder[label]{body: message, exemplars: []span{{0, len(message)}}}
		var got Exemplar[label]
		err := d.Exemplar(0, &got)
		if err != nil && errkind.Of(err) != errkind.BadRequest {
			t.Fatalf("error of another kind: %v", err)
		}
		v2 := DecoderV2{body: message, exemplars: []span{{0, len(message)}}}
		var other Exemplar[Label]
		if err := v2.Exemplar(0, &other); err != nil && errkind.Of(err) != errkind.BadRequest {
			t.Fatalf("error of another kind: %v", err)
		}
		var want oracle.Exemplar
		if err != nil || want.Unmarshal(message) != nil {
			return // it is more lenient with fields of other types, and less with labels
		}
		same := slices.EqualFunc(got.Labels, want.Labels, func(a label, b oracle.Label) bool { return a.Name == b.Name && a.Value == b.Value })
		if !same || got.Timestamp != want.Timestamp || math.Float64bits(got.Value) != math.Float64bits(want.Value) {
			t.Fatalf("%+v; want %+v", got, want)
		}
	})
}
