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
	JoinDelay     time.Duration // longest wait of a batch for others to travel with, 5 ms
	MaxDictSeries int           // series announced on a connection before the dictionary starts anew, 16 Mi; the memory budget sets a limit before
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
	groups    groups
	warn      *logger.Throttle

	mu struct {
		sync.Mutex
		conn      uint64 // connection the dictionary belongs to
		epoch     uint64 // numbers the dictionaries this client has used
		dict      *senderDict
		wantReset bool
		spaces    uint32 // how many have been seen
		ended     int    // series in the dictionary whose space has ended
	}
}

type clientMetrics struct {
	set        *metrics.Set
	names      []string
	rowsPushed *metrics.Counter
	rowsSent   *metrics.Counter
	converted  *metrics.Counter // native histograms
	resets     *metrics.Counter
}

// NewClient returns a client which starts to connect in the background.
func NewClient(o ClientOptions) *Client {
	if o.Config.MaxDictSeries <= 0 {
		o.Config.MaxDictSeries = 16 << 20
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Config.JoinDelay <= 0 {
		o.Config.JoinDelay = defaultJoinDelay
	}
	if o.Logger == nil {
		o.Logger = logger.Discard()
	}
	c := &Client{warn: logger.NewThrottle(o.Logger, time.Minute)}
	c.groups.delay, c.groups.launch = o.Config.JoinDelay, c.launch
	c.mu.dict = newSenderDict(o.Config.MaxDictSeries, o.Budget)
	own := func(format, metric string) string {
		name := fmt.Sprintf(format, metric, o.Addr)
		c.metrics.names = append(c.metrics.names, name)
		return name
	}
	name := func(metric string) string {
		return own(`%s{name="vminsert", addr=%q, rpc_call="metric_rows"}`, metric)
	}
	dialer := func(metric string) string { return own(`%s{name="vminsert", addr=%q}`, metric) }
	set := o.Metrics
	c.metrics.set = set
	c.metrics.rowsPushed = set.Counter(name("vm_rpc_rows_pushed_total"))
	c.metrics.rowsSent = set.Counter(name("vm_rpc_rows_sent_total"))
	c.metrics.converted = set.Counter(name("vm_rpc_native_histograms_converted_total"))
	c.metrics.resets = set.Counter(name("vm_rpc_dictionary_resets_total"))
	c.transport = transport.NewClient(transport.ClientOptions{
		Addr:         o.Addr,
		Role:         transport.RoleInsert,
		Capabilities: transport.CapabilityHistograms | transport.CapabilityExemplars | transport.CapabilityStarts,
		Dial:         o.Dial,
		Config:       o.Config.Transport,
		Logger:       o.Logger,
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

// RemoveMetrics takes the client's metrics out of the set, for a node which does not belong to the cluster any more.
func (c *Client) RemoveMetrics() {
	for _, name := range c.metrics.names {
		c.metrics.set.Remove(name)
	}
}

// atEnd reports whether no samples follow p.
func atEnd(b *model.Batch, p position) bool {
	for p.series < b.Len() && p.sample >= len(b.Samples(p.series)) {
		p = position{series: p.series + 1}
	}
	return p.series >= b.Len()
}

func (c *Client) send(ctx context.Context, r *request) (err error) {
	c.sending.enter()
	defer c.sending.leave()
	r.stream, err = c.transport.Start(ctx, r)
	return err
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

// request is one request of a group of batches.
type request struct {
	client *Client
	parts  []*part
	start  place
	end    place
	rows   int
	epoch  uint64
	stream *transport.ClientStream
}

// AppendRequest is called in the order of sending.
func (r *request) AppendRequest(dst []byte, conn uint64) ([]byte, error) {
	c := r.client
	flags := byte(0)
	if r.start.histograms {
		if flags = flagHistograms; c.transport.Lacks(transport.CapabilityHistograms) {
			return dst, errkind.New(errkind.Unsupported, "cannot send native histograms to storage node %q: it does not know them", c.Addr())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	reset := c.mu.conn != conn || c.mu.wantReset || c.mu.dict.full()
	for {
		if reset {
			c.mu.dict.reset()
			c.mu.conn, c.mu.wantReset, c.mu.ended = conn, false, 0
			c.mu.epoch++
			c.metrics.resets.Inc()
		}
		r.epoch = c.mu.epoch
		e := encoder{dict: c.mu.dict, dst: dst}
		e.begin(reset, flags)
		if err := r.encodeLocked(&e); err != nil {
			c.mu.wantReset = true
			return dst, err
		}
		if e.rows > 0 || reset {
			r.rows = e.rows
			return e.dst, nil
		}
		// No memory for one more series: go on with an empty dictionary.
		reset = true
	}
}

// encodeLocked appends the samples or native histograms from start on until a limit, and notes where that is.
func (r *request) encodeLocked(e *encoder) (err error) {
	for r.end = r.start; r.end.part < len(r.parts); r.end = r.end.nextPart() {
		p := r.parts[r.end.part]
		e.space, e.announced = p.space.idLocked(), 0
		if r.end.histograms {
			r.end.sample, err = e.appendHistograms(p.batch, r.end.sample)
		} else {
			r.end.position, err = e.appendEntries(p.batch, r.end.position)
		}
		if err != nil {
			return err
		}
		if e.space != 0 {
			p.space.noteLocked(e.announced)
		}
		if !r.end.passed(p.batch) {
			return nil
		}
	}
	return nil
}

// clientSpace is what a client attaches to the space of a batch. Its fields are guarded by the lock of the client. The
// locks of spaces are taken before that one.
type clientSpace struct {
	client *Client
	id     uint32 // from 1
	epoch  uint64 // dictionary which series counts for
	series int    // in that dictionary
	ended  bool
}

// spaceOf returns what the client knows of the batch's space, nil when it has none.
func (c *Client) spaceOf(batch *model.Batch) *clientSpace {
	space := batch.Space()
	if space == nil {
		return nil
	}
	return space.Attach(c, func() model.Attachment {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mu.spaces++
		return &clientSpace{client: c, id: c.mu.spaces}
	}).(*clientSpace)
}

// idLocked returns what stands for the space in origins, 0 for none.
func (s *clientSpace) idLocked() uint64 {
	if s == nil || s.ended {
		return 0
	}
	return uint64(s.id)
}

// noteLocked counts series which were announced.
func (s *clientSpace) noteLocked(n int) {
	if epoch := s.client.mu.epoch; s.epoch != epoch {
		s.epoch, s.series = epoch, 0
	}
	s.series += n
}

// Detach implements model.Attachment: nobody asks for these numbers any more. When they fill most of the
// dictionary, it starts anew.
func (s *clientSpace) Detach() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	s.ended = true
	if s.epoch != c.mu.epoch {
		return
	}
	c.mu.ended += s.series
	c.mu.wantReset = c.mu.wantReset || c.mu.ended > minSenderSlots && c.mu.ended > len(c.mu.dict.entries)/2
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
