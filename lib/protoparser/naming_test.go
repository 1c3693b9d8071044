package protoparser

import (
	"fmt"
	"testing"

	"vmcluster/lib/model"
)

func TestPromNames(t *testing.T) {
	for given, want := range map[string][2]string{ // as the name of a metric, and of a label
		"":             {"", ""},
		"up":           {"up", "up"},
		"_a:B9":        {"_a:B9", "_a_B9"},
		"foo.bar-baz":  {"foo_bar_baz", "foo_bar_baz"},
		"9lives":       {"_9lives", "_9lives"},
		"temp °C\xff/": {"temp__C__", "temp__C__"},
	} {
		if metric, label := promName(given, true), promName(given, false); metric != want[0] || label != want[1] {
			t.Errorf("%q becomes %q and %q; want %q", given, metric, label, want)
		}
	}
	in := newIntake(t, "-usePromCompatibleNaming")
	var got []string
	req := &Request{ExtraLabels: []model.Label{{Name: "extra.label", Value: "e.f"}}, Sink: func(b *model.Batch) error {
		for i := range b.Len() {
			got = append(got, model.SeriesKeyString(b.Key(i)))
		}
		return nil
	}}
	c := in.Collect(req)
	defer c.Release()
	for _, l := range [][]model.Label{labels("__name__", "a.b", "c.d", "v.w"), labels("__name__", "a.b", "c.d", "1", "c_d", "2")} {
		if c.StartSeries(l, 1) {
			c.Sample(1, 1)
		}
	}
	if r, err := c.Finish(); err != nil || r.Rows != 1 || r.Dropped != 1 {
		t.Errorf("%+v, %v; want one series stored, and one dropped since two of its labels have got the same name", r, err)
	}
	want := `tenant 0:0 a_b{c_d="v.w",extra_label="e.f"}`
	if fmt.Sprint(got) != fmt.Sprint([]string{want}) {
		t.Errorf("stored %s; want %s", got, want)
	}
	// A known series is asked for its labels again.
	got, want = nil, `tenant 0:0 x_y{extra_label="e.f"}`
	for range 2 {
		raw := in.CollectRaw(req, nameOnly{}, nil)
		if raw.StartRaw([]byte("x.y"), 0, 1) || raw.StartNew(labels("__name__", "x.y"), 1) {
			raw.Sample(1, 1)
		}
		if _, err := raw.Finish(); err != nil {
			t.Fatal(err)
		}
		raw.Release()
	}
	if fmt.Sprint(got) != fmt.Sprint([]string{want, want}) || in.numbers.hits.Get() != 1 {
		t.Errorf("stored %s; want %s twice, the second time as a known series", got, want)
	}
}

// nameOnly is a format whose labels are the name of the metric.
type nameOnly struct{}

func (nameOnly) Name() string { return "name only" }

func (nameOnly) UseLabels(raw []byte, use func(labels []model.Label)) {
	use([]model.Label{{Name: model.MetricNameLabel, Value: string(raw)}})
}
