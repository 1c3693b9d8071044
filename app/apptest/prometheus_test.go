package apptest

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

const staleMarkerBits = 0x7ff0000000000002

// promRun is a Prometheus which scrapes four targets and writes all it has to a cluster.
type promRun struct {
	t        testing.TB
	cluster  *cluster
	url      string // of Prometheus
	interval time.Duration
	scrapes  int // of the odd target until the comparison begins
	odd      *oddTarget
	leaving  string // host:port

	samples map[string][]promSample // what Prometheus holds up to endMs, by labels in JSON
	diffs   []string                // where the cluster differs
	endMs   int64
}

// promSample keeps the bits of the value, since NaN has many.
type promSample struct {
	ms   int64
	bits uint64
}

// TestPrometheus compares a cluster with the Prometheus that writes to it: the same series, the same
// bits, the same answers where the languages agree. It takes about two and a half minutes, and half a
// minute with -short, when scrapes follow one another every second.
func TestPrometheus(t *testing.T) {
	prometheus, nodeExporter := peer(t, "prometheus"), peer(t, "prometheus-node-exporter")
	t.Parallel()
	p := &promRun{t: t, interval: 5 * time.Second, scrapes: 24}
	if testing.Short() {
		p.interval, p.scrapes = time.Second, 30
	}
	p.cluster = startCluster(t, clusterOptions{})
	p.start(prometheus, nodeExporter)
	p.live()
	p.catchUp()
	t.Run("series", p.testSeries)
	t.Run("samples", p.testSamples)
	t.Run("expressions", p.testExpressions)
}

// start starts Prometheus and its targets.
func (p *promRun) start(prometheus, nodeExporter string) {
	seed := uint64(time.Now().UnixNano())
	p.t.Logf("seed %d", seed)
	p.odd = startOddTarget(p.t, seed, p.interval)
	nodeAddr, addr := freeAddr(p.t), freeAddr(p.t)
	start(p.t, spec{binary: nodeExporter, args: []string{"--web.listen-address=" + nodeAddr, "--log.level=error", "--no-collector.systemd"}})
	leaving := startLeavingTarget(p.t)
	p.leaving = hostPort(p.t, leaving.URL)
	config := fmt.Sprintf("global: {scrape_interval: %s, scrape_timeout: %[1]s}\nscrape_configs:\n", p.interval)
	for _, target := range [][2]string{
		{"prometheus", addr}, {"node", nodeAddr}, {"odd", hostPort(p.t, p.odd.server.URL)}, {"leaving", p.leaving},
	} {
		config += fmt.Sprintf("- {job_name: %s, static_configs: [{targets: ['%s']}]}\n", target[0], target[1])
	}
	config += "remote_write:\n- {url: '" + p.cluster.writeURL("0") + "/', queue_config: {batch_send_deadline: 1s}}\n"
	dir := p.t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.url = "http://" + addr
	start(p.t, spec{binary: prometheus, args: []string{
		"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--log.level=warn",
	}})
	p.waitScrapes(oddLeave)
	leaving.Close()
}

