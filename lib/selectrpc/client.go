package selectrpc

import (
	"context"
	"fmt"
	"sync/atomic"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/trace"
	"vmcluster/lib/transport"
)

var (
	_ storageapi.Searcher = (*Client)(nil)
	_ storageapi.Admin    = (*Client)(nil)
)

// ClientOptions says which node to ask.
type ClientOptions struct {
	Addr    string           // as given by the user
	Dial    transport.Dialer // nil means TCP
	Config  transport.ClientConfig
	Logger  *logger.Logger // nil means none
	Metrics *metrics.Set   // nil means none
}

// Client asks one storage node. It is safe for concurrent use.
type Client struct {
	transport *transport.Client
	requests  [methods]*metrics.Counter
	errors    [methods]*metrics.Counter
	running   atomic.Int64
	blocks    *metrics.Counter
	set       *metrics.Set
	names     []string // of metrics
}

// NewClient returns a client which starts to connect in the background.
func NewClient(o ClientOptions) *Client {
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	set := o.Metrics
	c := &Client{set: set}
	own := func(name string) string {
		c.names = append(c.names, name)
		return name
	}
	name := func(metric string) string { return own(fmt.Sprintf(`%s{name="vmselect",addr=%q}`, metric, o.Addr)) }
	c.blocks = set.Counter(name("vm_metric_blocks_read_total"))
	for m := methodSearch; m < methods; m++ {
		labels := fmt.Sprintf(`{action=%q,type="rpcClient",name="vmselect",addr=%q}`, m.String(), o.Addr)
		c.requests[m] = set.Counter(own("vm_requests_total" + labels))
		c.errors[m] = set.Counter(own("vm_request_errors_total" + labels))
	}
	c.transport = transport.NewClient(transport.ClientOptions{
		Addr: o.Addr,
		Role: transport.RoleSelect,

		Capabilities: transport.CapabilityTrace | transport.CapabilityResults | transport.CapabilityLevel | transport.CapabilityHistograms,

		Dial:   o.Dial,
		Config: o.Config,
		Logger: o.Logger,
		Metrics: transport.ClientMetrics{
			DialErrors:       set.Counter(name("vm_rpc_dial_errors_total")),
			HandshakeErrors:  set.Counter(name("vm_rpc_handshake_errors_total")),
			ConnectionErrors: set.Counter(name("vm_rpc_connection_errors_total")),
			ReadBytes:        set.Counter(name("vm_tcpdialer_read_bytes_total")),
			WrittenBytes:     set.Counter(name("vm_tcpdialer_written_bytes_total")),
		},
	})
	set.Gauge(name("vm_tcpdialer_addr_available"), func() float64 { return boolGauge(c.transport.Reachable()) })
	set.Gauge(name("vm_tcpdialer_conns"), func() float64 { return boolGauge(c.transport.Connected()) })
	set.Gauge(name("vm_concurrent_queries"), func() float64 { return float64(c.running.Load()) })
	return c
}

func boolGauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Addr returns the address of the node as given.
func (c *Client) Addr() string { return c.transport.Addr() }

// Reachable reports whether there is a connection which takes requests.
func (c *Client) Reachable() bool { return c.transport.Reachable() }

// Close ends the connection. Calls under way fail with kind Unavailable.
func (c *Client) Close() error { return c.transport.Close() }

// RemoveMetrics takes the client's metrics out of the set, for a node which does not belong to the cluster any more.
func (c *Client) RemoveMetrics() {
	for _, name := range c.names {
		c.set.Remove(name)
	}
}

// start sends a request.
func (c *Client) start(ctx context.Context, q *query) (*transport.ClientStream, error) {
	c.requests[q.method].Inc()
	s, err := c.transport.Start(ctx, q)
	if err != nil {
		c.failed(q.method, err)
		return nil, err
	}
	c.running.Add(1)
	return s, nil
}

// finish ends a call which start began.
func (c *Client) finish(s *transport.ClientStream) {
	s.Close()
	c.running.Add(-1)
}

// failed counts errors, except for callers which gave up.
func (c *Client) failed(m method, err error) {
	if err != nil && errkind.Of(err) != errkind.Canceled {
		c.errors[m].Inc()
	}
}

// Search asks for series. The node starts at once; its errors show at the iterator.
func (c *Client) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	request := &query{method: methodSearch, search: *q}
	step := c.beginTrace(ctx, request)
	s, err := c.startSearch(ctx, request, q.Histograms)
	if err != nil {
		endTrace(step, 0, err)
		return nil, err
	}
	it := &iterator{client: c, ctx: ctx, stream: s, in: seriesReader{first: true}, step: step}
	it.coverage.Open = s.Capabilities()&transport.CapabilityLevel != 0 // until the last frame
	return it, nil
}

// startSearch starts a search for native histograms if the node knows them; one that does not has none. What it knows is certain only once the request is
// on a connection, so that a search is started again when it turns out that something else had been expected.
func (c *Client) startSearch(ctx context.Context, q *query, wanted model.Histograms) (*transport.ClientStream, error) {
	for capabilities := c.transport.Capabilities(); ; {
		q.search.Histograms = model.NoHistograms
		if capabilities&transport.CapabilityHistograms != 0 {
			q.search.Histograms = wanted
		}
		s, err := c.start(ctx, q)
		if err != nil || wanted == model.NoHistograms || (s.Capabilities()^capabilities)&transport.CapabilityHistograms == 0 {
			return s, err
		}
		capabilities = s.Capabilities()
		c.finish(s)
	}
}

