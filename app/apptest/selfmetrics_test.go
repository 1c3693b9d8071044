package apptest

import (
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSelfScrape: a single node stores its own metrics, under the labels it is told.
func TestSelfScrape(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "-selfScrapeInterval=100ms", "-selfScrapeJob=own", "-selfScrapeInstance=me")
	waitFound(t, s.url(""), `vm_app_uptime_seconds{job="own",instance="me"}`)
	s.stop(syscall.SIGINT)
}

// TestPushMetrics: a process that nobody scrapes sends its metrics, a last time when it stops.
func TestPushMetrics(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	target := s.url("/api/v1/import/prometheus")
	n := startStorage(t, "vmstorage", "-pushmetrics.url="+target, "-pushmetrics.interval=100ms", `-pushmetrics.extraLabel=instance="node-1"`)
	n.ready()
	waitFound(t, s.url(""), `vm_app_uptime_seconds{instance="node-1"}`)
	n.stop(syscall.SIGINT)
	once := startStorage(t, "vmstorage", "-pushmetrics.url="+target, "-pushmetrics.interval=1h", "-pushmetrics.extraLabel=instance=node-2")
	once.ready()
	once.stop(syscall.SIGINT)
	waitFound(t, s.url(""), `vm_app_uptime_seconds{instance="node-2"}`)
	bad := runToEnd(t, spec{binary: "vminsert", args: []string{"-storageNode=127.0.0.1:1", "-pushmetrics.url=nowhere"}})
	if bad.status == 0 || !strings.Contains(bad.stderr, "cannot use -pushmetrics.url number 1") {
		t.Errorf("a bad URL: status %d, %s", bad.status, bad.stderr)
	}
}

// waitFound waits until a selector finds something.
func waitFound(t *testing.T, base, selector string) {
	t.Helper()
	eventually(t, patience, selector+" is found", func() error {
		if len(instant(t, base, selector, time.Now().UnixMilli())) == 0 {
			return errors.New("there is nothing")
		}
		return nil
	})
}

// TestTraceOfCluster: a trace has the steps of the storage nodes, below the node, unless they are told not to say.
func TestTraceOfCluster(t *testing.T) {
	t.Parallel()
	for _, denied := range []bool{false, true} {
		var o clusterOptions
		if denied {
			o.storageArgs = []string{"-denyQueryTracing"}
		}
		c := startCluster(t, o)
		writeRooms(t, c.writeURL("0")+"/api/v1/write")
		for _, tc := range []struct {
			args []string
			want []string // of the storage nodes
		}{
			{[]string{"query", "temperature"}, []string{"search at vmstorage", "find the series in the index", "read the series and hand them on"}},
			{[]string{"query", "sum(temperature)"}, []string{"reduce at vmstorage", "aggregate the series: 1 groups of", "find the series in the index"}},
			{[]string{"query", "temperature", "dialect", "promql"}, []string{"search at vmstorage", "find the series in the index"}},
		} {
			a := get(t, c.readURL("0")+"/api/v1/query", append(tc.args, "time", seconds(fixed+60_000), "trace", "1")...).want(t, http.StatusOK, `"trace":{"duration_msec":`)
			for _, n := range c.storage {
				if !strings.Contains(a.body, " at storage node "+n.sel+": ") {
					t.Errorf("%q: %s is missing in %s", tc.args, n.sel, a)
				}
			}
			for _, want := range tc.want {
				if strings.Contains(a.body, want) == denied {
					t.Errorf("%q, denied %v: %q in %s", tc.args, denied, want, a)
				}
			}
		}
	}
}
