package selectrpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

func newTestWriter() *seriesWriter { return &seriesWriter{buf: &bytesutil.Buffer{}} }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// fake is a Searcher whose series are numbered: series i has key i and blocks
// blocks with columns of size bytes. After the last one comes err or coverage.
type fake struct {
	storageapi.Searcher
	series   int
	blocks   int
	size     int
	err      error
	coverage storageapi.Coverage
	served   atomic.Int64 // series handed out
	open     atomic.Int64 // iterators
	opened   atomic.Int64
	block    chan struct{} // not nil: Next waits for it at the end
}

func (f *fake) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	f.open.Add(1)
	f.opened.Add(1)
	return &fakeIterator{fake: f, ctx: ctx}, nil
}

func (f *fake) LabelNames(context.Context, *model.SearchQuery, int) (storageapi.Strings, error) {
	var s storageapi.Strings
	for i := range f.series {
		s.Values = append(s.Values, fmt.Sprintf("label_%07d", i))
	}
	s.Coverage = f.coverage
	return s, f.err
}

func (f *fake) Tenants(context.Context, model.TimeRange) (storageapi.Tenants, error) {
	t := storageapi.Tenants{Coverage: f.coverage}
	for i := range f.series {
		t.Values = append(t.Values, model.TenantID{AccountID: uint32(i)})
	}
	return t, f.err
}

type fakeIterator struct {
	*fake
	ctx     context.Context
	n       int
	current storageapi.Series
	closed  bool
}

func (it *fakeIterator) Next() bool {
	if it.n >= it.series {
		if it.block != nil {
			select {
			case <-it.block:
			case <-it.ctx.Done():
			}
		}
		return false
	}
	it.current = storageapi.Series{Key: binary.BigEndian.AppendUint64(nil, uint64(it.n))}
	for i := range it.blocks {
		column := bytes.Repeat([]byte{byte(it.n + i)}, it.size)
		it.current.Blocks = append(it.current.Blocks, tsblock.Block{MinTimestamp: int64(i), MaxTimestamp: int64(i) + 1, Count: 2, Timestamps: column, Values: column})
	}
	it.n++
	it.served.Add(1)
	return true
}

func (it *fakeIterator) At() *storageapi.Series        { return &it.current }
func (it *fakeIterator) Err() error                    { return it.err }
func (it *fakeIterator) Coverage() storageapi.Coverage { return it.coverage }

func (it *fakeIterator) Close() error {
	if !it.closed {
		it.closed = true
		it.open.Add(-1)
	}
	return nil
}

func everything() *model.SearchQuery {
	return &model.SearchQuery{Range: model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64}}
}

// count reads a search to its end and checks every byte.
func count(it storageapi.SeriesIterator, f *fake) (int, error) {
	n := 0
	for ; it.Next(); n++ {
		s := it.At()
		if len(s.Key) != 8 || binary.BigEndian.Uint64(s.Key) != uint64(n) || len(s.Blocks) != f.blocks {
			return n, fmt.Errorf("series %d has key %x and %d blocks", n, s.Key, len(s.Blocks))
		}
		for i := range s.Blocks {
			b := &s.Blocks[i]
			want := bytes.Repeat([]byte{byte(n + i)}, f.size)
			if b.MinTimestamp != int64(i) || b.Count != 2 || !bytes.Equal(b.Timestamps, want) || !bytes.Equal(b.Values, want) {
				return n, fmt.Errorf("block %d of series %d is damaged", i, n)
			}
		}
	}
	return n, it.Err()
}

// TestSizes sends series of all sizes: many in a frame, and one over many frames.
func TestSizes(t *testing.T) {
	for _, f := range []*fake{
		{series: 0},
		{series: 10000},
		{series: 3000, blocks: 3, size: 20},
		{series: 20, blocks: 2, size: 60000},
		{series: 5, blocks: 1000, size: 1000},
		{series: 2, blocks: 3000, size: 1000}, // each larger than the window
	} {
		t.Run(fmt.Sprintf("%d series of %d blocks of %d bytes", f.series, f.blocks, f.size), func(t *testing.T) {
			n := inMemory()
			_, addr := serve(t, n, ServerOptions{Searcher: f})
			c := dial(t, n, addr)
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					it, err := c.Search(context.Background(), everything())
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := count(it, f); got != f.series || err != nil {
						t.Errorf("%d series, %v", got, err)
					}
					_ = it.Close()
				})
			}
			wg.Wait()
			if c.running.Load() != 0 {
				t.Errorf("%d searches count as running", c.running.Load())
			}
		})
	}
}

func TestCoverageArrives(t *testing.T) {
	f := &fake{series: 20000, coverage: goldenCoverage()}
	n := inMemory()
	_, addr := serve(t, n, ServerOptions{Searcher: f})
	c := dial(t, n, addr)
	ctx := context.Background()
	check := func(what string, got storageapi.Coverage, err error) {
		t.Helper()
		if err != nil || !got.Partial || len(got.Failed) != 2 || got.Failed[1].Node != "b:8401" || errkind.Of(got.Failed[1].Err) != errkind.Overloaded {
			t.Errorf("%s: coverage %+v, %v", what, got, err)
		}
	}
	it, err := c.Search(ctx, everything())
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	_, err = count(it, f)
	check("search", it.Coverage(), err)
	names, err := c.LabelNames(ctx, everything(), 0)
	check("label names", names.Coverage, err)
	if len(names.Values) != 20000 || !slices.IsSorted(names.Values) || names.Values[19999] != "label_0019999" {
		t.Errorf("%d label names", len(names.Values))
	}
	tenants, err := c.Tenants(ctx, everything().Range)
	check("tenants", tenants.Coverage, err)
	if len(tenants.Values) != 20000 || tenants.Values[19999].AccountID != 19999 {
		t.Errorf("%d tenants", len(tenants.Values))
	}
}

