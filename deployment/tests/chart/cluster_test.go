package chart

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcluster/deployment/tests/objects"

	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	corev1 "k8s.io/api/core/v1"
)

var update = flag.Bool("update", false, "write golden files and tables of the documentation")

// golden compares a file with what it should be, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what is made now; look at the difference that go test -update makes", name)
	}
}

func TestRenderings(t *testing.T) { eachChart(t, testRenderings) }

func testRenderings(t *testing.T, dir string) {
	c := load(t, dir)
	suffix := strings.TrimPrefix(filepath.Base(dir), "vmcluster")
	files, err := filepath.Glob("testdata/values" + suffix + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no values: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r, err := c.Render(Release{Name: "vm", Namespace: "metrics"}, readYAML(t, file))
			if err != nil {
				t.Fatal(err)
			}
			all, err := objects.Decode(r.Manifests)
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range append(objects.Check(all, "Secret/pull", "Secret/nodes"), objects.CheckFlags(all, binaryFlags(t))...) {
				t.Error(err)
			}
			if bytes.Contains(r.Manifests, []byte(" \n")) {
				t.Error("lines end with spaces")
			}
			notes := "---\n# NOTES\n"
			for line := range strings.Lines(r.Notes) {
				notes += strings.TrimRight("# "+line, " \n") + "\n"
			}
			golden(t, filepath.Join("testdata/golden"+suffix, filepath.Base(file)), append(r.Manifests, notes...))
		})
	}
}

