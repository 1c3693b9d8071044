package index

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/model"
)

// realKeys returns n keys as a Kubernetes cluster has them, in the order in which scrapes bring them: containers of a
// node by metric, then its node exporter, and every 50 nodes what is known of their pods. Pods have random uuids.
func realKeys(t testing.TB, n int) [][]byte {
	g := &realWorld{t: t, rng: rand.New(rand.NewPCG(1, 2)), n: n}
	for node := 0; len(g.keys) < n; node++ {
		g.containers(node)
		g.host(node)
		if node%50 == 49 || node < 3 {
			g.podStates()
		}
	}
	return g.keys[:n]
}

type realPod struct{ name, namespace, uid, node, image string }

type realWorld struct {
	t    testing.TB
	rng  *rand.Rand
	n    int
	keys [][]byte
	pods []realPod
}

func (g *realWorld) hex(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdef"[g.rng.IntN(16)]
	}
	return string(b)
}

func (g *realWorld) uuid() string {
	return g.hex(8) + "-" + g.hex(4) + "-4" + g.hex(3) + "-a" + g.hex(3) + "-" + g.hex(12)
}

func (g *realWorld) add(labels ...string) {
	if len(g.keys) < g.n {
		g.keys = append(g.keys, testKey(g.t, model.TenantID{}, labels...))
	}
}

func hostOf(node int) string {
	return fmt.Sprintf("ip-10-%d-%d-%d.eu-west-1.compute.internal", node>>14&255, node>>7&127, node*37&255)
}

// containers adds 25 pods of two containers, 40 metrics each.
func (g *realWorld) containers(node int) {
	instance := fmt.Sprintf("10.%d.%d.%d:10250", node>>14&255, node>>7&127, node*37&255)
	type container struct{ pod, namespace, name, id, hash, image string }
	var list []container
	for range 25 {
		service := g.rng.IntN(300)
		p := realPod{
			name:      fmt.Sprintf("service-%d-%s-%s", service, g.hex(10), g.hex(5)),
			namespace: fmt.Sprintf("team-%d", service%50), uid: g.uuid(), node: hostOf(node),
			image: fmt.Sprintf("registry.example.com/team/service-%d:v1.%d.0", service, service%7),
		}
		g.pods = append(g.pods, p)
		for i, name := range []string{"app", "istio-proxy"} {
			hash, image := g.hex(64), p.image
			if i == 1 {
				image = "docker.io/istio/proxyv2:1.20.3"
			}
			list = append(list, container{p.name, p.namespace, name, "/kubepods/burstable/pod" + p.uid + "/" + hash, hash, image})
		}
	}
	for m := range 40 {
		for _, c := range list {
			g.add(model.MetricNameLabel, fmt.Sprintf("container_metric_number_%d_total", m), "container", c.name, "endpoint", "https-metrics",
				"id", c.id, "image", c.image, "instance", instance, "job", "kubelet", "metrics_path", "/metrics/cadvisor",
				"name", c.hash, "namespace", c.namespace, "node", hostOf(node), "pod", c.pod, "service", "kubelet")
		}
	}
}

// host adds the node exporter of a host: some 500 series.
func (g *realWorld) host(node int) {
	common := []string{"instance", fmt.Sprintf("10.%d.%d.%d:9100", node>>14&255, node>>7&127, node*37&255), "job", "node-exporter", "node", hostOf(node)}
	for cpu := range 16 {
		for _, mode := range []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"} {
			g.add(append([]string{model.MetricNameLabel, "node_cpu_seconds_total", "cpu", fmt.Sprint(cpu), "mode", mode}, common...)...)
		}
	}
	for m := range 12 {
		for _, device := range []string{"nvme0n1", "nvme1n1", "dm-0", "dm-1"} {
			g.add(append([]string{model.MetricNameLabel, fmt.Sprintf("node_disk_metric_%d_total", m), "device", device}, common...)...)
		}
	}
	for m := range 10 {
		for eth := range 12 {
			g.add(append([]string{model.MetricNameLabel, fmt.Sprintf("node_network_metric_%d_total", m), "device", fmt.Sprintf("veth%02x%d", node*13%256, eth)}, common...)...)
		}
	}
	for m := range 200 {
		g.add(append([]string{model.MetricNameLabel, fmt.Sprintf("node_memory_or_other_metric_%d_bytes", m)}, common...)...)
	}
}

// podStates adds twelve metrics of every pod that is new since the last call.
func (g *realWorld) podStates() {
	for m := range 12 {
		for _, p := range g.pods {
			labels := []string{model.MetricNameLabel, fmt.Sprintf("kube_pod_metric_%d", m), "instance", "10.2.3.4:8080", "job", "kube-state-metrics",
				"namespace", p.namespace, "pod", p.name, "uid", p.uid}
			if m == 0 {
				labels = append(labels, "node", p.node, "host_ip", fmt.Sprintf("10.0.0.%d", len(p.node)))
			}
			g.add(labels...)
		}
	}
	g.pods = nil
}
