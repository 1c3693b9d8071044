package tests

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"vmcluster/deployment/tests/chart"
	"vmcluster/deployment/tests/objects"
	"vmcluster/deployment/tests/render"
	"vmcluster/deployment/tests/units"
)

const binaries = "../../bin"

// TestManifestsRun runs what the containers of each overlay are told to run: all become ready by their own probes, what is
// written can be read, and all end within the grace periods of their pods.
func TestManifestsRun(t *testing.T) {
	for _, dir := range overlays(t) {
		if filepath.Base(dir) == "production" {
			continue // TestBackupAndRestore
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, dir)
			c.world.Start(c.units)
			writeAndRead(t, c.write, c.read)
			if _, err := exec.LookPath("prometheus"); err == nil {
				find(t, c.read, `up{job="prometheus"}`, 1)
			}
			c.world.Stop()
		})
	}
}

// cluster is what an overlay describes.
type cluster struct {
	world       *units.World
	units       []*units.Unit
	write, read string // URLs
}

// newCluster makes a cluster of an overlay, which does not run yet.
func newCluster(t *testing.T, dir string) cluster {
	t.Helper()
	all, scheme := decode(t, renderDir(t, dir)), "http"
	for _, object := range all {
		if m, ok := object.(*corev1.ConfigMap); ok && strings.Contains(m.Data["prometheus.yaml"], "https://") {
			scheme = "https"
		}
	}
	if scheme == "https" {
		all = append(all, decode(t, certificates(t))...)
	}
	c := cluster{world: units.NewWorld(t, binaries)}
	c.units = c.world.Objects(all)
	c.write = scheme + "://" + c.world.Host("vminsert.vm-cluster:8480") + "/insert/0/prometheus"
	c.read = scheme + "://" + c.world.Host("vmselect.vm-cluster:8481") + "/select/0/prometheus"
	return c
}

// TestGuideRuns runs the manifests of a guide for the system we replace, where only the name of the image is another, with
// the Prometheus which that guide configures.
func TestGuideRuns(t *testing.T) {
	units.Demand(t, "prometheus")
	t.Parallel()
	var all []runtime.Object
	files, err := filepath.Glob("testdata/guide/*.yaml")
	if err != nil || len(files) != 4 {
		t.Fatalf("there are %d files of the guide, error %v; want 4", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, decode(t, text)...)
	}
	w := units.NewWorld(t, binaries)
	targets := map[string]string{}
	for n := 7; n <= 9; n++ {
		ip := fmt.Sprintf("127.0.0.%d", n)
		targets[ip] = target(t, ip)
		w.Name(fmt.Sprintf("192.168.18.%d:9111", n), targets[ip])
	}
	w.Start(append(w.Objects(all), guidePrometheus(t, all)))
	read := "http://" + w.Host("vmselect.vm-cluster:8481") + "/select/0/prometheus"
	writeAndRead(t, "http://"+w.Host("vminsert.vm-cluster:8480")+"/insert/0/prometheus", read)
	for ip, addr := range targets {
		find(t, read, fmt.Sprintf(`guide_target{job="nodes",instance=%q,ip=%q}`, addr, ip), 1)
	}
	w.Stop()
}

// guidePrometheus is a Prometheus with the ConfigMap of the guide.
func guidePrometheus(t *testing.T, all []runtime.Object) *units.Unit {
	t.Helper()
	config, data := t.TempDir(), t.TempDir()
	for _, object := range all {
		if m, ok := object.(*corev1.ConfigMap); ok {
			if err := os.WriteFile(filepath.Join(config, "prometheus.yaml"), []byte(m.Data["prometheus.yaml"]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &units.Unit{
		Name: "prometheus", Pod: "prometheus", Image: "prom/prometheus", Ports: []int{9090},
		Args:   []string{"--config.file=/etc/prometheus/prometheus.yaml", "--storage.tsdb.path=/prometheus"},
		Mounts: map[string]string{"/etc/prometheus": config, "/prometheus": data},
		Ready:  units.Probe{Scheme: "http", Port: 9090, Path: "/-/ready"}, Grace: 2 * time.Minute,
	}
}

// target serves a metric at an address of loopback.
func target(t *testing.T, ip string) string {
	t.Helper()
	ln, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Skipf("cannot listen at %s: %s; not all systems have more than one address of loopback", ip, err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "guide_target 1\n") // Prometheus comes again
	}))
	server.Listener.Close()
	server.Listener = ln
	server.Start()
	t.Cleanup(server.Close)
	return ln.Addr().String()
}

// writeAndRead writes a hundred series below one URL and reads them below another.
func writeAndRead(t *testing.T, write, read string) {
	t.Helper()
	writeSeries(t, write, "deployed")
	find(t, read, `count(deployed)`, 100)
}

func writeSeries(t *testing.T, write, name string) {
	t.Helper()
	var body strings.Builder
	for i := range 100 {
		fmt.Fprintf(&body, "%s{i=\"%d\"} 1\n", name, i)
	}
	if _, err := call(http.MethodPost, write+"/api/v1/import/prometheus", body.String()); err != nil {
		t.Fatal(err)
	}
}

// find waits for a query to give a single value.
func find(t *testing.T, read, query string, value int) {
	t.Helper()
	want := fmt.Sprintf(`,"%d"]`, value)
	units.Eventually(t, query, func() error {
		answer, err := call(http.MethodGet, read+"/api/v1/query?"+url.Values{
			"query": {query}, "time": {fmt.Sprint(time.Now().Unix() + 1)}, "nocache": {"1"},
		}.Encode(), "")
		if err == nil && (strings.Count(string(answer), `"value":[`) != 1 || !strings.Contains(string(answer), want)) {
			err = fmt.Errorf("the answer is %s", answer)
		}
		return err
	})
}

// certificates are the Secrets of the overlay tls, made as its users make them.
func certificates(t *testing.T) []byte {
	t.Helper()
	units.Demand(t, "openssl")
	command := exec.Command("../kubernetes/components/tls/certificates.sh", t.TempDir(), "IP:127.0.0.1")
	var stderr strings.Builder
	command.Stderr = &stderr
	secrets, err := command.Output()
	if err != nil {
		t.Fatalf("cannot make certificates: %s\n%s", err, &stderr)
	}
	return secrets
}

// overlays are the directories of manifests, the base among them.
func overlays(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("../kubernetes/overlays/*")
	if err != nil || len(dirs) < 4 {
		t.Fatalf("there are the overlays %q, error %v; want four at least", dirs, err)
	}
	return append(dirs, "../kubernetes/base")
}

func renderDir(t *testing.T, dir string) []byte {
	t.Helper()
	text, err := render.Kustomize(dir)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func decode(t *testing.T, text []byte) []runtime.Object {
	t.Helper()
	all, err := objects.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clip(all)
}

// certificateNames returns the DNS names that a certificate in PEM is for.
func certificateNames(t *testing.T, text []byte) []string {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%q is no certificate", text)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.DNSNames
}

// TestChartRuns runs what the Helm chart makes of its own values.
func TestChartRuns(t *testing.T) {
	t.Parallel()
	c, err := chart.Load("../helm/vmcluster")
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := c.Render(chart.Release{Name: "vm", Namespace: "metrics"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := units.NewWorld(t, binaries)
	w.Start(w.Objects(decode(t, rendered.Manifests)))
	writeAndRead(t, "http://"+w.Host("vm-vmcluster-vminsert.metrics:8480")+"/insert/0/prometheus",
		"http://"+w.Host("vm-vmcluster-vmselect.metrics:8481")+"/select/0/prometheus")
	w.Stop()
}
