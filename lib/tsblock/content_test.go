package tsblock

import (
	"slices"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

func TestContent(t *testing.T) {
	s := Samples{Timestamps: []int64{10, 20, 30}, Values: []float64{1.5, 2.5, 2.5}}
	var e Encoder
	for c := Raw; c < contents; c++ {
		_, b := e.AppendContent([]byte("before"), &s, c)
		if b.Content() != c {
			t.Fatalf("content %d came back as %d", c, b.Content())
		}
		var back Block
		if _, err := UnmarshalBlock(b.AppendTo(nil), &back); err != nil || back.Content() != c {
			t.Fatalf("content %d went over the wire as %d, %v", c, back.Content(), err)
		}
		var got Samples
		if err := back.Decode(&got); err != nil || !slices.Equal(got.Values, s.Values) || !slices.Equal(got.Timestamps, s.Timestamps) {
			t.Errorf("content %d: decoded %v, %v", c, got, err)
		}
		if !b.Facts().Has(NoNaN|NeverDecreases) || b.Facts().Has(Constant) {
			t.Errorf("content %d has facts %d", c, b.Facts())
		}
		if last, err := b.LastValue(); err != nil || last != 2.5 {
			t.Errorf("content %d: last value %v, %v", c, last, err)
		}
		for a := model.AspectSamples; a <= model.AspectMean; a++ {
			want := c == Raw || uint8(c) == uint8(a)+1 || a == model.AspectMean && (c == Sum || c == Count)
			if got := c.Serves(a); got != want {
				t.Errorf("content %d serves aspect %d: %t", c, a, got)
			}
		}
	}
	_, b := e.AppendContent(nil, &s, Sum)
	b.Values = slices.Clone(b.Values)
	b.Values[0] = contentMark | contents
	if err := b.Decode(&Samples{}); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("unknown content is decoded: %v", err)
	}
}
