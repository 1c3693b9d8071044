package apptest

import (
	"net/http"
	"sync"
	"syscall"
	"testing"
)

// TestFullQueues: when all places are taken by requests that wait for a frozen storage node, more requests are
// turned away with a hint when to come back, and all goes on when the node does.
func TestFullQueues(t *testing.T) {
	t.Parallel()
	n := startStorage(t, "vmstorage")
	n.ready()
	insert := start(t, spec{binary: "vminsert", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + n.insert,
		"-maxConcurrentInserts=1", "-insert.maxQueueDuration=10ms", "-vmstorageUserTimeout=1m"}})
	sel := start(t, spec{binary: "vmselect", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + n.sel,
		"-search.maxConcurrentRequests=1", "-search.maxQueueDuration=10ms", "-vmstorageUserTimeout=1m"}})
	insert.waitLog(dialed(n.insert))
	sel.waitLog(dialed(n.sel))
	writeURL := "http://" + insert.httpAddr() + "/insert/0/prometheus/api/v1/write"
	base := "http://" + sel.httpAddr() + "/select/0/prometheus"
	mustWrite(t, writeURL, series("__name__", "m").at(fixed, 1))

	n.freeze()
	defer n.signal(syscall.SIGCONT) // so that it can be stopped when the test fails here
	a := get(t, base+"/api/v1/query", "query", "m", "timeout", "200ms").want(t, http.StatusServiceUnavailable, `"errorType":"503"`, "200ms")
	if mustMetric(t, sel.httpAddr(), "vm_concurrent_select_current") != 0 {
		t.Errorf("a query that was given up keeps its place: %s", a)
	}
	var wg sync.WaitGroup
	var wrote, read answer
	var writeErr, readErr error
	wg.Go(func() { wrote, writeErr = remoteWrite(writeURL, series("__name__", "m").at(fixed, 1)) })
	wg.Go(func() { read, readErr = do(http.MethodGet, base+"/api/v1/query?query=m&time="+seconds(fixed), nil) })
	waitMetric(t, 1, insert.httpAddr(), "vm_concurrent_insert_current")
	waitMetric(t, 1, sel.httpAddr(), "vm_concurrent_select_current")

	turned, err := remoteWrite(writeURL, series("__name__", "m").at(fixed, 1))
	if err != nil {
		t.Fatal(err)
	}
	if turned.want(t, http.StatusServiceUnavailable, "-maxConcurrentInserts").header.Get("Retry-After") == "" {
		t.Error("the write is turned away without Retry-After")
	}
	turned = get(t, base+"/api/v1/query", "query", "m").want(t, http.StatusTooManyRequests, "-search.maxConcurrentRequests=1", `"errorType":"429"`)
	if got := turned.header.Get("Retry-After"); got != "10" {
		t.Errorf("the query is turned away with Retry-After %q", got)
	}
	for addr, family := range map[string]string{insert.httpAddr(): "vm_concurrent_insert_limit_timeout_total", sel.httpAddr(): "vm_concurrent_select_limit_timeout_total"} {
		if got := mustMetric(t, addr, family); got != 1 {
			t.Errorf("%s is %v; want 1", family, got)
		}
	}
	get(t, base+"/api/v1/status/buildinfo").want(t, http.StatusOK) // needs no place

	n.signal(syscall.SIGCONT)
	wg.Wait()
	if writeErr != nil || wrote.status != http.StatusNoContent {
		t.Errorf("the waiting write: %s, %v", wrote, writeErr)
	}
	if readErr != nil || read.status != http.StatusOK {
		t.Errorf("the waiting query: %s, %v", read, readErr)
	}
}
