package objects

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// TestCheck breaks a set of objects that is right in one place at a time.
func TestCheck(t *testing.T) {
	text, err := os.ReadFile("testdata/right.yaml")
	if err != nil {
		t.Fatal(err)
	}
	right := string(text)
	if err := checked(t, right); err != nil {
		t.Fatalf("of objects that are right: %v", err)
	}
	for _, c := range []struct{ from, to, want string }{
		{"name: http, port: 8482", "name: http, port: 8401", "port 8401/ occurs twice"},
		{"targetPort: vmselect", "targetPort: vmselct", "has the port vmselct"},
		{"selector: {app: vmstorage}", "selector: {app: storage}", "selects no pods"},
		{"clusterIP: None", "clusterIP: 10.0.0.1", "is not headless"},
		{"serviceName: storage", "serviceName: store", `serviceName "store" is not a Service`},
		{"matchLabels: {app: vmstorage} # set", "matchLabels: {app: other}", "does not match its pods' labels"},
		{"mountPath: /storage, name: data", "mountPath: /storage, name: date", "mounts date, which is no volume"},
		{"mountPath: /config", "mountPath: /storage", "mounts two volumes at /storage"},
		{"port: probed", "port: metrics", "livenessProbe asks at port metrics"},
		{"tcpSocket: {port: probed}", "periodSeconds: 3", "livenessProbe asks nothing"},
		{"configMap: {name: config}", "configMap: {name: confg}", "ConfigMap ns/confg, which does not exist"},
		{"name: certificates}", "name: certs}", "Secret ns/certs, which does not exist"},
		{"secretRef: {name: certificates", "secretRef: {name: cert", "Secret ns/cert, which does not exist"},
		{"serviceAccountName: account", "serviceAccountName: acount", "ServiceAccount ns/acount, which does not exist"},
		{"topologyKey: zone, labelSelector: {matchLabels: {app: vmstorage}}", "topologyKey: zone", "do not count its own pods"},
		{"vmstorage-1.storage.ns.svc.x:8401", "vmstorage-2.storage.ns.svc.x:8401", "has 2 pods and not this one"},
		{"vmstorage-1.storage.ns.svc.x:8401", "vmstorage-1.storage.ns.svc.x:8402", "has no port 8402"},
		{"vmstorage-1.storage.ns.svc.x:8401", "vmstorage-1.storage.m.svc.x:8401", "no StatefulSet has the service storage in namespace m"},
		{"vmstorage-1.storage.ns.svc.x:8401", "vmstorage-1.storage.ns.x:8401", "stands where svc is expected"},
		{"vmstorage-1.storage.ns.svc.x:8401", "vmstorage-1:8401", "is not the host name of a pod"},
		{"dns+storage:8400", "dns+stor:8400", "no StatefulSet has the service stor"},
		{"srv+_vmselect", "srv+_vminsert", "has no port vminsert"},
		{"srv+_vmselect._tcp", "srv+_vmselect._udp", "is not like srv+"},
		{"publishNotReadyAddresses: true", "publishNotReadyAddresses: false", "publish addresses that are not ready"},
		{"minAvailable: 1", "minAvailable: 2", "nodes cannot be drained"},
		{"matchLabels: {app: vmstorage} # budget", "matchLabels: {app: vm}", "selects pods of 0 workloads"},
		{"scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: vmselect}", "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: vmselct}", "Deployment ns/vmselct, which does not exist"},
		{"minReplicas: 2", "minReplicas: 20", "minReplicas 20 is more than maxReplicas 3"},
		{"{ # scaled", "{replicas: 3,", "sets replicas, too"},
		{"podSelector: {matchLabels: {app: vmselect}}", "podSelector: {matchLabels: {app: vmselct}}", "selects no pods"},
		{"name: storage, port: {name: http}", "name: storage, port: {name: htt}", "Service storage has no port htt"},
		{"backendRefs: [{name: storage, port: 8482}]", "backendRefs: [{name: storage, port: 1}]", "Service storage has no port 1"},
		{"parentRefs: [{name: gate}]", "parentRefs: []", "has no parentRefs"},
		{"endpoints: [{port: http}]", "endpoints: [{port: web}]", `Service storage has no port "web"`},
		{"matchLabels: {scraped: a}", "matchLabels: {scraped: b}", "selects 0 services"},
		{"targetRef: {apiVersion: apps/v1, kind: Deployment, name: vmselect}", "targetRef: {apiVersion: apps/v1, kind: Deployment, name: v}", "Deployment ns/v, which does not exist"},
		{"name: account, namespace: ns", "name: account", `has namespace ""`},
		{"name: config, namespace: ns", "name: Config, namespace: ns", "name: a lowercase RFC 1123"},
		{"labels: {scraped: a}", "labels: {scraped: 'a b'}", "a valid label must be"},
	} {
		if !strings.Contains(right, c.from) {
			t.Errorf("the right objects do not have %q", c.from)
			continue
		}
		if err := checked(t, strings.Replace(right, c.from, c.to, 1)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q instead of %q:\n%v\nwant: %s", c.to, c.from, err, c.want)
		}
	}
	if err := checked(t, right+"---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: account, namespace: ns}\n"); err == nil || !strings.Contains(err.Error(), "exists twice") {
		t.Errorf("of an object given twice: %v", err)
	}
}

func checked(t *testing.T, text string) error {
	t.Helper()
	all, err := Decode([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return errors.Join(Check(all, "Secret/certificates")...)
}

func TestCheckFlags(t *testing.T) {
	all, err := Decode([]byte(`
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: ns}
spec:
  containers:
    - {name: a, image: "registry:5000/vmcluster/vmselect:v1@sha256:00", command: [vmselect, -a=1], args: [--b.c=2, -d, "--", x]}
    - {name: b, image: other, args: [-whatever]}
`))
	if err != nil {
		t.Fatal(err)
	}
	help := HelpFlags([]byte("Usage:\n  -a int\n    \tnot -d (default 1)\n  -b.c\n    \ttext\n"))
	errs := CheckFlags(all, func(binary string) map[string]bool { return map[string]map[string]bool{"vmselect": help}[binary] })
	want := "Pod ns/p: container a: vmselect has no flag -d"
	if len(errs) != 2 || errs[0].Error() != want || len(help) != 2 {
		t.Errorf("errors %v, want %s and the one of the bare --; help %v", errs, want, help)
	}
}

func TestBinary(t *testing.T) {
	for image, want := range map[string]string{
		"vmselect": "vmselect", "a/vmselect:v1": "vmselect", "r:5000/a/vmselect": "vmselect", "r:5000/a/vmselect:v1@sha256:00": "vmselect",
	} {
		if got := Binary(image); got != want {
			t.Errorf("%s is %s, want %s", image, got, want)
		}
	}
}
