package model

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
)

func TestSeriesKeyIsCanonical(t *testing.T) {
	a := []Label{{"job", "x"}, {MetricNameLabel, "m"}, {"a", "1"}, {"empty", ""}}
	b := []Label{{MetricNameLabel, "m"}, {"a", "1"}, {"job", "x"}}
	ka, errA := AppendSeriesKey(nil, TenantID{7, 9}, a)
	kb, errB := AppendSeriesKey(nil, TenantID{7, 9}, b)
	if errA != nil || errB != nil || !bytes.Equal(ka, kb) {
		t.Fatalf("keys differ: %q (%v), %q (%v)", ka, errA, kb, errB)
	}
	tenant, labels, err := ParseSeriesKey(nil, ka)
	if err != nil || tenant != (TenantID{7, 9}) || !slices.Equal(labels, b) {
		t.Fatalf("parsed %v %v, %v", tenant, labels, err)
	}
	if got, want := SeriesKeyString(ka), `tenant 7:9 m{a="1",job="x"}`; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}

func TestSeriesKeyErrors(t *testing.T) {
	for _, labels := range [][]Label{
		{{"a", "1"}, {"a", "2"}},
		{{"", "1"}},
		{{MetricNameLabel, "x"}, {MetricNameLabel, "y"}},
	} {
		if key, err := AppendSeriesKey(nil, TenantID{}, labels); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%v gives key %q and error %v; want a bad request", labels, key, err)
		}
	}
	var b Batch
	if err := b.AddSeries(TenantID{}, []Label{{"a", "1"}, {"a", "2"}}); err == nil || b.Len() != 0 || len(b.keys) != 0 {
		t.Errorf("a bad series changed the batch: %d series, err %v", b.Len(), err)
	}
}

func TestLabelsString(t *testing.T) {
	for want, labels := range map[string][]Label{
		`{}`:             nil,
		`m`:              {{MetricNameLabel, "m"}},
		`{a="b\"c"}`:     {{"a", `b"c`}},
		`m{a="1",b="2"}`: {{"a", "1"}, {MetricNameLabel, "m"}, {"b", "2"}},
	} {
		if got := LabelsString(labels); got != want {
			t.Errorf("got %s; want %s", got, want)
		}
	}
}

func TestParseTenantID(t *testing.T) {
	for in, want := range map[string]TenantID{"0": {}, "4294967295:1": {4294967295, 1}, "7:9": {7, 9}} {
		if got, err := ParseTenantID(in); err != nil || got != want {
			t.Errorf("ParseTenantID(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "-1", "4294967296", "1:", "1:x", "1:2:3", "1.5", "0x1", "+1"} {
		if got, err := ParseTenantID(in); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("ParseTenantID(%q) = %v, %v; want a bad request", in, got, err)
		}
	}
}

func TestBatch(t *testing.T) {
	var src, dst Batch
	for i := range 10 {
		if err := src.AddSeries(TenantID{}, []Label{{MetricNameLabel, strings.Repeat("m", i+1)}}); err != nil {
			t.Fatal(err)
		}
		for j := range i {
			src.AddSample(int64(j), float64(i))
		}
	}
	order := rand.Perm(10)
	for _, i := range order {
		dst.Append(&src, i)
	}
	if dst.Rows() != src.Rows() || dst.Len() != 10 {
		t.Fatalf("%d rows, %d series", dst.Rows(), dst.Len())
	}
	for j, i := range order {
		if !bytes.Equal(dst.Key(j), src.Key(i)) || dst.Hash(j) != HashSeriesKey(src.Key(i)) || !slices.Equal(dst.Samples(j), src.Samples(i)) {
			t.Fatalf("series %d differs after the copy", i)
		}
	}
	dst.Reset()
	if dst.Len() != 0 || dst.Rows() != 0 {
		t.Fatal("Reset leaves something behind")
	}
}

func FuzzParseSeriesKey(f *testing.F) {
	key, err := AppendSeriesKey(nil, TenantID{1, 2}, []Label{{MetricNameLabel, "m"}, {"a", "b"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key)
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tenant, labels, err := ParseSeriesKey(nil, data)
		if err != nil {
			return
		}
		again, err := AppendSeriesKey(nil, tenant, slices.Clone(labels)) // it sorts what it is given
		if err != nil {
			t.Fatalf("labels %v of a valid key give no key: %v", labels, err)
		}
		_, labelsAgain, err := ParseSeriesKey(nil, again)
		if err != nil || !slices.Equal(labels, labelsAgain) {
			t.Fatalf("%v became %v, %v", labels, labelsAgain, err)
		}
	})
}
