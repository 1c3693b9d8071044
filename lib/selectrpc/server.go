package selectrpc

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net"
	"runtime"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/trace"
	"vmcluster/lib/transport"
)

// ServerConfig holds the settings of a server. Zero fields get their defaults.
type ServerConfig struct {
	MaxConcurrentRequests int                // 2 x CPUs
	MaxQueueDuration      flagvalue.Duration // 10s
	MaxTagKeys            int                // most label names of an answer; 0: no limit
	MaxTagValues          int                // most values of a label in an answer; 0: no limit
	DenyQueryTracing      bool
	Transport             transport.ServerConfig
	flags                 string // names the flags in errors
}

// RegisterFlags registers the flags of a storage node's select port.
func (c *ServerConfig) RegisterFlags(fs *flag.FlagSet) {
	c.register(fs, "search.")
	fs.BoolVar(&c.DenyQueryTracing, "denyQueryTracing", false, "Tell vmselect nothing of the steps of a query when it asks for a trace")
}

// RegisterClusterNativeFlags registers the flags of vmselect's port for other vmselects.
func (c *ServerConfig) RegisterClusterNativeFlags(fs *flag.FlagSet) {
	c.register(fs, "clusternative.")
	fs.IntVar(&c.MaxTagKeys, "clusternative.maxTagKeys", 100_000, "Largest number of label names which a vmselect of a higher level gets, see -clusternativeListenAddr")
	fs.IntVar(&c.MaxTagValues, "clusternative.maxTagValues", 100_000, "Largest number of values of a label which a vmselect of a higher level gets, see -clusternativeListenAddr")
}

func (c *ServerConfig) register(fs *flag.FlagSet, prefix string) {
	c.setDefaults()
	c.flags = fmt.Sprintf("-%[1]smaxConcurrentRequests and -%[1]smaxQueueDuration", prefix)
	fs.IntVar(&c.MaxConcurrentRequests, prefix+"maxConcurrentRequests", 2*runtime.GOMAXPROCS(0),
		"Requests from vmselect worked on at once; the others wait, see -"+prefix+"maxQueueDuration")
	fs.Var(&c.MaxQueueDuration, prefix+"maxQueueDuration", "How long a request from vmselect may wait for its turn, see -"+prefix+"maxConcurrentRequests")
}

func (c *ServerConfig) setDefaults() {
	if c.MaxQueueDuration <= 0 {
		c.MaxQueueDuration = flagvalue.Duration(10 * time.Second)
	}
	if c.flags == "" {
		c.flags = "-search.maxConcurrentRequests and -search.maxQueueDuration"
	}
}

// ServerOptions says out of what to answer.
type ServerOptions struct {
	Searcher storageapi.Searcher
	Admin    storageapi.Admin          // nil: flush and merge are Unsupported
	Catalog  storageapi.Catalog        // nil: its requests are Unsupported
	Reducer  storageapi.Reducer        // nil: fragments are Unsupported
	Metadata storageapi.MetadataReader // nil: its requests are Unsupported

	Versioner storageapi.Versioner      // nil: its requests are Unsupported
	Exemplars storageapi.ExemplarReader // nil: its requests are Unsupported

	Level   bool   // the answers come from several nodes, so that they may turn out to be partial: clients are told
	Addr    string // label of metrics: the listen address as given
	Name    string // of this node, in traces; vmstorage when empty
	Config  ServerConfig
	Logger  *logger.Logger     // nil means none
	Metrics *metrics.Set       // nil means none
	Limiter *transport.Limiter // shared with other ways in; nil means one of its own, with metrics
}

// Server answers any number of clients.
type Server struct {
	opts       ServerOptions
	transport  *transport.Server
	limiter    *transport.Limiter
	buffers    bytesutil.Pool
	requests   [methods]*metrics.Counter
	seriesRead *metrics.Counter
	blocksRead *metrics.Counter
	rowsRead   *metrics.Counter
}

