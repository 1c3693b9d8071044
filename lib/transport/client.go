package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// Dialer opens a connection to a node.
type Dialer func(ctx context.Context, addr string) (net.Conn, error)

// HandshakeConfig is shared by clients and servers of a process.
type HandshakeConfig struct {
	Timeout flagvalue.Duration
}

// RegisterFlags registers -rpc.handshakeTimeout.
func (c *HandshakeConfig) RegisterFlags(fs *flag.FlagSet) {
	c.Timeout = flagvalue.Duration(5 * time.Second)
	fs.Var(&c.Timeout, "rpc.handshakeTimeout", "How long the hello between two nodes of the cluster may take")
}

// ClientConfig holds the settings of a client. Zero fields get their defaults.
type ClientConfig struct {
	DialTimeout      flagvalue.Duration // -vmstorageDialTimeout, 3s
	UserTimeout      flagvalue.Duration // -vmstorageUserTimeout, 3s: longest silence of a node, and longest wait for it to read
	HandshakeTimeout flagvalue.Duration // 5s
	PingInterval     flagvalue.Duration // a third of UserTimeout, at most 1s
	MaxBackoff       flagvalue.Duration // longest pause between attempts to connect, 2s
	WindowBytes      int                // bytes a server may send per stream before it gets credit, 1 MiB
	MaxFrame         int                // largest payload taken, 32 MiB

	// TLS makes the configuration of a connection to a host, which is not used for another one; nil means plain TCP.
	TLS func(host string) *tls.Config
	// Jitter returns a random part of a pause between attempts to connect, 0 to d, so that clients are not in step; nil means any.
	Jitter func(d time.Duration) time.Duration
}

// RegisterFlags registers the -vmstorage*Timeout flags.
func (c *ClientConfig) RegisterFlags(fs *flag.FlagSet) {
	c.DialTimeout, c.UserTimeout = flagvalue.Duration(3*time.Second), flagvalue.Duration(3*time.Second)
	fs.Var(&c.DialTimeout, "vmstorageDialTimeout", "How long connecting to a -storageNode may take")
	fs.Var(&c.UserTimeout, "vmstorageUserTimeout", "How long a -storageNode may be silent before its connection counts as dead")
}

func (c *ClientConfig) setDefaults() {
	setDefault(&c.DialTimeout, 3*time.Second)
	setDefault(&c.UserTimeout, 3*time.Second)
	setDefault(&c.HandshakeTimeout, 5*time.Second)
	setDefault(&c.PingInterval, min(c.UserTimeout.D()/3, time.Second))
	setDefault(&c.MaxBackoff, 2*time.Second)
	if c.WindowBytes <= 0 {
		c.WindowBytes = 1 << 20
	}
	if c.MaxFrame <= 0 {
		c.MaxFrame = defaultMaxFrame
	}
	if c.Jitter == nil {
		c.Jitter = func(d time.Duration) time.Duration { return rand.N(d + 1) }
	}
}

const defaultMaxFrame = 32 << 20

func setDefault(d *flagvalue.Duration, value time.Duration) {
	if *d <= 0 {
		*d = flagvalue.Duration(value)
	}
}

// ClientMetrics counts what happens to the connections of one client.
type ClientMetrics struct {
	DialErrors       *metrics.Counter
	HandshakeErrors  *metrics.Counter
	ConnectionErrors *metrics.Counter // connections that were lost
	ReadBytes        *metrics.Counter
	WrittenBytes     *metrics.Counter
}

// ClientOptions says whom to call and how.
type ClientOptions struct {
	Addr         string // as given by the user; names the node in errors and logs
	Role         Role
	Capabilities uint64 // those this side can do
	Dial         Dialer // nil means TCP; an address without port gets 8400 or 8401 by role
	Config       ClientConfig
	Logger       *logger.Logger // nil means none
	Metrics      ClientMetrics  // nil counters are made up
}

func (o *ClientOptions) setDefaults() {
	o.Config.setDefaults()
	if role := o.Role; o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", withPort(addr, role))
		}
	}
	if o.Logger == nil {
		o.Logger = logger.Discard()
	}
	m := &o.Metrics
	for _, c := range []**metrics.Counter{&m.DialErrors, &m.HandshakeErrors, &m.ConnectionErrors, &m.ReadBytes, &m.WrittenBytes} {
		if *c == nil {
			*c = &metrics.Counter{}
		}
	}
}

