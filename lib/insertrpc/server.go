package insertrpc

import (
	"context"
	"flag"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

// ackWantReset in an acknowledgement asks the client to start a new dictionary.
const ackWantReset = 1 << 0

// ServerConfig holds the settings of a server. Zero fields get their defaults.
type ServerConfig struct {
	MaxConcurrentInserts int                    // 2 x CPUs
	MaxQueueDuration     flagvalue.Duration     // 1m
	MaxDictBytes         int64                  // memory of one connection's dictionary; 1/32 of the budget, 16..256 MiB
	Transport            transport.ServerConfig // MaxStreams is 32; ShutdownSpread: see RegisterFlags
}

// RegisterFlags registers the flags of a storage node's insert port.
func (c *ServerConfig) RegisterFlags(fs *flag.FlagSet) {
	c.MaxQueueDuration = flagvalue.Duration(time.Minute)
	c.Transport.ShutdownSpread = flagvalue.Duration(10 * time.Second)
	fs.IntVar(&c.MaxConcurrentInserts, "maxConcurrentInserts", 2*runtime.GOMAXPROCS(0),
		"Insert requests worked on at once; the others wait, see -insert.maxQueueDuration")
	fs.Var(&c.MaxQueueDuration, "insert.maxQueueDuration", "How long an insert request may wait for its turn, see -maxConcurrentInserts")
	fs.Var(&c.Transport.ShutdownSpread, "storage.vminsertConnsShutdownDuration",
		"Time over which vminsert connections are closed one by one on graceful shutdown, so that the load moves to the other nodes bit by bit")
}

// RegisterClusterNativeFlags registers the flags of vminsert's port for other vminserts, besides those of its writes.
func (c *ServerConfig) RegisterClusterNativeFlags(fs *flag.FlagSet) {
	c.Transport.ShutdownSpread = flagvalue.Duration(25 * time.Second)
	fs.Var(&c.Transport.ShutdownSpread, "clusternative.vminsertConnsShutdownDuration",
		"Time over which connections of vminserts of a higher level are closed one by one on graceful shutdown, so that the load moves to others bit by bit, see -clusternativeListenAddr")
}

func (c *ServerConfig) setDefaults(budget *memory.Budget) {
	if c.MaxQueueDuration <= 0 {
		c.MaxQueueDuration = flagvalue.Duration(time.Minute)
	}
	if c.MaxDictBytes <= 0 {
		c.MaxDictBytes = 128 << 20
		if budget != nil {
			c.MaxDictBytes = min(max(budget.Limit()/32, 16<<20), 256<<20)
		}
	}
	if c.Transport.MaxStreams <= 0 {
		c.Transport.MaxStreams = 32
	}
	if c.Transport.MaxFrame <= 0 {
		c.Transport.MaxFrame = 2 * (maxRequestBytes + maxKeyBytes)
	}
}

// ServerOptions says where the samples go.
type ServerOptions struct {
	Ingester  storageapi.Ingester
	Metadata  storageapi.MetadataWriter // nil: its requests are Unsupported
	Exemplars storageapi.ExemplarWriter // nil: its requests are Unsupported
	Starts    storageapi.StartWriter    // nil: its requests are Unsupported
	Addr      string                    // label of metrics: the listen address as given
	Config    ServerConfig
	Logger    *logger.Logger     // nil means none
	Metrics   *metrics.Set       // nil means none
	Budget    *memory.Budget     // dictionaries and waiting batches are part of it; nil means none
	Limiter   *transport.Limiter // shared with other ways in; nil means one of its own, with metrics
}

// Server takes batches from any number of clients.
type Server struct {
	opts          ServerOptions
	transport     *transport.Server
	limiter       *transport.Limiter
	rowsRead      *metrics.Counter
	metadataRead  *metrics.Counter
	exemplarsRead *metrics.Counter
	calls         sync.Pool
}

// NewServer returns a server which does nothing until Serve is called.
func NewServer(o ServerOptions) *Server {
	o.Config.setDefaults(o.Budget)
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	set := o.Metrics
	s := &Server{opts: o, limiter: o.Limiter, rowsRead: set.Counter("vm_vminsert_metrics_read_total")}
	s.metadataRead = set.Counter("vm_vminsert_metadata_read_total")
	s.exemplarsRead = set.Counter("vm_vminsert_exemplars_read_total")
	if s.limiter == nil {
		s.limiter = transport.NewLimiter(o.Config.MaxConcurrentInserts, o.Config.MaxQueueDuration.D(),
			"-maxConcurrentInserts and -insert.maxQueueDuration")
		s.limiter.Register(set, "vm_concurrent_insert", "")
	}
	capabilities := transport.CapabilityHistograms
	if o.Exemplars != nil {
		capabilities |= transport.CapabilityExemplars
	}
	if o.Starts != nil {
		capabilities |= transport.CapabilityStarts
	}
	name := func(metric string) string { return fmt.Sprintf(`%s{name="vminsert", addr=%q}`, metric, o.Addr) }
	s.transport = transport.NewServer(transport.ServerOptions{
		Role:         transport.RoleInsert,
		Capabilities: capabilities,
		NewSession:   s.newSession,
		Config:       o.Config.Transport,
		Logger:       o.Logger,
		Metrics: transport.ServerMetrics{
			Accepts:         set.Counter(name("vm_tcplistener_accepts_total")),
			ReadBytes:       set.Counter(name("vm_tcplistener_read_bytes_total")),
			WrittenBytes:    set.Counter(name("vm_tcplistener_written_bytes_total")),
			ConnErrors:      set.Counter("vm_vminsert_conn_errors_total"),
			HandshakeErrors: set.Counter(name("vm_rpc_handshake_errors_total")),
		},
	})
	conns := func() float64 { return float64(s.transport.Conns()) }
	set.Gauge("vm_vminsert_conns", conns)
	set.Gauge(name("vm_tcplistener_conns"), conns)
	set.Gauge(name("vm_rpc_plain_conns"), func() float64 { return float64(s.transport.PlainConns()) })
	return s
}

// Serve accepts connections until the server is shut down. It owns the listener.
func (s *Server) Serve(ln net.Listener) error { return s.transport.Serve(ln) }

// Shutdown refuses new batches with kind Draining, finishes those it has, and closes.
func (s *Server) Shutdown(ctx context.Context) error { return s.transport.Shutdown(ctx) }

// Close cuts all connections.
func (s *Server) Close() { s.transport.Close() }

// session is the server's side of one connection.
type session struct {
	server  *Server
	decoder decoder
}

func (s *Server) newSession(string) transport.Session {
	n := &session{server: s}
	n.decoder.dict.budget = s.opts.Budget
	return n
}

func (n *session) Close() { n.decoder.dict.reset() }

// Accept decodes a request into a batch.
func (n *session) Accept(payload []byte) (transport.Call, error) {
	s := n.server
	if len(payload) > 0 && payload[0]&flagMetadata != 0 {
		return s.acceptMetadata(payload)
	}
	if len(payload) > 0 && payload[0]&flagExemplars != 0 {
		return s.acceptExemplars(payload)
	}
	if len(payload) > 0 && payload[0]&flagStarts != 0 {
		return s.acceptStarts(payload)
	}
	c, _ := s.calls.Get().(*call)
	if c == nil {
		c = &call{server: s}
	}
	if err := n.decoder.decode(payload, &c.received); err != nil {
		return nil, err
	}
	s.rowsRead.Add(c.batch.Rows())
	limit := s.opts.Config.MaxDictBytes
	held := n.decoder.dict.bytes
	// What is under way when the client learns of the limit may still come.
	if held > 2*limit+64<<20 {
		c.Release()
		return nil, errkind.New(errkind.Corrupt, "the client announced %d bytes of series and does not start anew at %d", held, limit)
	}
	tight := s.opts.Budget != nil && s.opts.Budget.Used() > s.opts.Budget.Limit() && held > 1<<20
	if c.ack[0] = 0; held > limit || tight {
		c.ack[0] = ackWantReset
	}
	if s.opts.Budget == nil {
		return c, nil
	}
	size := int64(c.batch.Size())
	if err := s.opts.Budget.Reserve(size, "insert requests"); err != nil {
		c.Release()
		return nil, err
	}
	c.reserved = size
	return c, nil
}

// call is one request on its way to the Ingester. It is pooled.
type call struct {
	received
	server   *Server
	reserved int64
	ack      [1]byte
}

// Serve waits for a turn and stores the batch.
func (c *call) Serve(ctx context.Context, out *transport.Responder) error {
	if err := c.server.limiter.Acquire(ctx); err != nil {
		return err
	}
	defer c.server.limiter.Release()
	if err := c.ingest(ctx, c.server.opts.Ingester.Ingest); err != nil {
		return err
	}
	if c.ack[0] != 0 {
		out.Finish([]byte{c.ack[0]})
	}
	return nil
}

// Release puts the batch back, unless one huge request has made it large.
func (c *call) Release() {
	if c.reserved > 0 {
		c.server.opts.Budget.Release(c.reserved)
		c.reserved = 0
	}
	large := c.batch.Size() > 16<<20
	if c.reset(); large {
		return
	}
	c.server.calls.Put(c)
}
