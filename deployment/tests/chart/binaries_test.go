package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"vmcluster/deployment/tests/objects"
)

// built are the binaries whose flags have been asked for, by name.
var built sync.Map

// binaryFlags returns the flags of a binary that `make build` has made. nil is for what is not ours.
func binaryFlags(t *testing.T) func(binary string) map[string]bool {
	t.Helper()
	return func(binary string) map[string]bool {
		if known, ok := built.Load(binary); ok {
			return known.(map[string]bool)
		}
		if _, err := os.Stat(filepath.Join("../../../app", binary)); err != nil {
			return nil
		}
		help, err := exec.Command(filepath.Join("../../../bin", binary), "-help").CombinedOutput()
		known := objects.HelpFlags(help)
		if len(known) < 10 {
			t.Fatalf("cannot ask %s for its flags: %v; run `make build` first\n%s", binary, err, help)
		}
		built.Store(binary, known)
		return known
	}
}
