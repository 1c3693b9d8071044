package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// update rewrites golden files: go test -run TestTable -update.
var update = flag.Bool("update", false, "rewrite golden files")

// TestRun measures floor servers, which are this test binary, and skips what is not installed.
func TestRun(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	out, lock := filepath.Join(dir, "results.jsonl"), filepath.Join(dir, "lock")
	var log bytes.Buffer
	o := RunOptions{
		Lab:   Lab{Bin: dir, Dir: filepath.Join(dir, "work"), Out: out, Lock: lock, Self: []string{os.Args[0]}, Log: &log},
		Peers: "floor-decode,ours-cluster,floor-lookup", Datasets: "a,c", Repeat: 2, Hosts: 2, Scrapes: 5, Seed: 3, Conns: 2,
	}
	results, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%s\n%s", err, log.String())
	}
	var peers []string
	for _, r := range results {
		peers = append(peers, r.Dataset+" "+r.Peer)
		if r.Ingest.CPUSeconds < 0 || len(r.ByProcess) != 1 || r.ByProcess[0].RSS == 0 || r.Stored != nil {
			t.Errorf("got %+v", r)
		}
		if r.Dataset == "c" && (r.Ingest2 == nil || r.Ingest.Samples != r.Sent.Series || r.samples() != float64(r.Sent.Samples)) {
			t.Errorf("phases %+v, %+v of %+v", r.Ingest, r.Ingest2, r.Sent)
		}
	}
	want := "a floor-decode,a floor-lookup,c floor-decode,c floor-lookup,a floor-lookup,a floor-decode,c floor-lookup,c floor-decode"
	if got := strings.Join(peers, ","); got != want {
		t.Errorf("measured %s; want %s", got, want)
	}
	if !strings.Contains(log.String(), "skipping ours-cluster: cannot find "+filepath.Join(dir, "vmstorage")) {
		t.Errorf("the log is\n%s", &log)
	}
	file, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var read Records
	want = (&Records{Runs: results}).Table("floor-decode")
	if err := read.Read(file); err != nil || read.Len() != len(results) || read.Table("floor-decode") != want {
		t.Errorf("read %d of %d results, %v", read.Len(), len(results), err)
	}
	if left, err := filepath.Glob(filepath.Join(o.Dir, "run-*")); err != nil || len(left) > 0 {
		t.Errorf("folders are left: %v, %v", left, err)
	}
	goleak.VerifyNone(t, before)
}

func TestRunRefusals(t *testing.T) {
	dir := t.TempDir()
	good := RunOptions{
		Lab:   Lab{Dir: dir, Out: filepath.Join(dir, "out"), Self: []string{os.Args[0]}},
		Peers: "floor-decode", Datasets: "a", Repeat: 1, Hosts: 1, Scrapes: 1, Conns: 1,
	}
	for text, change := range map[string]func(*RunOptions){
		`"nosuch": there are`: func(o *RunOptions) { o.Peers = "nosuch" },
		"109,800":             func(o *RunOptions) { o.Datasets = "nosuch" },
		"-out":                func(o *RunOptions) { o.Out = filepath.Join(dir, "a", "b") },
		"its log ends with":   func(o *RunOptions) { o.Self = []string{"/bin/false"} },
		"cannot open -lock":   func(o *RunOptions) { o.Lock = filepath.Join(dir, "a", "b") },
		"name two":            func(o *RunOptions) {},
	} {
		o := good
		change(&o)
		_, err := Run(t.Context(), o)
		if text == "name two" {
			_, err = ComparePeers(t.Context(), PeerCompareOptions{Run: o}, nil)
		}
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v; want %q in it", err, text)
		}
	}
}

// TestLock: the lock is exclusive, and waiting for it ends with the context.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lockFile(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the lock was got twice: %v", err)
	}
	unlock()
	again, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// TestProcess kills and restarts a floor server.
