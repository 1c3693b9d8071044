package apptest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// importText writes lines of the text exposition format, which get the time at which they come.
func importText(t *testing.T, s *single, lines ...string) {
	t.Helper()
	request(t, http.MethodPost, s.url("/api/v1/import/prometheus"), []byte(strings.Join(lines, "\n")+"\n")).want(t, http.StatusNoContent)
}

// sum adds up the values of all samples of the series that a selector finds.
func sum(t *testing.T, s *single, selector string) (total float64) {
	t.Helper()
	for _, points := range export(t, s.url(""), selector) {
		for _, p := range points {
			v, err := strconv.ParseFloat(p.value, 64)
			if err != nil {
				t.Fatal(err)
			}
			total += v
		}
	}
	return total
}

// waitSum waits until the samples of the series have a sum.
func waitSum(t *testing.T, s *single, selector string, want float64) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("sum %g of %s", want, selector), func() error {
		if got := sum(t, s, selector); got != want {
			return fmt.Errorf("it is %g", got)
		}
		return nil
	})
}

// TestStreamAggregation: samples which a rule matches are in its aggregates, each once, and not stored besides; others are stored. Rules are read again, and the last window is
// written when the process ends.
func TestStreamAggregation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rules.yml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const rule = "- {name: hits, match: hits, interval: 1s, without: [instance], flush_on_shutdown: true, outputs: [count_samples]}\n"
	const hits = `hits:1s_without_instance_count_samples{job="x"}`
	write(rule)
	s := startSingle(t, "-streamAggr.config="+path)
	const requests = 30
	for i := range requests {
		importText(t, s, fmt.Sprintf(`hits{job="x",instance="%d"} 1`, i%3), `hits{job="x",instance="y"} 1`, fmt.Sprintf("other %d", i))
	}
	waitSum(t, s, hits, 2*requests)
	if n := export(t, s.url(""), `{__name__=~"hits|other:.*"}`).samples(); n != 0 {
		t.Errorf("%d samples are stored which a rule has taken, or aggregated without one", n)
	}
	if n := export(t, s.url(""), "other").samples(); n == 0 {
		t.Error("samples which no rule matches are not stored")
	}

	write(rule + "- {interval: 1s, match: other, keep_metric_names: true, outputs: [nonsense]}\n")
	if a := get(t, s.url("/-/reload")); a.status != http.StatusBadRequest || !strings.Contains(a.body, "nonsense") {
		t.Errorf("status %d of bad rules: %s", a.status, a.body)
	}
	write("- {interval: 1s, match: other, outputs: [max], flush_on_shutdown: true}\n" + rule)
	s.signal(syscall.SIGHUP)
	waitMetric(t, 2, s.addr, "vm_streamaggr_config_reloads_total")
	importText(t, s, `hits{job="x",instance="1"} 1`, "other 1000")
	waitSum(t, s, hits, 2*requests+1)
	waitSum(t, s, "other:1s_max", 1000)
	if n, err := metric(s.addr, "vm_streamaggr_matched_samples_total", `name="hits"`); err != nil || n != 2*requests+1 {
		t.Errorf("the rule has matched %v samples, %v", n, err)
	}

	importText(t, s, `hits{job="x",instance="1"} 1`)
	s.stop(syscall.SIGTERM)
	s.restart()
	waitSum(t, s, hits, 2*requests+2)
}

// TestDeduplicationAtIntake: without rules, -streamAggr.dedupInterval leaves one sample of each series and interval, the newest one.
func TestDeduplicationAtIntake(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "-streamAggr.dedupInterval=1h", "-streamAggr.dropInputLabels=replica")
	base := time.Now().Truncate(time.Hour).UnixMilli()
	mustWrite(t, s.url("/api/v1/write"), series("__name__", "a", "replica", "1").at(base+1000, 1).at(base+9000, 2), series("__name__", "a", "replica", "2").at(base+10_000, 3).at(base+2000, 4))
	mustWrite(t, s.url("/api/v1/write"), series("__name__", "a", "replica", "1").at(base-1000, 5))
	s.stop(syscall.SIGTERM)
	s.restart()
	want := exported{`{"__name__":"a"}`: {{base - 1000, "5"}, {base + 10_000, "3"}}}
	if got := export(t, s.url(""), "a"); got.String() != want.String() {
		t.Errorf("stored are %s; want %s", got, want)
	}
}
