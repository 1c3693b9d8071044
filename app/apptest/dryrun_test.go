package apptest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDryRun has all binaries look at good and bad configurations. They end at once, open no port and make no data folder.
func TestDryRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	node := "-storageNode=127.0.0.1:1"
	rules, badRules := file("rules.yml", "- action: labeldrop\n  regex: secret\n"), file("bad.yml", "- action: nonsense\n")
	aggregation := file("aggregation.yml", "- {interval: 1m, outputs: [total]}\n")
	limits, badLimits := file("limits", ""), file("badlimits", "what is this\n")
	list, data := file("list", "127.0.0.1:1\n127.0.0.1:2\n"), filepath.Join(dir, "data")
	missing := filepath.Join(dir, "missing.pem")
	for _, tc := range []struct {
		binary, args, want string // want: what the log of one that fails says; empty: it does not
	}{
		{"vminsert", node + " -relabelConfig=" + rules + " -tenantLimits.config=" + limits, ""},
		{"vminsert", "-storageNode=file:" + list + " -replicationFactor=2", ""},
		{"vminsert", "-storageNode=file:" + list + " -replicationFactor=3", "-replicationFactor=3"},
		{"vminsert", "-storageNode=file:" + missing, "missing.pem"},
		{"vminsert", node + " -relabelConfig=" + badRules, "nonsense"},
		{"vminsert", node + " -tenantLimits.config=" + badLimits, "badlimits"},
		{"vminsert", node + " -cluster.tls -cluster.tlsCAFile=" + missing, "missing.pem"},
		{"vminsert", node + " -clusternativeListenAddr=127.0.0.1:0 -clusternative.tls -clusternative.tlsCertFile=" + missing + " -clusternative.tlsKeyFile=" + missing, "missing.pem"},
		{"vmselect", node + " -tenantLimits.config=" + limits, ""},
		{"vmselect", node + " -tls -tlsCertFile=" + missing + " -tlsKeyFile=" + missing, "missing.pem"},
		{"vmselect", node + " -deleteAuthKey=file://" + missing, "missing.pem"},
		{"vmstorage", "-storageDataPath=" + data, ""},
		{"vmstorage", "-storageDataPath=" + data + " -retentionPeriod=1h", "-retentionPeriod=1h"},
		{"vmstorage", "-storageDataPath=" + data + " -cluster.tls -cluster.tlsCertFile=" + missing + " -cluster.tlsKeyFile=" + missing, "missing.pem"},
		{"victoria-metrics", "-storageDataPath=" + data + " -relabelConfig=" + rules, ""},
		{"victoria-metrics", "-storageDataPath=" + data + " -relabelConfig=" + badRules, "nonsense"},
		{"victoria-metrics", "-storageDataPath=" + data + " -streamAggr.config=" + aggregation, ""},
		{"victoria-metrics", "-storageDataPath=" + data + " -streamAggr.config=" + badRules, `no such key; rules have by`},
		{"victoria-metrics", "-storageDataPath=" + data + " -vmselectAddr=:1 -cluster.tls -cluster.tlsCertFile=" + missing + " -cluster.tlsKeyFile=" + missing, "missing.pem"},
	} {
		end := runToEnd(t, spec{binary: tc.binary, args: append(strings.Fields(tc.args), "-dryRun")})
		said := "is good"
		if tc.want != "" {
			said = tc.want
		}
		if (end.status == 0) != (tc.want == "") || !strings.Contains(end.stderr, said) || strings.Contains(end.stderr, "started server") {
			t.Errorf("%s %s: status %d, and it says %s", tc.binary, tc.args, end.status, end.stderr)
		}
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("there is a data folder: %v", err)
	}
}
