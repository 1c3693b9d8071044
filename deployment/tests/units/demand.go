package units

import (
	"os"
	"os/exec"
	"testing"
)

// Demand ends the test when a program is not installed: as failed if VMCLUSTER_REQUIRE_PEERS is set, else as skipped.
func Demand(t testing.TB, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	if err == nil {
		return
	}
	if os.Getenv("VMCLUSTER_REQUIRE_PEERS") != "" {
		t.Fatalf("%s is not installed, and VMCLUSTER_REQUIRE_PEERS demands it: %s", program, err)
	}
	t.Skipf("%s is not installed; install it, for example with `apt-get install %s`, to run this test", program, program)
}
