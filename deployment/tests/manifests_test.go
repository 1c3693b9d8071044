package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"vmcluster/deployment/tests/objects"
)

// TestManifests checks what can be known of the manifests without running them.
func TestManifests(t *testing.T) {
	for _, dir := range overlays(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			all := decode(t, renderDir(t, dir))
			errs := objects.Check(all, "Secret/node-tls", "Secret/http-tls")
			errs = append(errs, objects.CheckFlags(all, knownFlags(t))...)
			for _, err := range errs {
				t.Error(err)
			}
			for _, w := range objects.Workloads(all) {
				checkPod(t, w)
			}
			checkNodes(t, all)
		})
	}
}

// knownFlags returns what tells the flags of a binary of ours.
func knownFlags(t *testing.T) func(binary string) map[string]bool {
	return sync.OnceValue(func() func(binary string) map[string]bool {
		known := map[string]map[string]bool{}
		for _, binary := range componentsOf(t) {
			help, err := exec.Command(filepath.Join(binaries, binary), "-help").Output()
			if err != nil {
				t.Fatalf("cannot ask %s for its flags: %s; run `make build` first", binary, err)
			}
			known[binary] = objects.HelpFlags(help)
		}
		return func(binary string) map[string]bool { return known[binary] }
	})()
}

// componentsOf are the binaries that the Makefile builds.
func componentsOf(t *testing.T) []string {
	t.Helper()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(makefile)) {
		if list, ok := strings.CutPrefix(line, "BINARIES"); ok {
			return strings.Fields(strings.TrimLeft(list, " :="))
		}
	}
	t.Fatal("the Makefile has no BINARIES")
	return nil
}

// checkPod demands of a pod what this repository promises of all of them.
func checkPod(t *testing.T, w objects.Workload) {
	t.Helper()
	spec := w.Pod.Spec
	if s := spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 || s.FSGroup == nil ||
		s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the security context of the pod is not that of the others: %v", w.ID, s)
	}
	if token := spec.AutomountServiceAccountToken; token == nil || *token {
		t.Errorf("%s: the pods get a token of Kubernetes, which they do not need", w.ID)
	}
	for _, c := range w.Containers() {
		name := fmt.Sprintf("%s, container %s", w.ID, c.Name)
		if s := c.SecurityContext; s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil ||
			!*s.ReadOnlyRootFilesystem || s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s: the security context is not that of the others: %v", name, s)
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s: resources are missing", name)
		}
		_, tag, pinned := strings.Cut(c.Image[strings.LastIndex(c.Image, "/")+1:], ":")
		if !pinned || tag == "latest" {
			t.Errorf("%s: image %q has no version", name, c.Image)
		}
		if strings.HasPrefix(c.Image, "vmcluster/") && !slices.Contains(componentsOf(t), objects.Binary(c.Image)) {
			t.Errorf("%s: image %q is of no binary of the Makefile", name, c.Image)
		}
		checkStop(t, name, spec, c)
	}
	for _, c := range spec.Containers {
		if c.ReadinessProbe == nil || c.ReadinessProbe.HTTPGet == nil || c.LivenessProbe == nil {
			t.Errorf("%s, container %s: a probe is missing", w.ID, c.Name)
		}
	}
}

// checkStop: a process gets more time than it takes to stop.
func checkStop(t *testing.T, name string, spec corev1.PodSpec, c corev1.Container) {
	t.Helper()
	takes := map[string]time.Duration{"vmstorage": 10*time.Second + 10*time.Second, "vmselect": 7 * time.Second, "vminsert": 7 * time.Second}[objects.Binary(c.Image)]
	for _, flag := range objects.Flags(c) {
		if flag[0] != "http.shutdownDelay" && flag[0] != "http.maxGracefulShutdownDuration" && flag[0] != "storage.vminsertConnsShutdownDuration" {
			continue
		}
		d, err := time.ParseDuration(flag[1])
		if err != nil {
			t.Errorf("%s: -%s: %s", name, flag[0], err)
		}
		takes += d
	}
	if grace := spec.TerminationGracePeriodSeconds; takes > 0 && (grace == nil || time.Duration(*grace)*time.Second < takes+10*time.Second) {
		t.Errorf("%s: stopping takes up to %s, too long for terminationGracePeriodSeconds", name, takes)
	}
}

// checkNodes: vminsert and vmselect have the storage nodes that there are, and agree with vmstorage.
func checkNodes(t *testing.T, all []runtime.Object) {
	t.Helper()
	replicas, flags := 0, map[string]map[string][]string{}
	for _, w := range objects.Workloads(all) {
		if w.Name == "vmstorage" {
			replicas = int(w.PodCount())
		}
		byName := map[string][]string{}
		if w.Pod.Spec.Containers[0].Name != w.Name {
			t.Errorf("%s: the first container is %s, but patches take it for %s", w.ID, w.Pod.Spec.Containers[0].Name, w.Name)
		}
		for _, flag := range objects.Flags(w.Pod.Spec.Containers[0]) {
			byName[flag[0]] = append(byName[flag[0]], flag[1])
		}
		flags[w.Name] = byName
	}
	for name, port := range map[string]string{"vminsert": "8400", "vmselect": "8401"} {
		var want []string
		for n := range replicas {
			want = append(want, fmt.Sprintf("vmstorage-%d.cluster-vmstorage.vm-cluster.svc.cluster.local:%s", n, port))
		}
		if got := flags[name]["storageNode"]; !slices.Equal(got, want) {
			t.Errorf("%s has the storage nodes %q; want %q", name, got, want)
		}
	}
	if a, b := flags["vminsert"]["replicationFactor"], flags["vmselect"]["replicationFactor"]; !slices.Equal(a, b) {
		t.Errorf("vminsert keeps %q copies, vmselect thinks %q", a, b)
	} else if len(a) > 0 && a[0] == "2" && replicas < 3 {
		t.Errorf("2 copies on %d storage nodes: the loss of one leaves new samples with one", replicas)
	}
	if a, b := flags["vmstorage"]["dedup.minScrapeInterval"], flags["vmselect"]["dedup.minScrapeInterval"]; !slices.Equal(a, b) {
		t.Errorf("-dedup.minScrapeInterval is %q at vmstorage, %q at vmselect: nothing would be cached", a, b)
	}
}

