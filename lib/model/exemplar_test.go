package model

import (
	"strings"
	"testing"

	"vmcluster/lib/errkind"
)

func TestExemplarLabels(t *testing.T) {
	for _, c := range []struct {
		labels []Label
		want   string // of the error
	}{
		{nil, ""},
		{[]Label{{"trace_id", strings.Repeat("ü", 60)}, {"b", strings.Repeat("😀", 58)}, {"", ""}}, "128"}, // 127 characters and one more for the name of b
		{[]Label{{"trace_id", "x"}, {"a", ""}}, ""},
		{[]Label{{"a", "x"}, {"a", "y"}}, "duplicate"},
		{[]Label{{"a", "\xff"}}, "UTF-8"},
		{[]Label{{"\xff", "a"}}, "UTF-8"},
		{[]Label{{MetricNameLabel, "a"}}, MetricNameLabel},
		{[]Label{{"", "a"}}, "empty"},
		{[]Label{{"trace_id", strings.Repeat("x", 121)}}, "129 characters"},
	} {
		b, err := AppendExemplarLabels([]byte("before"), c.labels)
		if c.want == "128" {
			c.want = "" // exactly as many as there may be
		}
		if c.want != "" {
			if errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), c.want) || string(b) != "before" {
				t.Errorf("%v: %q, %v", c.labels, b, err)
			}
			continue
		}
		got, parseErr := ParseExemplarLabels(nil, b[len("before"):])
		n := 0
		for _, l := range c.labels {
			if l.Value != "" {
				n++
			}
		}
		if err != nil || parseErr != nil || len(got) != n || len(b) > maxExemplarBytes {
			t.Errorf("%v becomes %v; %v, %v", c.labels, got, err, parseErr)
		}
	}
}

func FuzzUnmarshalExemplars(f *testing.F) {
	key, _ := AppendSeriesKey(nil, TenantID{AccountID: 7}, []Label{{MetricNameLabel, "m"}}) // fails never
	labels, _ := AppendExemplarLabels(nil, []Label{{"trace_id", "x"}})
	e := Exemplar{Series: key, Labels: labels, Timestamp: -5, Value: 1.5}
	f.Add(e.AppendTo(e.AppendTo(nil, nil), &e))
	f.Fuzz(func(t *testing.T, src []byte) {
		list, err := UnmarshalExemplars(nil, src)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		var b []byte
		var previous *Exemplar
		for i := range list {
			b = list[i].AppendTo(b, previous)
			previous = &list[i]
		}
		again, err := UnmarshalExemplars(nil, b)
		if err != nil || len(again) != len(list) {
			t.Fatalf("%d exemplars become %d, %v", len(list), len(again), err)
		}
		for i := range list {
			if string(again[i].Series) != string(list[i].Series) || again[i].Compare(&list[i]) != 0 {
				t.Fatalf("%+v becomes %+v", list[i], again[i])
			}
		}
	})
}
