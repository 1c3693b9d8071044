package model

import "testing"

func BenchmarkAppendSeriesKey(b *testing.B) {
	labels := []Label{
		{MetricNameLabel, "node_cpu_seconds_total"}, {"cluster", "eu-west-1"}, {"cpu", "11"}, {"env", "production"},
		{"instance", "host-00042:9100"}, {"job", "node"}, {"mode", "softirq"}, {"region", "europe"},
	}
	var key []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if key, err = AppendSeriesKey(key[:0], TenantID{}, labels); err != nil {
			b.Fatal(err)
		}
	}
}
