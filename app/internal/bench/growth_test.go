package bench

import (
	"os"
	"strings"
	"testing"
)

func TestClusterOf(t *testing.T) {
	for name, want := range map[string]clusterShape{
		"ours-cluster": {"ours", 2, 1}, "vm-cluster": {"vm", 2, 1}, "ours-cluster-1": {"ours", 1, 1}, "ours-cluster-16": {"ours", 16, 1},
		"ours-cluster-4-rf2": {"ours", 4, 2}, "vm-cluster-3-rf3": {"vm", 3, 3},
		"ours-cluster-1-rf2": {}, "ours-cluster-0": {}, "ours-cluster-rf2": {}, "ours-cluster-100": {}, "ours-single": {}, "ours-cluster-2-": {}, "": {},
	} {
		if got, ok := clusterOf(name); ok != (want != clusterShape{}) || ok && got != want {
			t.Errorf("%q: got %+v, %v", name, got, ok)
		}
	}
}

// someGrowths are results of three clusters, one of them measured twice and one with a loss and a query that failed.
func someGrowths() []GrowthResult {
	result := func(nodes, copies int, peer string, cpu float64) GrowthResult {
		r := GrowthResult{
			Origin: Origin{Kind: "growth", Peer: peer, CPUs: 2}, Nodes: nodes, Copies: copies, Sent: Manifest{Samples: 1_100_000, Series: 100_000},
			Register: &IngestResult{Samples: 100_000, CPUPerM: 5}, Steady: &IngestResult{Samples: 1_000_000},
			Steadies:  []ProcessUsage{{"vmstorage1", Usage{CPUSeconds: cpu / 4, Anon: 3 * mib}}, {"vmselect", Usage{}}, {"vminsert", Usage{CPUSeconds: cpu / 2, Anon: mib}}},
			SentBytes: 4_000_000 * float64(copies), AnsweredBytes: 2000, Disk: &Disk{BytesPerSample: 0.5}, Stored: 1_100_000, QueryBytes: 2 * mib,
			Queries: &QueryResults{SumMedianMs: 10, CPUMsPerRound: 30, Queries: []QueryResult{{Name: "up", MedianMs: 4, CPUMs: 12, FrontMs: 5}, {Name: "rate", MedianMs: 6, CPUMs: 18, FrontMs: 8}}},
		}
		for i := 2; i <= nodes; i++ {
			r.Steadies = append(r.Steadies, ProcessUsage{"vmstorage" + string(rune('0'+i)), Usage{CPUSeconds: cpu / 8, Anon: 2 * mib}})
		}
		return r
	}
	lost := result(4, 2, "ours-cluster-4-rf2", 2)
	lost.Stored, lost.Queries.Errors, lost.Queries.Queries[1].Error = 1_099_999, 1, "status 503"
	return []GrowthResult{lost, result(4, 1, "ours-cluster-4", 1), result(2, 1, "ours-cluster-2", 1), result(4, 1, "ours-cluster-4", 3)}
}

// TestGrowthTables compares the tables of results that went through a file. Clusters come by copies, then by nodes.
func TestGrowthTables(t *testing.T) {
	lab := Lab{Out: t.TempDir() + "/out.jsonl"}
	for _, r := range someGrowths() {
		if err := lab.record(&r); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Open(lab.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var records Records
	if err := records.Read(file); err != nil || records.Len() != 4 {
		t.Fatalf("%d results, %v", records.Len(), err)
	}
	checkGolden(t, "growth.golden.md", records.Table(""))
}

func TestGrowthRefusals(t *testing.T) {
	one, _ := smallDataset(t, func(o *GenerateOptions) { o.Hosts, o.Scrapes = 1, 2 })
	lab := Lab{Dir: t.TempDir(), Bin: t.TempDir()}
	for text, o := range map[string]GrowthOptions{
		"-compare=x":         {Compare: "x"},
		`growth of "ours-si`: {Run: RunOptions{Peers: "ours-single"}},
		"-phase-at=1":        {Compare: "fanout", Run: RunOptions{Lab: lab, Datasets: one}},
		"nosuch":             {Compare: "replication", Run: RunOptions{Lab: lab, Datasets: "nosuch"}},
	} {
		if _, err := Growth(t.Context(), o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v; want %q in it", err, text)
		}
	}
}

// TestSentBytes: metrics whose labels hold blanks are summed up over the nodes, and a server without them is refused.
func TestSentBytes(t *testing.T) {
	page := "vm_tcpdialer_written_bytes_total{name=\"vminsert\", addr=\"a:1\"} 30\nvm_tcpdialer_written_bytes_total{name=\"vminsert\", addr=\"b:1\"} 12\nvm_tcpdialer_read_bytes_total{addr=\"a:1\"} 5\n"
	var requests []string
	s := answering(t, page, &requests)
	p := &process{name: "vminsert", health: s.URL + "/health"}
	if written, read, err := p.sentBytes(t.Context()); err != nil || written != 42 || read != 5 {
		t.Errorf("%g, %g, %v", written, read, err)
	}
	p.health = answering(t, "other 1\n", &requests).URL + "/health"
	if _, _, err := p.sentBytes(t.Context()); err == nil || !strings.Contains(err.Error(), "no metric") {
		t.Errorf("got %v", err)
	}
}
