package apptest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDeploymentFiles lets the real tools check the files people copy.
func TestDeploymentFiles(t *testing.T) {
	out, err := exec.Command(peer(t, "promtool"), "check", "config", "../../deployment/prometheus/prometheus.yml").CombinedOutput()
	if err != nil {
		t.Errorf("promtool refuses the configuration: %s\n%s", err, out)
	}
	text, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllSubmatch(text, -1)
	if len(examples) < 2 {
		t.Errorf("docs/monitoring.md has %d examples", len(examples))
	}
	for _, m := range examples {
		file := filepath.Join(t.TempDir(), "prometheus.yml")
		example := strings.Replace(string(m[1]), "kubernetes_sd_configs: [{role: pod}]", "static_configs: [{targets: [x]}]", 1) // Debian's knows no Kubernetes
		if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(peer(t, "promtool"), "check", "config", file).CombinedOutput(); err != nil {
			t.Errorf("promtool refuses an example of docs/monitoring.md: %s\n%s", err, out)
		}
	}
}