// NewServer returns a server which does nothing until Serve is called.
func NewServer(o ServerOptions) *Server {
	o.Config.setDefaults()
	o.Name = cmp.Or(o.Name, "vmstorage")
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	set := o.Metrics
	addr := fmt.Sprintf("{addr=%q}", o.Addr)
	s := &Server{opts: o, limiter: o.Limiter}
	s.seriesRead = set.Counter("vm_vmselect_metric_names_read_total" + addr)
	s.blocksRead = set.Counter("vm_vmselect_metric_blocks_read_total" + addr)
	s.rowsRead = set.Counter("vm_vmselect_metric_rows_read_total" + addr)
	for m := methodSearch; m < methods; m++ {
		s.requests[m] = set.Counter(fmt.Sprintf("vm_vmselect_rpc_requests_total{action=%q,addr=%q}", m.String(), o.Addr))
	}
	if s.limiter == nil {
		s.limiter = transport.NewLimiter(o.Config.MaxConcurrentRequests, o.Config.MaxQueueDuration.D(), o.Config.flags)
		s.limiter.Register(set, "vm_vmselect_concurrent_requests", addr)
	}
	name := func(metric string) string { return fmt.Sprintf(`%s{name="vmselect",addr=%q}`, metric, o.Addr) }
	capabilities := transport.CapabilityTrace | transport.CapabilityResults | transport.CapabilityHistograms
	if o.Config.DenyQueryTracing {
		capabilities &^= transport.CapabilityTrace
	}
	if o.Level {
		capabilities |= transport.CapabilityLevel
	}
	s.transport = transport.NewServer(transport.ServerOptions{
		Role:         transport.RoleSelect,
		Capabilities: capabilities,
		NewSession:   func(string) transport.Session { return session{s} },
		Config:       o.Config.Transport,
		Logger:       o.Logger,
		Metrics: transport.ServerMetrics{
			Accepts:         set.Counter(name("vm_tcplistener_accepts_total")),
			ReadBytes:       set.Counter(name("vm_tcplistener_read_bytes_total")),
			WrittenBytes:    set.Counter(name("vm_tcplistener_written_bytes_total")),
			ConnErrors:      set.Counter("vm_vmselect_conn_errors_total" + addr),
			HandshakeErrors: set.Counter(name("vm_rpc_handshake_errors_total")),
		},
	})
	conns := func() float64 { return float64(s.transport.Conns()) }
	set.Gauge("vm_vmselect_conns"+addr, conns)
	set.Gauge(name("vm_tcplistener_conns"), conns)
	set.Gauge(name("vm_rpc_plain_conns"), func() float64 { return float64(s.transport.PlainConns()) })
	return s
}

// Serve accepts connections until the server is shut down. It owns the listener.
func (s *Server) Serve(ln net.Listener) error { return s.transport.Serve(ln) }

// Shutdown refuses new requests with kind Draining, finishes those it has, and closes.
func (s *Server) Shutdown(ctx context.Context) error { return s.transport.Shutdown(ctx) }

// Close cuts all connections.
func (s *Server) Close() { s.transport.Close() }

// session is the server's side of one connection; it has no state.
type session struct{ server *Server }

func (n session) Close() {}

// Accept decodes a request.
func (n session) Accept(payload []byte) (transport.Call, error) {
	q, err := parseQuery(payload)
	if err != nil {
		return nil, err
	}
	return &call{server: n.server, query: q}, nil
}

// call is one request being answered.
type call struct {
	server *Server
	query  *query
}

func (c *call) Release() {}

// Serve waits for a turn and answers.
func (c *call) Serve(ctx context.Context, out *transport.Responder) error {
	s := c.server
	s.requests[c.query.method].Inc()
	var span *trace.Span
	if c.query.traced && !s.opts.Config.DenyQueryTracing {
		span = trace.New(time.Now, time.Now(), c.query.method.String()+" at "+s.opts.Name)
	}
	turn := span.Begin("wait for a turn")
	if err := s.limiter.Acquire(ctx); err != nil {
		return err
	}
	defer s.limiter.Release()
	turn.End("")
	coverage, err := c.answer(span.Within(ctx), out)
	if err != nil {
		return err
	}
	var end []byte
	if span != nil {
		span.End("")
		node := span.Node()
		end = appendTrace(end, &node)
	}
	out.Finish(appendCoverage(end, coverage))
	return nil
}

