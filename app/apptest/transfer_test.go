package apptest

import (
	"net/http"
	"strings"
	"testing"
)

// TestMetadataAndDumps moves data of a cluster, and what was said of it, into another tenant and into a single node.
func TestMetadataAndDumps(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	single := start(t, spec{binary: "victoria-metrics", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageDataPath=" + t.TempDir(), "-retentionPeriod=100y"}})
	other := "http://" + single.httpAddr()
	const text = "# HELP moved_total What is moved.\n# TYPE moved_total counter\n# TYPE other gauge\nmoved_total{x=\"1\"} 1 1717200000000\nmoved_total{x=\"2\"} NaN 1717200000000\nother 3.25 1717200060000\n"
	for _, base := range []string{c.writeURL("1"), other} {
		request(t, http.MethodPost, base+"/api/v1/import/prometheus", []byte(text)).want(t, http.StatusNoContent)
	}
	for target, partial := range map[string]string{c.readURL("1"): `"isPartial":false,`, other: ""} {
		got := get(t, target+"/api/v1/metadata").want(t, http.StatusOK)
		want := `{"status":"success",` + partial + `"data":{"moved_total":[{"type":"counter","help":"What is moved."}],"other":[{"type":"gauge","help":""}]}}`
		if got.body != want {
			t.Errorf("%s: metadata is %s; want %s", target, got.body, want)
		}
	}
	get(t, c.readURL("2")+"/api/v1/metadata").want(t, http.StatusOK, `"data":{}`)
	all := []string{"match[]", `{__name__!=""}`, "start", "0", "values", "bits"}
	want := get(t, c.readURL("1")+"/api/v1/export", all...).want(t, http.StatusOK).body
	if n := strings.Count(want, "\n"); n != 3 {
		t.Fatalf("%d series are exported: %s", n, want)
	}
	dump := get(t, c.readURL("1")+"/api/v1/export/native", "match[]", `{__name__!=""}`, "start", "0").want(t, http.StatusOK).body
	request(t, http.MethodPost, c.writeURL("3")+"/api/v1/import/native", []byte(dump)).want(t, http.StatusNoContent)
	request(t, http.MethodPost, other+"/api/v1/import/native?extra_label=from=cluster", []byte(dump)).want(t, http.StatusNoContent)
	if got := get(t, c.readURL("3")+"/api/v1/export", all...).want(t, http.StatusOK).body; got != want {
		t.Errorf("the other tenant has\n%s; want\n%s", got, want)
	}
	if got := get(t, other+"/api/v1/export", append(all, "extra_label", "from=cluster")...).want(t, http.StatusOK).body; strings.ReplaceAll(got, `,"from":"cluster"`, "") != want {
		t.Errorf("the single node has\n%s; want\n%s", got, want)
	}
	if got := get(t, c.readURL("1")+"/federate", "match[]", "other", "end", "1717200100").want(t, http.StatusOK).body; got != "other 3.25 1717200060000\n" {
		t.Errorf("federate answers %q", got)
	}
	request(t, http.MethodPost, other+"/api/v1/import/native", []byte(dump[:len(dump)-3])).want(t, http.StatusBadRequest, "cut off")
}
