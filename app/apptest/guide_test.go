package apptest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// container is what the manifests of the cluster guide say about one container.
type container struct {
	name          string
	args          []string
	ports         map[string]string // number by name
	livenessPort  string            // name, for a TCP connection
	readinessPort string            // name, for a GET
	readinessPath string
}

// readContainer reads a file of testdata/cluster-guide. It understands as much YAML as those files have.
func readContainer(t *testing.T, name string) container {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "cluster-guide", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c := container{ports: map[string]string{}}
	section, portName := "", ""
	for line := range strings.Lines(string(data)) {
		text := strings.TrimSpace(line)
		item, isItem := strings.CutPrefix(text, "- ")
		key, value, _ := strings.Cut(item, ":")
		value = strings.TrimSpace(value)
		switch {
		case text == "" || text[0] == '#':
		case section == "args" && isItem:
			c.args = append(c.args, strings.Trim(item, `"`))
		case strings.HasSuffix(text, ":"):
			section = key
		case section == "containers" && key == "name":
			c.name = value
		case section == "ports" && key == "name":
			portName = value
		case section == "ports" && key == "containerPort":
			c.ports[portName] = value
		case section == "tcpSocket" && key == "port":
			c.livenessPort = value
		case section == "httpGet" && key == "port":
			c.readinessPort = value
		case section == "httpGet" && key == "path":
			c.readinessPath = value
		default:
			t.Fatalf("%s.yaml: cannot understand %q in section %q", name, text, section)
		}
	}
	return c
}

// place starts the container as a process. Its arguments are those of the manifest but for what only a pod has:
// the names of the storage pods become loopback addresses, and the mounted folders temporary ones.
func (c container) place(t *testing.T, hosts map[string]string, env ...string) *process {
	t.Helper()
	folder := t.TempDir()
	var args []string
	for _, arg := range c.args {
		for name, addr := range hosts {
			arg = strings.ReplaceAll(arg, name, addr)
		}
		for _, mount := range []string{"/storage", "/cache"} {
			if strings.HasSuffix(arg, "DataPath="+mount) {
				arg = strings.TrimSuffix(arg, mount) + folder + mount
			}
		}
		args = append(args, arg)
	}
	return start(t, spec{binary: c.name, args: args, env: env})
}

// probe asks as the kubelet does, until the container is ready.
func (c container) probe(t *testing.T, p *process, host string) {
	t.Helper()
	live, ready := c.ports[c.livenessPort], c.ports[c.readinessPort]
	eventually(t, startTimeout, "readiness of "+c.name, func() error {
		if !p.running() {
			t.Fatalf("%s ended", c.name)
		}
		a, err := do(http.MethodGet, "http://"+net.JoinHostPort(host, ready)+c.readinessPath, nil)
		if err == nil && a.status != http.StatusOK {
			err = errors.New(a.String())
		}
		return err
	})
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, live), 5*time.Second)
	if err != nil {
		t.Fatalf("%s is not alive: %s", c.name, err)
	}
	conn.Close()
	for name, port := range c.ports {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), 5*time.Second)
		if err != nil {
			t.Fatalf("%s does not listen at its port %s: %s", c.name, name, err)
		}
		conn.Close()
	}
}

// needPorts skips the test when somebody else uses the standard ports.
func needPorts(t *testing.T, hosts ...string) {
	t.Helper()
	for _, host := range hosts {
		for _, port := range []string{"8400", "8401", "8480", "8481", "8482"} {
			ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
			if err != nil {
				t.Skipf("this test needs the standard ports of a cluster, and one is not free: %s", err)
			}
			ln.Close()
		}
	}
}

// TestClusterGuide runs the containers of the cluster guide with their own arguments. Two pods of
// vmstorage have two addresses: here the environment, which the arguments switch on, puts them at two loopback addresses.
func TestClusterGuide(t *testing.T) {
	needPorts(t, "", "127.0.0.2", "127.0.0.3")
	storage, insert, sel := readContainer(t, "vmstorage"), readContainer(t, "vminsert"), readContainer(t, "vmselect")

	alone := storage.place(t, nil) // at the default addresses
	storage.probe(t, alone, "127.0.0.1")
	alone.stop(syscall.SIGTERM)

	hosts := map[string]string{}
	var nodes []*process
	for i, host := range []string{"127.0.0.2", "127.0.0.3"} {
		hosts[fmt.Sprintf("vmstorage-%d.cluster-vmstorage.vm-cluster.svc.cluster.local", i)] = host
		p := storage.place(t, nil, "VM_httpListenAddr="+host+":8482", "VM_vminsertAddr="+host+":8400", "VM_vmselectAddr="+host+":8401")
		storage.probe(t, p, host)
		nodes = append(nodes, p)
	}
	inserts := insert.place(t, hosts)
	insert.probe(t, inserts, "127.0.0.1")
	selects := sel.place(t, hosts)
	sel.probe(t, selects, "127.0.0.1")
	for _, host := range hosts {
		inserts.waitLog(dialed(host + ":8400"))
		selects.waitLog(dialed(host + ":8401"))
	}

	// The remote_write URL of the guide's Prometheus and the data source URL of its Grafana.
	writeURL, readURL := "http://127.0.0.1:8480/insert/0/prometheus/", "http://127.0.0.1:8481/select/0/prometheus/"
	at := anHourAgo()
	var list []ts
	for i := range 100 {
		list = append(list, series("__name__", "node_load1", "instance", fmt.Sprintf("192.168.18.%d:9111", i), "job", "nodes").at(at, float64(i)))
	}
	mustWrite(t, writeURL, list...)
	for _, base := range []string{strings.TrimSuffix(readURL, "/"), readURL} { // the latter gives a doubled slash
		if got := instant(t, base, "sum(node_load1)", at); len(got) != 1 || got[0] != "{} 4950" {
			t.Errorf("the sum is %v", got)
		}
	}
	for i, p := range nodes {
		if rows := mustMetric(t, fmt.Sprintf("127.0.0.%d:8482", i+2), "vm_vminsert_metrics_read_total"); rows == 0 || rows == 100 {
			t.Errorf("vmstorage-%d has %v of the 100 rows", i, rows)
		}
		p.waitLog(`^accepted vminsert conn from `)
		p.waitLog(`^processing vmselect conn from `)
		p.waitLog(`^creating a partition "` + time.UnixMilli(at).UTC().Format("2006_01") + `" with `)
		p.waitLog(`^partition "` + time.UnixMilli(at).UTC().Format("2006_01") + `" has been created`)
	}
	for _, p := range append([]*process{inserts, selects, alone}, nodes...) {
		if log := p.stderr.String(); !strings.HasPrefix(log, `{"ts":"`) || !strings.Contains(log, `"caller":"`) {
			t.Errorf("the log of %s is not JSON: %.200s", p.spec.name, log)
		}
	}
	for _, p := range append([]*process{inserts, selects}, nodes...) {
		p.stop(syscall.SIGTERM)
	}
}
