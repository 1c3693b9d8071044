package insertrpc

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/certfiles"
	"vmcluster/lib/certfiles/certtest"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a server at address "node" of a memory network, in front of the reference store.
type node struct {
	t       *testing.T
	network *transport.MemoryNetwork
	store   *apitest.Memory
	metrics *metrics.Set
}

func newNode(t *testing.T) *node {
	return &node{t: t, network: transport.NewMemoryNetwork(), store: apitest.NewMemory(), metrics: metrics.NewSet()}
}

func (n *node) serve(change func(o *ServerOptions)) *Server {
	n.t.Helper()
	o := ServerOptions{Ingester: n.store, Addr: ":8400", Metrics: n.metrics}
	if change != nil {
		change(&o)
	}
	s := NewServer(o)
	ln, err := n.network.Listen("node")
	if err != nil {
		n.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	n.t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	})
	return s
}

func (n *node) client(change func(o *ClientOptions)) *Client {
	o := ClientOptions{Addr: "node", Dial: n.network.Dial, Metrics: n.metrics}
	if change != nil {
		change(&o)
	}
	c := NewClient(o)
	n.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			n.t.Error(err)
		}
	})
	return c
}

func (n *node) metric(name string) string {
	n.t.Helper()
	var out bytes.Buffer
	if err := n.metrics.Write(&out, false); err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "missing"
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func ingest(t *testing.T, c *Client, b *model.Batch) {
	t.Helper()
	if err := c.Ingest(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

// contents renders everything a store holds.
func contents(t *testing.T, s storageapi.Searcher) string {
	t.Helper()
	var out strings.Builder
	for account := range uint32(3) {
		q := &model.SearchQuery{Tenant: model.TenantID{AccountID: account}, Range: model.TimeRange{Min: -1 << 63, Max: 1<<63 - 1}}
		it, err := s.Search(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for it.Next() {
			fmt.Fprintf(&out, "%s", model.SeriesKeyString(it.At().Key))
			for _, b := range it.At().Blocks {
				fmt.Fprintf(&out, " %d %d %x %x", b.MinTimestamp, b.Count, b.Timestamps, b.Values)
			}
			out.WriteByte('\n')
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		_ = it.Close()
	}
	return out.String()
}

// TestConcurrentIngest sends random batches from many goroutines, with a
// small dictionary, and compares what arrives with a store which got the same directly.
func TestConcurrentIngest(t *testing.T) {
	for name, c := range map[string]struct {
		client func(o *ClientOptions)
		server func(o *ServerOptions)
		resets bool
	}{
		"defaults":          {nil, nil, false},
		"small dictionary":  {func(o *ClientOptions) { o.Config.MaxDictSeries = 100 }, nil, true},
		"server asks":       {nil, func(o *ServerOptions) { o.Config.MaxDictBytes = 10000 }, true},
		"no memory at all":  {func(o *ClientOptions) { o.Budget = memory.NewBudget(1) }, func(o *ServerOptions) { o.Budget = memory.NewBudget(64 << 20) }, true},
		"one call at once":  {nil, func(o *ServerOptions) { o.Config.MaxConcurrentInserts = 1; o.Config.Transport.MaxStreams = 1 }, false},
		"many small frames": {func(o *ClientOptions) { o.Config.Transport.WindowBytes = 100 }, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			n := newNode(t)
			n.serve(c.server)
			client := n.client(c.client)
			direct := apitest.NewMemory()
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(seed, uint64(i)))
					var b model.Batch
					for range 40 {
						randomBatch(t, rng, &b, 3000)
						if err := client.Ingest(context.Background(), &b); err != nil {
							t.Error(err)
						}
						if err := direct.Ingest(context.Background(), &b); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if contents(t, n.store) != contents(t, direct) {
				t.Error("what arrived differs from what was sent")
			}
			resets := client.metrics.resets.Get()
			if c.resets != (resets > 1) {
				t.Errorf("the dictionary started anew %d times", resets)
			}
		})
	}
}

func TestLargeBatchIsSplit(t *testing.T) {
	n := newNode(t)
	n.serve(nil)
	c := n.client(nil)
	var b model.Batch
	addSeries(t, &b, 0)
	for i := range 200000 {
		b.AddSample(int64(i), float64(i))
	}
	for i := range 100000 {
		addSeries(t, &b, i)
		b.AddSample(int64(i)<<20, 1)
	}
	ingest(t, c, &b)
	if got := n.store.Rows(); got != 300000-1 { // series 0 has timestamp 0 twice
		t.Errorf("%d rows arrived", got)
	}
	if got := n.metric("vm_vminsert_metrics_read_total"); got != "300000" {
		t.Errorf("the server read %s rows", got)
	}
}

func TestReconnectStartsNewDictionary(t *testing.T) {
	n := newNode(t)
	c := n.client(nil)
	var b model.Batch
	for round := range 3 {
		s := n.serve(nil)
		eventually(t, "the node is reachable", c.Reachable)
		for i := range 3 {
			scrape(t, &b, 100, 10*round+i)
			ingest(t, c, &b)
		}
		s.Close()
		eventually(t, "the node is away", func() bool { return !c.Reachable() })
		err := c.Ingest(context.Background(), &b)
		if errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), `"node"`) {
			t.Errorf("a dead node gives %v", err)
		}
	}
	if got := n.store.Rows(); got != 900 {
		t.Errorf("%d rows arrived; want 900", got)
	}
	if got := n.metric(`vm_rpc_rows_sent_total{name="vminsert", addr="node", rpc_call="metric_rows"}`); got != "900" {
		t.Errorf("%s rows acknowledged", got)
	}
	if got := n.metric(`vm_rpc_connection_errors_total{name="vminsert", addr="node", rpc_call="metric_rows"}`); got != "3" {
		t.Errorf("%s lost connections", got)
	}
}

// blocker is an Ingester which waits, or fails.
type blocker struct {
	entered chan struct{}
	release chan struct{}
	err     error
}

func (b *blocker) Ingest(ctx context.Context, _ *model.Batch) error {
	if b.err != nil {
		return b.err
	}
	b.entered <- struct{}{}
	select {
	case <-b.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestServerKilledMidCall(t *testing.T) {
	n := newNode(t)
	in := &blocker{entered: make(chan struct{}, 1), release: make(chan struct{})}
	s := n.serve(func(o *ServerOptions) { o.Ingester = in })
	c := n.client(nil)
	var b model.Batch
	scrape(t, &b, 10, 0)
	done := make(chan error, 1)
	go func() { done <- c.Ingest(context.Background(), &b) }()
	<-in.entered
	s.Close()
	if err := <-done; errkind.Of(err) != errkind.Unavailable {
		t.Errorf("got %v", err)
	}
	if got := n.metric(`vm_rpc_rows_sent_total{name="vminsert", addr="node", rpc_call="metric_rows"}`); got != "0" {
		t.Errorf("%s rows count as sent without an acknowledgement", got)
	}
}

func TestOverloaded(t *testing.T) {
	n := newNode(t)
	in := &blocker{entered: make(chan struct{}, 1), release: make(chan struct{})}
	n.serve(func(o *ServerOptions) {
		o.Ingester = in
		o.Config.MaxConcurrentInserts = 1
		o.Config.MaxQueueDuration = flagvalue.Duration(time.Millisecond)
	})
	c := n.client(nil)
	var b model.Batch
	scrape(t, &b, 10, 0)
	done := make(chan error, 1)
	go func() { done <- c.Ingest(context.Background(), &b) }()
	<-in.entered
	if err := c.Ingest(context.Background(), &b); errkind.Of(err) != errkind.Overloaded || errkind.RetryAfterOf(err) == 0 {
		t.Errorf("got %v", err)
	}
	if got := n.metric(`vm_rpc_rows_pending{name="vminsert", addr="node", rpc_call="metric_rows"}`); got != "10" {
		t.Errorf("%s rows pending", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.Ingest(ctx, &b); errkind.Of(err) != errkind.Canceled {
		t.Errorf("got %v", err)
	}
	close(in.release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := n.metric("vm_concurrent_insert_limit_timeout_total"); got != "1" {
		t.Errorf("%s requests waited in vain", got)
	}
}

func TestReadOnly(t *testing.T) {
	n := newNode(t)
	in := &blocker{entered: make(chan struct{}, 1), release: make(chan struct{}), err: errkind.New(errkind.ReadOnly, "disk full").WithRetryAfter(time.Minute)}
	n.serve(func(o *ServerOptions) { o.Ingester = in })
	c := n.client(nil)
	var b model.Batch
	scrape(t, &b, 10, 0)
	err := c.Ingest(context.Background(), &b)
	if errkind.Of(err) != errkind.ReadOnly || !strings.Contains(err.Error(), "disk full") || errkind.RetryAfterOf(err) != time.Minute {
		t.Errorf("got %v", err)
	}
	const gauge = `vm_rpc_vmstorage_is_read_only{name="vminsert", addr="node", rpc_call="metric_rows"}`
	if got := n.metric(gauge); got != "1" || !c.ReadOnly() {
		t.Errorf("read-only is %s", got)
	}
	in.err = nil
	close(in.release)
	ingest(t, c, &b)
	if got := n.metric(gauge); got != "0" {
		t.Errorf("read-only is %s", got)
	}
}

func TestLongKey(t *testing.T) {
	n := newNode(t)
	n.serve(nil)
	c := n.client(nil)
	var b model.Batch
	if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: "a", Value: strings.Repeat("x", maxKeyBytes)}}); err != nil {
		t.Fatal(err)
	}
	b.AddSample(1, 1)
	if err := c.Ingest(context.Background(), &b); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("got %v", err)
	}
	b.Reset()
	if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: "a", Value: strings.Repeat("x", maxKeyBytes-100)}}); err != nil {
		t.Fatal(err)
	}
	b.AddSample(1, 1)
	ingest(t, c, &b)
}

