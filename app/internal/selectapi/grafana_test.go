package selectapi_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

var updateGrafana = flag.Bool("update-grafana", false, "rewrite the answers in testdata/grafana.txt")

const grafanaFile = "testdata/grafana.txt"

// TestGrafana makes the requests of Grafana's Prometheus data source, as they go over the wire from dashboards, variables, annotations, Explore and the health
// check of the data source, and compares the answers with those in the file, which have been looked at one by one. The cluster and the single
// node answer alike.
func TestGrafana(t *testing.T) {
	s := startServers(t)
	client := &http.Client{}
	t.Cleanup(client.CloseIdleConnections)
	post(t, client, s.bases["vminsert"]+"/insert/77/prometheus/api/v1/import/prometheus", grafanaData())
	post(t, client, s.bases["single"]+"/api/v1/import/prometheus", grafanaData())
	text, err := os.ReadFile(grafanaFile)
	if err != nil {
		t.Fatal(err)
	}
	head, cases, _ := strings.Cut(string(text), "\n\n")
	out := head + "\n"
	for c := range strings.SplitSeq(strings.TrimSpace(cases), "\n\n") {
		lines := strings.SplitN(c, "\n", 4)
		if len(lines) < 3 {
			t.Fatalf("not a case: %q", c)
		}
		want := ""
		if len(lines) == 4 {
			want = lines[3]
		}
		got := askGrafana(t, client, s.bases["vmselect"]+"/select/77/prometheus", lines[1], lines[2])
		single := askGrafana(t, client, s.bases["single"]+"/prometheus", lines[1], lines[2])
		if cluster := strings.ReplaceAll(got, `"isPartial":false,`, ""); single != cluster {
			t.Errorf("%s: the single node answers\n%s\nand the cluster\n%s", lines[0], single, cluster)
		}
		if got != want && !*updateGrafana {
			t.Errorf("%s: %s %s\n got %s\nwant %s", lines[0], lines[1], lines[2], got, want)
		}
		out += fmt.Sprintf("\n%s\n%s\n%s\n%s\n", lines[0], lines[1], lines[2], got)
	}
	if *updateGrafana {
		if err := os.WriteFile(grafanaFile, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// askGrafana makes a request as the data source does: GET with arguments in the URL, POST with a form.
func askGrafana(t *testing.T, client *http.Client, base, request, args string) string {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	var body io.Reader
	target := base + path
	if method == http.MethodPost {
		body = strings.NewReader(args)
	} else if args != "-" {
		target += "?" + args
	}
	req, err := http.NewRequest(method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("X-Grafana-Org-Id", "1")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	timing := regexp.MustCompile(`"executionTimeMsec":\d+`)
	return fmt.Sprintf("%d %s", resp.StatusCode, timing.ReplaceAllString(strings.TrimSpace(string(answer)), `"executionTimeMsec":0`))
}

// grafanaData returns ten minutes of two instances with a counter and a histogram.
func grafanaData() string {
	var b strings.Builder
	b.WriteString("# HELP http_requests_total Requests by status.\n# TYPE http_requests_total counter\n# HELP request_seconds How long requests took.\n# TYPE request_seconds histogram\n")
	for i := range 41 {
		at := (1717200000 + 15*i) * 1000
		for k, instance := range []string{"a:80", "b:80"} {
			fmt.Fprintf(&b, "up{job=\"api\",instance=%q} %d %d\n", instance, min(1, i%20), at)
			fmt.Fprintf(&b, "http_requests_total{job=\"api\",instance=%q,code=\"200\"} %d %d\n", instance, 30*i*(k+1), at)
			for n, le := range []string{"0.1", "1", "+Inf"} {
				fmt.Fprintf(&b, "request_seconds_bucket{job=\"api\",instance=%q,le=%q} %d %d\n", instance, le, 10*i*(n+1), at)
			}
		}
	}
	return b.String()
}