// withPort adds the default port of the role to an address without one.
func withPort(addr string, role Role) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	port := "8400"
	if role == RoleSelect {
		port = "8401"
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), port)
}

// Client calls one node. It connects at once, keeps the connection alive and
// connects again when it is lost. It is safe for concurrent use.
type Client struct {
	opts    ClientOptions
	buffers bytesutil.Pool
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	nextID  atomic.Uint64

	mu struct {
		sync.Mutex
		conn *clientConn   // nil while there is none
		err  error         // why the last attempt to connect failed
		news chan struct{} // closed when an attempt has ended; nil after that
	}
}

// NewClient returns a client which starts to connect in the background.
func NewClient(o ClientOptions) *Client {
	o.setDefaults()
	c := &Client{opts: o}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.mu.news = make(chan struct{})
	c.wg.Go(c.keepConnected)
	return c
}

// Addr returns the address as given.
func (c *Client) Addr() string { return c.opts.Addr }

// Reachable reports whether there is a connection which takes requests.
func (c *Client) Reachable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.conn != nil && !c.mu.conn.draining.Load()
}

// Connected reports whether there is a connection, of a node that is shutting down too.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.conn != nil
}

// Capabilities returns what both sides of the present connection can do; nothing when there is none.
func (c *Client) Capabilities() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.conn == nil {
		return 0
	}
	return c.mu.conn.capabilities
}

// Lacks reports whether there is a connection, and not both of its sides can do this.
func (c *Client) Lacks(capability uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.conn != nil && c.mu.conn.capabilities&capability == 0
}

// PendingBytes returns the bytes of requests which wait to be written to the network.
func (c *Client) PendingBytes() int {
	c.mu.Lock()
	conn := c.mu.conn
	c.mu.Unlock()
	if conn == nil {
		return 0
	}
	return conn.out.pendingBytes()
}

// Close ends all calls and the connection, and waits for the client's goroutines.
func (c *Client) Close() error {
	c.cancel()
	c.mu.Lock()
	conn := c.mu.conn
	c.mu.Unlock()
	if conn != nil {
		conn.fail(errClosed)
	}
	c.wg.Wait()
	return nil
}

// keepConnected dials, serves the connection until it is lost, and dials again.
func (c *Client) keepConnected() {
	failures, greeted, left := 0, false, false
	for c.ctx.Err() == nil {
		conn, err := c.connect()
		if err != nil {
			if left {
				err = errkind.New(errkind.Draining, "it has shut down and is not back: %w", err)
			}
			c.setDown(err)
			failures++
			c.pause(failures)
			continue
		}
		start := time.Now()
		c.setUp(conn)
		if !greeted {
			greeted = true
			c.opts.Logger.Infof("successfully dialed -storageNode=%q", c.opts.Addr)
		} else {
			c.opts.Logger.Infof("dialed -storageNode=%q again", c.opts.Addr)
		}
		err = conn.run(&c.wg)
		left = conn.draining.Load()
		// Callers do not wait for a new connection to a node which was silent: it would be silent in the hello as well.
		if failures++; time.Since(start) > 5*time.Second && !errors.Is(err, os.ErrDeadlineExceeded) {
			failures = 0
		}
		c.lost(conn, err, failures)
		if failures > 0 {
			c.pause(failures)
		}
	}
	c.setDown(errClosed)
}

