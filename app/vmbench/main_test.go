package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// vmbench runs the tool in this process.
func vmbench(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return out.String(), errs.String(), status
}

func TestUsage(t *testing.T) {
	for _, tc := range []struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		{nil, 2, "", "usage: vmbench COMMAND"},
		{[]string{"-help"}, 0, "usage: vmbench COMMAND", ""},
		{[]string{"help"}, 0, "crash", ""},
		{[]string{"nosuch"}, 2, "", `there is no command "nosuch"`},
		{[]string{"gen", "-help"}, 0, "", "-scrapes"},
		{[]string{"gen", "-nosuch"}, 2, "", "-nosuch"},
		{[]string{"gen", "out"}, 2, "", `unexpected argument "out"`},
		{[]string{"gen"}, 1, "", "vmbench gen: cannot generate a dataset without a folder: give -out"},
		{[]string{"table"}, 1, "", "vmbench run"},
		{[]string{"table", "nosuch"}, 1, "", "nosuch"},
		{[]string{"disk"}, 1, "", "as arguments"},
		{[]string{"proc"}, 1, "", "-pid"},
		{[]string{"proc", "-pid=x"}, 1, "", `"x"`},
		{[]string{"ingest"}, 1, "", "-dataset"},
		{[]string{"query", "-dataset=nosuch", "-url=x"}, 1, "", "vmbench gen"},
		{[]string{"floor", "-mode=x"}, 1, "", "-mode=x"},
		{[]string{"columns"}, 1, "", "-dataset"},
		{[]string{"compare", "-peers=floor-decode"}, 1, "", "name two"},
		{[]string{"run", "-peers=x"}, 1, "", "ours-cluster"},
		{[]string{"crash", "-writers=0"}, 1, "", "writer"},
		{[]string{"scale", "-series=x"}, 1, "", "-series=x"},
		{[]string{"churn", "-churn=2"}, 1, "", "-churn"},
		{[]string{"memory", "-scrapes=3"}, 1, "", "10 scrapes"},
		{[]string{"soak", "-fraction=2"}, 1, "", "-fraction"},
		{[]string{"growth", "-compare=x"}, 1, "", "-compare=x"},
		{[]string{"corpus", "-set=nosuch"}, 1, "", "kube"},
		{[]string{"capture"}, 1, "", "-from"},
	} {
		stdout, stderr, status := vmbench(t, tc.args...)
		if status != tc.status || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) || tc.stdout == "" && stdout != "" {
			t.Errorf("%q: status %d, stdout %q, stderr %q", tc.args, status, stdout, stderr)
		}
	}
	for _, c := range commands() {
		if _, stderr, status := vmbench(t, c.name, "-help"); status != 0 || !strings.Contains(stderr, "Usage of vmbench "+c.name) {
			t.Errorf("%s: status %d, says %q", c.name, status, stderr)
		}
	}
}

// TestCommands goes from a dataset to its columns, over a floor server.
func TestCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	stdout, stderr, status := vmbench(t, "gen", "-out", dir, "-hosts=1", "-scrapes=2", "-end=1795324981")
	var m struct{ Samples, Series int64 }
	if err := json.Unmarshal([]byte(stdout), &m); err != nil || status != 0 || m.Series != 1098 || m.Samples != 2*1098 {
		t.Fatalf("gen: status %d, %q, %q, %v", status, stdout, stderr, err)
	}
	stdout, stderr, status = vmbench(t, "disk", "-dataset", dir, dir)
	var d struct {
		Bytes          int64   `json:"bytes"`
		BytesPerSample float64 `json:"bytes_per_sample"`
	}
	if err := json.Unmarshal([]byte(stdout), &d); err != nil || status != 0 || d.BytesPerSample != float64(d.Bytes)/float64(m.Samples) {
		t.Errorf("disk: status %d, %q, %q, %v", status, stdout, stderr, err)
	}
	if stdout, stderr, status = vmbench(t, "columns", "-dataset", dir, "-format=float", "-parts=v"); status != 0 || int64(len(stdout)) != 8*m.Samples {
		t.Errorf("columns: status %d, %d bytes, %q", status, len(stdout), stderr)
	}
	out := filepath.Join(t.TempDir(), "results.jsonl")
	stdout, stderr, status = vmbench(t, "run", "-peers=ours-single", "-bin="+t.TempDir(), "-dir="+t.TempDir(), "-datasets="+dir, "-out="+out)
	if status != 0 || stdout != "" || !strings.Contains(stderr, "skipping ours-single") {
		t.Errorf("run: status %d, %q, %q", status, stdout, stderr)
	}
	if stdout, stderr, status = vmbench(t, "proc", "-pid="+strconv.Itoa(1)); status != 0 || !strings.Contains(stdout, `"rss":`) {
		t.Errorf("proc: status %d, %q, %q", status, stdout, stderr)
	}
}

// TestFloorCommand: the server ends with the context.
func TestFloorCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if status := run(ctx, []string{"floor", "-addr=127.0.0.1:0"}, &out, &errs); status != 0 || errs.Len() > 0 {
		t.Errorf("status %d, %q", status, errs.String())
	}
}
