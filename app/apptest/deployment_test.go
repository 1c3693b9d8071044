package apptest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// update rewrites the files that tests derive from others.
var update = flag.Bool("update", false, "rewrite files which are derived from others")

// TestDeploymentFiles lets the real tools check the files people copy.
func TestDeploymentFiles(t *testing.T) {
	out, err := exec.Command(peer(t, "promtool"), "check", "config", "../../deployment/prometheus/prometheus.yml").CombinedOutput()
	if err != nil {
		t.Errorf("promtool refuses the configuration: %s\n%s", err, out)
	}
	out, err = exec.Command(peer(t, "promtool"), "check", "rules", alertsFile).CombinedOutput()
	if err != nil {
		t.Errorf("promtool refuses the alerts: %s\n%s", err, out)
	}
}

func yamlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

const alertsFile = "../../deployment/prometheus/alerts.yml"

// TestAlertsFile: the alert rules are the alarms of the cluster guide; -update writes them.
func TestAlertsFile(t *testing.T) {
	var b strings.Builder
	b.WriteString("# The alarms of docs/cluster-guide.md, for Prometheus or vmalert. Written by\n" +
		"# go test ./app/apptest -run TestAlertsFile -update; change the guide, not this file.\ngroups:\n  - name: vmcluster\n    rules:\n")
	for _, cells := range guideTables(t, operatorGuide(t), "### Alarms") {
		expr, holds := alarmOf(t, cells)
		fmt.Fprintf(&b, "      - alert: %s\n        expr: %s\n", cells[0], yamlText(expr))
		if holds != "" {
			fmt.Fprintf(&b, "        for: %s\n", holds)
		}
		todo, _, _ := strings.Cut(strings.TrimPrefix(cells[3], "["), "]") // a link becomes its text
		fmt.Fprintf(&b, "        annotations:\n          summary: %s\n          description: %s\n",
			yamlText(cells[2]), yamlText("What to do: "+todo+". See docs/cluster-guide.md."))
	}
	if *update {
		if err := os.WriteFile(alertsFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(file) != b.String() {
		t.Errorf("the rules should be\n%s\nrun go test ./app/apptest -run TestAlertsFile -update", &b)
	}
}
