package insertapi

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAnswersToOTLP(t *testing.T) {
	const metrics = `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1000000000","asDouble":1}]}}]}]}]}`
	for name, c := range map[string]struct {
		path, body string
		headers    []string
		status     int
		kind, text string
		rows       string
	}{
		"JSON":              {"opentelemetry/v1/metrics", metrics, []string{"Content-Type", "application/json; charset=utf-8"}, 200, "application/json", "{}", "tenant 1:0 m@1000=1"},
		"the other path":    {"opentelemetry/api/v1/push", metrics, []string{"Content-Type", "application/json"}, 200, "application/json", "{}", "tenant 1:0 m@1000=1"},
		"protobuf":          {"opentelemetry/v1/metrics", "", []string{"Content-Type", "application/x-protobuf"}, 200, "", "", ""},
		"bad protobuf":      {"opentelemetry/v1/metrics", "\xff", nil, 400, "text/plain; charset=utf-8", "cannot decode OTLP request", ""},
		"Firehose":          {"opentelemetry/api/v1/push", `{"records":[]}`, []string{"Content-Type", "application/json", "X-Amz-Firehose-Request-Id", "id 1"}, 200, "application/json", `"requestId":"id 1"`, ""},
		"Firehose, no id":   {"opentelemetry/api/v1/push", `{"records":[]}`, []string{"X-Amz-Firehose-Protocol-Version", "1.0"}, 200, "", "", ""},
		"Firehose, no JSON": {"opentelemetry/api/v1/push", `x`, []string{"X-Amz-Firehose-Protocol-Version", "1.0"}, 400, "text/plain; charset=utf-8", "Firehose", ""},
	} {
		s := newServer(t, Cluster)
		w := s.do("POST", "/insert/1/"+c.path, strings.NewReader(c.body), c.headers...)
		if w.Code != c.status || w.Header().Get("Content-Type") != c.kind || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s: %d %q %q", name, w.Code, w.Header(), w.Body)
		}
		if got := strings.Join(s.take(), " "); got != c.rows {
			t.Errorf("%s: rows %q; want %q", name, got, c.rows)
		}
		if name == "Firehose" {
			var answer struct {
				RequestID string
				Timestamp int64
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.RequestID != "id 1" || answer.Timestamp < 1e12 {
				t.Errorf("%s: %v", w.Body, err)
			}
		}
	}
}