// TestFaultyManifests: what TestManifests looks for is found.
func TestFaultyManifests(t *testing.T) {
	text := string(renderDir(t, "../kubernetes/overlays/ha"))
	for _, c := range [][3]string{
		{"vmstorage-2.cluster-vmstorage.vm-cluster.svc.cluster.local:8401", "vmstorage-3.cluster-vmstorage.vm-cluster.svc.cluster.local:8401", "has 3 pods and not this one"},
		{"--retentionPeriod=1", "--retentionPeriods=1", "vmstorage has no flag -retentionPeriods"},
		{"name: prometheus-config-", "name: prometheus-config-x", "does not exist"},
	} {
		i := strings.LastIndex(text, c[0])
		if i < 0 {
			t.Errorf("the manifests have no %q", c[0])
			continue
		}
		all := decode(t, []byte(text[:i]+c[1]+text[i+len(c[0]):]))
		found := fmt.Sprint(append(objects.Check(all), objects.CheckFlags(all, knownFlags(t))...))
		if !strings.Contains(found, c[2]) {
			t.Errorf("%q instead of %q is told as %q; want %q", c[1], c[0], found, c[2])
		}
	}
}

// TestCertManager: cert-manager is asked for the Secrets that the script makes, for the same names.
func TestCertManager(t *testing.T) {
	text, err := os.ReadFile("../kubernetes/components/tls/cert-manager.yaml")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]string{}
	for reader := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 1024); ; {
		var raw json.RawMessage
		if err := reader.Decode(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(raw) == 0 {
			continue // a comment
		}
		var o certManager
		strict := json.NewDecoder(bytes.NewReader(raw))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&o); err != nil {
			t.Fatalf("%s: %s", raw, err)
		}
		if o.Kind == "Certificate" && !o.Spec.IsCA {
			names[o.Spec.SecretName] = o.Spec.DNSNames
		}
		if o.APIVersion != "cert-manager.io/v1" || o.Metadata.Namespace != "vm-cluster" || o.Metadata.Name == "" {
			t.Errorf("%s: the head is wrong", raw)
		}
	}
	for _, object := range decode(t, certificates(t)) {
		secret := object.(*corev1.Secret)
		made := certificateNames(t, secret.Data["tls.crt"])
		if got := names[secret.Name]; !slices.Equal(got, made) {
			t.Errorf("cert-manager is asked for %s with the names %q; the script makes it with %q", secret.Name, got, made)
		}
	}
}

// certManager has the fields of cert-manager's objects that are used.
type certManager struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Spec struct {
		SelfSigned *struct{} `json:"selfSigned"`
		CA         *struct {
			SecretName string `json:"secretName"`
		} `json:"ca"`
		IsCA       bool     `json:"isCA"`
		CommonName string   `json:"commonName"`
		SecretName string   `json:"secretName"`
		Duration   string   `json:"duration"`
		Usages     []string `json:"usages"`
		DNSNames   []string `json:"dnsNames"`
		PrivateKey *struct {
			Algorithm      string `json:"algorithm"`
			Size           int    `json:"size"`
			RotationPolicy string `json:"rotationPolicy"`
		} `json:"privateKey"`
		IssuerRef *struct {
			Name string `json:"name"`
			Kind string `json:"kind"`
		} `json:"issuerRef"`
	} `json:"spec"`
}

// TestFilesWithTLS: the configuration files of the component tls are those of the base but for TLS.
func TestFilesWithTLS(t *testing.T) {
	tlsLines := regexp.MustCompile(`(?m)^ *(tls_config:|ca_file: /tls/http/ca.crt|scheme: https|tlsAuthWithCACert: true|secureJsonData:|tlsCACert: \$__file\{/tls/http/ca.crt\})\n`)
	for _, name := range []string{"prometheus.yaml", "datasource.yaml"} {
		base, err := os.ReadFile("../kubernetes/base/files/" + name)
		if err != nil {
			t.Fatal(err)
		}
		with, err := os.ReadFile("../kubernetes/components/tls/files/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(tlsLines.ReplaceAllString(string(with), ""), "url: https://", "url: http://"); got != string(base) {
			t.Errorf("%s without TLS is\n%s\nand in the base\n%s", name, got, base)
		}
	}
}

// TestDocumentedOverlay: what docs/kubernetes.md shows as somebody's own overlay is one.
func TestDocumentedOverlay(t *testing.T) {
	page, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	var own strings.Builder
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1) {
		own.Write(block[1])
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(repository, filepath.Join(dir, "vmcluster")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "mine"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine", "kustomization.yaml"), []byte(own.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	text := renderDir(t, filepath.Join(dir, "mine"))
	for _, err := range objects.Check(decode(t, text)) {
		t.Error(err)
	}
	for _, want := range []string{
		"image: registry.example.com/vmcluster/vmstorage:v0.1.0", "storage: 100Gi", "storageClassName: fast", "BACKUP_DST: s3://bucket/vmcluster", "--replicationFactor=2",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the overlay of docs/kubernetes.md has no %q", want)
		}
	}
}
