package router

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"vmcluster/lib/insertrpc"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/transport"
)

// keys makes the keys of numbered series.
type keys struct{}

func (keys) AppendKey(dst []byte, number uint32, _ uint64) []byte {
	key, err := model.AppendSeriesKey(dst, model.TenantID{}, []model.Label{
		{Name: model.MetricNameLabel, Value: "node_cpu_seconds_total"}, {Name: "instance", Value: "10.0.0.1:9100"}, {Name: "job", Value: "node"}, {Name: "n", Value: fmt.Sprint(number)},
	})
	if err != nil {
		panic(err)
	}
	return key
}

// BenchmarkCluster routes samples of known series to three nodes behind the protocol. CPU is that of both sides.
func BenchmarkCluster(b *testing.B) {
	for copies := 1; copies <= 3; copies++ {
		b.Run(fmt.Sprintf("%d copies", copies), func(b *testing.B) { benchmarkCluster(b, copies) })
	}
}

func benchmarkCluster(b *testing.B, copies int) {
	const rows, batches = 5000, 8
	network := transport.NewMemoryNetwork()
	var nodes []Node
	for i := range 3 {
		name := fmt.Sprintf("node%d:8400", i)
		server := insertrpc.NewServer(insertrpc.ServerOptions{Ingester: nullIngester{}})
		ln, err := network.Listen(name)
		if err != nil {
			b.Fatal(err)
		}
		go func() { _ = server.Serve(ln) }() // until it is closed
		client := insertrpc.NewClient(insertrpc.ClientOptions{Addr: name, Dial: network.Dial})
		b.Cleanup(func() {
			_ = client.Close()
			server.Close()
		})
		nodes = append(nodes, Node{Name: name, Ingester: client})
	}
	r, err := New(Options{Config: Config{ReplicationFactor: copies}, Nodes: nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		b.Fatal(err)
	}
	space := model.NewSpace()
	defer space.Close()
	var list [batches]model.Batch
	for k := range list {
		list[k].SetSpace(space, keys{})
		for i := range rows {
			number := uint32(k*rows + i)
			list[k].AddNumbered(number, model.HashSeriesKey(keys{}.AppendKey(nil, number, 0)), 0)
			list[k].AddSample(int64(i%7), float64(number))
		}
		if err := r.Ingest(b.Context(), &list[k]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	began := cpuTime(b)
	for k := 0; b.Loop(); k++ {
		if err := r.Ingest(b.Context(), &list[k%batches]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N)/rows, "cpu-ns/row")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSmallWrite is what a write of a few rows costs besides what nodes do: 3 nodes which answer at once.
func BenchmarkSmallWrite(b *testing.B) {
	for copies := 1; copies <= 2; copies++ {
		b.Run(fmt.Sprintf("%d copies", copies), func(b *testing.B) {
			var nodes []Node
			for i := range 3 {
				nodes = append(nodes, Node{Name: fmt.Sprint("node", i), Ingester: nullIngester{}})
			}
			r, err := New(Options{Config: Config{ReplicationFactor: copies}, Nodes: nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
			if err != nil {
				b.Fatal(err)
			}
			var batch model.Batch
			batch.AddKey(keys{}.AppendKey(nil, 1, 0), 1)
			batch.AddSample(1, 2)
			b.ReportAllocs()
			began := cpuTime(b)
			for b.Loop() {
				if err := r.Ingest(b.Context(), &batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}
