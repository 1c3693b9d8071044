package selectapi

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// TestHeavyQueriesAreLogged checks which queries are logged for their time or memory, and counted.
func TestHeavyQueriesAreLogged(t *testing.T) {
	for _, tc := range []struct {
		flag, counter, want string
	}{
		{"-search.logQueryMemoryUsage=1", "vm_memory_intensive_queries_total", "memory-intensive query according to -search.logQueryMemoryUsage=1"},
		{"-search.logQueryMemoryUsage=1MiB", "", ""},
		{"-search.logQueryMemoryUsage=0", "", ""},
		{"-search.logSlowQueryDuration=2s", "vm_slow_queries_total", "slow query according to -search.logSlowQueryDuration=2s"},
		{"-search.logSlowQueryDuration=4s", "", ""},
		{"-search.logSlowQueryDuration=0", "", ""},
		{"-search.logSlowQueryStats=2s", "", `vm_slow_query_stats type=instant query="sum(cpu)" query_hash=3494377865 start_ms=1717200100000 end_ms=1717200100000 step_ms=300000 range_ms=0 tenant="0:0" execution_duration_ms=`},
		{"-search.logSlowQueryStats=4s", "", ""},
		{"-search.logSlowQueryStats=0", "", ""},
	} {
		e := newEnv(t, tc.flag)
		var text bytes.Buffer
		log, err := logger.New(&logger.Config{MinLevel: "INFO", Format: "default"}, &text, metrics.NewSet())
		if err != nil {
			t.Fatal(err)
		}
		e.api.o.Logger = log
		start := e.now
		e.api.o.Now = func() time.Time { // each look at the clock takes a second
			e.now = e.now.Add(time.Second)
			return e.now
		}
		status, body, _ := e.get(t, "GET", "/select/0/prometheus/api/v1/query", url.Values{"query": {"sum(cpu)"}, "time": {fmt.Sprint(start.Unix() - 3500)}})
		if status != 200 {
			t.Fatalf("%s: %d %s", tc.flag, status, body)
		}
		if got := text.String(); (tc.want == "") != !strings.Contains(got, `"sum(cpu)"`) || !strings.Contains(got, tc.want) {
			t.Errorf("%s: logged %q; want %q", tc.flag, got, tc.want)
		}
		var page strings.Builder
		if err := e.set.Write(&page, false); err != nil {
			t.Fatal(err)
		}
		for _, counter := range []string{"vm_memory_intensive_queries_total", "vm_slow_queries_total"} {
			want := fmt.Sprintf("%s %d\n", counter, b2i(counter == tc.counter))
			if !strings.Contains(page.String(), want) {
				t.Errorf("%s: want %q in the metrics", tc.flag, want)
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
