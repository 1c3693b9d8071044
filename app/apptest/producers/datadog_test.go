package producers

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"net/http"
	"testing"

	"github.com/DataDog/agent-payload/v5/gogen"
)

// TestDatadog posts series as Datadog's agent does, in the messages it uses itself.
func TestDatadog(t *testing.T) {
	t.Parallel()
	each(t, func(x *target) {
		var payload gogen.MetricPayload
		want := samples{}
		for i := range 20 {
			kind := gogen.MetricPayload_MetricType(1 + i%3)
			s := &gogen.MetricPayload_MetricSeries{
				Metric: fmt.Sprintf("agent.metric.%d", i), Type: kind, Unit: "byte", Interval: 10, Tags: []string{"env:prod", fmt.Sprint("i:", i), "tag-only"},
				Resources: []*gogen.MetricPayload_Resource{{Type: "host", Name: "web1"}, {Type: "device", Name: "sda"}},
			}
			labels := map[string]string{"__name__": s.Metric, "env": "prod", "i": fmt.Sprint(i), "tag-only": "no_label_value", "host": "web1", "device": "sda"}
			if i%2 == 0 {
				s.SourceTypeName, labels["source_type_name"] = "System", "System"
			}
			for j := range 5 {
				at, v := int64(remoteStart/1000+10*j), float64(i)*1.5-float64(j)
				s.Points = append(s.Points, &gogen.MetricPayload_MetricPoint{Timestamp: at, Value: v})
				want.add(series(labels), 1000*at, v)
			}
			payload.Series = append(payload.Series, s)
		}
		body, err := payload.Marshal()
		if err != nil {
			x.t.Fatal(err)
		}
		x.post("/api/v2/series", body)
		x.wants(`{env="prod"}`, want)
	})
}

// post posts a payload of protobuf as the agent does.
func (x *target) post(path string, payload []byte) {
	x.t.Helper()
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	if _, err := w.Write(payload); err != nil || w.Close() != nil {
		x.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(x.t.Context(), http.MethodPost, x.path("datadog", path), &packed)
	if err != nil {
		x.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "deflate")
	req.Header.Set("DD-Api-Key", "key")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		x.t.Errorf("%s is answered %s", path, resp.Status)
	}
}
