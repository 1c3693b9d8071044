package bench

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"vmcluster/lib/prompb"
)

// kubePods is the number of pods on each node.
const kubePods = 30

// kube makes up a Kubernetes cluster as kube-state-metrics and cAdvisor show it: many labels, most of them
// identifiers that occur once, values that mostly stay, and pods that come and go.
type kube struct {
	opts    *CorpusOptions
	c       *collector
	rng     *rand.Rand
	pods    []*kubePod
	offsets []int64 // of scrapes within the interval, by node
}

// kubePod is a pod with its series.
type kubePod struct {
	node   int
	series []kubeSeries
}

type kubeMove uint8

const (
	kubeConst    kubeMove = iota
	kubeRestarts          // a count that seldom grows
	kubeBytes             // a memory gauge in pages
	kubeCPU               // seconds with nanoseconds
	kubeTraffic           // a count of bytes
)

type kubeSeries struct {
	labels []byte
	move   kubeMove
	value  float64
	mean   float64
}

func newKube(o *CorpusOptions, c *collector) *kube {
	k := &kube{opts: o, c: c, rng: rand.New(rand.NewPCG(o.Seed, 1<<42))}
	c.m.Hosts, c.m.Jobs = o.Nodes, "kube-state-metrics,cadvisor"
	for node := range o.Nodes {
		k.offsets = append(k.offsets, k.rng.Int64N(scrapeSeconds*1000))
		for range kubePods {
			k.pods = append(k.pods, k.newPod(node, c.m.StartMs/1000-k.rng.Int64N(1e6)))
		}
	}
	c.m.Active = int(c.m.Series)
	return k
}

// write writes all scrapes.
func (k *kube) write() {
	for k.c.scrape = range k.opts.Scrapes {
		for i := range k.pods {
			k.scrapePod(i)
		}
	}
}

// scrapePod writes one scrape of a pod, which is now and then replaced.
func (k *kube) scrapePod(i int) {
	p := k.pods[i]
	shard := p.node % len(k.c.shards)
	timestampMs := k.c.m.StartMs + int64(k.c.scrape)*scrapeSeconds*1000 + k.offsets[p.node]
	if k.c.scrape > 0 && k.rng.Float64() < 1.0/2000 {
		for _, s := range p.series {
			k.c.addStale(shard, s.labels, timestampMs)
		}
		p = k.newPod(p.node, timestampMs/1000)
		k.pods[i] = p
	}
	for j := range p.series {
		k.c.add(shard, p.series[j].labels, k.step(&p.series[j]), timestampMs)
	}
}

func (k *kube) step(s *kubeSeries) float64 {
	switch s.move {
	case kubeRestarts:
		if k.rng.Float64() < 1.0/5000 {
			s.value++
		}
	case kubeBytes:
		if k.rng.Float64() < 0.5 {
			s.value = max(0, s.value+4096*math.Round(k.rng.NormFloat64()*s.mean/1e6))
		}
	case kubeCPU:
		s.value = math.Round((s.value+s.mean*k.rng.ExpFloat64())*1e9) / 1e9
	case kubeTraffic:
		s.value += math.Round(s.mean * k.rng.ExpFloat64())
	}
	return s.value
}

// hexText returns n random bytes in hex.
func (k *kube) hexText(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(k.rng.Uint32())
	}
	return hex.EncodeToString(b)
}

func (k *kube) uuid() string {
	h := k.hexText(16)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

// suffix returns a random text as Kubernetes appends it to names.
func (k *kube) suffix(n int) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[k.rng.IntN(len(letters))]
	}
	return string(b)
}

// newPod creates a pod of one of some deployments, which was started at a Unix timestamp.
func (k *kube) newPod(node int, started int64) *kubePod {
	deployment := fmt.Sprintf("%s-%d", []string{"api", "web", "worker", "cache", "db", "queue"}[k.rng.IntN(6)], k.rng.IntN(20))
	namespace := fmt.Sprintf("team-%d", k.rng.IntN(12))
	set := deployment + "-" + k.suffix(9)
	b := &kubeBuilder{
		kube: k, pod: &kubePod{node: node}, node: fmt.Sprintf("kube-%05d", node),
		identity: fmt.Sprintf("namespace=%s,pod=%s-%s,uid=%s", namespace, set, k.suffix(5), k.uuid()),
		image:    fmt.Sprintf("registry.example.com/%s/%s:1.%d.%d", namespace, deployment, k.rng.IntN(30), k.rng.IntN(10)),
	}
	b.container = fmt.Sprintf(",container=%s", deployment)
	b.state(set, deployment, started)
	b.usage()
	return b.pod
}

// kubeBuilder adds the series of a pod.
type kubeBuilder struct {
	kube      *kube
	pod       *kubePod
	node      string
	identity  string // labels as name=value, separated by commas
	container string
	image     string
}

