package model

import (
	"testing"

	"vmcluster/lib/errkind"
)

func TestMetadataTypes(t *testing.T) {
	for i := range MetricType(metricTypes) {
		if ParseMetricType(i.String()) != i {
			t.Errorf("type %d is written %q and read as %d", i, i.String(), ParseMetricType(i.String()))
		}
	}
	if ParseMetricType("nosuch") != TypeUnknown || MetricType(200).String() != "unknown" {
		t.Error("types which there are not are not unknown")
	}
}

func FuzzUnmarshalMetadata(f *testing.F) {
	m := Metadata{Tenant: TenantID{AccountID: 1, ProjectID: 2}, Metric: "m", Type: TypeGauge, Unit: "s", Help: "h"}
	f.Add(m.AppendTo(nil))
	f.Fuzz(func(t *testing.T, src []byte) {
		var m, again Metadata
		tail, err := UnmarshalMetadata(src, &m)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if rest, err := UnmarshalMetadata(append(m.AppendTo(nil), tail...), &again); err != nil || again != m || len(rest) != len(tail) {
			t.Fatalf("%+v becomes %+v, %v", m, again, err)
		}
	})
}
