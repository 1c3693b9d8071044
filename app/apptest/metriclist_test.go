package apptest

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// listedMetric is a line of testdata/selfmetrics.txt.
type listedMetric struct {
	processes []string // empty: absent
	family    string
	labels    map[string][]string // values there must be; none: any
	reason    string              // why it is absent
}

// metricList reads testdata/selfmetrics.txt.
func metricList(t *testing.T) []listedMetric {
	t.Helper()
	text, err := os.ReadFile("testdata/selfmetrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []listedMetric
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if fields[0] == "" || fields[0] == "#" {
			continue
		}
		m := listedMetric{labels: map[string][]string{}}
		family, labels, _ := strings.Cut(strings.TrimSuffix(fields[1], "}"), "{")
		m.family = family
		for label := range strings.SplitSeq(labels, ",") {
			if name, values, ok := strings.Cut(label, "="); ok {
				m.labels[name] = strings.Split(strings.Trim(values, `"`), "|")
			} else if label != "" {
				m.labels[label] = nil
			}
		}
		switch {
		case fields[0] == "absent" && len(fields) == 3:
			m.reason = fields[2]
		case fields[0] == "all" && len(fields) == 2:
			m.processes = []string{"vmstorage", "vminsert", "vmselect", "single", "vmbackup", "vmrestore"}
		case len(fields) == 2:
			m.processes = strings.Split(fields[0], ",")
		default:
			t.Fatalf("cannot understand %q", line)
		}
		list = append(list, m)
	}
	return list
}

// missing returns what a page of metrics lacks of the metric; nothing if it has all.
func (m *listedMetric) missing(page string) (what []string) {
	lines := regexp.MustCompile(`(?m)^`+m.family+`(\{.*\})? .*$`).FindAllString(page, -1)
	if len(lines) == 0 {
		return []string{m.family}
	}
	for name, values := range m.labels {
		if len(values) == 0 {
			values = []string{""}
		}
		for _, v := range values {
			pattern := regexp.MustCompile(`[{ ,]` + name + `="` + regexp.QuoteMeta(v))
			if v != "" {
				pattern = regexp.MustCompile(`[{ ,]` + name + `="` + regexp.QuoteMeta(v) + `"`)
			}
			if !slices.ContainsFunc(lines, pattern.MatchString) {
				what = append(what, fmt.Sprintf("%s{%s=%q}", m.family, name, v))
			}
		}
	}
	return what
}

// watched are a cluster and a single node with everything on that has metrics.
type watched struct {
	cluster *cluster
	single  *single
}

