package apptest

import (
	"os/exec"
	"testing"
)

// TestDeploymentFiles lets the real tools check the files people copy.
func TestDeploymentFiles(t *testing.T) {
	out, err := exec.Command(peer(t, "promtool"), "check", "config", "../../deployment/prometheus/prometheus.yml").CombinedOutput()
	if err != nil {
		t.Errorf("promtool refuses the configuration: %s\n%s", err, out)
	}
}
