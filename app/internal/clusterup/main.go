package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster-up:", err)
		os.Exit(1)
	}
}

// cluster describes where everything runs.
type cluster struct {
	bin, data string
	offset    int // added to all port numbers
}

func (c *cluster) addr(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port+c.offset))
}

// nodes lists the processes in the order of their start. They are stopped in
// the order insert, select, storage: nobody writes to or reads from a process that is gone.
func (c *cluster) nodes() []*node {
	storage := func(name string, http, insert, sel int) *node {
		return &node{name: name, binary: "vmstorage", addr: c.addr(http), ports: []string{c.addr(http), c.addr(insert), c.addr(sel)}, stopLast: true, args: []string{
			"-storageDataPath=" + filepath.Join(c.data, name), "-retentionPeriod=1", "-httpListenAddr=" + c.addr(http),
			"-vminsertAddr=" + c.addr(insert), "-vmselectAddr=" + c.addr(sel),
		}}
	}
	return []*node{
		storage("vmstorage-1", 8482, 8400, 8401),
		storage("vmstorage-2", 8582, 8500, 8501),
		{name: "vminsert", binary: "vminsert", addr: c.addr(8480), ports: []string{c.addr(8480)}, args: []string{
			"-httpListenAddr=" + c.addr(8480), "-storageNode=" + c.addr(8400), "-storageNode=" + c.addr(8500),
		}},
		{name: "vmselect", binary: "vmselect", addr: c.addr(8481), ports: []string{c.addr(8481)}, args: []string{
			"-httpListenAddr=" + c.addr(8481), "-storageNode=" + c.addr(8401), "-storageNode=" + c.addr(8501),
			"-search.latencyOffset=0s", // what was just written shows up at once
		}},
	}
}

func run(ctx context.Context, args []string) error {
	var c cluster
	fs := flag.NewFlagSet("clusterup", flag.ContinueOnError)
	fs.StringVar(&c.bin, "bin", "bin", "folder with the binaries")
	fs.StringVar(&c.data, "data", "cluster-data", "folder for data and logs")
	fs.IntVar(&c.offset, "portOffset", 0, "number added to all ports, when the usual ones are taken")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.data, "logs"), 0o755); err != nil {
		return fmt.Errorf("cannot create the data folder: %w", err)
	}
	nodes := c.nodes()
	if err := checkPorts(nodes); err != nil {
		return err
	}
	died := make(chan *node, len(nodes))
	defer stopAll(nodes)
	for _, n := range nodes {
		if err := n.start(&c, died); err != nil {
			return err
		}
		if err := n.waitHealthy(ctx); err != nil {
			return err
		}
	}
	feeder := newFeeder("http://"+c.addr(8480), nodes)
	if err := feeder.feed(ctx); err != nil {
		return err
	}
	c.printHelp()
	return watch(ctx, feeder, died)
}

// watch feeds the cluster until the user has enough or a process dies.
func watch(ctx context.Context, f *feeder, died <-chan *node) error {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Println("\nstopping ...")
			return nil
		case n := <-died:
			return fmt.Errorf("%s ended unexpectedly; see %s", n.name, n.logPath)
		case <-ticker.C:
			if err := f.feed(ctx); err != nil && !errors.Is(err, context.Canceled) {
				fmt.Fprintln(os.Stderr, "cluster-up:", err)
			}
		}
	}
}

// checkPorts tells before anything starts which ports are taken.
func checkPorts(nodes []*node) error {
	for _, n := range nodes {
		for _, addr := range n.ports {
			ln, err := net.Listen("tcp", addr)
			if err != nil {
				return fmt.Errorf("%s needs %s, but that port is taken: stop the process that uses it (ss -ltnp shows which), or shift all ports with `bin/clusterup -portOffset=1000`", n.name, addr)
			}
			_ = ln.Close() // it never served
		}
	}
	return nil
}

func (c *cluster) printHelp() {
	write, read := "http://"+c.addr(8480)+"/insert/0/prometheus", "http://"+c.addr(8481)+"/select/0/prometheus"
	fmt.Printf(`
The cluster is up. It collects its own metrics every 5 seconds.

  write   %[1]s/api/v1/write        (Prometheus remote_write: url: %[1]s/api/v1/write)
  read    %[2]s                     (Grafana: data source of type Prometheus with this URL)
  nodes   http://%[3]s/metrics  http://%[4]s/metrics
  logs    %[5]s

Try:

  curl -s '%[2]s/api/v1/query?query=sum(process_resident_memory_bytes)by(job)'
  curl -s '%[1]s/api/v1/import/prometheus' -d 'my_metric{who="me"} 42' && curl -s '%[2]s/api/v1/export?match\[\]=my_metric'

Ctrl-C stops everything.
`, write, read, c.addr(8482), c.addr(8582), filepath.Join(c.data, "logs"))
}
