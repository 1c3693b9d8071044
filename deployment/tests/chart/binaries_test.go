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

// binaryFlags returns the flags of a binary of this repository as it is now, not as it was built last. nil is for what is not ours.
func binaryFlags(t *testing.T) func(binary string) map[string]bool {
	t.Helper()
	return func(binary string) map[string]bool {
		if known, ok := built.Load(binary); ok {
			return known.(map[string]bool)
		}
		if _, err := os.Stat(filepath.Join("../../../app", binary, "main.go")); err != nil {
			return nil
		}
		path := filepath.Join(t.TempDir(), binary)
		build := exec.Command("go", "build", "-o", path, "./app/"+binary)
		build.Dir = "../../.."
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("cannot build %s: %v\n%s", binary, err, out)
		}
		help, _ := exec.Command(path, "-help").CombinedOutput()
		known := objects.HelpFlags(help)
		if len(known) < 10 {
			t.Fatalf("%s -help names %d flags:\n%s", binary, len(known), help)
		}
		built.Store(binary, known)
		return known
	}
}