// state adds what kube-state-metrics shows.
func (b *kubeBuilder) state(set, deployment string, started int64) {
	k, c := b.kube, b.identity+b.container
	ip := fmt.Sprintf("10.%d.%d.%d", b.pod.node%256, k.rng.IntN(256), k.rng.IntN(256))
	b.fact("kube_pod_info", b.identity+",node="+b.node+",pod_ip="+ip+",host_ip=192.168.0."+fmt.Sprint(b.pod.node%256)+",created_by_kind=ReplicaSet,created_by_name="+set, 1)
	b.fact("kube_pod_owner", b.identity+",owner_kind=ReplicaSet,owner_name="+set+",owner_is_controller=true", 1)
	b.fact("kube_pod_labels", b.identity+",label_app="+deployment+",label_pod_template_hash="+set[strings.LastIndex(set, "-")+1:], 1)
	b.fact("kube_pod_created", b.identity, float64(started))
	b.fact("kube_pod_start_time", b.identity, float64(started+1))
	for i, p := range []string{"Running", "Pending", "Succeeded", "Failed", "Unknown"} {
		b.fact("kube_pod_status_phase", b.identity+",phase="+p, float64(1-min(i, 1)))
	}
	for i, condition := range []string{"true", "false", "unknown"} {
		b.fact("kube_pod_status_ready", b.identity+",condition="+condition, float64(1-min(i, 1)))
		b.fact("kube_pod_status_scheduled", b.identity+",condition="+condition, float64(1-min(i, 1)))
	}
	b.fact("kube_pod_container_info", c+",image="+b.image+",image_id="+b.image+"@sha256:"+k.hexText(32)+",container_id=containerd://"+k.hexText(32), 1)
	for i, state := range []string{"ready", "running", "terminated", "waiting"} {
		b.fact("kube_pod_container_status_"+state, c, float64(1-i/2))
	}
	b.add("kube-state-metrics", "kube_pod_container_status_restarts_total", c, kubeSeries{move: kubeRestarts, value: float64(k.rng.IntN(3))})
	for _, kind := range []string{"requests", "limits"} {
		b.fact("kube_pod_container_resource_"+kind, c+",node="+b.node+",resource=cpu,unit=core", float64(1+k.rng.IntN(20))/10)
		b.fact("kube_pod_container_resource_"+kind, c+",node="+b.node+",resource=memory,unit=byte", float64(int64(1+k.rng.IntN(32))<<27))
	}
}

// usage adds what cAdvisor shows.
func (b *kubeBuilder) usage() {
	k := b.kube
	parts := strings.Split(b.identity, "uid=")
	id := "/kubepods/burstable/pod" + parts[1] + "/" + k.hexText(32)
	labels := strings.TrimSuffix(parts[0], ",") + b.container + ",id=" + id + ",image=" + b.image
	busy := math.Exp(k.rng.NormFloat64())
	for _, name := range []string{"usage", "user", "system"} {
		b.add("cadvisor", "container_cpu_"+name+"_seconds_total", labels, kubeSeries{move: kubeCPU, value: 1000 * busy * k.rng.Float64(), mean: busy})
	}
	for _, name := range []string{"working_set_bytes", "rss", "cache", "usage_bytes"} {
		size := 1e8 * busy * (1 + k.rng.Float64())
		b.add("cadvisor", "container_memory_"+name, labels, kubeSeries{move: kubeBytes, value: 4096 * math.Round(size/4096), mean: size})
	}
	for _, name := range []string{"network_receive_bytes_total", "network_transmit_bytes_total", "fs_writes_bytes_total", "network_receive_packets_total"} {
		b.add("cadvisor", "container_"+name, labels, kubeSeries{move: kubeTraffic, value: math.Round(1e9 * k.rng.Float64()), mean: 1e4 * busy})
	}
	for _, name := range []string{"cfs_throttled_periods_total", "last_seen_limit"} {
		b.add("cadvisor", "container_"+name, labels, kubeSeries{value: float64(k.rng.IntN(100))})
	}
}

// fact adds a series of kube-state-metrics that stays as it is.
func (b *kubeBuilder) fact(name, labels string, value float64) {
	b.add("kube-state-metrics", name, labels, kubeSeries{value: value})
}

func (b *kubeBuilder) add(job, name, labels string, s kubeSeries) {
	port := 8080
	if job == "cadvisor" {
		port = 10250
	}
	list := []prompb.Label{{Name: "__name__", Value: name}}
	for _, l := range strings.Split(labels, ",") {
		n, v, _ := strings.Cut(l, "=")
		list = append(list, prompb.Label{Name: n, Value: v})
	}
	sortLabels(list)
	e := encodeLabels(&target{templates: []template{{labels: list}}})
	s.labels = e[0].append(nil, b.node, &target{job: job, port: port})
	b.pod.series = append(b.pod.series, s)
	b.kube.c.m.Series++
}