func TestErrorsArrive(t *testing.T) {
	f := &fake{series: 10, err: errkind.New(errkind.Unprocessable, "too many series")}
	n := inMemory()
	_, addr := serve(t, n, ServerOptions{Searcher: f})
	c := dial(t, n, addr)
	it, err := c.Search(context.Background(), everything())
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	if _, err := count(it, f); errkind.Of(err) != errkind.Unprocessable || !strings.Contains(err.Error(), "too many series") || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v", err)
	}
	if err := c.Flush(context.Background()); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("flush without Admin gives %v", err)
	}
	if got := c.errors[methodSearch].Get(); got != 1 {
		t.Errorf("%d errors are counted", got)
	}
}

// TestSlowReaderAndClose reads one series of an endless answer: the server must not run
// ahead, other calls must go on, and closing must stop the server.
func TestSlowReaderAndClose(t *testing.T) {
	f := &fake{series: math.MaxInt, blocks: 1, size: 1000}
	n := inMemory()
	_, addr := serve(t, n, ServerOptions{Searcher: f})
	c := dial(t, n, addr)
	for _, stop := range []string{"close", "cancel", "client"} {
		f.served.Store(0) // before the search, which the server begins at once
		ctx, cancel := context.WithCancel(context.Background())
		it, err := c.Search(ctx, everything())
		if err != nil {
			t.Fatal(err)
		}
		if !it.Next() {
			t.Fatal(it.Err())
		}
		// The window is 1 MiB, a series takes about 2000 bytes.
		eventually(t, "the window is used up", func() bool { return f.served.Load() > 400 })
		if err := c.Flush(context.Background()); errkind.Of(err) != errkind.Unsupported {
			t.Errorf("another call gets %v", err)
		}
		switch stop {
		case "close":
			_ = it.Close()
		case "cancel":
			cancel()
			for it.Next() {
			}
			if errkind.Of(it.Err()) != errkind.Canceled {
				t.Errorf("got %v", it.Err())
			}
			_ = it.Close()
		case "client":
			_ = c.Close()
			for it.Next() {
			}
			if errkind.Of(it.Err()) != errkind.Unavailable {
				t.Errorf("got %v", it.Err())
			}
			_ = it.Close()
		}
		eventually(t, "the server stops after "+stop, func() bool { return f.open.Load() == 0 })
		if served := f.served.Load(); served > 2000 {
			t.Errorf("the server ran %d series ahead", served)
		}
		cancel()
	}
}

func TestServerKilledInTheMiddle(t *testing.T) {
	f := &fake{series: 100000, blocks: 1, size: 1000}
	n := inMemory()
	s, addr := serve(t, n, ServerOptions{Searcher: f})
	c := dial(t, n, addr)
	it, err := c.Search(context.Background(), everything())
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	if !it.Next() {
		t.Fatal(it.Err())
	}
	s.Close()
	if n, err := count(it, f); errkind.Of(err) != errkind.Internal && errkind.Of(err) != errkind.Unavailable || err == nil {
		t.Errorf("%d series, %v", n, err)
	}
	for it.Next() {
	}
	again, err := c.Search(context.Background(), everything())
	if err == nil { // the request was on its way before the end of the connection was seen
		defer again.Close()
		for again.Next() {
		}
		err = again.Err()
	}
	if errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), addr) {
		t.Errorf("a dead node gives %v", err)
	}
}

func TestOverloaded(t *testing.T) {
	f := &fake{series: 1, block: make(chan struct{})}
	n := inMemory()
	set := metrics.NewSet()
	_, addr := serve(t, n, ServerOptions{Searcher: f, Addr: ":8401", Metrics: set, Config: ServerConfig{MaxConcurrentRequests: 1, MaxQueueDuration: flagvalue.Duration(time.Millisecond)}})
	c := dial(t, n, addr)
	first, err := c.Search(context.Background(), everything())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	eventually(t, "the first search runs", func() bool { return f.open.Load() == 1 })
	second, err := c.Search(context.Background(), everything())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if second.Next() || errkind.Of(second.Err()) != errkind.Overloaded || !strings.Contains(second.Err().Error(), "-search.maxConcurrentRequests") {
		t.Errorf("got %v", second.Err())
	}
	close(f.block)
	if n, err := count(first, f); n != 1 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
	var out bytes.Buffer
	if err := set.Write(&out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`vm_vmselect_conns{addr=":8401"} 1`, `vm_vmselect_rpc_requests_total{action="search",addr=":8401"} 2`,
		`vm_vmselect_metric_rows_read_total{addr=":8401"} 0`, `vm_vmselect_concurrent_requests_limit_timeout_total{addr=":8401"} 1`,
	} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
}

func TestFlags(t *testing.T) {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	var a, b ServerConfig
	a.RegisterFlags(fs)
	b.RegisterClusterNativeFlags(fs)
	if err := fs.Parse([]string{"-search.maxConcurrentRequests=3", "-clusternative.maxQueueDuration=5s"}); err != nil {
		t.Fatal(err)
	}
	if a.MaxConcurrentRequests != 3 || a.MaxQueueDuration.D() != 10*time.Second || b.MaxQueueDuration.D() != 5*time.Second {
		t.Errorf("got %+v, %+v", a, b)
	}
}

func BenchmarkSearch(b *testing.B) {
	for _, f := range []*fake{{series: 10000, blocks: 1, size: 40}, {series: 100, blocks: 10, size: 5000}} {
		b.Run(fmt.Sprintf("%d_series_of_%d_bytes", f.series, 2*f.blocks*f.size), func(b *testing.B) { benchmarkSearch(b, f) })
	}
}
