package insertrpc

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

var _ storageapi.Ingester = (*Client)(nil)

// ClientConfig holds the settings of a client. Zero fields get their defaults.
type ClientConfig struct {
	Transport     transport.ClientConfig
	MaxDictSeries int // series announced on a connection before the dictionary starts anew, 1 Mi
}

// ClientOptions says which node to send to.
type ClientOptions struct {
	Addr    string           // as given by the user
	Dial    transport.Dialer // nil means TCP
	Config  ClientConfig
	Logger  *logger.Logger // nil means none
	Metrics *metrics.Set   // nil means none
	Budget  *memory.Budget // the dictionary is part of it; nil means none
}

// Client sends batches to one storage node. It is safe for concurrent use.
type Client struct {
	transport *transport.Client
	metrics   clientMetrics
	readOnly  atomic.Bool
	pending   atomic.Int64 // rows
	sending   busyClock

	mu struct {
		sync.Mutex
		conn      uint64 // connection the dictionary belongs to
		epoch     uint64 // numbers the dictionaries this client has used
		dict      *senderDict
		wantReset bool
	}
}

type clientMetrics struct {
	rowsPushed *metrics.Counter
	rowsSent   *metrics.Counter
	resets     *metrics.Counter
}

// NewClient returns a client which starts to connect in the background.
func NewClient(o ClientOptions) *Client {
	if o.Config.MaxDictSeries <= 0 {
		o.Config.MaxDictSeries = 1 << 20
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	c := &Client{}
	c.mu.dict = newSenderDict(o.Config.MaxDictSeries, o.Budget)
	name := func(metric string) string {
		return fmt.Sprintf(`%s{name="vminsert", addr=%q, rpc_call="metric_rows"}`, metric, o.Addr)
	}
	dialer := func(metric string) string { return fmt.Sprintf(`%s{name="vminsert", addr=%q}`, metric, o.Addr) }
	set := o.Metrics
	c.metrics = clientMetrics{
		rowsPushed: set.Counter(name("vm_rpc_rows_pushed_total")),
		rowsSent:   set.Counter(name("vm_rpc_rows_sent_total")),
		resets:     set.Counter(name("vm_rpc_dictionary_resets_total")),
	}
	c.transport = transport.NewClient(transport.ClientOptions{
		Addr:   o.Addr,
		Role:   transport.RoleInsert,
		Dial:   o.Dial,
		Config: o.Config.Transport,
		Logger: o.Logger,
		Metrics: transport.ClientMetrics{
			DialErrors:       set.Counter(name("vm_rpc_dial_errors_total")),
			HandshakeErrors:  set.Counter(name("vm_rpc_handshake_errors_total")),
			ConnectionErrors: set.Counter(name("vm_rpc_connection_errors_total")),
			ReadBytes:        set.Counter(dialer("vm_tcpdialer_read_bytes_total")),
			WrittenBytes:     set.Counter(dialer("vm_tcpdialer_written_bytes_total")),
		},
	})
	set.Gauge(name("vm_rpc_vmstorage_is_reachable"), func() float64 { return boolGauge(c.transport.Reachable()) })
	set.Gauge(name("vm_rpc_vmstorage_is_read_only"), func() float64 { return boolGauge(c.readOnly.Load()) })
	set.Gauge(name("vm_rpc_rows_pending"), func() float64 { return float64(c.pending.Load()) })
	set.Gauge(name("vm_rpc_buf_pending_bytes"), func() float64 { return float64(c.transport.PendingBytes()) })
	set.Gauge(dialer("vm_tcpdialer_conns"), func() float64 { return boolGauge(c.transport.Connected()) })
	set.CounterFunc(name("vm_rpc_send_duration_seconds_total"), c.sending.seconds)
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

// ReadOnly reports whether the node's last answer was that it takes no writes.
func (c *Client) ReadOnly() bool { return c.readOnly.Load() }

// Close ends the connection. Calls under way fail with kind Unavailable.
func (c *Client) Close() error {
	err := c.transport.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.dict.free()
	return err
}

// maxPipelined bounds the requests one batch has under way.
const maxPipelined = 4

// Ingest sends the batch and returns when the node has acknowledged all of it.
func (c *Client) Ingest(ctx context.Context, batch *model.Batch) error {
	for i := range batch.Len() {
		if n := len(batch.Key(i)); n > maxKeyBytes {
			return errkind.New(errkind.BadRequest, "cannot send series with a key of %d bytes: at most %d are allowed; send shorter labels", n, maxKeyBytes)
		}
	}
	c.metrics.rowsPushed.Add(batch.Rows())
	c.pending.Add(int64(batch.Rows()))
	defer c.pending.Add(-int64(batch.Rows()))
	var calls []*request
	defer func() {
		for _, r := range calls {
			r.stream.Close()
		}
	}()
	for p := (position{}); !atEnd(batch, p); {
		if len(calls) == maxPipelined {
			if err := c.wait(ctx, calls[0]); err != nil {
				return err
			}
			calls = calls[1:]
		}
		r, err := c.send(ctx, batch, p)
		if err != nil {
			return err
		}
		calls = append(calls, r)
		p = r.end
	}
	for len(calls) > 0 {
		if err := c.wait(ctx, calls[0]); err != nil {
			return err
		}
		calls = calls[1:]
	}
	return nil
}

// atEnd reports whether no samples follow p.
func atEnd(b *model.Batch, p position) bool {
	for p.series < b.Len() && p.sample >= len(b.Samples(p.series)) {
		p = position{series: p.series + 1}
	}
	return p.series >= b.Len()
}

func (c *Client) send(ctx context.Context, batch *model.Batch, p position) (*request, error) {
	c.sending.enter()
	defer c.sending.leave()
	r := &request{client: c, batch: batch, start: p}
	var err error
	r.stream, err = c.transport.Start(ctx, r)
	return r, err
}

// wait waits for the answer to a request and ends it.
func (c *Client) wait(ctx context.Context, r *request) error {
	defer r.stream.Close()
	payload, last, err := r.stream.Recv(ctx)
	if err == nil && (!last || len(payload) > 1) {
		err = errkind.New(errkind.Corrupt, "cannot read acknowledgement of storage node %q: %d bytes", c.Addr(), len(payload))
	}
	if err != nil {
		c.readOnly.Store(errkind.Of(err) == errkind.ReadOnly)
		return err
	}
	c.readOnly.Store(false)
	c.metrics.rowsSent.Add(r.rows)
	if len(payload) == 1 && payload[0]&ackWantReset != 0 {
		c.mu.Lock()
		// An answer from the time before a reset must not cause another one.
		c.mu.wantReset = c.mu.wantReset || r.epoch == c.mu.epoch
		c.mu.Unlock()
	}
	return nil
}

// request is one request of a batch.
type request struct {
	client *Client
	batch  *model.Batch
	start  position
	end    position
	rows   int
	epoch  uint64
	stream *transport.ClientStream
}

// AppendRequest is called in the order of sending.
func (r *request) AppendRequest(dst []byte, conn uint64) ([]byte, error) {
	c := r.client
	c.mu.Lock()
	defer c.mu.Unlock()
	reset := c.mu.conn != conn || c.mu.wantReset || c.mu.dict.full()
	for {
		if reset {
			c.mu.dict.reset()
			c.mu.conn, c.mu.wantReset = conn, false
			c.mu.epoch++
			c.metrics.resets.Inc()
		}
		r.epoch = c.mu.epoch
		e := encoder{dict: c.mu.dict, dst: dst}
		r.end = e.appendBody(r.batch, r.start, reset)
		if e.rows > 0 || reset {
			r.rows = e.rows
			return e.dst, nil
		}
		// No memory for one more series: go on with an empty dictionary.
		reset = true
	}
}

// busyClock adds up the time during which at least one sender is at work or
// waits for its turn: one second a second means that the connection is saturated.
type busyClock struct {
	mu struct {
		sync.Mutex
		n     int
		since time.Time
		total time.Duration
	}
}

func (b *busyClock) enter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.n++; b.mu.n == 1 {
		b.mu.since = time.Now()
	}
}

func (b *busyClock) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.n--; b.mu.n == 0 {
		b.mu.total += time.Since(b.mu.since)
	}
}

func (b *busyClock) seconds() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	total := b.mu.total
	if b.mu.n > 0 {
		total += time.Since(b.mu.since)
	}
	return total.Seconds()
}
