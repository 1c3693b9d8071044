package selectrpc

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"

	"vmcluster/lib/insertrpc"
	"vmcluster/lib/metrics"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is where a test's nodes meet.
type network struct {
	listen func(t *testing.T) net.Listener
	dial   transport.Dialer
}

func tcp() network {
	return network{listen: func(t *testing.T) net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}}
}

func inMemory() network {
	n := transport.NewMemoryNetwork()
	next := 0
	return network{dial: n.Dial, listen: func(t *testing.T) net.Listener {
		next++
		ln, err := n.Listen(t.Name() + string(rune('a'+next)))
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}}
}

// serve runs a server until the test ends and returns its address.
func serve(t *testing.T, n network, o ServerOptions) (*Server, string) {
	t.Helper()
	ln := n.listen(t)
	s := NewServer(o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve returns %v", err)
		}
	})
	return s, ln.Addr().String()
}

func dial(t *testing.T, n network, addr string) *Client {
	t.Helper()
	c := NewClient(ClientOptions{Addr: addr, Dial: n.dial, Metrics: metrics.NewSet()})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestConformance runs the suite through both protocols in front of the
// reference store.
func TestConformance(t *testing.T) {
	for name, n := range map[string]network{"tcp": tcp(), "memory": inMemory()} {
		t.Run(name, func(t *testing.T) {
			apitest.Run(t, func(t *testing.T) apitest.Target { return remote(t, n) })
		})
	}
}

func remote(t *testing.T, n network) apitest.Target {
	store := apitest.NewMemory()
	_, selectAddr := serve(t, n, ServerOptions{Searcher: store, Admin: store, Catalog: store})
	ln := n.listen(t)
	in := insertrpc.NewServer(insertrpc.ServerOptions{Ingester: store})
	done := make(chan error, 1)
	go func() { done <- in.Serve(ln) }()
	ingester := insertrpc.NewClient(insertrpc.ClientOptions{Addr: ln.Addr().String(), Dial: n.dial})
	t.Cleanup(func() {
		_ = ingester.Close()
		if err := in.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c := dial(t, n, selectAddr)
	return apitest.Target{Ingester: ingester, Searcher: c, Admin: c, Catalog: c}
}

func benchmarkSearch(b *testing.B, f *fake) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := NewServer(ServerOptions{Searcher: f})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	c := NewClient(ClientOptions{Addr: ln.Addr().String()})
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		it, err := c.Search(context.Background(), everything())
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for it.Next() {
			n++
		}
		if n != f.series || it.Err() != nil {
			b.Fatal(n, it.Err())
		}
		_ = it.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(f.series), "ns/series")
	b.SetBytes(int64(f.series * (8 + 2*f.blocks*f.size)))
	b.StopTimer()
	_ = c.Close()
	s.Close()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