func TestProcess(t *testing.T) {
	before := goleak.IgnoreCurrent()
	l := &launcher{self: []string{os.Args[0]}, dir: t.TempDir()}
	s, err := l.launch(t.Context(), "floor-decode")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.died(); err != nil {
		t.Error(err)
	}
	first := s.processes[0].pid()
	if err := restartKilled(t.Context(), s.processes); err != nil {
		t.Fatal(err)
	}
	if second := s.processes[0].pid(); second == first {
		t.Error("it is the same process")
	}
	if err := s.waitIdle(t.Context(), 10*time.Millisecond); err != nil {
		t.Error(err)
	}
	s.processes[0].kill()
	if err := s.died(); err == nil {
		t.Error("nobody noticed the death")
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
	goleak.VerifyNone(t, before)
}

func TestUsage(t *testing.T) {
	u, err := ReadUsage([]int{os.Getpid()})
	if err != nil || u.RSS == 0 || u.Peak < u.RSS/2 || u.Anon == 0 {
		t.Errorf("got %+v, %v", u, err)
	}
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadUsage([]int{cmd.Process.Pid}); err == nil {
		t.Error("a process that has ended has a usage")
	}
	if ticks, err := cpuTicksOf([]byte("1 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0")); err != nil || ticks != 175 {
		t.Errorf("got %v, %v", ticks, err)
	}
	if _, err := cpuTicksOf([]byte("1 (a) S")); err == nil {
		t.Error("a line without times is accepted")
	}
	if pids, err := ParsePIDs("1, 23"); err != nil || len(pids) != 2 || pids[1] != 23 {
		t.Errorf("got %v, %v", pids, err)
	}
	if _, err := ParsePIDs("x"); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Error(err)
	}
}

func TestMeasureDisk(t *testing.T) {
	dir := t.TempDir()
	for path, size := range map[string]int{"a": 100, "indexdb/b": 10, "2026_01/index/c": 5, "wal/0": 7, "01ABC/index": 3} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	d, err := MeasureDisk(50, dir, filepath.Join(dir, "nosuch"))
	if err != nil || d.Bytes != 125 || d.Index != 18 || d.Log != 7 || d.Files != 5 || d.BytesPerSample != 2.5 {
		t.Errorf("got %+v, %v", d, err)
	}
}

// someResults are results of three peers, one of them measured three times.
func someResults() []Result {
	stored, less := int64(900), int64(899)
	result := func(peer string, cpu float64) Result {
		return Result{
			Origin: Origin{Peer: peer, CPUs: 2}, Dataset: "a", Expected: 900, Sent: Manifest{Samples: 1_000_000, Series: 1000, Scrapes: 3},
			Ingest:    &IngestResult{Samples: 1_000_000, WallSeconds: 2, CPUSeconds: cpu, CPUPerM: cpu, P50Ms: 1.25, P99Ms: 20, After: Usage{CPUSeconds: cpu, Peak: 300 * mib}},
			ByProcess: []ProcessUsage{{"vmstorage", Usage{CPUSeconds: cpu / 2}}, {"vminsert", Usage{CPUSeconds: cpu / 4}}},
			Idle:      &Usage{RSS: 200 * mib, Anon: 100 * mib}, Merged: &Usage{CPUSeconds: cpu + 0.5, Written: 3_000_000},
			DiskBefore: &Disk{BytesPerSample: 1.5}, DiskAfter: &Disk{BytesPerSample: 0.75, Index: 12_300}, Stored: &stored,
			Queries: &QueryResults{SumMedianMs: 12, CPUMsPerRound: cpu * 10, After: Usage{Peak: 400 * mib}, Queries: []QueryResult{
				{Name: "up", MedianMs: 1.23, CPUMs: 5, Series: 3}, {Name: "rate", MedianMs: 4, CPUMs: 7, Series: 1},
			}},
		}
	}
	worse := result("vm-single", 3)
	worse.Stored, worse.Queries.Queries[0].Error, worse.Queries.Queries[1].Series = &less, "status 500", 2
	floor := Result{Origin: Origin{Peer: "floor-decode", CPUs: 2}, Dataset: "a", Sent: Manifest{Samples: 1_000_000, Series: 1000}, Ingest: &IngestResult{Samples: 1_000_000, WallSeconds: 1, CPUSeconds: 0.143}}
	phases := result("ours-cluster", 4)
	phases.Dataset = "c"
	phases.Ingest2 = &IngestResult{Samples: 3_000_000, WallSeconds: 2, CPUSeconds: 3, CPUPerM: 1, P99Ms: 30, After: Usage{CPUSeconds: 7, RSS: 700 * mib, Anon: 600 * mib, Peak: 800 * mib}}
	return []Result{floor, result("ours-cluster", 2), worse, phases, result("ours-cluster", 1), result("ours-cluster", 9)}
}

func TestTable(t *testing.T) {
	var lines bytes.Buffer
	for _, r := range someResults() {
		if err := json.NewEncoder(&lines).Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	var records Records
	if err := records.Read(&lines); err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "table.golden.md", records.Table("vm-single"))
	if new(Records).Table("vm-single") != "" {
		t.Error("a table of nothing is not empty")
	}
}

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestReadResultsRefusals(t *testing.T) {
	for _, text := range []string{"{", `{"peer":"x"}`, "x", `{"kind":"nosuch"}`, `{"kind":"scale"}`, `{"kind":"churn"}`, `{"kind":"soak"}`, `{"kind":"memory"}`, `{"kind":"growth"}`} {
		if err := new(Records).Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "vmbench run") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
