package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ourBinaries returns a folder with our servers: VMCLUSTER_BIN, or one that it builds them into.
func ourBinaries(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("VMCLUSTER_BIN"); dir != "" {
		return dir
	}
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
		"vmcluster/app/victoria-metrics", "vmcluster/app/vmstorage", "vmcluster/app/vminsert", "vmcluster/app/vmselect")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %s", err, out)
	}
	return dir
}

// TestExperimentsOfOurs runs each experiment against our own server, small, and prints the tables of all.
func TestExperimentsOfOurs(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers for half a minute")
	}
	work := t.TempDir()
	out := filepath.Join(work, "results.jsonl")
	shared := []string{"-bin=" + ourBinaries(t), "-dir=" + work, "-out=" + out, "-peers=ours-single"}
	for _, tc := range []struct {
		command string
		flags   []string
		want    []string
		mayFail bool // of what is not meant for so little data
	}{
		{"run", []string{"-datasets=a,c,kube", "-hosts=2", "-scrapes=8", "-n=1", "-settle=0s", "-flush-wait=0s", "-idle-every=100ms", "-cold=up", "-cold-files", "-base=ours-single"},
			[]string{"### Ingestion", "| kube | all samples stored | yes |", "| c | values exact | yes, ", "Dataset a, cold", "| c | registration, CPU-s per M new series"}, false},
		{"scale", []string{"-writers=1,2", "-series=1000", "-samples=5000", "-settle=0s"}, []string{"Scaling of ours-single", "| 1,000 |"}, true},
		{"churn", []string{"-hosts=4", "-scrapes=4", "-churn=1", "-churn-every=2", "-storm-time=500ms", "-settle=0s"}, []string{"### Churn", "| ours-single | 1 |"}, false},
		{"memory", []string{"-series=2000", "-scrapes=10", "-budget", "-settle=0s"}, []string{"each storage process allowed", "All samples stored: yes"}, false},
		{"soak", []string{"-for=1s", "-rate=20000", "-hosts=4", "-look-every=100ms", "-ask-every=100ms"}, []string{"Steady load of ours-single", "| all acknowledged samples are stored | yes | pass |"}, true},
		{"growth", []string{"-peers=ours-cluster-1,ours-cluster-2-rf2", "-hosts=2", "-scrapes=8", "-n=1", "-settle=0s", "-idle-every=100ms"},
			[]string{"### Growth of the cluster", "| ours-cluster-1 | 1 |", " | yes |\n| ours-cluster-2-rf2 | 1 |", " | yes |\n\nAll queries once", "| 0 |\n\nMedian ms"}, false},
	} {
		stdout, stderr, status := vmbench(t, append([]string{tc.command}, append(shared, tc.flags...)...)...)
		if status != 0 && !tc.mayFail {
			t.Errorf("%s: status %d, %s", tc.command, status, stderr)
		}
		for _, want := range tc.want {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: %q is not in\n%s\n%s", tc.command, want, stdout, stderr)
			}
		}
	}
	stdout, stderr, status := vmbench(t, "table", "-base=ours-single", out)
	if status != 0 || strings.Count(stdout, "### ") != 12 {
		t.Errorf("table: status %d, %s\n%s", status, stderr, stdout)
	}
}