func hostPort(t testing.TB, target string) string {
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// live lets Prometheus scrape for the time of the test.
func (p *promRun) live() {
	p.waitScrapes(p.scrapes)
	p.endMs = time.Now().UnixMilli()
}

func (p *promRun) waitScrapes(n int) {
	p.t.Helper()
	eventually(p.t, startTimeout+time.Duration(2*n)*p.interval, fmt.Sprintf("scrape %d of the odd target", n), func() error {
		if got := p.odd.n.Load(); got < int64(n) {
			return fmt.Errorf("there were %d", got)
		}
		return nil
	})
}

// catchUp waits until vmselect has every sample of Prometheus up to endMs, bit by bit. What never comes
// is left to testSamples.
func (p *promRun) catchUp() {
	deadline := time.Now().Add(patience)
	for {
		p.samples = p.readPrometheus()
		p.diffs = diffSamples(p.samples, p.readCluster())
		if len(p.diffs) == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// testSeries: all series are found with the same labels, and no others.
func (p *promRun) testSeries(t *testing.T) {
	args := []string{"match[]", `{__name__!=""}`, "start", seconds(p.endMs - 3600_000)}
	until := append(args[:len(args):len(args)], "end", seconds(p.endMs))
	ours := p.cluster.readURL("0")
	series := p.seriesOf(p.url, until)
	if len(series) < 500 {
		t.Errorf("%d series; want many more", len(series))
	}
	compareSets(t, "series", series, p.seriesOf(ours, until), p.seriesOf(p.url, args))
	names := p.listOf(p.url+"/api/v1/labels", until)
	compareSets(t, "label names", names, p.listOf(ours+"/api/v1/labels", until), p.listOf(p.url+"/api/v1/labels", args))
	for name := range names {
		path := "/api/v1/label/" + name + "/values"
		compareSets(t, path, p.listOf(p.url+path, until), p.listOf(ours+path, until), p.listOf(p.url+path, args))
	}
	t.Logf("%d series with %d label names", len(series), len(names))
}

// compareSets demands what Prometheus has, and allows what it had later, since vmselect may look up
// whole days.
func compareSets(t *testing.T, what string, theirs, ours, later map[string]bool) {
	t.Helper()
	for s := range theirs {
		if !ours[s] {
			t.Errorf("%s: %s is missing", what, s)
		}
	}
	for s := range ours {
		if !theirs[s] && !later[s] {
			t.Errorf("%s: %s is not in Prometheus", what, s)
		}
	}
}

func (p *promRun) seriesOf(base string, args []string) map[string]bool {
	p.t.Helper()
	var list struct{ Data []map[string]string }
	parseJSON(p.t, get(p.t, base+"/api/v1/series", args...).want(p.t, http.StatusOK), &list)
	set := map[string]bool{}
	for _, m := range list.Data {
		set[formatLabels(p.t, m)] = true
	}
	if len(set) != len(list.Data) {
		p.t.Errorf("%s gives %d series, %d different ones", base, len(list.Data), len(set))
	}
	return set
}

func (p *promRun) listOf(target string, args []string) map[string]bool {
	p.t.Helper()
	var list struct{ Data []string }
	parseJSON(p.t, get(p.t, target, args...).want(p.t, http.StatusOK), &list)
	set := map[string]bool{}
	for _, s := range list.Data {
		set[s] = true
	}
	return set
}

// testSamples: every sample of every series is the same, timestamp and bits.
func (p *promRun) testSamples(t *testing.T) {
	for i, d := range p.diffs {
		if i == 10 {
			t.Errorf("... and %d more", len(p.diffs)-i)
			break
		}
		t.Error(d)
	}
	total, nan, markers := 0, 0, map[string]int{}
	for labels, list := range p.samples {
		for _, s := range list {
			total++
			if s.bits == staleMarkerBits {
				markers[parseLabels(t, labels)["__name__"]]++
			} else if math.IsNaN(math.Float64frombits(s.bits)) {
				nan++
			}
		}
	}
	t.Logf("%d series with %d samples, %d of them NaN; stale markers of %d metrics", len(p.samples), total, nan, len(markers))
	for _, name := range []string{"odd_vanishing", "odd_blink", "leaving_gauge", "leaving_total"} {
		if markers[name] == 0 {
			t.Errorf("%s has no stale marker, the comparison is worth little", name)
		}
	}
	// There is no negative zero to compare: the messages of remote write and remote read leave out a
	// value which equals 0, so that it arrives as 0.
	odd := `,"instance":"` + hostPort(t, p.odd.server.URL) + `","job":"odd"`
	for name, bits := range map[string]uint64{
		`"odd_infinite"` + odd: math.Float64bits(math.Inf(-1)), `"odd_nan"` + odd: 0x7ff8000000000001,
		`"odd_float"` + odd + `,"kind":"smallest"`: 1, `"odd_float"` + odd + `,"kind":"largest"`: math.Float64bits(math.MaxFloat64),
	} {
		if !p.holds(`{"__name__":`+name, bits) {
			t.Errorf("no sample of %s has the bits %016x, the comparison is worth little", name, bits)
		}
	}
}

func (p *promRun) holds(prefix string, bits uint64) bool {
	for labels, list := range p.samples {
		if !strings.HasPrefix(labels, prefix) {
			continue
		}
		for _, s := range list {
			if s.bits == bits {
				return true
			}
		}
	}
	return false
}

// diffSamples describes series which differ.
func diffSamples(theirs, ours map[string][]promSample) []string {
	var diffs []string
	for labels, want := range theirs {
		if d := diffSeries(want, ours[labels]); d != "" {
			diffs = append(diffs, labels+": "+d)
		}
	}
	for labels := range ours {
		if _, ok := theirs[labels]; !ok {
			diffs = append(diffs, labels+": not in Prometheus")
		}
	}
	sort.Strings(diffs)
	return diffs
}

func diffSeries(want, got []promSample) string {
	for i, s := range want {
		if i >= len(got) || got[i] != s {
			return fmt.Sprintf("sample %d is not %x at %d; got %d samples, want %d; the rest is %x", i, s.bits, s.ms, len(got), len(want), got[min(i, len(got)):])
		}
	}
	if len(got) > len(want) {
		return fmt.Sprintf("%d samples too many: %x", len(got)-len(want), got[len(want):])
	}
	return ""
}

// readCluster exports everything up to endMs.
func (p *promRun) readCluster() map[string][]promSample {
	p.t.Helper()
	e := export(p.t, p.cluster.readURL("0"), `{__name__!=""}`, "values", "bits", "end", seconds(p.endMs))
	m := map[string][]promSample{}
	for labels, points := range e {
		for _, pt := range points {
			var bits uint64
			if _, err := fmt.Sscanf(pt.value, `"%x"`, &bits); err != nil {
				p.t.Fatalf("cannot parse value %s of an export: %s", pt.value, err)
			}
			m[labels] = append(m[labels], promSample{pt.ms, bits})
		}
		sort.Slice(m[labels], func(i, j int) bool { return m[labels][i].ms < m[labels][j].ms })
	}
	return m
}

// readPrometheus reads all raw samples of Prometheus up to endMs through its remote read API.
func (p *promRun) readPrometheus() map[string][]promSample {
	p.t.Helper()
	matcher := &prompb.LabelMatcher{Type: prompb.LabelMatcher_NEQ, Name: "__name__"}
	req := &prompb.ReadRequest{Queries: []*prompb.Query{{EndTimestampMs: p.endMs, Matchers: []*prompb.LabelMatcher{matcher}}}}
	body, err := req.Marshal()
	if err != nil {
		p.t.Fatal(err)
	}
	a := request(p.t, http.MethodPost, p.url+"/api/v1/read", snappy.Encode(nil, body), "Content-Encoding", "snappy",
		"Content-Type", "application/x-protobuf", "X-Prometheus-Remote-Read-Version", "0.1.0").want(p.t, http.StatusOK)
	raw, err := snappy.Decode(nil, []byte(a.body))
	var resp prompb.ReadResponse
	if err = errors.Join(err, resp.Unmarshal(raw)); err != nil || len(resp.Results) != 1 {
		p.t.Fatalf("cannot parse the answer of remote read with %d results: %v", len(resp.Results), err)
	}
	m := map[string][]promSample{}
	for _, s := range resp.Results[0].Timeseries {
		labels := map[string]string{}
		for _, l := range s.Labels {
			labels[l.Name] = l.Value
		}
		key := formatLabels(p.t, labels)
		for _, sample := range s.Samples {
			m[key] = append(m[key], promSample{sample.Timestamp, math.Float64bits(sample.Value)})
		}
	}
	return m
}