func (c *call) answer(ctx context.Context, out *transport.Responder) (storageapi.Coverage, error) {
	q, searcher := c.query, c.server.opts.Searcher
	switch q.method {
	case methodSearch:
		return c.search(ctx, out)
	case methodLabelNames:
		return sendStrings(out)(searcher.LabelNames(ctx, &q.search, smallerLimit(q.limit, c.server.opts.Config.MaxTagKeys)))
	case methodLabelValues:
		return sendStrings(out)(searcher.LabelValues(ctx, &q.search, q.text, smallerLimit(q.limit, c.server.opts.Config.MaxTagValues)))
	case methodTenants:
		return sendTenants(out)(searcher.Tenants(ctx, q.search.Range))
	}
	switch q.method {
	case methodReduce:
		return c.sendReduced(ctx, out)
	case methodMetadata:
		return c.metadata(ctx, out)
	case methodVersions:
		return c.versions(ctx, out)
	case methodExemplars:
		return c.exemplars(ctx, out)
	}
	if q.method >= methodDeleteSeries {
		return c.catalog(ctx, out)
	}
	admin := c.server.opts.Admin
	switch {
	case admin == nil:
		return storageapi.Coverage{}, errkind.New(errkind.Unsupported, "cannot %s: this node does not offer it", q.method)
	case q.method == methodFlush:
		return storageapi.Coverage{}, admin.Flush(ctx)
	}
	return storageapi.Coverage{}, admin.Merge(ctx, q.text)
}

// smallerLimit returns the smaller one of two limits, of which 0 is none.
func smallerLimit(a, b int) int {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

func sendStrings(out *transport.Responder) func(storageapi.Strings, error) (storageapi.Coverage, error) {
	return func(s storageapi.Strings, err error) (storageapi.Coverage, error) {
		if err == nil {
			w := stringsWriter{out: out}
			err = w.write(s.Values)
		}
		return s.Coverage, err
	}
}

func sendTenants(out *transport.Responder) func(storageapi.Tenants, error) (storageapi.Coverage, error) {
	return func(t storageapi.Tenants, err error) (storageapi.Coverage, error) {
		const perFrame = frameTarget / 8
		for rest := t.Values; err == nil && len(rest) > 0; rest = rest[min(perFrame, len(rest)):] {
			var buf []byte
			for _, tenant := range rest[:min(perFrame, len(rest))] {
				buf = tenant.AppendTo(buf)
			}
			err = out.Send(buf)
		}
		return t.Coverage, err
	}
}

// search streams series until the end, an error, or the end of the context.
func (c *call) search(ctx context.Context, out *transport.Responder) (cov storageapi.Coverage, err error) {
	s := c.server
	it, err := s.opts.Searcher.Search(ctx, &c.query.search)
	if err != nil {
		return cov, err
	}
	defer func() {
		if closeErr := it.Close(); err == nil {
			err = closeErr
		}
	}()
	w := seriesWriter{out: out, buf: s.buffers.Get()}
	defer s.buffers.Put(w.buf)
	for it.Next() {
		if ctx.Err() != nil {
			return cov, context.Cause(ctx)
		}
		series := it.At()
		rows := 0
		for i := range series.Blocks {
			rows += series.Blocks[i].Count
		}
		s.seriesRead.Inc()
		s.blocksRead.Add(len(series.Blocks))
		s.rowsRead.Add(rows)
		if err := w.write(series); err != nil {
			return cov, err
		}
	}
	if err := it.Err(); err != nil {
		return cov, err
	}
	return it.Coverage(), w.flush()
}