// TestLint runs what `helm lint --strict` runs.
func TestLint(t *testing.T) {
	for file, dir := range map[string]string{
		"values/default": clusterDir, "values/ha": clusterDir, "values/upstream": clusterDir, "values-single/default": singleDir, "values-single/upstream": singleDir,
	} {
		result := lint.All(dir, readYAML(t, "testdata/"+file+".yaml"), "metrics", true)
		for _, m := range result.Messages {
			if m.Severity > support.UnknownSev {
				t.Errorf("%s: %s", file, m)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	charts := map[bool]*Chart{false: load(t, clusterDir), true: load(t, singleDir)}
	for _, r := range []struct{ values, want string }{
		{`{"vmselct": {}}`, `additional properties 'vmselct' not allowed`},
		{`{"vmselect": {"replicas": 3}}`, `at '/vmselect/replicas': false schema`},
		{`{"vmselect": {"service": {"udp": true}}}`, `at '/vmselect/service/udp': false schema`},
		{`{"vmstorage": {"persistentVolume": {"sise": "1Gi"}}}`, `additional properties 'sise' not allowed`},
		{`{"vmselect": {"replicaCount": "3"}}`, `at '/vmselect/replicaCount': got string, want integer`},
		{`{"vmselect": {"mode": "daemonSet"}}`, `at '/vmselect/mode': value must be one of 'deployment', 'statefulSet'`},
		{`{"vmstorage": {"persistentVolume": {"size": "8 Gi"}}}`, `at '/vmstorage/persistentVolume/size'`},
		{`{"vmstorage": {"retentionPeriod": "a month"}}`, `at '/vmstorage/retentionPeriod'`},
		{`{"vmstorage": {"service": {"clusterIP": "10.0.0.1"}}}`, `at '/vmstorage/service/clusterIP': value must be 'None'`},
		{`{"vmstorage": {"service": {"enabled": false}}}`, `at '/vmstorage/service/enabled': value must be true`},
		{`{"vmstorage": {"service": {"nodePort": 30000}}}`, `at '/vmstorage/service/nodePort'`},
		{`{"vminsert": {"http": [{"name": "http", "value": "8480"}]}}`, `at '/vminsert/http/0/value'`},
		{`{"vminsert": {"http": [{"name": "http", "value": ":8480", "tlsAutocertHosts": "a"}]}}`, `at '/vminsert/http/0/tlsAutocertHosts'`},
		{`{"vminsert": {"extraArgs": {"--a": 1}}}`, `at '/vminsert/extraArgs'`},
		{`{"vminsert": {"extraArgs": {"a": {"b": 1}}}}`, `at '/vminsert/extraArgs/a': got object`},
		{`{"vminsert": {"route": {"enabled": true}}}`, `at '/vminsert/route/parentRefs': minItems: got 0, want 1`},
		{`{"vmauth": {"enabled": true}}`, `this version has no vmauth`},
		{`{"vmselect": {"persistentVolume": {"enabled": true}}}`, `Set vmselect.mode to statefulSet`},
		{`{"vminsert": {"service": {"enabled": false}, "ingress": {"enabled": true}}}`, `vminsert.service.enabled: ingress, route and serviceMonitor need the Service`},
		{`{"vmselect": {"http": []}}`, `vmselect.http: at least one address is needed`},
		{`{"vmselect": {"podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": 1}}}`, `minAvailable and maxUnavailable exclude each other`},
		{`{"vmstorage": {"vmbackupmanager": {"enabled": true}}}`, `vmstorage.vmbackupmanager.destination: say where backups go`},
		{`{"vmstorage": {"persistentVolume": {"existingClaim": "a"}}}`, `two storage nodes cannot have one volume`},
		{`{"server": {"scrape": {"enabled": true}}}`, `victoria-metrics does not scrape`},
		{`{"server": {"replicaCount": 2, "mode": "deployment"}}`, `server.replicaCount: several pods would share one volume`},
		{`{"server": {"horizontalPodAutoscaler": {"enabled": true}}}`, `at '/server/horizontalPodAutoscaler': false schema`},
	} {
		var values map[string]any
		if err := json.Unmarshal([]byte(r.values), &values); err != nil {
			t.Fatal(err)
		}
		_, single := values["server"]
		if _, err := charts[single].Render(release, values); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s:\n%v\nwant: %s", r.values, err, r.want)
		}
	}
}

// fixed are keys that cannot be changed later, as their descriptions or Kubernetes say.
var fixed = []string{"nameOverride", "fullnameOverride", "mode", "podManagementPolicy", "statefulSet/spec/podManagementPolicy", "persistentVolume/existingClaim", "persistentVolume/enabled",
	"persistentVolume/name", "persistentVolume/size", "persistentVolume/storageClassName", "persistentVolume/volumeAttributesClassName", "persistentVolume/accessModes", "persistentVolume/annotations",
	"persistentVolume/extraLabels", "vmselect/persistentVolume/enabled", "vmstorage/persistentVolume/enabled"}

// TestUpgrades changes the version of the chart and every key that may be changed: what Kubernetes does not let anybody change stays.
func TestUpgrades(t *testing.T) {
	kept := func(c *Chart, values map[string]any) map[string]string {
		all, err := objects.Decode(render(t, c, values).Manifests)
		if err != nil {
			t.Fatal(err)
		}
		parts := map[string]string{}
		for _, w := range objects.Workloads(all) {
			text, err := json.Marshal([]any{w.Selector, w.ServiceName, w.Claims})
			if err != nil {
				t.Fatal(err)
			}
			parts[w.String()] = string(text)
		}
		return parts
	}
	for _, mode := range []string{"deployment", "statefulSet"} {
		c := load(t, clusterDir)
		select1 := map[string]any{"mode": mode}
		before := kept(c, map[string]any{"vmselect": select1})
		c.chart.Metadata.Version, c.chart.Metadata.AppVersion = "9.9.9", "v9.9.9"
		values := example(t, readSchema(t, clusterDir).leaves(""), slices.Concat(fixed, shown, []string{"podDisruptionBudget/minAvailable"}))
		put(values, "vmselect/mode", mode)
		if after := kept(c, values); len(before) != 3 || !maps.Equal(before, after) {
			t.Errorf("%s: before:\n%v\nafter:\n%v", mode, before, after)
		}
	}
}

func TestOddNames(t *testing.T) {
	c := load(t, clusterDir)
	for _, name := range []string{"a", "a.b", "1st", "vmcluster", "my-vmcluster", "x-" + strings.Repeat("y", 51), strings.Repeat("a.", 26) + "b", strings.Repeat("z", 41) + "-z"} {
		for _, mode := range []string{"deployment", "statefulSet"} {
			r, err := c.Render(Release{Name: name, Namespace: "n"}, map[string]any{"vmselect": map[string]any{"mode": mode}, "vminsert": map[string]any{"relabel": map[string]any{"enabled": true}}})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all, err := objects.Decode(r.Manifests)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, err := range objects.Check(all) {
				t.Errorf("%s: %v", name, err)
			}
			for _, w := range objects.Workloads(all) {
				if len(w.Name) > 52 {
					t.Errorf("%s: the name of %s leaves no room for a hash behind it", name, w.ID)
				}
			}
		}
	}
}

// workloads renders values and returns the workloads by component.
func workloads(t *testing.T, release Release, values string) map[string]objects.Workload {
	t.Helper()
	var parsed map[string]any
	if err := json.Unmarshal([]byte(values), &parsed); err != nil {
		t.Fatal(err)
	}
	r, err := load(t, clusterDir).Render(release, parsed)
	if err != nil {
		t.Fatal(err)
	}
	all, err := objects.Decode(r.Manifests)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]objects.Workload{}
	for _, w := range objects.Workloads(all) {
		found[w.Pod.Labels["app.kubernetes.io/component"]] = w
	}
	return found
}

func TestFlags(t *testing.T) {
	found := workloads(t, release, `{"vmselect": {"extraArgs": {"a": 1000000, "b": 1.5, "c": true, "d": "x y \"$(Z)\"", "e": ["p", 2], "f": null, "cacheDataPath": "", "search.maxSeries": 123456789012}}}`)
	got := map[string][]string{}
	for _, f := range objects.Flags(found["vmselect"].Pod.Spec.Containers[0]) {
		got[f[0]] = append(got[f[0]], f[1])
	}
	for flag, want := range map[string][]string{
		"a": {"1000000"}, "b": {"1.5"}, "c": {"true"}, "d": {`x y "$(Z)"`}, "e": {"p", "2"}, "f": nil, "cacheDataPath": {""}, "search.maxSeries": {"123456789012"}, "loggerFormat": {"json"},
	} {
		if !slices.Equal(got[flag], want) {
			t.Errorf("-%s is %q, want %q", flag, got[flag], want)
		}
	}
}

// TestListeners: wherever HTTP addresses are set, ports, probes and flags agree.
func TestListeners(t *testing.T) {
	for _, c := range []struct{ values, ports, probe, flags string }{
		{`{}`, "http:8481", "HTTP http", ""},
		{`{"extraArgs": {"httpListenAddr": "0.0.0.0:9000"}}`, "http:9000", "HTTP http", "httpListenAddr=0.0.0.0:9000"},
		{`{"extraArgs": {"httpListenAddr": [":9000", ":9001", ":9002"], "tls": ["true", false]}}`, "http:9000 http-1:9001 http-2:9002", "HTTPS http",
			"httpListenAddr=:9000 httpListenAddr=:9001 httpListenAddr=:9002 tls=true tls=false"},
		{`{"extraArgs": {"tls": true}}`, "http:8481", "HTTPS http", "tls=true"},
		{`{"http": [{"name": "a", "value": ":9000"}]}`, "a:9000", "HTTP a", "httpListenAddr=:9000"},
		{`{"http": [{"name": "a", "value": ":9000"}, {"name": "b", "value": ":9001", "primary": true, "tls": true, "tlsCertFile": "/c", "tlsKeyFile": "/k"}]}`, "a:9000 b:9001", "HTTPS b",
			"httpListenAddr=:9000 httpListenAddr=:9001 tls=false tls=true tlsCertFile= tlsCertFile=/c tlsKeyFile= tlsKeyFile=/k"},
		{`{"ports": {"name": "web"}}`, "web:8481", "HTTP web", ""},
	} {
		w := workloads(t, release, `{"vmselect": `+c.values+`}`)["vmselect"].Pod.Spec.Containers[0]
		var ports, flags []string
		for _, p := range w.Ports {
			ports = append(ports, fmt.Sprintf("%s:%d", p.Name, p.ContainerPort))
		}
		for _, f := range objects.Flags(w) {
			if strings.HasPrefix(f[0], "tls") || f[0] == "httpListenAddr" {
				flags = append(flags, f[0]+"="+f[1])
			}
		}
		get := w.ReadinessProbe.HTTPGet
		probe := cmp.Or(string(get.Scheme), "HTTP") + " " + get.Port.String()
		if got := strings.Join(ports, " "); got != c.ports || probe != c.probe || strings.Join(flags, " ") != c.flags {
			t.Errorf("%s: ports %s, probe %s, flags %s", c.values, got, probe, flags)
		}
	}
}

// TestSafeDefaults: what is installed without any values may do nothing it need not, and has the time it needs to stop.
func TestSafeDefaults(t *testing.T) {
	for component, w := range workloads(t, release, `{"vmstorage": {"vmbackupmanager": {"enabled": true, "destination": "fs:///b", "restore": {"onStart": {"enabled": true}}}}}`) {
		pod := w.Pod.Spec
		if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || *pod.AutomountServiceAccountToken {
			t.Errorf("%s: security of the pod is %v", component, s)
		}
		for _, c := range w.Containers() {
			s := c.SecurityContext
			if s == nil || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s: security of container %s is %v", component, c.Name, s)
			}
		}
		need := map[string]time.Duration{"vmstorage": 10 * time.Second}[component] + 10*time.Second
		for _, f := range objects.Flags(pod.Containers[0]) {
			if f[0] == "http.shutdownDelay" {
				delay, err := time.ParseDuration(f[1])
				if err != nil {
					t.Fatal(err)
				}
				need += delay
			}
		}
		if grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; grace <= need {
			t.Errorf("%s has %s to stop and needs %s", component, grace, need)
		}
		if len(pod.TopologySpreadConstraints) == 0 {
			t.Errorf("%s is not spread over nodes", component)
		}
	}
}

func TestOpenShiftChoosesUsers(t *testing.T) {
	for _, c := range []struct {
		adapt string
		apis  []string
		users bool
	}{
		{"auto", nil, true}, {"auto", []string{"security.openshift.io/v1"}, false}, {"force", nil, false}, {"disabled", []string{"security.openshift.io/v1"}, true},
	} {
		found := workloads(t, Release{Name: "r", Namespace: "n", APIs: c.apis}, `{"global": {"compatibility": {"openshift": {"adaptSecurityContext": "`+c.adapt+`"}}}}`)
		s := found["vmstorage"].Pod.Spec.SecurityContext
		if got := s.RunAsUser != nil && s.FSGroup != nil; got != c.users || *s.RunAsNonRoot != true {
			t.Errorf("%v: users set: %v", c, got)
		}
	}
}
