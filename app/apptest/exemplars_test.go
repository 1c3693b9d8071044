package apptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// writeV2 sends a request of remote write 2.0.
func writeV2(t *testing.T, target string, r *writev2.Request) answer {
	t.Helper()
	body, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return request(t, http.MethodPost, target, snappy.Encode(nil, body), "Content-Encoding", "snappy",
		"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request", "X-Prometheus-Remote-Write-Version", "2.0.0").want(t, http.StatusNoContent)
}

// exemplarsFound returns how many exemplars an answer has, and whether it is partial.
func exemplarsFound(t *testing.T, a answer) (n int, partial bool) {
	t.Helper()
	var parsed struct {
		IsPartial bool
		Data      []struct {
			Exemplars []struct{ Labels map[string]string }
		}
	}
	if err := json.Unmarshal([]byte(a.want(t, http.StatusOK).body), &parsed); err != nil {
		t.Fatalf("%s: %s", a, err)
	}
	for _, s := range parsed.Data {
		n += len(s.Exemplars)
	}
	return n, parsed.IsPartial
}

// TestExemplars writes exemplars in two copies, kills nodes, and starts them again: none of those acknowledged is missing.
func TestExemplars(t *testing.T) {
	c := startCluster(t, clusterOptions{nodes: 3, insertArgs: []string{"-replicationFactor=2"}, selectArgs: []string{"-replicationFactor=2"}})
	const n = 60
	r := &writev2.Request{}
	table := writev2.NewSymbolTable()
	for i := range n {
		r.Timeseries = append(r.Timeseries, writev2.TimeSeries{
			LabelsRefs: []uint32{table.Symbolize("__name__"), table.Symbolize("m"), table.Symbolize("i"), table.Symbolize(fmt.Sprint(i))},
			Samples:    []writev2.Sample{{Timestamp: fixed, Value: 1}},
			Exemplars:  []writev2.Exemplar{{LabelsRefs: []uint32{table.Symbolize("trace_id"), table.Symbolize(fmt.Sprintf("trace-%d", i))}, Timestamp: fixed, Value: 1}},
		})
	}
	r.Symbols = table.Symbols()
	write := func() {
		t.Helper()
		if got := writeV2(t, c.writeURL("0")+"/api/v1/write", r).header.Get("X-Prometheus-Remote-Write-Exemplars-Written"); got != fmt.Sprint(n) {
			t.Errorf("%s exemplars are written", got)
		}
	}
	read := func(want int, whole bool) {
		t.Helper()
		a := get(t, c.readURL("0")+"/api/v1/query_exemplars", "query", `rate(m[5m])`, "start", seconds(fixed-1000), "end", seconds(fixed+1000))
		if found, partial := exemplarsFound(t, a); found != want || partial == whole {
			t.Errorf("%d exemplars are found, partial %v; want %d, whole %v", found, partial, want, whole)
		}
	}
	write()
	write() // a sender who has not seen the answer
	read(n, true)
	for _, node := range c.storage {
		node.kill()
		read(n, true)
		node.restart()
		c.sel.waitLog(`^dialed -storageNode="` + regexp.QuoteMeta(node.sel) + `" again$`)
	}
	for _, node := range c.storage {
		c.insert.waitLog(`^dialed -storageNode="` + regexp.QuoteMeta(node.insert) + `" again$`)
	}
	read(n, true)
	text := "m{i=\"text\"} 1 " + fmt.Sprint(fixed) + " # {trace_id=\"of text\"} 1 " + seconds(fixed) + "\n"
	request(t, http.MethodPost, c.writeURL("0")+"/api/v1/import/prometheus", []byte(text)).want(t, http.StatusNoContent)
	a := get(t, strings.Replace(c.readURL("0"), "/prometheus", "/promql", 1)+"/api/v1/query_exemplars", "query", `m{i="text"}`)
	if found, _ := exemplarsFound(t, a); found != 1 || !strings.Contains(a.body, `"labels":{"trace_id":"of text"}`) {
		t.Errorf("%s", a)
	}
	get(t, c.readURL("1")+"/api/v1/query_exemplars", "query", `m`).want(t, http.StatusOK, `"data":[]`)
}

// TestFirstIncrease has a counter which is 5 when it is first seen, through a restart of vminsert and of the counter: all of it counts.
func TestFirstIncrease(t *testing.T) {
	c := startCluster(t, clusterOptions{nodes: 2, insertArgs: []string{"-replicationFactor=2"}, selectArgs: []string{"-replicationFactor=2"}})
	now := time.Now().UnixMilli() / 1000 * 1000
	send := func(start, at int64, value float64) {
		t.Helper()
		table := writev2.NewSymbolTable()
		labels := []uint32{table.Symbolize("__name__"), table.Symbolize("seen_total")}
		writeV2(t, c.writeURL("0")+"/api/v1/write", &writev2.Request{Symbols: table.Symbols(), Timeseries: []writev2.TimeSeries{{
			LabelsRefs: labels, Samples: []writev2.Sample{{Timestamp: now + at, Value: value, StartTimestamp: now + start}},
			Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER},
		}}})
	}
	send(-200_000, -195_000, 5)
	send(-200_000, -180_000, 7)
	c.insert.kill()
	c.insert.run()
	for _, n := range c.storage {
		c.insert.waitLog(dialed(n.insert))
	}
	send(-200_000, -165_000, 8)
	send(-150_000, -145_000, 3)
	send(-150_000, -130_000, 4)
	c.flush()
	at := []string{"time", seconds(now), "nocache", "1"}
	get(t, c.readURL("0")+"/api/v1/query", append(at, "query", "increase(seen_total[5m])")...).want(t, http.StatusOK, `"12"]`)
	promql := strings.Replace(c.readURL("0"), "/prometheus", "/promql", 1)
	get(t, promql+"/api/v1/query", append(at, "query", "count_over_time(seen_total[5m])")...).want(t, http.StatusOK, `"7"]`)
	get(t, promql+"/api/v1/query", append(at, "query", "increase(seen_total[5m]) >= bool 12")...).want(t, http.StatusOK, `"1"]`)
}
