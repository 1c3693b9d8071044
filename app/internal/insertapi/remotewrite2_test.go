package insertapi

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	oracle "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/nativehistogram"
)

const contentTypeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"

// writeV2 sends the series by remote write 2.0; a series without a name is bad.
func (s *server) writeV2(t *testing.T, contentType, encoding string, series ...oracle.TimeSeries) *httptest.ResponseRecorder {
	t.Helper()
	body, err := (&oracle.Request{Symbols: []string{"", "__name__", "m", "a", "b"}, Timeseries: series}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return s.do("POST", "/insert/1/prometheus/api/v1/write", bytes.NewReader(snappy.Encode(nil, body)), "Content-Type", contentType, "Content-Encoding", encoding)
}

func TestRemoteWrite2(t *testing.T) {
	samples := []oracle.Sample{{Timestamp: 1000, Value: 1}, {Timestamp: 2000, Value: 2}}
	good := oracle.TimeSeries{LabelsRefs: []uint32{1, 2, 3, 4}, Samples: samples}
	nameless := oracle.TimeSeries{LabelsRefs: []uint32{3, 4}, Samples: samples}
	histogram := oracle.TimeSeries{LabelsRefs: []uint32{1, 2}, Histograms: []oracle.Histogram{{Timestamp: 5}}}
	wrong := oracle.TimeSeries{LabelsRefs: []uint32{1, 2}, Histograms: []oracle.Histogram{{Timestamp: 5}, {Schema: 60}}}
	stored := []string{`tenant 1:0 m{a="b"}@1000=1`, `tenant 1:0 m{a="b"}@2000=2`}
	empty := fmt.Sprintf("tenant 1:0 m@5=%x", new(nativehistogram.Histogram).Append(nil))
	withHistogram := append([]string{empty}, stored...)
	for name, c := range map[string]struct {
		contentType, encoding string
		series                []oracle.TimeSeries
		err                   error // of the storage
		status                int
		written               string
		text                  string
		rows                  []string
	}{
		"all":                {contentTypeV2, "snappy", []oracle.TimeSeries{good}, nil, 204, "2", "", stored},
		"nothing":            {contentTypeV2, "snappy", nil, nil, 204, "0", "", nil},
		"partial":            {contentTypeV2, "snappy", []oracle.TimeSeries{good, nameless}, nil, 400, "2", "cannot store 2 of 4 samples: the metric name is empty", stored},
		"native histogram":   {contentTypeV2, "snappy", []oracle.TimeSeries{good, histogram}, nil, 204, "2", "", withHistogram},
		"wrong histogram":    {contentTypeV2, "snappy", []oracle.TimeSeries{good, wrong}, nil, 400, "2", "cannot store 1 of 4 samples: cannot store native histogram: its schema is 60; send -4 to 52", withHistogram},
		"storage is away":    {contentTypeV2, "snappy", []oracle.TimeSeries{good}, errkind.New(errkind.Unavailable, "no node"), 503, "0", "no node", nil},
		"spaces and case":    {"Application/X-Protobuf; proto=\"io.prometheus.write.v2.Request\"", "Snappy", []oracle.TimeSeries{good}, nil, 204, "2", "", stored},
		"unknown message":    {"application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", []oracle.TimeSeries{good}, nil, 415, "", "io.prometheus.write.v2.Request", nil},
		"unknown encoding":   {contentTypeV2, "br", []oracle.TimeSeries{good}, nil, 415, "", `"br"`, nil},
		"not said to be 2.0": {"application/x-protobuf", "snappy", []oracle.TimeSeries{good}, nil, 400, "", "proto=io.prometheus.write.v2.Request", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, Cluster)
			s.err = c.err
			w := s.writeV2(t, c.contentType, c.encoding, c.series...)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
				t.Errorf("status %d, %q; want %d, %q", w.Code, w.Body, c.status, c.text)
			}
			for _, what := range []string{"Samples", "Histograms", "Exemplars"} {
				want := c.written
				if what != "Samples" && want != "" {
					want = "0"
				}
				if what == "Histograms" && slices.Contains(c.rows, empty) {
					want = "1"
				}
				if got := w.Header().Get("X-Prometheus-Remote-Write-" + what + "-Written"); got != want {
					t.Errorf("%s written: %q; want %q", what, got, want)
				}
			}
			if rows := s.take(); strings.Join(rows, " ") != strings.Join(c.rows, " ") {
				t.Errorf("rows %v; want %v", rows, c.rows)
			}
		})
	}
}

// TestProtobufIsNoText: what clients of the Pushgateway send in protobuf is refused, rather than counted as bad lines and lost.
func TestProtobufIsNoText(t *testing.T) {
	s := newServer(t, SingleNode)
	for contentType, status := range map[string]int{
		"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited": 415, "text/plain; version=0.0.4": 200, "": 200, "x/y/z": 200,
	} {
		w := s.do("POST", "/api/v1/import/prometheus/metrics/job/j", strings.NewReader("m 1 1"), "Content-Type", contentType)
		if rows := s.take(); w.Code != status || len(rows) != map[int]int{415: 0, 200: 1}[status] || status == 415 && !strings.Contains(w.Body.String(), "text format") {
			t.Errorf("%s: %d %s, rows %q", contentType, w.Code, w.Body, rows)
		}
	}
}