func TestMetricsFromStart(t *testing.T) {
	n := newNode(t)
	n.serve(nil)
	n.client(func(o *ClientOptions) { o.Addr = "elsewhere" })
	for _, name := range []string{"rows_sent_total", "rows_pushed_total", "rows_pending", "buf_pending_bytes", "connection_errors_total",
		"handshake_errors_total", "vmstorage_is_reachable", "vmstorage_is_read_only", "send_duration_seconds_total"} {
		if got := n.metric("vm_rpc_" + name + `{name="vminsert", addr="elsewhere", rpc_call="metric_rows"}`); got != "0" {
			t.Errorf("vm_rpc_%s is %s", name, got)
		}
	}
	for _, name := range []string{"vm_vminsert_metrics_read_total", "vm_vminsert_conns", "vm_vminsert_conn_errors_total", "vm_concurrent_insert_current"} {
		if got := n.metric(name); got != "0" {
			t.Errorf("%s is %s", name, got)
		}
	}
}

func TestBudgetIsGivenBack(t *testing.T) {
	n := newNode(t)
	budget := memory.NewBudget(64 << 20)
	s := n.serve(func(o *ServerOptions) { o.Budget = budget })
	c := n.client(func(o *ClientOptions) { o.Budget = budget })
	var b model.Batch
	scrape(t, &b, 5000, 0)
	ingest(t, c, &b)
	if budget.Used() < 5000*(senderEntryBytes+receiverEntryBytes) {
		t.Errorf("only %d bytes are accounted", budget.Used())
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if budget.Used() != 0 {
		t.Errorf("%d bytes stay reserved", budget.Used())
	}
}

func TestFlags(t *testing.T) {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	var c ServerConfig
	c.RegisterFlags(fs)
	if err := fs.Parse([]string{"-maxConcurrentInserts=3", "-insert.maxQueueDuration=5s", "-storage.vminsertConnsShutdownDuration=1s"}); err != nil {
		t.Fatal(err)
	}
	if c.MaxConcurrentInserts != 3 || c.MaxQueueDuration.D() != 5*time.Second || c.Transport.ShutdownSpread.D() != time.Second {
		t.Errorf("got %+v", c)
	}
}

// BenchmarkIngest counts time per sample through client, TCP and server, with
// an Ingester which does nothing.
func BenchmarkIngest(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmarkIngest(b, ServerConfig{}, ClientConfig{}) })
	files := certtest.NewCA(b, "ca").Write(b, b.TempDir(), certtest.Leaf{})
	settings := certfiles.Settings{CertFile: files.Cert, KeyFile: files.Key, CAFile: files.CA, DemandClientCert: true}
	var s ServerConfig
	var c ClientConfig
	var err, clientErr error
	s.Transport.TLS, err = certfiles.NewServer(settings, certfiles.Options{})
	c.Transport.TLS, clientErr = certfiles.NewClient(settings, certfiles.Options{})
	if err = errors.Join(err, clientErr); err != nil {
		b.Fatal(err)
	}
	b.Run("tls", func(b *testing.B) { benchmarkIngest(b, s, c) })
}

func benchmarkIngest(b *testing.B, sc ServerConfig, cc ClientConfig) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := NewServer(ServerOptions{Ingester: nothing{}, Config: sc})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	c := NewClient(ClientOptions{Addr: ln.Addr().String(), Config: cc})
	const series, rounds = 10000, 4
	var batches [rounds]model.Batch
	for i := range batches {
		scrape(b, &batches[i], series, i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := c.Ingest(context.Background(), &batches[i%rounds]); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
	_ = c.Close()
	s.Close()
	if err := <-done; err != nil {
		b.Error(err)
	}
}

type nothing struct{}

func (nothing) Ingest(context.Context, *model.Batch) error { return nil }
