package apptest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// replicas is three storage nodes which hold two copies of each sample.
type replicas struct {
	t       *testing.T
	storage []*storageNode
	direct  []*process // a vminsert for each of them
}

const replicaSeries = 300

// startReplicas starts storage nodes and writes series "m" to two of them each.
func startReplicas(t *testing.T) *replicas {
	t.Helper()
	r := &replicas{t: t}
	for i := range 3 {
		r.storage = append(r.storage, startStorage(t, fmt.Sprintf("vmstorage-%d", i+1)))
	}
	for _, n := range r.storage {
		n.ready()
		r.direct = append(r.direct, start(t, spec{binary: "vminsert", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + n.insert}}))
	}
	r.write("m", func(i int) []int { return []int{i % 3, (i + 1) % 3} })
	return r
}

// write writes a sample of each series to some nodes.
func (r *replicas) write(metric string, nodes func(i int) []int) {
	r.t.Helper()
	batches := make([][]ts, len(r.storage))
	for i := range replicaSeries {
		for _, node := range nodes(i) {
			batches[node] = append(batches[node], series("__name__", metric, "i", fmt.Sprint(i)).at(fixed, float64(i)).at(fixed+15000, 1))
		}
	}
	for i, p := range r.direct {
		p.waitLog(dialed(r.storage[i].insert))
		if len(batches[i]) > 0 {
			mustWrite(r.t, "http://"+p.httpAddr()+"/insert/0/prometheus/api/v1/write", batches[i]...)
		}
	}
}

// reader starts a vmselect that knows the nodes in the given order and waits until it is connected.
func (r *replicas) reader(order []int, args ...string) *process {
	r.t.Helper()
	for _, i := range order {
		args = append(args, "-storageNode="+r.storage[i].sel)
	}
	p := start(r.t, spec{binary: "vmselect", args: append(args, "-httpListenAddr=127.0.0.1:0")})
	for _, i := range order {
		p.waitLog(dialed(r.storage[i].sel))
	}
	return p
}

// readBase returns the root of the read paths of a vmselect.
func readBase(p *process) string { return "http://" + p.httpAddr() + "/select/0/prometheus" }

// replicaReads are reads of all kinds, with their arguments.
func replicaReads() map[string][]string {
	day := dayArgs()
	return map[string][]string{
		"/api/v1/query":          {"query", "sum(m) by (i)", "time", seconds(fixed)},
		"/api/v1/query?raw":      {"query", "m[1m]", "time", seconds(fixed + 20000)},
		"/api/v1/query_range":    {"query", "rate(m[1m])", "start", seconds(fixed), "end", seconds(fixed + 60000), "step", "15"},
		"/api/v1/series":         append(day, "match[]", "m"),
		"/api/v1/labels":         day,
		"/api/v1/label/i/values": day,
		"/api/v1/export":         {"match[]", "m"},
	}
}

// ask reads; the answer's time is left out.
func ask(t *testing.T, base, path string, args []string) answer {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	a := get(t, base+path, args...)
	a.body = untimed(a.body)
	return a
}

// TestReplicasAndLostNodes: with two copies, nobody notices that one of three nodes is gone; without two, answers are partial or refused.
func TestReplicasAndLostNodes(t *testing.T) {
	t.Parallel()
	r := startReplicas(t)
	first := r.reader([]int{0, 1, 2}, "-replicationFactor=2")
	plain := readBase(first)
	readers := []string{plain, readBase(r.reader([]int{2, 0, 1}, "-replicationFactor=2", "-search.skipSlowReplicas")), readBase(r.reader([]int{1, 2, 0}, "-replicationFactor=2", "-search.denyPartialResponse"))}
	whole := map[string]string{}
	for path, args := range replicaReads() {
		whole[path] = ask(t, plain, path, args).want(t, http.StatusOK).body
	}
	check := func(when string) {
		t.Helper()
		for path, args := range replicaReads() {
			for i, base := range readers {
				if a := ask(t, base, path, args).want(t, http.StatusOK); a.body != whole[path] {
					t.Fatalf("%s, reader %d: %s is %s; want %s", when, i, path, a, whole[path])
				}
			}
		}
	}
	check("all nodes are there")
	if n := strings.Count(whole["/api/v1/export"], "\n"); n != replicaSeries || !strings.Contains(whole["/api/v1/labels"], `"isPartial":false`) {
		t.Fatalf("%d of %d series are exported; labels are %s", n, replicaSeries, whole["/api/v1/labels"])
	}
	r.storage[1].kill()
	for range 3 {
		check("one of three nodes is gone")
	}
	first.waitLog(`storage nodes are missing: ` + regexp.QuoteMeta(r.storage[1].sel) + `: .*are whole nevertheless`)
	get(t, plain+"/api/v1/query", "query", "count(m)", "time", seconds(fixed), "trace", "1").want(t, http.StatusOK, "without storage nodes "+r.storage[1].sel, "hold copies of each other's series")
	get(t, plain+"/api/v1/status/tsdb").want(t, http.StatusOK, `"isPartial":true`) // sums lack a node
	r.storage[0].kill()
	deny := append(slices.Clone(replicaReads()["/api/v1/labels"]), "deny_partial_response", "1")
	for i, base := range readers[:2] {
		ask(t, base, "/api/v1/labels", replicaReads()["/api/v1/labels"]).want(t, http.StatusOK, `"isPartial":true`)
		ask(t, base, "/api/v1/labels", deny).want(t, http.StatusServiceUnavailable, r.storage[0].sel, r.storage[1].sel)
		if q := parseQuery(t, get(t, base+"/api/v1/query", "query", "count(m)", "time", seconds(fixed))); !q.IsPartial {
			t.Errorf("reader %d: the answer is not partial without two of three nodes", i)
		}
	}
	get(t, readers[2]+"/api/v1/query", "query", "count(m)", "time", seconds(fixed)).want(t, http.StatusServiceUnavailable, r.storage[0].sel, r.storage[1].sel)
}