func startWatched(t *testing.T) *watched {
	t.Helper()
	limits := filepath.Join(t.TempDir(), "limits")
	if err := os.WriteFile(limits, []byte("default samples_per_second=100000000 active_series=1000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(t.TempDir(), "relabel.yml")
	if err := os.WriteFile(rules, []byte("- {action: drop, source_labels: [__name__], regex: unwanted}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	aggregation := filepath.Join(t.TempDir(), "aggregation.yml")
	if err := os.WriteFile(aggregation, []byte("- {name: watched, match: aggregated, interval: 1m, outputs: [last]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := []string{"-storage.maxHourlySeries=100000", "-storage.maxDailySeries=100000", "-metrics.exposeMetadata"}
	insert := []string{"-relabelConfig=" + rules, "-metrics.exposeMetadata"}
	tenants := "-tenantLimits.config=" + limits
	return &watched{
		cluster: startCluster(t, clusterOptions{storageArgs: store, insertArgs: append(insert, tenants), selectArgs: []string{tenants, "-metrics.exposeMetadata"}}),
		single:  startSingle(t, slices.Concat(insert, store, []string{"-streamAggr.config=" + aggregation})...),
	}
}

func (w *watched) addrs() map[string]string {
	return map[string]string{"vmstorage": w.cluster.storage[0].http, "vminsert": w.cluster.insertAddr, "vmselect": w.cluster.selectAddr, "single": w.single.addr}
}

// targets returns where to write, and where to read, in the cluster and in the single node.
func (w *watched) targets() [][2]string {
	return [][2]string{{w.cluster.writeURL("0"), w.cluster.readURL("0")}, {w.single.url(""), w.single.url("")}}
}

// use writes and reads a little.
func (w *watched) use(t *testing.T) {
	t.Helper()
	for _, target := range w.targets() {
		write, read := target[0], target[1]
		writeMany(t, write, "temperature", 50)
		now := time.Now().UnixMilli()
		request(t, http.MethodPost, write+"/api/v1/import/prometheus", []byte(fmt.Sprintf("# TYPE hum gauge\nhum{a=\"b\"} 1 %d\n", now))).want(t, http.StatusNoContent)
		get(t, read+"/api/v1/query", "query", "rate(temperature[1d])", "time", seconds(fixed)).want(t, http.StatusOK)
		get(t, read+"/api/v1/query", "query", "sum(temperature)", "time", seconds(fixed+1000)).want(t, http.StatusOK)
		get(t, read+"/api/v1/query_range", "query", "sum(hum)", "start", seconds(now-3600_000), "step", "60").want(t, http.StatusOK)
	}
}

// pages returns /metrics of all processes, and what vmbackup and vmrestore send when they end.
func (w *watched) pages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for name, addr := range w.addrs() {
		pages[name] = get(t, "http://"+addr+"/metrics").want(t, http.StatusOK).body
	}
	dst := "fs://" + t.TempDir()
	pages["vmbackup"] = w.pushed(t, "vmbackup", func(push ...string) {
		vmbackup(t, w.single.data, append(push, "-snapshotName="+newSnapshot(t, w.single.addr), "-dst="+dst)...)
	})
	pages["vmrestore"] = w.pushed(t, "vmrestore", func(push ...string) {
		vmrestore(t, filepath.Join(t.TempDir(), "data"), append(push, "-src="+dst)...)
	})
	return pages
}

// pushed returns the metrics that a program which ends by itself has pushed, as a page.
func (w *watched) pushed(t *testing.T, name string, run func(push ...string)) string {
	t.Helper()
	run("-pushmetrics.url="+w.single.url("/api/v1/import/prometheus"), "-pushmetrics.interval=1h", "-pushmetrics.extraLabel=pushed="+name)
	waitFound(t, w.single.url(""), `vm_app_uptime_seconds{pushed="`+name+`"}`)
	var b strings.Builder
	for _, line := range instant(t, w.single.url(""), `{pushed="`+name+`"}`, time.Now().UnixMilli()) {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// TestSelfMetrics: the processes have every metric of the list, with its labels, and none that is said to be absent; what ends in _total is a counter.
func TestSelfMetrics(t *testing.T) {
	t.Parallel()
	w := startWatched(t)
	w.use(t)
	pages := w.pages(t)
	eventually(t, patience, "metrics of tenants", func() error { // vmstorage counts them now and then
		for _, name := range []string{"vmstorage", "single"} {
			if pages[name] = get(t, "http://"+w.addrs()[name]+"/metrics").body; !strings.Contains(pages[name], "\nvm_tenant_active_timeseries{") {
				return fmt.Errorf("%s has none", name)
			}
		}
		return nil
	})
	seen := 0
	for _, m := range metricList(t) {
		conditional := strings.HasPrefix(m.family, "vm_tls_") || m.family == "vm_tenant_limit_exceeded_total" // they need certificates, a request too many
		for _, p := range m.processes {
			if p == "vmbackupmanager" {
				continue // its own tests look for them
			}
			if what := m.missing(pages[p]); len(what) > 0 && !conditional && !uncounted(m.family) {
				t.Errorf("%s lacks %s", p, what)
			}
			seen++
		}
		for p, page := range pages {
			if len(m.processes) == 0 && len(m.missing(page)) == 0 {
				t.Errorf("%s has %s %v, which is listed as absent: %s", p, m.family, m.labels, m.reason)
			}
		}
	}
	if seen < 500 {
		t.Errorf("only %d metrics were looked for", seen)
	}
	for p, page := range pages {
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+_total) (\S+)$`).FindAllStringSubmatch(page, -1) {
			if m[2] != "counter" {
				t.Errorf("%s of %s is a %s", m[1], p, m[2])
			}
		}
	}
}

// uncounted reports whether the metric, or an expression, is about pressure and the kernel does not count that.
func uncounted(metric string) bool {
	_, err := os.Stat("/proc/pressure/cpu")
	return strings.Contains(metric, "process_pressure_") && err != nil
}

// moved returns how much a metric, summed over series with all of the labels, grows in the course of do.
func moved(t *testing.T, addr, family string, labels []string, do func()) float64 {
	t.Helper()
	before, err := metric(addr, family, labels...)
	if err != nil {
		t.Fatal(err)
	}
	do()
	after, err := metric(addr, family, labels...)
	if err != nil {
		t.Fatal(err)
	}
	return after - before
}

// TestSelfMetricsMove moves what metrics count, and sees them move by just that.
func TestSelfMetricsMove(t *testing.T) {
	t.Parallel()
	w := startWatched(t)
	w.use(t)
	at := w.addrs()
	all := slices.Sorted(maps.Keys(at))
	nodes := func(family string, labels []string, do func()) float64 { // of both storage nodes
		t.Helper()
		before := []float64{}
		for _, n := range w.cluster.storage {
			v, err := metric(n.http, family, labels...)
			if err != nil {
				t.Fatal(err)
			}
			before = append(before, v)
		}
		do()
		sum := 0.0
		for i, n := range w.cluster.storage {
			v, err := metric(n.http, family, labels...)
			if err != nil {
				t.Fatal(err)
			}
			sum += v - before[i]
		}
		return sum
	}
	serial := 0
	text := func(lines string) func() {
		return func() {
			for _, target := range w.targets() {
				request(t, http.MethodPost, target[0]+"/api/v1/import/prometheus", []byte(lines)).want(t, http.StatusNoContent)
			}
		}
	}
	fresh := func(n int) func() { // n samples of as many new series
		return func() {
			var b strings.Builder
			for range n {
				serial++
				fmt.Fprintf(&b, "fresh{n=\"%d\"} 1\n", serial)
			}
			text(b.String())()
		}
	}
	query := func(q string, status int) func() {
		return func() {
			for _, target := range w.targets() {
				get(t, target[1]+"/api/v1/query", "query", q, "time", seconds(fixed+1000)).want(t, status)
			}
		}
	}
	described := func() { // which is handed on once
		serial++
		text(fmt.Sprintf("# TYPE other%d counter\nother%[1]d 1\n", serial))()
	}
	old := text(fmt.Sprintf("old 1 %d\n", time.Now().AddDate(-150, 0, 0).UnixMilli()))
	for _, tc := range []struct {
		processes []string
		family    string
		labels    []string
		do        func()
		want      float64 // 0: any growth
	}{
		{[]string{"vminsert", "single"}, "vm_rows_inserted_total", []string{`type="prometheus"`}, fresh(5), 5},
		{[]string{"vminsert", "single"}, "vm_protoparser_rows_read_total", []string{`type="prometheus"`}, fresh(5), 5},
		{[]string{"vminsert", "single"}, "vm_rows_per_insert_count", []string{`type="prometheus"`}, fresh(5), 1},
		{[]string{"vminsert", "single"}, "vm_relabel_metrics_dropped_total", nil, text("unwanted 1\nwanted 2\n"), 1},
		{[]string{"vminsert", "single"}, "vm_rows_invalid_total", []string{`type="prometheus"`}, text("no number here\n"), 1},
		{[]string{"vminsert", "single"}, "vm_rows_ignored_total", []string{"too_long_label_value"}, text("x{a=\"" + strings.Repeat("v", 5000) + "\"} 1\n"), 1},
		{[]string{"vminsert", "single"}, "vm_metadata_rows_inserted_total", []string{`type="prometheus"`}, described, 1},
		{[]string{"vminsert"}, "vm_rpc_rows_sent_total", nil, fresh(5), 5},
		{[]string{"vminsert"}, "vm_tenant_inserted_rows_total", []string{`accountID="0"`}, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_rows_added_to_storage_total", nil, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_rows_received_by_storage_total", nil, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_new_timeseries_created_total", nil, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_slow_row_inserts_total", nil, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_slow_per_day_index_inserts_total", nil, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_cache_misses_total", []string{"storage/tsid"}, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_pending_rows", []string{`"indexdb"`}, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_hourly_series_limit_current_series", nil, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_rows_ignored_total", []string{"small_timestamp"}, old, 1},
		{[]string{"vmstorage", "single"}, "vm_tenant_timeseries_created_total", []string{`projectID="0"`}, fresh(5), 5},
		{[]string{"vmstorage", "single"}, "vm_wal_fsync_duration_seconds_count", nil, fresh(5), 0},
		{[]string{"vmselect", "single"}, "vm_http_requests_total", []string{"/api/v1/query\""}, query("temperature", 200), 1},
		{[]string{"vmselect", "single"}, "vm_http_request_errors_total", []string{"/api/v1/query\""}, query("temperature{", 400), 1},
		{[]string{"vmselect", "single"}, "vm_log_messages_total", []string{`level="warn"`}, query("temperature{", 400), 1},
		{[]string{"vmselect", "single"}, "vm_request_duration_seconds_count", []string{"/api/v1/query\""}, query("temperature", 200), 1},
		{[]string{"vmselect", "single"}, "vm_series_read_per_query_sum", nil, query("temperature", 200), 50},
		{[]string{"vmselect", "single"}, "vm_rows_read_per_query_count", nil, query("temperature", 200), 1},
		{[]string{"vmselect"}, "vm_tenant_select_requests_total", []string{`accountID="0"`}, query("temperature", 200), 1},
		{[]string{"vmselect"}, "vm_tcpdialer_read_bytes_total", nil, query("temperature", 200), 0},
		{[]string{"vmselect"}, "vm_tcpdialer_written_bytes_total", nil, query("temperature", 200), 0},
		{all, "process_cpu_seconds_total", nil, query("temperature", 200), 0},
	} {
		for _, p := range tc.processes {
			var by float64
			if p == "vmstorage" {
				by = nodes(tc.family, tc.labels, tc.do)
			} else {
				by = moved(t, at[p], tc.family, tc.labels, tc.do)
			}
			if tc.want > 0 && by != tc.want || tc.want == 0 && by <= 0 {
				t.Errorf("%s %s of %s has grown by %v; want %v", tc.family, tc.labels, p, by, tc.want)
			}
		}
	}
	w.housekeeping(t)
	w.losses(t)
}

// housekeeping: snapshots, deletions, flushes.
func (w *watched) housekeeping(t *testing.T) {
	addr, base := w.single.addr, w.single.url("")
	if by := moved(t, addr, "vm_snapshots", nil, func() { newSnapshot(t, addr) }); by != 1 {
		t.Errorf("vm_snapshots has grown by %v for a snapshot", by)
	}
	for _, kind := range []string{"storage/small", "indexdb/file"} { // the snapshot has flushed
		if n, err := metric(addr, "vm_rows", kind); err != nil || n == 0 {
			t.Errorf("vm_rows of %s is %v, %v", kind, n, err)
		}
	}
	by := moved(t, addr, "vm_deleted_metrics_total", nil, func() {
		request(t, http.MethodPost, base+"/api/v1/admin/tsdb/delete_series?match[]=temperature", nil).want(t, http.StatusNoContent)
	})
	if by < 50 { // each of them is in several months
		t.Errorf("vm_deleted_metrics_total has grown by %v for 50 series", by)
	}
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		want := 0.0
		if how == syscall.SIGKILL {
			want = 1
			w.single.kill()
		} else {
			w.single.stop(how)
		}
		w.single.run()
		w.single.httpAddr()
		if got, err := metric(addr, "vm_app_prev_shutdown_unclean"); err != nil || got != want {
			t.Errorf("after %s vm_app_prev_shutdown_unclean is %v, %v; want %v", how, got, err, want)
		}
	}
}

// losses: a storage node goes.
func (w *watched) losses(t *testing.T) {
	c := w.cluster
	lost := c.storage[1]
	lost.kill()
	for _, m := range []struct {
		addr, family string
		labels       []string
		want         float64 // at least
	}{
		{c.insertAddr, "vm_rpc_rows_rerouted_from_here_total", []string{lost.insert}, 1},
		{c.insertAddr, "vm_rpc_rows_rerouted_to_here_total", []string{c.storage[0].insert}, 1},
		{c.insertAddr, "vm_rpc_reroutes_total", nil, 1},
		{c.insertAddr, "vm_rpc_dial_errors_total", []string{lost.insert}, 1},
		{c.insertAddr, "vm_rpc_connection_errors_total", []string{lost.insert}, 1},
		{c.selectAddr, "vm_partial_results_total", nil, 1},
		{c.selectAddr, "vm_rpc_dial_errors_total", []string{lost.sel}, 1},
	} {
		eventually(t, patience, m.family+" moves", func() error {
			writeMany(t, c.writeURL("0"), "temperature", 50)
			get(t, c.readURL("0")+"/api/v1/query", "query", "temperature").want(t, http.StatusOK)
			if got, err := metric(m.addr, m.family, m.labels...); err != nil || got < m.want {
				return fmt.Errorf("it is %v, %w; want %v", got, err, m.want)
			}
			return nil
		})
	}
	for _, m := range [][3]string{{c.insertAddr, "vm_rpc_vmstorage_is_reachable", lost.insert}, {c.selectAddr, "vm_tcpdialer_addr_available", lost.sel}} {
		if got, err := metric(m[0], m[1], m[2]); err != nil || got != 0 {
			t.Errorf("%s of the lost node is %v, %v", m[1], got, err)
		}
	}
}
