package promqlapi

import (
	"strings"
	"testing"

	"vmcluster/lib/model"
)

// TestFirstIncrease has a counter which is 5 when it is first seen, and 3 when it is seen for the first time after a restart: both count, in both dialects.
func TestFirstIncrease(t *testing.T) {
	e := newEnv(t)
	tenant := model.TenantID{AccountID: 7, ProjectID: 9}
	now := e.now.UnixMilli()
	key, err := model.AppendSeriesKey(nil, tenant, []model.Label{{Name: model.MetricNameLabel, Value: "started_total"}})
	if err != nil {
		t.Fatal(err)
	}
	start := func(at int64) {
		t.Helper()
		if err := e.store.db.AddStarts(t.Context(), []model.Start{{Series: key, Timestamp: now + at}}); err != nil {
			t.Fatal(err)
		}
	}
	start(-240_000)
	e.ingest(t, tenant, map[string]string{"__name__": "started_total"}, []int64{now - 225_000, now - 210_000, now - 195_000}, []float64{5, 6, 7})
	start(-130_000)
	start(-240_000) // comes again
	e.ingest(t, tenant, map[string]string{"__name__": "started_total"}, []int64{now - 120_000, now - 105_000, now - 90_000}, []float64{8, 9, 9})
	for query, want := range map[string]string{
		"resets(started_total[5m])":                     `"1"]`,
		"count_over_time(started_total[5m])":            `"8"]`,
		"last_over_time(started_total[1m] offset 130s)": `"0"]`,
		"sum_over_time((started_total >= bool 0)[5m:5m]) * 0 + max(min_over_time(started_total[5m]))": `"0"]`,
	} {
		if code, body := e.ask("GET", root+"/api/v1/query", pairs("query", query)); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
	// The engine extends what it sees to the ends of the window, MetricsQL does not.
	if code, body := e.ask("GET", root+"/api/v1/query", pairs("query", "increase(started_total[5m]) >= 16 < 24")); code != 200 || !strings.Contains(body, `"value"`) {
		t.Errorf("increase of PromQL: %d %s", code, body)
	}
	if code, body := e.ask("GET", "/select/7:9/prometheus/api/v1/query", pairs("query", "increase(started_total[5m])")); code != 200 || !strings.Contains(body, `"16"]`) {
		t.Errorf("increase of MetricsQL: %d %s", code, body)
	}
}