// lost notes the end of a connection. Callers wait for the next attempt when
// it follows at once; otherwise they fail until one succeeds.
func (c *Client) lost(conn *clientConn, err error, failures int) {
	if c.ctx.Err() == nil && !conn.draining.Load() {
		c.opts.Metrics.ConnectionErrors.Inc()
		c.opts.Logger.Warnf("cannot use connection to -storageNode=%q any longer: %s; connecting again", c.opts.Addr, err)
	}
	if failures > 0 {
		c.setDown(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.conn, c.mu.err, c.mu.news = nil, nil, make(chan struct{})
}

func (c *Client) setUp(conn *clientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.conn, c.mu.err = conn, nil
	c.tellLocked()
}

func (c *Client) setDown(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.conn, c.mu.err = nil, err
	c.tellLocked()
}

func (c *Client) tellLocked() {
	if c.mu.news != nil {
		close(c.mu.news)
		c.mu.news = nil
	}
}

// pause waits before the next attempt: longer with each failure, and not in
// step with other clients.
func (c *Client) pause(failures int) {
	d := min(25*time.Millisecond<<min(failures, 10), c.opts.Config.MaxBackoff.D())
	timer := time.NewTimer(d/2 + c.opts.Config.Jitter(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

// connect dials and exchanges hellos.
func (c *Client) connect() (*clientConn, error) {
	cfg := &c.opts.Config
	ctx, cancel := context.WithTimeout(c.ctx, cfg.DialTimeout.D())
	defer cancel()
	conn, err := c.opts.Dial(ctx, c.opts.Addr)
	if err != nil {
		c.opts.Metrics.DialErrors.Inc()
		return nil, errkind.New(errkind.Unavailable, "cannot dial: %w", err)
	}
	// Close of the client must not wait for a silent peer.
	stop := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	defer stop()
	reply, secured, err := c.shakeHands(conn)
	if err != nil {
		c.opts.Metrics.HandshakeErrors.Inc()
		_ = conn.Close() // the handshake error says more
		return nil, err
	}
	return newClientConn(c, secured, reply), nil
}

// shakeHands agrees on TLS, if it is on, and exchanges hellos. It returns the connection to use from then on.
func (c *Client) shakeHands(conn net.Conn) (helloReply, net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(c.opts.Config.HandshakeTimeout.D())); err != nil {
		return helloReply{}, nil, errkind.New(errkind.Unavailable, "cannot set deadline of hello: %w", err)
	}
	if c.opts.Config.TLS == nil {
		reply, err := c.greet(conn)
		return reply, conn, err
	}
	secured, err := c.secure(conn)
	if err != nil {
		return helloReply{}, nil, err
	}
	reply, err := c.greet(secured)
	if isRemoteAlert(err) { // a server of TLS 1.3 looks at our certificate after the handshake has ended for us
		err = explainServer(err)
	}
	return reply, secured, err
}

// greet exchanges hellos.
func (c *Client) greet(conn net.Conn) (helloReply, error) {
	cfg := &c.opts.Config
	h := hello{
		minVersion:   minVersion,
		maxVersion:   maxVersion,
		role:         c.opts.Role,
		capabilities: c.opts.Capabilities,
		window:       uint32(cfg.WindowBytes),
		maxFrame:     uint32(cfg.MaxFrame),
	}
	if _, err := conn.Write(h.appendTo(nil)); err != nil {
		return helloReply{}, errkind.New(errkind.Unavailable, "cannot send hello: %w", err)
	}
	reply, err := readHelloReply(conn)
	switch {
	case err != nil:
		return reply, err
	case reply.status == errkind.Draining:
		return reply, errkind.New(errkind.Draining, "%s", reply.text)
	case reply.status != errkind.OK:
		return reply, errkind.New(errkind.Unavailable, "the node refuses the connection: %s", reply.text)
	case reply.version < minVersion || reply.version > maxVersion || reply.maxStreams == 0:
		return reply, errkind.New(errkind.Unavailable, "cannot speak protocol version %d with %d streams", reply.version, reply.maxStreams)
	}
	return reply, conn.SetDeadline(time.Time{})
}

// current returns the connection. It waits only for an attempt to connect
// which has started and is the first one.
func (c *Client) current(ctx context.Context) (*clientConn, error) {
	for {
		c.mu.Lock()
		conn, err, news := c.mu.conn, c.mu.err, c.mu.news
		c.mu.Unlock()
		switch {
		case conn != nil:
			return conn, nil
		case err != nil:
			return nil, c.unavailable(err)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// unavailable names the node in an error which says that it cannot be used now.
func (c *Client) unavailable(err error) error {
	kind := errkind.Unavailable
	if errkind.Of(err) == errkind.Draining {
		kind = errkind.Draining
	}
	return errkind.New(kind, "cannot reach storage node %q: %w", c.opts.Addr, err)
}