// TestFrozenReplica: a node that stands still holds up whoever waits for it, and nobody who does not.
func TestFrozenReplica(t *testing.T) {
	t.Parallel()
	r := startReplicas(t)
	// Its connections count as alive for the whole test.
	base := readBase(r.reader([]int{0, 1, 2}, "-replicationFactor=2", "-search.skipSlowReplicas", "-vmstorageUserTimeout=1h"))
	whole := map[string]string{}
	for path, args := range replicaReads() {
		whole[path] = ask(t, base, path, args).want(t, http.StatusOK).body
	}
	r.storage[1].freeze()
	for path, args := range replicaReads() {
		if a := ask(t, base, path, args).want(t, http.StatusOK); a.body != whole[path] {
			t.Errorf("%s is %s; want %s", path, a, whole[path])
		}
	}
}

// TestGroups: a group may be gone when another one has all of its samples.
func TestGroups(t *testing.T) {
	t.Parallel()
	r := startReplicas(t)
	r.write("g", func(i int) []int { return []int{i % 2, 2} })
	p := start(t, spec{binary: "vmselect", args: []string{"-httpListenAddr=127.0.0.1:0", "-globalReplicationFactor=2", "-replicationFactor=1",
		"-storageNode=east/" + r.storage[0].sel + ",east/" + r.storage[1].sel + ",west/" + r.storage[2].sel}})
	for _, n := range r.storage {
		p.waitLog(dialed(n.sel))
	}
	base := readBase(p)
	check := func(when string, want int, partial bool) {
		t.Helper()
		q := parseQuery(t, get(t, base+"/api/v1/query", "query", "count(g)", "time", seconds(fixed)))
		if got := fmt.Sprint(vector(t, q)); q.IsPartial != partial || got != fmt.Sprintf("[{} %d]", want) {
			t.Errorf("%s: the count is %s, partial: %t; want %d, %t", when, got, q.IsPartial, want, partial)
		}
	}
	check("all nodes are there", replicaSeries, false)
	r.storage[0].kill()
	check("a node of one group is gone", replicaSeries, false)
	r.storage[1].kill()
	check("one group is gone", replicaSeries, false)
	r.storage[0].restart()
	eventually(t, patience, "a connection to the node that is back", func() error {
		if v := mustMetric(t, p.httpAddr(), "vm_tcpdialer_addr_available", fmt.Sprintf("addr=%q", r.storage[0].sel)); v != 1 {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	r.storage[2].kill()
	check("there is a node missing in each group", replicaSeries/2, true)
}

// TestDiscovery: nodes come and go with a file, without a restart.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	r := startReplicas(t)
	file := filepath.Join(t.TempDir(), "nodes")
	list := func(nodes ...int) {
		text := "# vminsert reads it, too\n"
		for _, i := range nodes {
			text += r.storage[i].sel + "\n" + r.storage[i].insert + "\n"
		}
		writeWhole(t, file, text)
	}
	var ports []string
	for _, n := range r.storage {
		ports = append(ports, n.sel)
	}
	list(0)
	p := start(t, spec{binary: "vmselect", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=file:" + file, "-storageNode.discoveryInterval=50ms",
		"-storageNode.filter=^(" + strings.Join(ports, "|") + ")$"}})
	base := readBase(p)
	waitCount := func(nodes, want int) {
		t.Helper()
		eventually(t, patience, fmt.Sprintf("%d series of %d nodes", want, nodes), func() error {
			q := parseQuery(t, get(t, base+"/api/v1/query", "query", "count(m)", "time", seconds(fixed)))
			n := mustMetric(t, p.httpAddr(), "vm_storage_nodes")
			if got := fmt.Sprint(vector(t, q)); q.IsPartial || got != fmt.Sprintf("[{} %d]", want) || n != float64(nodes) {
				return fmt.Errorf("there are %s of %v nodes, partial: %t", got, n, q.IsPartial)
			}
			return nil
		})
	}
	p.waitLog(dialed(r.storage[0].sel))
	waitCount(1, 2*replicaSeries/3)
	list(0, 1)
	waitCount(2, replicaSeries)
	list(1)
	waitCount(1, 2*replicaSeries/3)
	eventually(t, patience, "an end of the metrics of the node that is gone", func() error {
		if v, err := metric(p.httpAddr(), "vm_tcpdialer_conns", fmt.Sprintf("addr=%q", r.storage[0].sel)); err == nil {
			return fmt.Errorf("vm_tcpdialer_conns is %v", v)
		}
		return nil
	})
	r.storage[0].kill() // it does not belong to the cluster any more
	waitCount(1, 2*replicaSeries/3)
	list(1, 2)
	waitCount(2, replicaSeries)
}

// TestCopiesOfVminsert: what vminsert has written twice is whole without any one node, also what was written while one was gone.
func TestCopiesOfVminsert(t *testing.T) {
	t.Parallel()
	r := startReplicas(t)
	args := []string{"-httpListenAddr=127.0.0.1:0", "-replicationFactor=2"}
	for _, n := range r.storage {
		args = append(args, "-storageNode="+n.insert)
	}
	p := start(t, spec{binary: "vminsert", args: args})
	for _, n := range r.storage {
		p.waitLog(dialed(n.insert))
	}
	base := readBase(r.reader([]int{0, 1, 2}, "-replicationFactor=2"))
	write := func(metric string) {
		t.Helper()
		var batch []ts
		for i := range replicaSeries {
			batch = append(batch, series("__name__", metric, "i", fmt.Sprint(i)).at(fixed, float64(i)))
		}
		mustWrite(t, "http://"+p.httpAddr()+"/insert/0/prometheus/api/v1/write", batch...)
	}
	check := func(metric string) {
		t.Helper()
		q := parseQuery(t, get(t, base+"/api/v1/query", "query", "count("+metric+")", "time", seconds(fixed)))
		if got := fmt.Sprint(vector(t, q)); q.IsPartial || got != fmt.Sprintf("[{} %d]", replicaSeries) {
			t.Errorf("the count of %s is %s, partial: %t; want %d", metric, got, q.IsPartial, replicaSeries)
		}
	}
	write("before")
	r.storage[0].kill()
	check("before")
	write("during")
	check("during")
	r.storage[0].restart()
	eventually(t, patience, "whole answers without a failed node", func() error {
		a := get(t, base+"/api/v1/labels", append(dayArgs(), "trace", "1")...).want(t, http.StatusOK)
		if strings.Contains(a.body, "without storage nodes") {
			return fmt.Errorf("%s", a)
		}
		return nil
	})
	r.storage[1].kill()
	check("before")
	check("during") // on nodes 1 and 2
}

// TestDiscoveryByWriters: vminsert follows a list as vmselect does, and loses nothing.
func TestDiscoveryByWriters(t *testing.T) {
	t.Parallel()
	r := startReplicas(t)
	file := filepath.Join(t.TempDir(), "nodes")
	list := func(nodes ...int) {
		var lines []string
		for _, i := range nodes {
			lines = append(lines, "room/"+r.storage[i].insert)
		}
		writeWhole(t, file, strings.Join(lines, "\n"))
	}
	list(0, 1)
	p := start(t, spec{binary: "vminsert", args: []string{"-httpListenAddr=127.0.0.1:0", "-replicationFactor=2", "-storageNode=file:" + file, "-storageNode.discoveryInterval=50ms"}})
	base := readBase(r.reader([]int{0, 1, 2}, "-replicationFactor=2"))
	target := "http://" + p.httpAddr() + "/insert/0/prometheus/api/v1/write"
	for _, i := range []int{0, 1} {
		p.waitLog(dialed(r.storage[i].insert))
	}
	sent := 0
	send := func() {
		t.Helper()
		var batch []ts
		for range 100 {
			batch = append(batch, series("__name__", "d", "i", fmt.Sprint(sent)).at(fixed, 1))
			sent++
		}
		mustWrite(t, target, batch...)
	}
	send()
	list(1, 2)
	eventually(t, patience, "rows at the new node", func() error {
		send()
		if v := mustMetric(t, r.storage[2].http, "vm_vminsert_metrics_read_total"); v <= 2*replicaSeries/3*2 {
			return fmt.Errorf("it has %v rows", v)
		}
		return nil
	})
	r.storage[0].kill() // it is not in the list any more
	send()
	if got := mustMetric(t, p.httpAddr(), "vm_rpc_rows_incompletely_replicated_total"); got != 0 {
		t.Errorf("%v rows have fewer copies than two", got)
	}
	q := parseQuery(t, get(t, base+"/api/v1/query", "query", "count(d)", "time", seconds(fixed)))
	if got := fmt.Sprint(vector(t, q)); q.IsPartial || got != fmt.Sprintf("[{} %d]", sent) {
		t.Errorf("the count is %s, partial: %t; want %d", got, q.IsPartial, sent)
	}
	list(1) // too few for two copies: the list of before stays
	p.waitLog(`cannot use other storage nodes: .*-replicationFactor=2`)
	send()
}

// writeWhole replaces a file at once.
func writeWhole(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
