package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestUpToDate: the files in deployment/dashboards are what the command writes.
func TestUpToDate(t *testing.T) {
	written, kept := t.TempDir(), "../../../deployment/dashboards"
	if err := write(written); err != nil {
		t.Fatal(err)
	}
	for _, d := range all() {
		want, err := os.ReadFile(filepath.Join(written, d.file))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(kept, d.file)); err != nil || string(got) != string(want) {
			t.Errorf("deployment/dashboards/%s is not up to date: run go run ./app/internal/dashboards; %v", d.file, err)
		}
	}
}