// call sends a request and hands each frame but the last to f.
func (c *Client) call(ctx context.Context, q *query, f func(frame []byte) error) (cov storageapi.Coverage, err error) {
	step, received := c.beginTrace(ctx, q), 0
	defer func() { endTrace(step, received, err) }()
	s, err := c.start(ctx, q)
	if err != nil {
		return cov, err
	}
	defer c.finish(s)
	for {
		payload, last, err := s.Recv(ctx)
		received += len(payload)
		switch {
		case err != nil:
		case last:
			if cov, err = parseEnd(payload, step); err == nil {
				return cov, nil
			}
		default:
			err = f(payload)
		}
		if err != nil {
			c.failed(q.method, err)
			return storageapi.Coverage{}, err
		}
	}
}

func (c *Client) strings(ctx context.Context, q *query) (out storageapi.Strings, err error) {
	out.Coverage, err = c.call(ctx, q, func(frame []byte) (err error) {
		out.Values, err = appendStrings(out.Values, frame)
		return err
	})
	if err != nil {
		return storageapi.Strings{}, err
	}
	return out, nil
}

// LabelNames asks for label names.
func (c *Client) LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
	return c.strings(ctx, &query{method: methodLabelNames, search: *q, limit: limit})
}

// LabelValues asks for the values of a label.
func (c *Client) LabelValues(ctx context.Context, q *model.SearchQuery, label string, limit int) (storageapi.Strings, error) {
	return c.strings(ctx, &query{method: methodLabelValues, search: *q, limit: limit, text: label})
}

// Tenants asks for the tenants with samples in the months of r.
func (c *Client) Tenants(ctx context.Context, r model.TimeRange) (out storageapi.Tenants, err error) {
	q := &query{method: methodTenants, search: model.SearchQuery{Range: r}}
	out.Coverage, err = c.call(ctx, q, func(frame []byte) error {
		in := &reader{src: frame}
		for len(in.src) > 0 {
			out.Values = append(out.Values, in.tenant())
		}
		return in.end("tenants")
	})
	if err != nil {
		return storageapi.Tenants{}, err
	}
	return out, nil
}

// Flush asks the node to flush.
func (c *Client) Flush(ctx context.Context) error {
	return c.order(ctx, &query{method: methodFlush})
}

// Merge asks the node to merge.
func (c *Client) Merge(ctx context.Context, prefix string) error {
	return c.order(ctx, &query{method: methodMerge, text: prefix})
}

func (c *Client) order(ctx context.Context, q *query) error {
	_, err := c.call(ctx, q, func([]byte) error {
		return errkind.New(errkind.Corrupt, "storage node %q answers %s with data", c.Addr(), q.method)
	})
	return err
}

// iterator is the client's side of a search.
type iterator struct {
	client   *Client
	ctx      context.Context
	stream   *transport.ClientStream // nil when closed
	in       seriesReader
	whole    bool // the last frame has been read
	coverage storageapi.Coverage
	err      error

	step     *trace.Span // nil: nobody traces
	received int         // bytes
}

// Next reads the next series with all its blocks.
func (it *iterator) Next() bool {
	if it.err != nil || it.stream == nil {
		return false
	}
	ok, err := it.read()
	if err != nil {
		it.err = err
		it.client.failed(methodSearch, err)
		return false
	}
	if ok {
		it.client.blocks.Add(len(it.in.series.Blocks))
	}
	return ok
}

func (it *iterator) read() (bool, error) {
	for started := false; ; started = true {
		for len(it.in.src) == 0 {
			if it.whole {
				return false, nil
			}
			if err := it.recv(started); err != nil {
				return false, err
			}
		}
		if err := it.in.item(); err != nil || !it.in.more {
			return err == nil, err
		}
	}
}

// recv takes the next frame. With keep, blocks of the series being read
// alias the frame before, so that one is left to the garbage collector.
func (it *iterator) recv(keep bool) error {
	if keep {
		it.stream.Keep()
	}
	payload, last, err := it.stream.Recv(it.ctx)
	if err != nil {
		return err
	}
	it.received += len(payload)
	if !last {
		it.in.frame(payload)
		return nil
	}
	it.whole = true
	if it.in.more {
		return errkind.New(errkind.Corrupt, "the answer of storage node %q ends within a series", it.client.Addr())
	}
	it.coverage, err = parseEnd(payload, it.step)
	return err
}

// At returns the current series.
func (it *iterator) At() *storageapi.Series { return &it.in.series }

// Err returns the error that ended the iteration.
func (it *iterator) Err() error { return it.err }

// Coverage returns the coverage of the node's answer, which is open until its end when the node has nodes of its own.
func (it *iterator) Coverage() storageapi.Coverage { return it.coverage }

// Close ends the search, at the node too.
func (it *iterator) Close() error {
	if it.stream != nil {
		it.client.finish(it.stream)
		endTrace(it.step, it.received, it.err)
		it.stream = nil
		it.in = seriesReader{}
	}
	return nil
}
