package apptest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"vmcluster/app/internal/bench"
	"vmcluster/lib/prompb"
)

// modest is a dataset as a small site would send it, with what was sent of each series.
type modest struct {
	dir      string
	manifest *bench.Manifest
	samples  map[string][]prompb.Sample // by the labels in JSON with sorted names
}

func modestDataset(t *testing.T) *modest {
	t.Helper()
	o := bench.DefaultGenerateOptions()
	o.Dir, o.Hosts, o.Scrapes, o.End = filepath.Join(t.TempDir(), "dataset"), 40, 12, anHourAgo()/1000
	if testing.Short() {
		o.Hosts = 5
	}
	m, err := bench.Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	d := &modest{dir: o.Dir, manifest: m, samples: map[string][]prompb.Sample{}}
	err = bench.ReadSeries(o.Dir, func(s *prompb.TimeSeries[prompb.Label]) error {
		labels := map[string]string{}
		for _, l := range s.Labels {
			labels[l.Name] = l.Value
		}
		key, err := json.Marshal(labels)
		d.samples[string(key)] = append(d.samples[string(key)], s.Samples...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// send replays the dataset. It fails the test unless all requests are taken at once.
func (d *modest) send(t *testing.T, root string) {
	t.Helper()
	res, err := bench.Ingest(t.Context(), bench.IngestOptions{Dataset: d.dir, URL: root + "/api/v1/write", Conns: 4, ToScrape: math.MaxInt})
	if err != nil {
		t.Fatal(err)
	}
	if res.Samples != d.manifest.Samples || res.Retries != 0 {
		t.Errorf("sent %d of %d samples with %d retries", res.Samples, d.manifest.Samples, res.Retries)
	}
}

// TestModestLoad: half a million samples of 44 thousand series, counted at every station and found again one by one.
func TestModestLoad(t *testing.T) {
	t.Parallel()
	d := modestDataset(t)
	t.Run("cluster", func(t *testing.T) {
		c := startCluster(t, clusterOptions{})
		d.send(t, c.writeURL("0"))
		checkLoadMetrics(t, c, float64(d.manifest.Samples))
		c.flush()
		d.check(t, c.readURL("0"))
	})
	t.Run("single", func(t *testing.T) {
		s := startSingle(t)
		d.send(t, s.url(""))
		for _, name := range []string{"vm_rows_inserted_total", "vm_rows_received_by_storage_total", "vm_rows_added_to_storage_total"} {
			if got := mustMetric(t, s.addr, name); got != float64(d.manifest.Samples) {
				t.Errorf("%s is %v; want %d", name, got, d.manifest.Samples)
			}
		}
		get(t, s.url("/internal/force_flush")).want(t, http.StatusOK)
		d.check(t, s.url(""))
	})
}

// checkLoadMetrics follows the samples through the cluster: what each station counts adds up, and the
// nodes have nearly equal shares.
func checkLoadMetrics(t *testing.T, c *cluster, n float64) {
	t.Helper()
	if got := mustMetric(t, c.insertAddr, "vm_rows_inserted_total", `type="promremotewrite"`); got != n {
		t.Errorf("vm_rows_inserted_total is %v; want %v", got, n)
	}
	for _, name := range []string{"vm_rpc_rows_rerouted_from_here_total", "vm_rows_ignored_total"} {
		if got := mustMetric(t, c.insertAddr, name); got != 0 {
			t.Errorf("%s is %v", name, got)
		}
	}
	total, shares := 0.0, []float64{}
	for _, node := range c.storage {
		sent := mustMetric(t, c.insertAddr, "vm_rpc_rows_sent_total", fmt.Sprintf("addr=%q", node.insert))
		read := mustMetric(t, node.http, "vm_vminsert_metrics_read_total")
		received := mustMetric(t, node.http, "vm_rows_received_by_storage_total")
		added := mustMetric(t, node.http, "vm_rows_added_to_storage_total")
		if read != sent || received != sent || added != sent {
			t.Errorf("%s: %v rows sent, %v read, %v received, %v added", node.spec.name, sent, read, received, added)
		}
		total, shares = total+read, append(shares, read)
	}
	if total != n {
		t.Errorf("the nodes have read %v rows; want %v", total, n)
	}
	if low, high := min(shares[0], shares[1]), max(shares[0], shares[1]); high > 1.1*low {
		t.Errorf("the nodes have read %v rows: they differ by more than 10 %%", shares)
	}
}

// check finds everything again: by queries, which count numbers, and by export, which shows every sample.
func (d *modest) check(t *testing.T, base string) {
	t.Helper()
	d.checkCounts(t, base)
	for _, job := range []string{"node", "prometheus"} {
		d.checkExport(t, base, job)
	}
}

// checkCounts compares the number of samples of each series, and the total.
func (d *modest) checkCounts(t *testing.T, base string) {
	t.Helper()
	end, window := d.manifest.EndMs+60_000, (d.manifest.EndMs-d.manifest.StartMs)/1000+300
	counted, total := 0, 0
	for _, job := range []string{"node", "prometheus"} {
		expr := fmt.Sprintf("count_over_time({job=%q}[%ds]) keep_metric_names", job, window)
		q := parseQuery(t, postForm(t, base+"/api/v1/query", "query", expr, "time", seconds(end), "nocache", "1"))
		for _, r := range q.Data.Result {
			key, err := json.Marshal(r.Metric)
			if err != nil {
				t.Fatal(err)
			}
			n := countOf(t, r.Value)
			if want := numbers(d.samples[string(key)]); n != want {
				t.Fatalf("%s has %d samples; want %d", key, n, want)
			}
			counted, total = counted+1, total+n
		}
	}
	want := 0
	for _, samples := range d.samples {
		if numbers(samples) > 0 {
			want++
		}
	}
	if counted != want || int64(total) != d.manifest.Numbers() {
		t.Errorf("counted %d samples of %d series; want %d of %d", total, counted, d.manifest.Numbers(), want)
	}
	sum := instant(t, base, fmt.Sprintf(`sum(count_over_time({job=~"node|prometheus"}[%ds]))`, window), end, "nocache", "1")
	if len(sum) != 1 || sum[0] != fmt.Sprintf("{} %d", d.manifest.Numbers()) {
		t.Errorf("the total is %v; want %d", sum, d.manifest.Numbers())
	}
}

func countOf(t *testing.T, value [2]json.RawMessage) int {
	t.Helper()
	n, err := strconv.Unquote(string(value[1]))
	if err != nil {
		t.Fatal(err)
	}
	count, err := strconv.Atoi(n)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// numbers counts the samples that are not NaN.
func numbers(samples []prompb.Sample) int {
	n := 0
	for _, s := range samples {
		if !math.IsNaN(s.Value) {
			n++
		}
	}
	return n
}

// checkExport compares every sample of a job, bit by bit; NaN is null in JSON.
func (d *modest) checkExport(t *testing.T, base, job string) {
	t.Helper()
	found := export(t, base, fmt.Sprintf("{job=%q}", job))
	want := 0
	for key, samples := range d.samples {
		var labels map[string]string
		if err := json.Unmarshal([]byte(key), &labels); err != nil {
			t.Fatal(err)
		}
		if labels["job"] != job {
			continue
		}
		want++
		if !equalPoints(found[key], samples) {
			t.Fatalf("%s is exported as %v; want %v", key, found[key], samples)
		}
	}
	if len(found) != want || want == 0 {
		t.Errorf("%d series of job %s are exported; want %d", len(found), job, want)
	}
	selector := url.Values{"match[]": {fmt.Sprintf("{job=%q}", job)}, "start": {"-1d"}}
	a := get(t, base+"/api/v1/series?"+selector.Encode()).want(t, http.StatusOK)
	var list struct{ Data []map[string]string }
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list.Data) != want {
		t.Errorf("%d series of job %s are listed; want %d: %v", len(list.Data), job, want, err)
	}
}

func equalPoints(points []point, samples []prompb.Sample) bool {
	if len(points) != len(samples) {
		return false
	}
	for i, s := range samples {
		if points[i].ms != s.Timestamp {
			return false
		}
		if null := points[i].value == "null"; null != math.IsNaN(s.Value) || !null && math.Float64bits(number(points[i].value)) != math.Float64bits(s.Value) {
			return false
		}
	}
	return true
}

// TestBenchmarkTool: vmbench starts, measures and kills our binaries as docs/benchmarks.md says. The numbers do not matter
// here; that all samples are counted, all queries answered, and nothing acknowledged is lost, does.
func TestBenchmarkTool(t *testing.T) {
	t.Parallel()
	bin, dir := filepath.Dir(binary(t, "vmstorage")), t.TempDir()
	results, err := bench.Run(t.Context(), bench.RunOptions{
		Lab:   bench.Lab{Bin: bin, Dir: dir, Out: filepath.Join(dir, "results.jsonl"), Log: t.Output()},
		Peers: "ours-cluster,ours-single", Datasets: "a,c", Repeat: 1,
		Hosts: 5, Scrapes: 8, Seed: 1, Conns: 4, Rounds: 1, IdleEvery: 20 * time.Millisecond, Cold: "count_by_name", ColdFiles: true,
	})
	if err != nil || len(results) != 4 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for _, r := range results {
		if r.Stored == nil || *r.Stored != r.Expected || r.Expected != r.Sent.Numbers() || r.DiskAfter.Index == 0 {
			t.Errorf("%s, dataset %s: %d of %d samples are stored, disk %+v", r.Peer, r.Dataset, *r.Stored, r.Expected, *r.DiskAfter)
		}
		if !r.Exact.OK() || r.Cold.Queries[0].Series == 0 {
			t.Errorf("%s, dataset %s: values %+v, cold queries %+v", r.Peer, r.Dataset, r.Exact, r.Cold)
		}
		if r.Queries.Errors > 0 {
			t.Errorf("%s, dataset %s: queries failed: %+v", r.Peer, r.Dataset, r.Queries.Queries)
		}
	}
	c, err := bench.ComparePeers(t.Context(), bench.PeerCompareOptions{Tolerance: 1e-9, Run: bench.RunOptions{
		Lab: bench.Lab{Bin: bin, Dir: dir, Log: t.Output()}, Peers: "ours-cluster,ours-single", Datasets: "a", Hosts: 5, Scrapes: 8, Seed: 1, Conns: 4,
	}}, func(d *bench.Diff) error {
		if d.Different() {
			t.Errorf("cluster and single node differ: %+v", *d)
		}
		return nil
	})
	if err != nil || c.Queries == 0 {
		t.Errorf("compared %+v, %v", c, err)
	}
	crashed, err := bench.Crash(t.Context(), bench.CrashOptions{
		Lab: bench.Lab{Bin: bin, Dir: dir, Log: t.Output()}, Peer: "ours-cluster", Kills: 2, Every: 500 * time.Millisecond, Writers: 2, Series: 20, Pause: loadPause, ReadTimeout: patience,
	})
	if err != nil || crashed.Failed() || crashed.Found != crashed.AckedSamples {
		t.Errorf("crash: %+v, %v", crashed, err)
	}
}

// TestBenchmarkToolPeers: the systems we compare with can be measured, too.
func TestBenchmarkToolPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts systems that are not ours")
	}
	t.Parallel()
	peer(t, "prometheus")
	peer(t, "victoria-metrics")
	dir := t.TempDir()
	results, err := bench.Run(t.Context(), bench.RunOptions{
		Lab:   bench.Lab{Dir: dir, Out: filepath.Join(dir, "results.jsonl"), Log: t.Output()},
		Peers: "vm-single,prometheus", Datasets: "a", Repeat: 1,
		Hosts: 2, Scrapes: 8, Seed: 1, Conns: 4, Rounds: 1, IdleEvery: 20 * time.Millisecond,
	})
	if err != nil || len(results) != 2 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for _, r := range results {
		if *r.Stored != r.Expected || r.DiskAfter.Bytes == 0 || r.DiskAfter.Index == 0 || r.Queries.Errors > 0 {
			t.Errorf("%s: %d of %d samples are stored, disk %+v, queries %+v", r.Peer, *r.Stored, r.Expected, *r.DiskAfter, r.Queries.Queries)
		}
	}
}
